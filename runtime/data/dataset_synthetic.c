/* A made-up set that a model can learn.
 *
 * All of it is integer arithmetic: inputs are multiples of 1/2048, so products and sums with the weights
 * are exact, and the result does not depend on compiler, libm or order of additions. The weights do not
 * depend on the seed: two seeds give two samples (training and validation) of one task.
 */
#include "base/units.h"
#include "data/counter_random.h"
#include "data/dataset.h"

enum { TERMS = 64, ROWS = 64, UNIT = 2048 };

/* Near normal with variance 1, in units of 1/UNIT: the sum of 12 uniforms of 10 bits (Irwin-Hall), less
 * its mean 12 * 1023 / 2 = 6138, doubled so that it is whole. */
static int64_t normal_units(uint64_t seed, uint32_t stream, uint64_t index) {
    uint32_t word[4], sum = 0;
    ckpt_counter_random(seed, stream, 0, index, word);
    for (int i = 0; i < 4; i++) sum += (word[i] & 1023) + (word[i] >> 10 & 1023) + (word[i] >> 20 & 1023);
    return 2 * ((int64_t)sum - 6138);
}

/* The linear map of the targets, one for all positions. */
typedef struct projection {
    const ckpt_array *input;
    int64_t weight[ROWS][TERMS];
} projection;

static void fill_projection(projection *p, const ckpt_array *input) {
    p->input = input;
    for (int r = 0; r < ROWS; r++)
        for (int k = 0; k < TERMS; k++)
            p->weight[r][k] = normal_units(0, CKPT_STREAM_WEIGHTS, (uint64_t)(r * TERMS + k));
}

static int64_t input_units(const ckpt_array *input, uint64_t element) {
    if (input->type == CKPT_ARRAY_I64)
        return normal_units(0, CKPT_STREAM_INDICES, (uint64_t)((const int64_t *)input->data)[element]);
    return (int64_t)(((const float *)input->data)[element] * UNIT);
}

/* result[0 .. rows) from the `part`-th of `parts` equal pieces of a sample's input, at most TERMS values of
 * it, evenly spread. Returns the number of values. */
static uint64_t project(const projection *p, uint64_t sample, uint64_t part, uint64_t parts, int rows,
                        int64_t result[ROWS]) {
    uint64_t values = p->input->values, width = values > parts ? values / parts : 1;
    uint64_t first = part * width % values, terms = width < TERMS ? width : TERMS;
    int64_t x[TERMS];
    for (uint64_t k = 0; k < terms; k++)
        x[k] = input_units(p->input, sample * values + first + k * width / terms);
    for (int r = 0; r < rows; r++) {
        result[r] = 0;
        for (uint64_t k = 0; k < terms; k++) result[r] += p->weight[r][k] * x[k];
    }
    return terms;
}

static void fill_classes(const projection *p, const ckpt_data_request *request, ckpt_array *array) {
    int rows = request->classes < ROWS ? (int)request->classes : ROWS;
    int64_t *out = array->data, result[ROWS];
    for (uint64_t s = 0; s < (uint64_t)array->dim[0]; s++) {
        for (uint64_t part = 0; part < array->values; part++) {
            project(p, s, part, array->values, rows, result);
            int best = 0;
            for (int r = 1; r < rows; r++)
                if (result[r] > result[best]) best = r;
            *out++ = best;
        }
    }
}

static void fill_floats(const projection *p, const ckpt_data_request *request, ckpt_array *array) {
    int rows = array->values < ROWS ? (int)array->values : ROWS;
    float *out = array->data;
    int64_t result[ROWS];
    for (uint64_t s = 0; s < (uint64_t)array->dim[0]; s++) {
        uint64_t terms = project(p, s, 0, 1, rows, result);
        double scale = 1; /* a power of two near sqrt(terms): exact, and variance stays between 1/4 and 1 */
        while (scale * scale < (double)terms) scale *= 2;
        for (uint64_t i = 0; i < array->values; i++) {
            int64_t value = result[i % ROWS];
            *out++ = request->unit_range ? (float)(value > 0)
                                         : (float)((double)value / ((double)UNIT * UNIT * scale));
        }
    }
}

