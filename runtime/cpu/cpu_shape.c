/* TRANSPOSE and ZERO: bytes moved, none computed. */
#include <string.h>

#include "cpu/cpu_kernels.h"

/* Dims of the output, outermost first, and for each the distance in the input; neighbours that stay together
 * are one axis. `fast` is the output axis that is the input's last; if it is the output's last too, whole runs
 * are copied, otherwise tiles of fast x last are. */
typedef struct transpose_kernel {
    int rank, fast;
    int64_t dim[CKPT_MAX_RANK], from[CKPT_MAX_RANK], to[CKPT_MAX_RANK];
    int64_t units; /* of work: runs, or bands of a tile's width across the last axis */
    size_t element_bytes;
    const char *x;
    char *y;
} transpose_kernel;

enum { TILE = 16 };

/* y[i * to + j] = x[j * from + i] for i < wide <= TILE, j < length. A tile goes through a buffer, so that each line
 * of the input is read and each of the output written once: rows a power of two apart share few cache sets. */
#define BAND(name, type)                                                                                     \
    static void name(const void *vx, void *vy, int64_t from, int64_t to, int64_t wide, int64_t length) {     \
        const type *x = vx;                                                                                  \
        type *y = vy, tile[TILE][TILE];                                                                      \
        for (int64_t first = 0; first < length; first += TILE) {                                             \
            const int64_t high = length - first < TILE ? length - first : TILE;                              \
            if (wide == TILE && high == TILE) {                                                              \
                for (int j = 0; j < TILE; j++)                                                               \
                    for (int i = 0; i < TILE; i++) tile[i][j] = x[(first + j) * from + i];                   \
                for (int i = 0; i < TILE; i++) memcpy(y + i * to + first, tile[i], sizeof tile[i]);          \
                continue;                                                                                    \
            }                                                                                                \
            for (int64_t i = 0; i < wide; i++)                                                               \
                for (int64_t j = first; j < first + high; j++) y[i * to + j] = x[j * from + i];              \
        }                                                                                                    \
    }
BAND(band_1, uint8_t)
BAND(band_2, uint16_t)
BAND(band_4, uint32_t)
BAND(band_8, uint64_t)

/* Offsets of the unit's other axes, all but `skip_a` and the last. */
static void locate(const transpose_kernel *k, int64_t rest, int skip, int64_t *from, int64_t *to) {
    for (int i = k->rank - 2; i >= 0; i--) {
        if (i == skip) continue;
        const int64_t index = rest % k->dim[i];
        rest /= k->dim[i];
        *from += index * k->from[i];
        *to += index * k->to[i];
    }
}

static void run_body(const void *context, int64_t begin, int64_t end) {
    const transpose_kernel *k = context;
    const int64_t length = k->dim[k->rank - 1];
    for (int64_t u = begin; u < end; u++) {
        int64_t from = 0, to = 0;
        locate(k, u, -1, &from, &to);
        memcpy(k->y + (size_t)to * k->element_bytes, k->x + (size_t)from * k->element_bytes,
               (size_t)length * k->element_bytes);
    }
}

static void tile_body(const void *context, int64_t begin, int64_t end) {
    const transpose_kernel *k = context;
    const int last = k->rank - 1;
    const int64_t bands = (k->dim[k->fast] + TILE - 1) / TILE;
    for (int64_t u = begin; u < end; u++) {
        const int64_t first = u % bands * TILE, left = k->dim[k->fast] - first, wide = left < TILE ? left : TILE;
        int64_t from = first, to = first * k->to[k->fast];
        locate(k, u / bands, k->fast, &from, &to);
        const char *x = k->x + (size_t)from * k->element_bytes;
        char *y = k->y + (size_t)to * k->element_bytes;
        switch (k->element_bytes) {
        case 1: band_1(x, y, k->from[last], k->to[k->fast], wide, k->dim[last]); break;
        case 2: band_2(x, y, k->from[last], k->to[k->fast], wide, k->dim[last]); break;
        case 4: band_4(x, y, k->from[last], k->to[k->fast], wide, k->dim[last]); break;
        default: band_8(x, y, k->from[last], k->to[k->fast], wide, k->dim[last]); break;
        }
    }
}

static void transpose_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const transpose_kernel *k = self;
    const bool runs = k->fast == k->rank - 1;
    ckpt_cpu_for(k->units, ckpt_cpu_row_grain(k->dim[k->rank - 1] * (runs ? 1 : TILE)), runs ? run_body : tile_body, k);
}

/* Fills in the axes; false for an empty tensor. */
static bool simplify(const ckpt_transpose_attr *a, transpose_kernel *k) {
    int64_t stride[CKPT_MAX_RANK], run = 1;
    int previous = -2;
    for (int i = a->rank - 1; i >= 0; i--) {
        stride[i] = run;
        run *= a->dim[i];
    }
    for (int i = 0; i < a->rank; i++) {
        const int axis = a->perm[i];
        if (a->dim[axis] == 1) continue;
        bool joins = k->rank > 0 && axis > previous;
        for (int j = previous + 1; joins && j < axis; j++) joins = a->dim[j] == 1; /* only dims of 1 between them */
        if (joins) {
            k->dim[k->rank - 1] *= a->dim[axis];
            k->from[k->rank - 1] = stride[axis];
        } else {
            k->dim[k->rank] = a->dim[axis];
            k->from[k->rank++] = stride[axis];
        }
        previous = axis;
    }
    if (k->rank == 0) {
        k->rank = 1;
        k->dim[0] = k->from[0] = 1;
    }
    int64_t to = 1;
    for (int i = k->rank - 1; i >= 0; i--) {
        k->to[i] = to;
        to *= k->dim[i];
        if (k->from[i] == 1) k->fast = i;
    }
    return run > 0;
}

ckpt_status ckpt_cpu_transpose(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cpu_require(bind, 1, 1, err));
    transpose_kernel *k = ckpt_cpu_launch(bind, sizeof *k, transpose_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->x = bind->in[0];
    k->y = bind->out[0];
    k->element_bytes = (size_t)ckpt_dtype_bytes(bind->graph->tensor[bind->node->out[0]].dtype);
    if (!simplify(&bind->node->attr.transpose, k)) {
        k->rank = 1; /* and no units */
        k->fast = 0;
        return CKPT_OK;
    }
    const bool runs = k->fast == k->rank - 1;
    k->units = 1;
    for (int i = 0; i < k->rank - 1; i++) k->units *= i == k->fast && !runs ? (k->dim[i] + TILE - 1) / TILE : k->dim[i];
    return CKPT_OK;
}

/* ZERO */

typedef struct zero_kernel {
    char *t;
    int64_t bytes;
} zero_kernel;

static void zero_body(const void *context, int64_t begin, int64_t end) {
    const zero_kernel *k = context;
    memset(k->t + begin, 0, (size_t)(end - begin));
}

static void zero_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const zero_kernel *k = self;
    ckpt_cpu_for(k->bytes, 1 << 18, zero_body, k);
}

ckpt_status ckpt_cpu_zero(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cpu_require(bind, 0, 1, err));
    zero_kernel *k = ckpt_cpu_launch(bind, sizeof *k, zero_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->t = bind->out[0];
    k->bytes = ckpt_cpu_out_count(bind, 0) *
               (int64_t)ckpt_dtype_bytes(bind->graph->tensor[bind->node->out[0]].dtype);
    return CKPT_OK;
}
