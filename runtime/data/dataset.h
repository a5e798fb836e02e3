/* Training data in host memory: loaded from files, or made up.
 *
 * The caller says which arrays the model needs and gets exactly those, checked: same number of samples,
 * right number of values a sample, finite, labels in range.
 *
 *     ckpt_data_request want[] = {
 *         {.name = "input", .aliases = {"x"}, .role = CKPT_DATA_INPUT, .values = 784},
 *         {.name = "y", .role = CKPT_DATA_TARGET, .want = CKPT_WANT_EITHER,
 *          .values = 10, .integer_values = 1, .classes = 10}};
 *     ckpt_dataset set;
 *     CKPT_TRY(ckpt_dataset_load("train.npz", want, 2, NULL, &set, err));
 *     ckpt_shuffle(order, (uint32_t)set.samples, seed, epoch);
 *     ckpt_array_gather(&set.arrays[0], order, batch, input);   // [batch, 784] float32
 *     ckpt_dataset_free(&set);
 *
 * Files: .npz and .npy (numpy.lib.format 1.0 to 3.0), CSV with a header line (RFC 4180, and as spreadsheets
 * and data frames write it), IDX, each also gzipped. Files are not trusted. Memory stays below the file as it
 * unpacks (at most 1032 times its size), its arrays as declared (of a compressed file at most 1032 times its
 * size) and, for CSV, four times the unpacked file, once more where inputs are the target too, and 200 bytes
 * a column.
 */
#ifndef CKPT_DATASET_H
#define CKPT_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"
#include "base/status.h"

enum { CKPT_ARRAY_MAX_RANK = 8, CKPT_DATA_MAX_ALIASES = 4 };

typedef enum ckpt_array_type {
    CKPT_ARRAY_F32, /* float, finite */
    CKPT_ARRAY_I64, /* int64_t: class or row indices */
} ckpt_array_type;

/* Strings that a dataset owns. */
typedef struct ckpt_names {
    const char **name;
    size_t count;
} ckpt_names;

typedef struct ckpt_array {
    const char *name;   /* of the request it answers */
    ckpt_names from;    /* the file's columns in the order of the values, or its array; or none */
    ckpt_names classes; /* names of the classes 0, 1, ..., where the file names them; else none */
    ckpt_array_type type;
    int rank;                         /* 1 .. CKPT_ARRAY_MAX_RANK */
    int64_t dim[CKPT_ARRAY_MAX_RANK]; /* as in the file; dim[0] is the number of samples */
    uint64_t values;                  /* elements of one sample: dim[1] * ... */
    bool has_ignore;                  /* as the request has it: */
    int64_t ignore;                   /* a class that stands for none, which becomes -1 on its way to the device */
    void *data;                       /* row-major; owned by the dataset */
} ckpt_array;

typedef struct ckpt_dataset {
    ckpt_array *arrays; /* one per request, in the order of the requests */
    size_t array_count;
    uint64_t samples; /* 1 .. UINT32_MAX, dim[0] of every array */
    bool has_columns; /* the file is CSV */
    /* Columns or arrays of the file that nothing is made of: asked for, or left over. */
    ckpt_names dropped, unused;
    ckpt_names notes; /* sentences about what was read otherwise than it is written */
    ckpt_pool pool;   /* owns everything above */
} ckpt_dataset;

typedef enum ckpt_data_role { CKPT_DATA_INPUT, CKPT_DATA_TARGET } ckpt_data_role;

typedef enum ckpt_data_want {
    CKPT_WANT_FLOAT,   /* float32; integers are converted */
    CKPT_WANT_INTEGER, /* int64; of floats only whole numbers */
    CKPT_WANT_EITHER,  /* int64 for integers, and for whole floats with just `integer_values` a sample but not
                          `values`; else float32 */
} ckpt_data_want;

/* One array the model needs. Zero fields: no alias, an input, float32, no check of that kind. */
typedef struct ckpt_data_request {
    const char *name;                           /* of the graph input, or "y" */
    const char *aliases[CKPT_DATA_MAX_ALIASES]; /* also accepted, in this order; NULL ends the list */
    ckpt_data_role role;
    ckpt_data_want want;
    uint64_t values;         /* floats a sample has, or 0 for any number */
    uint64_t integer_values; /* integers a sample has, or 0 for any number */
    int64_t classes;         /* integers must lie in [0, classes); 0 for any */
    int64_t least, most;     /* integers must lie in [least, most]; both 0 for any */
    bool has_ignore;         /* integers may be `ignore` as well, whatever that is */
    int64_t ignore;
    bool unit_range;         /* floats must lie in [0, 1], as binary cross-entropy needs */
} ckpt_data_request;

