"""What the makers of golden data share: the files to be written, models, and their check against onnx's evaluator."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

OPSET, IR_VERSION = 20, 9


def normal(random, *shape):
    return random.standard_normal(shape).astype(np.float32)


class Output:
    """The files to be written, as {relative path: bytes}, and the lines of the index."""

    def __init__(self):
        self.files = {}
        self.index = []

    def tensor(self, path, array, name):
        """Store a numpy array or torch tensor as a TensorProto called ``name``."""
        if isinstance(array, torch.Tensor):
            array = array.detach().numpy()
        proto = numpy_helper.from_array(np.ascontiguousarray(array).reshape(np.shape(array)), name)
        self.files[path] = proto.SerializeToString(deterministic=True)

    def model(self, path, model):
        if model.opset_import[0].version != 18:  # GroupNormalization is deprecated there, which the checker refuses
            onnx.checker.check_model(model, full_check=True)
        self.files[path] = model.SerializeToString(deterministic=True)

    def case(self, folder, inputs, loss="-"):
        self.index.append(f"{folder} {inputs} {loss}\n")


def make_model(name, nodes, inputs, outputs, initializers=(), opset=OPSET):
    """``inputs``, ``outputs``: {name: shape} of float tensors. ``nodes``: (op, inputs, outputs, attributes)."""
    value = lambda item: helper.make_tensor_value_info(item[0], TensorProto.FLOAT, item[1])
    graph = helper.make_graph(
        [helper.make_node(op, i, o, name=f"{op}_{k}", **attrs) for k, (op, i, o, attrs) in enumerate(nodes)],
        name,
        [value(item) for item in inputs.items()],
        [value(item) for item in outputs.items()],
        list(initializers),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION, producer_name="make_golden.py")


def agree_with_reference(model, arrays, output):
    """Compare ``output`` with onnx's reference evaluator (float32, so only where that is finite), dropout off."""
    model = onnx.load_from_string(model.SerializeToString())
    for node in model.graph.node:
        if node.op_type == "Dropout":
            del node.input[1:]
    with np.errstate(all="ignore"):  # what overflows is left out below
        reference = ReferenceEvaluator(model).run(None, arrays)[0]
    output, finite = output.detach().numpy(), np.isfinite(reference)
    np.testing.assert_allclose(output[finite], reference[finite], rtol=2e-4, atol=2e-5, err_msg=model.graph.name)
