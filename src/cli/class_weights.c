#include "cli/class_weights.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST = 1 << 20 };

static ckpt_status check(const char *path, const float *weights, int64_t count, ckpt_error *err) {
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(weights[i]) || weights[i] < 0)
            return ckpt_fail(err, CKPT_USAGE, "--class-weights %s: number %lld is %g; weights are 0 or more", path, (long long)i,
                             (double)weights[i]);
    return count ? CKPT_OK : ckpt_fail(err, CKPT_USAGE, "--class-weights %s: it has no numbers", path);
}

static ckpt_status read_text(const char *path, char *text, ckpt_pool *pool, const float **weights, int64_t *count,
                             ckpt_error *err) {
    static const char separators[] = ",; \t\r\n";
    int64_t most = 1;
    for (const char *at = text; *at; at++) most += strchr(separators, *at) != NULL;
    float *values = ckpt_pool_array(pool, most, float);
    if (!values) return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    *count = 0;
    char *rest = NULL;
    for (char *word = strtok_r(text, separators, &rest); word; word = strtok_r(NULL, separators, &rest)) {
        char *end;
        values[(*count)++] = strtof(word, &end);
        if (*end) return ckpt_fail(err, CKPT_USAGE, "--class-weights %s: '%.40s' is not a number", path, word);
    }
    *weights = values;
    return CKPT_OK;
}

static FILE *open_regular(const char *path) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not keep us waiting */
    struct stat info;
    FILE *file = fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode) ? fdopen(fd, "rb") : NULL;
    if (!file && fd >= 0) close(fd);
    return file;
}

static ckpt_status read_file(const char *path, ckpt_pool *pool, const float **weights, int64_t *count, ckpt_error *err) {
    FILE *file = open_regular(path);
    if (!file) return ckpt_fail(err, CKPT_USAGE, "--class-weights %s: it cannot be read, or is no regular file", path);
    char *text = ckpt_pool_alloc(pool, MOST + 1, 1);
    const size_t size = text ? fread(text, 1, MOST, file) : 0;
    fclose(file);
    if (!text) return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    text[size] = 0;
    if (size == MOST || strlen(text) != size)
        return ckpt_fail(err, CKPT_USAGE, "--class-weights %s: it is no text file of numbers", path);
    return read_text(path, text, pool, weights, count, err);
}

/* A row a class: its samples are the classes. */
static ckpt_status read_array(const char *path, ckpt_pool *pool, const float **weights, int64_t *count, ckpt_error *err) {
    const ckpt_data_request request = {.name = "class weights", .role = CKPT_DATA_INPUT, .want = CKPT_WANT_FLOAT, .values = 1};
    ckpt_dataset set;
    if (ckpt_dataset_load(path, &request, 1, NULL, &set, err) != CKPT_OK) return ckpt_fail_in(err, "--class-weights");
    *count = (int64_t)set.samples;
    float *values = ckpt_pool_array(pool, *count, float);
    if (values) memcpy(values, set.arrays[0].data, (size_t)*count * sizeof *values);
    ckpt_dataset_free(&set);
    *weights = values;
    return values ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of host memory");
}

ckpt_status ckpt_class_weights_read(const char *path, ckpt_pool *pool, const float **weights, int64_t *count, ckpt_error *err) {
    const size_t length = strlen(path);
    const bool array = length > 4 && strcmp(path + length - 4, ".npy") == 0;
    CKPT_TRY(array ? read_array(path, pool, weights, count, err) : read_file(path, pool, weights, count, err));
    return check(path, *weights, *count, err);
}

ckpt_status ckpt_class_weights_balance(const ckpt_array *targets, int64_t classes, int64_t ignore, ckpt_pool *pool,
                                       const float **weights, ckpt_error *err) {
    const uint64_t count = (uint64_t)targets->dim[0] * targets->values;
    double *seen = ckpt_pool_array(pool, classes, double), all = 0;
    float *values = ckpt_pool_array(pool, classes, float);
    if (!seen || !values) return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    for (uint64_t i = 0; i < count; i++) {
        const double value = targets->type == CKPT_ARRAY_I64 ? (double)((const int64_t *)targets->data)[i]
                                                             : (double)((const float *)targets->data)[i];
        if (!(value >= 0 && value < (double)classes) || value == (double)ignore) continue;
        const int64_t class = (int64_t)value;
        seen[class]++;
        all++;
    }
    for (int64_t c = 0; c < classes; c++) values[c] = seen[c] > 0 ? (float)(all / ((double)classes * seen[c])) : 0;
    *weights = values;
    return CKPT_OK;
}
