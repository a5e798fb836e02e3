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
 *     CKPT_TRY(ckpt_dataset_load("train.npz", want, 2, &set, err));
 *     ckpt_shuffle(order, (uint32_t)set.samples, seed, epoch);
 *     ckpt_array_gather(&set.arrays[0], order, batch, input);   // [batch, 784] float32
 *     ckpt_dataset_free(&set);
 *
 * Files: .npz and .npy (numpy.lib.format 1.0 to 3.0), CSV with a header line (RFC 4180), IDX, also gzipped.
 * Files are not trusted. Memory stays below the file, its arrays as declared (which for a compressed file
 * is at most 1032 times the file), and, for CSV, four times the file.
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

typedef struct ckpt_array {
    const char *name; /* of the request it answers */
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
    ckpt_pool pool;   /* owns everything above */
} ckpt_dataset;

typedef enum ckpt_data_role { CKPT_DATA_INPUT, CKPT_DATA_TARGET } ckpt_data_role;

typedef enum ckpt_data_want {
    CKPT_WANT_FLOAT,   /* float32; integers are converted */
    CKPT_WANT_INTEGER, /* int64; floating-point arrays are refused */
    CKPT_WANT_EITHER,  /* int64 for integers, float32 for floats and for integers with just `values` a sample
                        */
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
    bool has_ignore;         /* integers may be `ignore` as well, whatever that is */
    int64_t ignore;
    bool unit_range;         /* floats must lie in [0, 1], as binary cross-entropy needs */
} ckpt_data_request;

/* Loads the arrays that `requests` name. `spec` is a path, or paths separated by commas (a file whose name
 * has commas is taken as it is when it exists). Arrays with names (.npz) are found by name, then alias;
 * files of one nameless array (.npy, IDX) answer the remaining requests in order: "images.idx,labels.idx".
 * CSV: the target is the column named like the request or one of its aliases, or y, label, target or class,
 * or several such columns with numbers (y0, y1 or y_0, y_1), or else the last column; the only input is all
 * other columns, several inputs are found by their names as targets are.
 *
 * CKPT_USAGE: the file is missing, damaged or not what the requests ask; the message names the file, the
 * array, what was found and what to do. CKPT_NOMEM: memory ran out. On failure *dataset is empty; on success
 * the caller frees it. */
ckpt_status ckpt_dataset_load(const char *spec, const ckpt_data_request *requests, size_t request_count,
                              ckpt_dataset *dataset, ckpt_error *err);

/* The same from `size` bytes that the caller keeps; `path` serves messages and the recognition by suffix. */
ckpt_status ckpt_dataset_load_memory(const char *path, const void *bytes, size_t size,
                                     const ckpt_data_request *requests, size_t request_count,
                                     ckpt_dataset *dataset, ckpt_error *err);

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
