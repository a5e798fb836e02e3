/* ai.onnx.ml, as skl2onnx writes around a scikit-learn network. */
#include <inttypes.h>

#include "import/import.h"
#include "import/onnx_rules.h"

/* The floats of an attribute as a constant tensor that broadcasts along the last axis; view->tensor -1 when absent. */
static ckpt_status floats_tensor(ckpt_import *im, const Onnx__NodeProto *node, const char *name, int64_t columns,
                                 ckpt_view *view) {
    const Onnx__AttributeProto *attribute = ckpt_import_attr(node, name);
    view->tensor = -1;
    if (!attribute || attribute->n_floats == 0) return CKPT_OK;
    if (attribute->n_floats != 1 && attribute->n_floats != (size_t)columns)
        return ckpt_fail(im->err, CKPT_MODEL, "its attribute '%s' has %zu values for %" PRId64 " columns", name,
                         attribute->n_floats, columns);
    return ckpt_import_floats(im, ckpt_pool_printf(im->pool, "%s.%s", node->output[0], name), attribute->floats,
                              (int64_t)attribute->n_floats, view);
}

/* y = (x - offset) * scale, column by column; always float. It came with the data and is not trained. */
ckpt_status import_scaler(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_graph *graph = &im->model->graph;
    ckpt_view x, y, offset, scale;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    if (!ckpt_import_has_output(node, 0)) return CKPT_OK;
    if (x.rank < 1) return ckpt_fail(im->err, CKPT_MODEL, "its input has no columns");
    CKPT_TRY(floats_tensor(im, node, "offset", x.dim[x.rank - 1], &offset));
    CKPT_TRY(floats_tensor(im, node, "scale", x.dim[x.rank - 1], &scale));
    y = x;
    if (graph->tensor[x.tensor].dtype != CKPT_F32) CKPT_TRY(ckpt_build_cast(graph, NULL, &x, CKPT_F32, &y, im->err));
    if (offset.tensor >= 0) {
        x = y;
        CKPT_TRY(ckpt_build_binary(graph, scale.tensor < 0 ? node->name : NULL, CKPT_BINARY_SUB, &x, &offset, &y, im->err));
    }
    if (scale.tensor >= 0) {
        x = y;
        CKPT_TRY(ckpt_build_binary(graph, node->name, CKPT_BINARY_MUL, &x, &scale, &y, im->err));
    }
    return ckpt_import_define(im, node, 0, &y);
}

/* A map from class to probability for each row: the probabilities, named. Training reads the tensor. */
ckpt_status import_zipmap(ckpt_import *im, const Onnx__NodeProto *node) { return ckpt_import_alias(im, node, 0); }
