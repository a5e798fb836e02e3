/* The functions that onnx_ops.def and onnx_ml_ops.def name. */
#ifndef CKPT_ONNX_RULES_H
#define CKPT_ONNX_RULES_H

#include "import/import.h"

#define X(op_type, function, attributes) ckpt_status import_##function(ckpt_import *im, const Onnx__NodeProto *node);
#include "import/onnx_ops.def"
#include "import/onnx_ml_ops.def"
#undef X

/* The element type for an ONNX type number; false where there is none. In training all floats are F32. */
bool ckpt_import_type(const ckpt_import *im, int64_t number, ckpt_dtype *type);

/* The ONNX type number that input i has here. */
ckpt_status ckpt_import_type_of_input(ckpt_import *im, const Onnx__NodeProto *node, size_t i, int64_t *number);

#endif
