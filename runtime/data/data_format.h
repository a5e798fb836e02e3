/* What the formats of runtime/data share; not for use outside it.
 *
 * A format lists the arrays of a file (the catalog) without decoding them. An array's bytes are then read
 * through a stream, which unpacks them and checks them, header first, and converted straight into the
 * dataset:
 *
 *     source --load--> catalog --bind--> entry --stream, header--> layout --convert--> ckpt_array
 */
#ifndef CKPT_DATA_FORMAT_H
#define CKPT_DATA_FORMAT_H

#include <zlib.h>

#include "data/dataset.h"

/* A file in memory, or a directory (no bytes). */
typedef struct ckpt_data_source {
    const char *path;
    const char *kind; /* the path without .gz: its end says the format */
    const uint8_t *bytes;
    size_t size;
    bool directory;
} ckpt_data_source;

typedef enum ckpt_packing { CKPT_STORED, CKPT_DEFLATED } ckpt_packing;

/* Where the bytes of an array, header included, lie in the file. */
typedef struct ckpt_packed {
    const uint8_t *bytes;
    size_t size;             /* as packed */
    uint64_t unpacked_bytes; /* at most 1032 times `size` */
    ckpt_packing packing;
    bool has_crc;
    uint32_t crc; /* CRC-32 of the unpacked bytes */
} ckpt_packed;

/* Reads unpacked bytes in order, never more than unpacked_bytes. Errors about
 * an array's bytes are predicates ("has no samples"): the caller puts file and array before them. */
typedef struct ckpt_stream {
    ckpt_packed packed;
    size_t used;   /* packed bytes handed to zlib, or copied */
    uint64_t left; /* unpacked bytes not read yet */
    uint32_t crc;
    bool ended; /* zlib saw the end of the data */
    bool open;
    z_stream zlib;
} ckpt_stream;

ckpt_status ckpt_stream_open(ckpt_stream *stream, const ckpt_packed *packed, ckpt_error *err);
/* Exactly `count` bytes, or CKPT_USAGE when the file ends before them. */
ckpt_status ckpt_stream_read(ckpt_stream *stream, void *out, size_t count, ckpt_error *err);
/* After the last byte: nothing may follow, and the CRC-32 must be right. */
ckpt_status ckpt_stream_finish(ckpt_stream *stream, ckpt_error *err);
void ckpt_stream_close(ckpt_stream *stream); /* a zeroed or closed stream is fine */

bool ckpt_is_gzip(const uint8_t *bytes, size_t size);
/* Replaces the bytes of a gzipped source (RFC 1952, of one member or several) by what they unpack to, in
 * `pool`. */
ckpt_status ckpt_data_gunzip(ckpt_data_source *source, ckpt_pool *pool, ckpt_error *err);

typedef enum ckpt_element {
    CKPT_ELEMENT_FLOAT,
    CKPT_ELEMENT_SIGNED,
    CKPT_ELEMENT_UNSIGNED,
    CKPT_ELEMENT_BYTES, /* a string of one byte a character, padded with zeros */
    CKPT_ELEMENT_UCS4   /* a string of four bytes a character, likewise */
} ckpt_element;

static inline bool ckpt_element_is_text(ckpt_element element) {
    return element >= CKPT_ELEMENT_BYTES;
}

/* An array as the file has it. */
typedef struct ckpt_layout {
    ckpt_element element;
    unsigned bytes; /* of one element: 1, 2, 4 or 8 (floats: not 1); of a string at most CKPT_TEXT_BYTES */
    bool big_endian;
    bool fortran; /* first axis varies fastest */
    int rank;
    int64_t dim[CKPT_ARRAY_MAX_RANK];
    uint64_t count; /* product of dim; count * bytes fits 64 bits */
} ckpt_layout;

/* Sets count from dim, or CKPT_USAGE when the array's bytes overflow 64 bits. */
ckpt_status ckpt_layout_finish(ckpt_layout *layout, ckpt_error *err);

enum { CKPT_SHAPE_TEXT = 192, CKPT_TEXT_BYTES = 4096 };
/* "[100,63]"; returns `text`. */
char *ckpt_data_shape_text(int rank, const int64_t *dim, char text[CKPT_SHAPE_TEXT]);

typedef ckpt_status ckpt_header_reader(ckpt_stream *stream, ckpt_layout *layout, ckpt_error *err);
ckpt_header_reader ckpt_npy_header; /* numpy.lib.format */
ckpt_header_reader ckpt_idx_header;