/* What a user says about the names of a file; each a list as base/name_pick.h takes, or NULL. */
typedef struct ckpt_data_options {
    const char *target;              /* --target: columns of the target, or its array */
    const char *features;            /* --features: columns of the inputs, or their arrays */
    const char *drop;                /* --drop: columns or arrays to leave out */
    const struct ckpt_dataset *like; /* the training data, for other data of the same task: columns are those
                                        of the same names, classes have the same numbers; or NULL */
} ckpt_data_options;

/* Loads the arrays that `requests` name. `spec` is a path, or paths separated by commas (a file whose name
 * has commas is taken as it is when it exists). options: NULL for none.
 *
 * Arrays with names (.npz) are found by name, then alias; files of one nameless array (.npy, IDX) answer the
 * remaining requests in order: "images.idx,labels.idx". An array answers two requests only where --target or
 * --features names it.
 *
 * CSV: the target is what --target names; else the column called like the request or one of its aliases, or
 * y, target, label or class, or several such columns with numbers (y0, y1 or y_0, y_1); else the file is
 * refused. Several targets are found by their own names, among the columns of --target if there are, which
 * are theirs in order otherwise. An input is the columns called like it, likewise, in the order of their
 * numbers, where they are as many as it takes; inputs without such columns take the columns left over, in the
 * order of the file, which must be just as many as they take. With --features the inputs are made of the
 * columns listed, in the order of the list. Columns without a name are called "Unnamed: N", N counted from 0,
 * and are no features unless listed.
 *
 * A target of classes may be names: strings of numpy or cells that are no numbers. They are numbered in the
 * order of their bytes, and must be as many as the request has classes.
 *
 * CKPT_USAGE: the file is missing, damaged or not what the requests ask; the message names the file, the
 * array, what was found and what to do. CKPT_NOMEM: memory ran out. On failure *dataset is empty; on success
 * the caller frees it. */
ckpt_status ckpt_dataset_load(const char *spec, const ckpt_data_request *requests, size_t request_count,
                              const ckpt_data_options *options, ckpt_dataset *dataset, ckpt_error *err);

/* The same from `size` bytes that the caller keeps; `path` serves messages and the recognition by suffix. */
ckpt_status ckpt_dataset_load_memory(const char *path, const void *bytes, size_t size,
                                     const ckpt_data_request *requests, size_t request_count,
                                     const ckpt_data_options *options, ckpt_dataset *dataset,
                                     ckpt_error *err);

/* Checks the values of an array of `path` as loading it for `request` would have, for a request that was not known then; the number
 * of values is not looked at. Floats that are to be integers become them: they must be whole numbers. */
ckpt_status ckpt_dataset_settle(const char *path, ckpt_dataset *dataset, size_t index, const ckpt_data_request *request,
                                ckpt_error *err);

/* A fixed set that can be learned: the same bits for the same arguments on every machine. Float inputs are
 * near normal (Irwin-Hall, n = 12; mean 0, variance 1), integer inputs uniform in [0, classes). A target is
 * a fixed random linear map of at most 64 values of the first input: its largest row as class index
 * (classes beyond the 64th stay unused), its values for floats, their sign as 0 or 1 with `unit_range`. The
 * map does not depend on the seed: two seeds give training and validation data of one task.
 * Arrays have shape [samples, values]; a request with CKPT_WANT_EITHER gives class indices when `classes`
 * and `integer_values` are set. CKPT_USAGE: no samples, no value count, or integers without `classes`. */
ckpt_status ckpt_dataset_synthetic(const ckpt_data_request *requests, size_t request_count, uint64_t samples,
                                   uint64_t seed, ckpt_dataset *dataset, ckpt_error *err);

/* Frees what the dataset owns and empties it. An empty dataset ({0}) is fine. */
void ckpt_dataset_free(ckpt_dataset *dataset);

/* Bytes of one sample: values * 4 for float32, values * 8 for int64. */
size_t ckpt_array_sample_bytes(const ckpt_array *array);

/* Copies samples order[0 .. count) one after the other to `out`, which has room for count *
 * ckpt_array_sample_bytes bytes. Every order[i] < dim[0]. */
void ckpt_array_gather(const ckpt_array *array, const uint32_t *order, size_t count, void *out);

/* Writes a permutation of 0 .. n-1 to `order`, a function of (n, seed, epoch) alone and unbiased:
 * Fisher-Yates (Knuth, TAOCP 3.4.2, algorithm P) with rejection. */
void ckpt_shuffle(uint32_t *order, uint32_t n, uint64_t seed, uint32_t epoch);

#endif
