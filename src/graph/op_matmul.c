/* c = a . b over a batch of matrices with broadcasting, ONNX MatMul.
 *   da = dc . b'     db = a' . dc     each summed over the axes it was broadcast along */
#include <inttypes.h>

#include "graph/autodiff.h"
#include "graph/build.h"
#include "graph/op_rules.h"

ckpt_cost ckpt_cost_matmul(const ckpt_graph *graph, const ckpt_node *node) {
    (void)graph;
    const ckpt_matmul_attr *a = &node->attr.matmul;
    uint64_t flops = 2 * (uint64_t)a->m * (uint64_t)a->n * (uint64_t)a->k;
    for (int i = 0; i < a->batch_rank; i++) flops *= (uint64_t)a->batch_dim[i];
    return (ckpt_cost){.flops = flops};
}

/* Without the last two axes, which are the matrix. */
static ckpt_view batch_of(const ckpt_view *view) {
    ckpt_view batch = *view;
    batch.rank = view->rank - 2;
    return batch;
}

ckpt_status ckpt_build_matmul(ckpt_graph *graph, const char *name, const ckpt_view *a, const ckpt_view *b,
                              ckpt_view *c, ckpt_error *err) {
    if (a->rank < 1 || b->rank < 1) return ckpt_fail(err, CKPT_MODEL, "one of its operands is a scalar");
    ckpt_view left = *a, right = *b;
    if (a->rank == 1) left = (ckpt_view){.tensor = a->tensor, .rank = 2, .dim = {1, a->dim[0]}};
    if (b->rank == 1) right = (ckpt_view){.tensor = b->tensor, .rank = 2, .dim = {b->dim[0], 1}};
    ckpt_matmul_attr attr = {.m = left.dim[left.rank - 2], .k = left.dim[left.rank - 1],
                             .n = right.dim[right.rank - 1], .alpha = 1};
    if (right.dim[right.rank - 2] != attr.k)
        return ckpt_fail(err, CKPT_MODEL, "inner sizes %" PRId64 " and %" PRId64 " differ", attr.k,
                         right.dim[right.rank - 2]);
    ckpt_view left_batch = batch_of(&left), right_batch = batch_of(&right);
    ckpt_binary_attr batch;
    CKPT_TRY(ckpt_broadcast(&left_batch, &right_batch, &batch, c, err));
    if (c->rank + 2 > CKPT_MAX_RANK) return ckpt_fail(err, CKPT_MODEL, "more than %d dimensions", CKPT_MAX_RANK);
    attr.batch_rank = batch.rank;
    for (int i = 0; i < batch.rank; i++) {
        attr.batch_dim[i] = batch.dim[i];
        attr.stride_a[i] = batch.stride_a[i];
        attr.stride_b[i] = batch.stride_b[i];
    }
    if (attr.batch_rank == 1 && attr.stride_a[0] == 1 && attr.stride_b[0] == 0) {
        attr.m *= attr.batch_dim[0]; /* one right operand for all: one tall product */
        attr.batch_rank = 0;
    }
    if (a->rank > 1) c->dim[c->rank++] = left.dim[left.rank - 2];
    if (b->rank > 1) c->dim[c->rank++] = attr.n;
    c->tensor = ckpt_graph_add_tensor(graph, name, CKPT_F32, CKPT_ROLE_STEP, c->rank, c->dim, err);
    if (c->tensor < 0) return CKPT_MODEL;
    int in[2] = {a->tensor, b->tensor};
    int node = ckpt_graph_add_node(graph, CKPT_OP_MATMUL, CKPT_FORWARD, name, 2, in, 1, &c->tensor, err);
    if (node < 0) return CKPT_NOMEM;
    graph->node[node].attr.matmul = attr;
    return CKPT_OK;
}

/* One operand's gradient: the product, then the sum over broadcast batch axes. `stride` are the operand's own. */
static ckpt_status operand_gradient(ckpt_autodiff *ad, int operand, const ckpt_matmul_attr *product, const int in[2],
                                    const int64_t *stride, ckpt_error *err) {
    ckpt_attr attr = {.matmul = *product};
    ckpt_attr reduce = {.reduce = {.rank = product->batch_rank + 1, .alpha = 1}};
    bool broadcast = false;
    for (int i = 0; i < product->batch_rank; i++) {
        reduce.reduce.dim[i] = product->batch_dim[i];
        reduce.reduce.keep |= (uint32_t)(stride[i] != 0) << i;
        broadcast |= stride[i] == 0;
    }
    reduce.reduce.dim[product->batch_rank] = product->m * product->n;
    reduce.reduce.keep |= 1u << product->batch_rank;
    broadcast = broadcast || ckpt_gradient_sums_one(ad, operand, &reduce.reduce);
    int result = ckpt_gradient_tensor(ad, operand, err);
    if (result < 0) return CKPT_NOMEM;
    if (!broadcast) {
        CKPT_TRY(ckpt_gradient_node(ad, CKPT_OP_MATMUL, &attr, 2, in, result, err));
        return ckpt_gradient_give(ad, operand, result, err);
    }
    int whole = ckpt_graph_add_tensor(ad->graph, "dmatmul", CKPT_F32, CKPT_ROLE_STEP, reduce.reduce.rank,
                                      reduce.reduce.dim, err);
    if (whole < 0) return CKPT_NOMEM;
    CKPT_TRY(ckpt_gradient_node(ad, CKPT_OP_MATMUL, &attr, 2, in, whole, err));
    CKPT_TRY(ckpt_gradient_node(ad, CKPT_OP_REDUCE_SUM, &reduce, 1, &whole, result, err));
    return ckpt_gradient_give(ad, operand, result, err);
}

ckpt_status ckpt_gradient_matmul(ckpt_autodiff *ad, int node, ckpt_error *err) {
    const ckpt_node n = ad->graph->node[node];
    const ckpt_matmul_attr f = n.attr.matmul;
    const int a = n.in[0], b = n.in[1], dc = ad->gradient[n.out[0]];
    int64_t dense[CKPT_MAX_RANK], run = 1;
    for (int i = f.batch_rank - 1; i >= 0; i--) dense[i] = run, run *= f.batch_dim[i];
    ckpt_matmul_attr da = f, db = f;
    da.n = f.k, da.k = f.n, da.trans_b = true;
    db.m = f.k, db.k = f.m, db.trans_a = true;
    for (int i = 0; i < f.batch_rank; i++) da.stride_a[i] = db.stride_b[i] = dense[i];
    const int a_in[2] = {dc, b}, b_in[2] = {a, dc};
    const bool b_first = ckpt_gradient_second_first(ad, a, b);
    if (ad->wanted[b] && b_first) CKPT_TRY(operand_gradient(ad, b, &db, b_in, f.stride_b, err));
    if (ad->wanted[a]) CKPT_TRY(operand_gradient(ad, a, &da, a_in, f.stride_a, err));
    if (ad->wanted[b] && !b_first) CKPT_TRY(operand_gradient(ad, b, &db, b_in, f.stride_b, err));
    return CKPT_OK;
}
