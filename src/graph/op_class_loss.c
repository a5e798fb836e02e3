/* loss = -weights[class] * x[class], a value a target (ONNX NegativeLogLikelihoodLoss before its reduction); targets that
 * are the ignored class or negative count for nothing.   dx = -weights[class] * dloss at the class, 0 elsewhere */
#include <inttypes.h>

#include "graph/build.h"
#include "graph/op_rules.h"

ckpt_status ckpt_build_class_loss(ckpt_graph *graph, const char *name, const ckpt_view *x, const ckpt_view *target,
                                  int weights, int64_t ignore, ckpt_view *loss, ckpt_view *weight, ckpt_error *err) {
    ckpt_attr attr = {.class_loss = {.outer = 1, .inner = 1, .ignore = ignore}};
    const int in[3] = {x->tensor, target->tensor, weights};
    if (x->rank < 2 || target->rank != x->rank - 1)
        return ckpt_fail(err, CKPT_MODEL, "its scores have %d dimensions and its targets %d; one more and at least 2 are needed",
                         x->rank, target->rank);
    for (int i = 0; i < target->rank; i++) {
        const int64_t size = x->dim[i == 0 ? 0 : i + 1];
        if (target->dim[i] != size)
            return ckpt_fail(err, CKPT_MODEL, "its targets have size %" PRId64 " along axis %d instead of %" PRId64, target->dim[i],
                             i, size);
        *(i == 0 ? &attr.class_loss.outer : &attr.class_loss.inner) *= size;
    }
    attr.class_loss.classes = x->dim[1];
    if (graph->tensor[x->tensor].dtype != CKPT_F32 || graph->tensor[target->tensor].dtype != CKPT_I32)
        return ckpt_fail(err, CKPT_MODEL, "its scores are of type %s and its targets of type %s",
                         ckpt_dtype_name(graph->tensor[x->tensor].dtype), ckpt_dtype_name(graph->tensor[target->tensor].dtype));
    if (weights >= 0 && graph->tensor[weights].count != x->dim[1])
        return ckpt_fail(err, CKPT_MODEL, "its weights are %" PRId64 " for %" PRId64 " classes", graph->tensor[weights].count,
                         x->dim[1]);
    *loss = *target;
    CKPT_TRY(ckpt_build_node(graph, name, CKPT_OP_CLASS_LOSS, &attr, weights >= 0 ? 3 : 2, in, CKPT_F32, loss, err));
    return ckpt_build_output(graph, CKPT_F32, loss, weight, err);
}