static void fill_input(const ckpt_data_request *request, uint64_t seed, uint32_t stream, ckpt_array *array) {
    uint64_t count = (uint64_t)array->dim[0] * array->values;
    for (uint64_t i = 0; i < count; i++) {
        if (array->type == CKPT_ARRAY_F32) {
            ((float *)array->data)[i] = (float)normal_units(seed, stream, i) / UNIT;
        } else {
            uint32_t word[4];
            ckpt_counter_random(seed, stream, 0, i, word);
            uint64_t wide = (uint64_t)word[0] << 32 | word[1];
            ((int64_t *)array->data)[i] = (int64_t)(wide % (uint64_t)request->classes);
        }
    }
}

/* Type, shape and room of the array that answers `request`. */
static ckpt_status make_array(const ckpt_data_request *request, uint64_t samples, ckpt_pool *pool,
                              ckpt_array *array, ckpt_error *err) {
    bool integers = request->want == CKPT_WANT_INTEGER ||
                    (request->want == CKPT_WANT_EITHER && request->classes > 0 && request->integer_values);
    uint64_t values = integers ? request->integer_values : request->values, count;
    if (!values || (integers && request->classes <= 0))
        return ckpt_fail(err, CKPT_USAGE, "array '%s': the model does not say its %s; give --data",
                         request->name, values ? "number of classes" : "shape");
    bool fits = values <= INT64_MAX && ckpt_mul_u64(samples, values, &count) && count <= SIZE_MAX;
    array->name = ckpt_pool_strdup(pool, request->name);
    array->type = integers ? CKPT_ARRAY_I64 : CKPT_ARRAY_F32;
    array->rank = 2;
    array->dim[0] = (int64_t)samples;
    array->dim[1] = (int64_t)values;
    array->values = values;
    if (fits) array->data = ckpt_pool_alloc(pool, (size_t)count, integers ? sizeof(int64_t) : sizeof(float));
    if (!array->name || !array->data)
        return ckpt_fail(err, CKPT_NOMEM, "array '%s': %llu samples do not fit host memory; make fewer",
                         request->name, (unsigned long long)samples);
    return CKPT_OK;
}

static ckpt_status make_arrays(const ckpt_data_request *requests, size_t count, uint64_t samples,
                               uint64_t seed, ckpt_dataset *dataset, ckpt_error *err) {
    dataset->arrays = ckpt_pool_array(&dataset->pool, count, ckpt_array);
    projection *p = ckpt_pool_array(&dataset->pool, 1, projection);
    if (!dataset->arrays || !p) return ckpt_fail(err, CKPT_NOMEM, "out of memory for the synthetic data");
    dataset->array_count = count;
    dataset->samples = samples;
    for (size_t i = 0; i < count; i++) {
        CKPT_TRY(make_array(&requests[i], samples, &dataset->pool, &dataset->arrays[i], err));
        if (requests[i].role != CKPT_DATA_INPUT) continue;
        fill_input(&requests[i], seed, CKPT_STREAM_VALUES + (uint32_t)i, &dataset->arrays[i]);
        if (!p->input) fill_projection(p, &dataset->arrays[i]);
    }
    for (size_t i = 0; i < count; i++) {
        if (requests[i].role != CKPT_DATA_TARGET) continue;
        if (!p->input)
            return ckpt_fail(err, CKPT_USAGE,
                             "array '%s': a target needs an input to be made from; give --data",
                             requests[i].name);
        if (dataset->arrays[i].type == CKPT_ARRAY_I64) {
            fill_classes(p, &requests[i], &dataset->arrays[i]);
        } else {
            fill_floats(p, &requests[i], &dataset->arrays[i]);
        }
    }
    return CKPT_OK;
}

ckpt_status ckpt_dataset_synthetic(const ckpt_data_request *requests, size_t request_count, uint64_t samples,
                                   uint64_t seed, ckpt_dataset *dataset, ckpt_error *err) {
    *dataset = (ckpt_dataset){0};
    if (samples == 0 || samples > UINT32_MAX)
        return ckpt_fail(err, CKPT_USAGE, "synthetic data: %llu samples asked for; ask for 1 to 4294967295",
                         (unsigned long long)samples);
    ckpt_status status = make_arrays(requests, request_count, samples, seed, dataset, err);
    if (status == CKPT_OK) return CKPT_OK;
    if (err) ckpt_fail_in(err, "synthetic data");
    ckpt_dataset_free(dataset);
    return status;
}