/* One array of a file. */
typedef struct ckpt_data_entry {
    const char *path; /* of the file */
    const char *name; /* NULL where the format has no names */
    int answers;      /* the request that the format made it for, or -1 */
    ckpt_names from,
        classes; /* with `answers`: the columns that it is made of, and the names behind its numbers */
    ckpt_packed packed;
    ckpt_header_reader *header; /* NULL: `layout` is filled already and no header precedes the elements */
    ckpt_layout layout;
} ckpt_data_entry;

typedef struct ckpt_data_catalog {
    ckpt_pool *pool;       /* for what lives as long as the loading does */
    ckpt_dataset *dataset; /* what is being loaded; its pool is for names and notes */
    ckpt_data_entry *entries;
    size_t count, capacity;
} ckpt_data_catalog;

/* A zeroed entry at the end of the catalog, or NULL when memory runs out. */
ckpt_data_entry *ckpt_data_catalog_add(ckpt_data_catalog *catalog);

/* What a format's loader may look at besides the file. */
typedef struct ckpt_data_wanted {
    const ckpt_data_request *requests;
    size_t count;
    ckpt_data_options options;
} ckpt_data_wanted;

/* The training data's array of the request, or NULL. */
static inline const ckpt_array *ckpt_data_like(const ckpt_data_wanted *wanted, size_t request) {
    const ckpt_dataset *like = wanted->options.like;
    return like && request < like->array_count ? &like->arrays[request] : NULL;
}

/* "target", or "model's input". */
const char *ckpt_data_role_text(const ckpt_data_request *request);

/* "'a', 'b' and 3 more", for a message; returns `text`. */
enum { CKPT_LIST_TEXT = 400 };
char *ckpt_data_list_text(const char *const *names, size_t count, char text[CKPT_LIST_TEXT]);

/* Adds a copy of `name` to a list whose strings live in `pool`. CKPT_NOMEM. */
ckpt_status ckpt_data_add_name(ckpt_pool *pool, ckpt_names *names, const char *name, ckpt_error *err);
/* Adds a sentence, made as by printf, to the notes of `dataset`. */
ckpt_status ckpt_data_add_note(ckpt_dataset *dataset, ckpt_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Adds the file's arrays to the catalog. Errors name no file: the caller adds it. */
typedef ckpt_status ckpt_data_loader(const ckpt_data_source *source, const ckpt_data_wanted *wanted,
                                     ckpt_data_catalog *catalog, ckpt_error *err);
ckpt_data_loader ckpt_npz_load, ckpt_npy_load, ckpt_idx_load, ckpt_csv_load;

bool ckpt_npz_recognises(const ckpt_data_source *source);
bool ckpt_npy_recognises(const ckpt_data_source *source);
bool ckpt_idx_recognises(const ckpt_data_source *source);
bool ckpt_csv_recognises(const ckpt_data_source *source);

/* ASCII, without regard to case. */
bool ckpt_has_suffix(const char *path, const char *suffix);

/* Whether an array of integers with `values` a sample answers the request as int64, or else as float32:
 * one-hot rows of integers are floats, class indices stay integers. */
bool ckpt_data_as_integers(const ckpt_data_request *request, uint64_t values);

/* Whether the request is a target that names of classes may answer. */
bool ckpt_data_takes_names(const ckpt_data_request *request, uint64_t values);

/* Finds the entry of every request, checks it and converts it into `dataset`. `spec` names the files in
 * messages about arrays that are in none of them. */
ckpt_status ckpt_data_bind(const char *spec, const ckpt_data_wanted *wanted, ckpt_data_catalog *catalog,
                           ckpt_dataset *dataset, ckpt_error *err);

/* Whole numbers that float32 cannot hold and therefore rounds. */
typedef struct ckpt_rounded {
    uint64_t count, row, column; /* row and column of the first */
    int64_t value;               /* the first */
} ckpt_rounded;

/* Reads the elements of `layout` into array->data, whose type and room the caller has set, row-major. Names
 * become numbers by `names`, in the order of their appearance. CKPT_USAGE: the stream ends early, an unsigned
 * integer does not fit int64, or a float is to be an integer and is not whole. */
struct ckpt_class_table;
ckpt_status ckpt_data_convert(ckpt_stream *stream, const ckpt_layout *layout, ckpt_array *array,
                              ckpt_rounded *rounded, struct ckpt_class_table *names, ckpt_error *err);

/* Whether the converted values, and the number of classes that have names, are what the request allows; names
 * the first that is not. */
ckpt_status ckpt_data_check(const ckpt_array *array, const ckpt_data_request *request, ckpt_error *err);

#endif
