/* Attention (opset 23): 4-D inputs (batch, heads, length, head size), or 3-D ones with the heads side by side. Keys and
 * values of the past are put before the present ones. */
#include <inttypes.h>
#include <math.h>

#include "import/import.h"
#include "import/onnx_rules.h"

enum { MOST_HEADS = 1 << 20 };
#define MOST_HEAD_SIZE (INT64_C(1) << 40) /* no product with a number of heads overflows */

/* (batch, length, heads * size) to (batch, heads, length, size). */
static ckpt_status unpack(ckpt_import *im, int64_t heads, ckpt_view *x) {
    const int perm[4] = {0, 2, 1, 3};
    const ckpt_view apart = {.tensor = x->tensor, .rank = 4, .dim = {x->dim[0], x->dim[1], heads, x->dim[2] / heads}};
    return ckpt_build_transpose(&im->model->graph, NULL, &apart, perm, x, im->err);
}

/* Keys or values together with the past, which output `present` may ask for as well. */
static ckpt_status join_past(ckpt_import *im, const Onnx__NodeProto *node, size_t input, size_t past, size_t present,
                             int64_t heads, ckpt_view *x) {
    CKPT_TRY(ckpt_import_input(im, node, input, x));
    const bool has_past = ckpt_import_has_input(node, past), wants = ckpt_import_has_output(node, present);
    if (x->rank == 3 && (has_past || wants)) {
        if (heads < 1 || heads > MOST_HEADS || x->dim[2] % heads) return ckpt_fail(im->err, CKPT_MODEL, "its kv_num_heads do not divide its keys");
        CKPT_TRY(unpack(im, heads, x));
    }
    if (has_past) {
        ckpt_view parts[2] = {{0}, *x};
        CKPT_TRY(ckpt_import_input(im, node, past, &parts[0]));
        if (parts[0].rank != 4) return ckpt_fail(im->err, CKPT_MODEL, "its past has %d dimensions", parts[0].rank);
        CKPT_TRY(ckpt_build_concat(&im->model->graph, NULL, 2, parts, 2, x, im->err));
    }
    return wants ? ckpt_import_define(im, node, present, x) : CKPT_OK;
}

/* Length, heads and head size of one of q, k, v. */
static ckpt_status take_apart(ckpt_import *im, const ckpt_view *x, int64_t heads, int64_t *length, int64_t *own_heads, int64_t *size) {
    if (x->rank != 3 && x->rank != 4) return ckpt_fail(im->err, CKPT_MODEL, "an input has %d dimensions instead of 3 or 4", x->rank);
    if (x->rank == 3 && (heads < 1 || heads > MOST_HEADS || x->dim[2] % heads))
        return ckpt_fail(im->err, CKPT_MODEL, "its %" PRId64 " heads do not divide an input of %" PRId64, heads, x->dim[2]);
    *length = x->dim[x->rank == 3 ? 1 : 2];
    *own_heads = x->rank == 3 ? heads : x->dim[1];
    *size = x->rank == 3 ? x->dim[2] / heads : x->dim[3];
    return CKPT_OK;
}

static ckpt_status read_mask(ckpt_import *im, const Onnx__NodeProto *node, const ckpt_attention_attr *a, int *mask) {
    const ckpt_view weights = {.rank = 4, .dim = {a->batch, a->heads, a->queries, a->keys}};
    ckpt_view view, both;
    ckpt_binary_attr geometry;
    *mask = -1;
    if (!ckpt_import_has_input(node, 3)) return CKPT_OK;
    CKPT_TRY(ckpt_import_input(im, node, 3, &view));
    if (view.rank > 0 && view.dim[view.rank - 1] < a->keys) view.dim[view.rank - 1] = a->keys; /* padded with -inf */
    CKPT_TRY(ckpt_broadcast(&weights, &view, &geometry, &both, im->err));
    for (int i = 0; i < 4; i++)
        if (both.rank != 4 || both.dim[i] != weights.dim[i])
            return ckpt_fail(im->err, CKPT_MODEL, "its mask is larger than the attention weights");
    *mask = view.tensor;
    return CKPT_OK;
}

ckpt_status import_attention(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_attention_attr a = {0};
    ckpt_view q, k, v, y, weights;
    int64_t q_heads, kv_heads, causal, mode, precision, value_heads, value_keys;
    int in[4];
    CKPT_TRY(ckpt_import_attr_int(im, node, "q_num_heads", 0, &q_heads));
    CKPT_TRY(ckpt_import_attr_int(im, node, "kv_num_heads", 0, &kv_heads));
    CKPT_TRY(ckpt_import_attr_int(im, node, "is_causal", 0, &causal));
    CKPT_TRY(ckpt_import_attr_int(im, node, "qk_matmul_output_mode", 0, &mode));
    CKPT_TRY(ckpt_import_attr_int(im, node, "softmax_precision", 0, &precision));
    if (ckpt_import_has_input(node, 6)) return ckpt_fail(im->err, CKPT_MODEL, "nonpad_kv_seqlen is not supported");
    CKPT_TRY(ckpt_import_input(im, node, 0, &q));
    CKPT_TRY(join_past(im, node, 1, 4, 1, kv_heads, &k));
    CKPT_TRY(join_past(im, node, 2, 5, 2, kv_heads, &v));
    CKPT_TRY(take_apart(im, &q, q_heads, &a.queries, &a.heads, &a.head_in));
    const int64_t head_in = a.head_in;
    CKPT_TRY(take_apart(im, &k, kv_heads, &a.keys, &a.kv_heads, &a.head_in));
    CKPT_TRY(take_apart(im, &v, kv_heads, &value_keys, &value_heads, &a.head_out));
    a.batch = q.dim[0];
    if (a.head_out > MOST_HEAD_SIZE || a.head_in != head_in || value_keys != a.keys || value_heads != a.kv_heads || !a.kv_heads || a.heads % a.kv_heads ||
        k.dim[0] != a.batch || v.dim[0] != a.batch)
        return ckpt_fail(im->err, CKPT_MODEL, "its queries, keys and values do not fit each other");
    CKPT_TRY(ckpt_import_attr_float(im, node, "scale", (float)(1 / sqrt((double)head_in)), &a.scale));
    CKPT_TRY(ckpt_import_attr_float(im, node, "softcap", 0, &a.softcap));
    a.causal = causal != 0;
    a.packed = q.rank == 3;
    a.packed_keys = k.rank == 3;
    CKPT_TRY(read_mask(im, node, &a, &in[3]));
    in[0] = q.tensor, in[1] = k.tensor, in[2] = v.tensor;
    y = a.packed ? (ckpt_view){.rank = 3, .dim = {a.batch, a.queries, a.heads * a.head_out}}
                 : (ckpt_view){.rank = 4, .dim = {a.batch, a.heads, a.queries, a.head_out}};
    const bool wants_weights = ckpt_import_has_output(node, 3);
    CKPT_TRY(ckpt_build_attention(&im->model->graph, node->name, &a, in, &y, wants_weights ? &weights : NULL, im->err));
    CKPT_TRY(ckpt_import_define(im, node, 0, &y));
    return wants_weights ? ckpt_import_define(im, node, 3, &weights) : CKPT_OK;
}
