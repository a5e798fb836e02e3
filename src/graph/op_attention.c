/* y = softmax(scale * q k' + mask) v for each head, ONNX Attention (opset 23), without ever keeping the weights.
 * Two products of queries * keys * head size, 2 flops each, and a softmax. The gradient makes the weights again and
 * has five products (Dao et al. 2022, FlashAttention). */
#include "base/units.h"
#include "graph/build.h"
#include "graph/op_rules.h"

ckpt_cost ckpt_cost_attention(const ckpt_graph *graph, const ckpt_node *node) {
    (void)graph;
    const ckpt_attention_attr *a = &node->attr.attention;
    const uint64_t weights = (uint64_t)a->batch * (uint64_t)a->heads * (uint64_t)a->queries * (uint64_t)a->keys;
    const uint64_t in = (uint64_t)a->head_in, out = (uint64_t)a->head_out;
    if (node->op == CKPT_OP_ATTENTION) return (ckpt_cost){.flops = weights * (2 * in + 2 * out + 15)};
    return (ckpt_cost){.flops = weights * (6 * in + 4 * out + 30)};
}

ckpt_status ckpt_build_attention(ckpt_graph *graph, const char *name, const ckpt_attention_attr *attention, const int in[4],
                                 ckpt_view *y, ckpt_view *weights, ckpt_error *err) {
    const ckpt_attr attr = {.attention = *attention};
    const ckpt_attention_attr *a = attention;
    uint64_t flops = (uint64_t)(a->head_in + a->head_out);
    const int64_t factor[] = {8, a->batch, a->heads, a->queries, a->keys};
    for (int i = 0; i < 5; i++)
        if (!ckpt_mul_u64(flops, (uint64_t)factor[i], &flops) || flops >> 60)
            return ckpt_fail(err, CKPT_MODEL, "it would take more than 10^18 operations");
    CKPT_TRY(ckpt_build_node(graph, name, CKPT_OP_ATTENTION, &attr, in[3] >= 0 ? 4 : 3, in, CKPT_F32, y, err));
    if (!weights) return CKPT_OK;
    *weights = (ckpt_view){.rank = 4, .dim = {a->batch, a->heads, a->queries, a->keys}};
    return ckpt_build_output(graph, CKPT_F32, weights, weights, err);
}
