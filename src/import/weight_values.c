#include "import/weight_values.h"

#include <math.h>
#include <stddef.h>

bool ckpt_weight_is_all(const ckpt_weight_values *w, float value) {
    for (int64_t i = 0; i < w->count; i++)
        if (w->value[i] != value) return false;
    return true;
}

bool ckpt_weight_is_whole(const ckpt_weight_values *w) {
    for (int64_t i = 0; i < w->count; i++)
        if (w->value[i] != rintf(w->value[i])) return false;
    return true;
}

bool ckpt_weight_is_mask(const ckpt_weight_values *w) {
    bool zero = false, one = false;
    for (int64_t i = 0; i < w->count; i++) {
        if (w->value[i] != 0 && w->value[i] != 1) return false;
        zero |= w->value[i] == 0;
        one |= w->value[i] == 1;
    }
    return zero && one;
}

bool ckpt_weight_is_added_mask(const ckpt_weight_values *w) {
    bool blocks = false;
    for (int64_t i = 0; i < w->count; i++) {
        if (w->value[i] == 0) continue;
        if (!(w->value[i] <= -1e4f)) return false;
        blocks = true;
    }
    return blocks;
}

/* The lines along `axis`: value i of line l is at base + i * inner. */
typedef struct lines {
    int64_t count, length, inner;
} lines;

static lines lines_along(const ckpt_weight_values *w, int axis) {
    lines s = {.length = w->dim[axis], .inner = 1};
    for (int i = axis + 1; i < w->rank; i++) s.inner *= w->dim[i];
    s.count = s.length ? w->count / s.length : 0;
    return s;
}

static const float *line_at(const ckpt_weight_values *w, const lines *s, int64_t l) {
    return w->value + l / s->inner * s->inner * s->length + l % s->inner;
}

static bool counts_up(const float *line, const lines *s) {
    if (line[0] != 0 && line[0] != 1) return false;
    for (int64_t i = 1; i < s->length; i++)
        if (line[i * s->inner] != line[0] + (float)i) return false;
    return true;
}

/* Whether the line solves v[p + 1] + v[p - 1] = 2 cos(f) v[p] for some f and begins as a sine or cosine does. */
static bool is_wave(const float *line, const lines *s) {
    enum { MARGIN = 4 }; /* times the rounding of float, over the angles of long tables */
    const double first = (double)line[0];
    if (first != 0 && first != 1) return false;
    double products = 0, squares = 0, most = 0;
    for (int64_t p = 1; p + 1 < s->length; p++) {
        const double v = (double)line[p * s->inner], sum = (double)line[(p + 1) * s->inner] + (double)line[(p - 1) * s->inner];
        if (!(fabs(v) <= 1.0001)) return false;
        products += v * sum;
        squares += v * v;
        most = fmax(most, fabs(v));
    }
    if (squares == 0) return first == 0;
    const double factor = products / squares, allowed = MARGIN * 6e-8 * (double)s->length + 2e-6 + 1e-3 * most;
    if (!(fabs(factor) <= 2.0001)) return false;
    for (int64_t p = 1; p + 1 < s->length; p++) {
        const double v = (double)line[p * s->inner], sum = (double)line[(p + 1) * s->inner] + (double)line[(p - 1) * s->inner];
        if (!(fabs(sum - factor * v) <= allowed)) return false;
    }
    return true;
}

static bool all_lines(const ckpt_weight_values *w, int axis, bool (*holds)(const float *line, const lines *s)) {
    const lines s = lines_along(w, axis);
    for (int64_t l = 0; l < s.count; l++)
        if (!holds(line_at(w, &s, l), &s)) return false;
    return s.count > 0;
}

bool ckpt_weight_is_positions(const ckpt_weight_values *w) {
    for (int axis = 0; axis < w->rank; axis++)
        if (w->dim[axis] >= 3 && all_lines(w, axis, counts_up)) return true;
    return false;
}

bool ckpt_weight_is_waves(const ckpt_weight_values *w) {
    bool varies = false; /* zeros and ones alone are no waves */
    for (int64_t i = 0; i < w->count && !varies; i++) varies = w->value[i] != 0 && w->value[i] != 1;
    for (int axis = 0; varies && axis < w->rank; axis++)
        if (w->dim[axis] >= 4 && all_lines(w, axis, is_wave)) return true;
    return false;
}

bool ckpt_weight_is_frequencies(const ckpt_weight_values *w) {
    int axis = -1;
    for (int i = 0; i < w->rank; i++) {
        if (w->dim[i] == 1) continue;
        if (axis >= 0) return false;
        axis = i;
    }
    if (axis < 0 || w->count < 3 || w->value[0] != 1 || !(w->value[1] > 0 && w->value[1] < 1)) return false;
    for (int64_t i = 2; i < w->count; i++) {
        const double wanted = pow((double)w->value[1], (double)i);
        if (!(fabs((double)w->value[i] - wanted) <= 1e-6 * (double)(i + 1) * wanted)) return false;
    }
    return true;
}

static bool is_whole(double value, double least) {
    const double nearest = rint(value);
    return nearest >= least && nearest <= 1 << 24 && fabs(value - nearest) <= 4e-7 * value;
}

bool ckpt_weight_is_code_number(float value) {
    static const double constants[] = {0.044715, 0.7978845608028654, 1.5957691216057308, 1.702, 0.1070322243, 0.0356774081};
    const double v = fabs((double)value);
    if (!(v > 0) || v == 1) return false;
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (fabs(v - constants[i]) <= 1e-6 * v) return true;
    if (is_whole(v, 2) && v == rint(v)) return true;
    if (v == 0.5 || v == 0.25 || v == 0.125) return true;
    const bool decimal = fabs(v * 1000 - rint(v * 1000)) < 1e-4; /* 0.1 and 0.05 are as likely a parameter's first value */
    return is_whole(v * v, 2) || (v < 1 && !decimal && is_whole(1 / (v * v), 2));
}
