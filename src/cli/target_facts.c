#include "cli/target_facts.h"

#include <math.h>
#include <string.h>

/* Sums of rounded probabilities: a softmax in float32, or what was written with three digits. */
static const double TOLERANCE = 2e-3;

static inline double value_at(const ckpt_array *array, int64_t i) {
    return array->type == CKPT_ARRAY_F32 ? (double)((const float *)array->data)[i] : (double)((const int64_t *)array->data)[i];
}

static bool are_whole(const ckpt_array *array, int64_t count) {
    for (int64_t i = 0; i < count && array->type == CKPT_ARRAY_F32; i++) {
        const double value = value_at(array, i);
        if (value != floor(value)) return false;
    }
    return true;
}

static bool are_zero_and_one(const ckpt_array *array, int64_t count) {
    int64_t ones = 0;
    for (int64_t i = 0; i < count; i++) {
        const double value = value_at(array, i);
        if (value != 0 && value != 1) return false;
        ones += value == 1;
    }
    return ones > 0 && ones < count;
}

/* Every run of `size` values that are `inner` apart: one 1 and zeros, or at least probabilities. */
static void look_along(const ckpt_array *array, int64_t outer, int64_t size, int64_t inner, bool *one_hot, bool *distribution) {
    *one_hot = *distribution = size >= 2;
    for (int64_t row = 0; row < outer * inner && *distribution; row++) {
        const int64_t first = row / inner * size * inner + row % inner;
        double sum = 0;
        for (int64_t i = 0; i < size; i++) {
            const double value = value_at(array, first + i * inner);
            *distribution = *distribution && value >= 0 && value <= 1 + TOLERANCE;
            *one_hot = *one_hot && (value == 0 || value == 1);
            sum += value;
        }
        *distribution = *distribution && fabs(sum - 1) <= TOLERANCE;
        *one_hot = *one_hot && sum == 1;
    }
    *one_hot = *one_hot && *distribution;
}

void ckpt_target_facts_find(const ckpt_array *array, ckpt_target_facts *facts) {
    int64_t outer = 1, count = 1;
    *facts =
        (ckpt_target_facts){.known = true, .name = array->name, .integer = array->type == CKPT_ARRAY_I64, .rank = array->rank};
    memcpy(facts->dim, array->dim, sizeof facts->dim);
    for (int a = 0; a < array->rank; a++) count *= array->dim[a];
    facts->whole = are_whole(array, count);
    facts->zero_one = are_zero_and_one(array, count);
    for (int a = 0; a < array->rank; a++) {
        bool one_hot, distribution;
        const int64_t size = array->dim[a];
        look_along(array, outer, size, count / (outer * size), &one_hot, &distribution);
        facts->one_hot |= (uint32_t)(a > 0 && one_hot) << a;
        facts->distribution |= (uint32_t)(a > 0 && distribution) << a;
        outer *= size;
    }
}
