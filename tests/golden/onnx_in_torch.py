"""Runs an ONNX graph with PyTorch functions in float64, so that autograd differentiates what the file says."""

import numpy as np
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

FLOAT_TYPES = {TensorProto.FLOAT, TensorProto.DOUBLE}


def gemm(attrs, a, b, c=None):
    a = a.T if attrs.get("transA", 0) else a
    b = b.T if attrs.get("transB", 0) else b
    y = attrs.get("alpha", 1.0) * (a @ b)
    return y if c is None else y + attrs.get("beta", 1.0) * c


def layer_norm(attrs, x, scale, bias=None):
    axis = attrs.get("axis", -1) % x.dim()
    return F.layer_norm(x, x.shape[axis:], scale, bias, attrs.get("epsilon", 1e-5))


def softmax(attrs, x):
    return torch.softmax(x, attrs.get("axis", -1))


def log_softmax(attrs, x):
    return torch.log_softmax(x, attrs.get("axis", -1))


def transpose(attrs, x):
    return x.permute(attrs.get("perm", list(reversed(range(x.dim())))))


def reshape(_, x, shape):
    return x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(shape.tolist())])


def flatten(attrs, x):
    axis = attrs.get("axis", 1) % (x.dim() + 1)
    return x.reshape(int(np.prod(x.shape[:axis])), -1)


def clip(_, x, low=None, high=None):
    return torch.clamp(x, -np.inf if low is None else low.item(), np.inf if high is None else high.item())


def reduce(operation):
    def run(attrs, x, axes=None):
        axes = list(range(x.dim())) if axes is None else axes.tolist()
        return operation(x, axes, keepdim=bool(attrs.get("keepdims", 1)))

    return run


def hard_sigmoid(attrs, x):
    return torch.clamp(attrs.get("alpha", 0.2) * x + attrs.get("beta", 0.5), 0, 1)


def selu(attrs, x):
    alpha, gamma = attrs.get("alpha", 1.67326319217681884765625), attrs.get("gamma", 1.05070102214813232421875)
    return gamma * F.elu(x, alpha)


def prelu(_, x, slope):
    return torch.where(x > 0, x, slope * x)


def thresholded_relu(attrs, x):
    return torch.where(x > attrs.get("alpha", 1.0), x, torch.zeros_like(x))


OPS = {  # ONNX operator: function of (attributes, inputs)
    "Abs": lambda _, x: torch.abs(x),
    "Add": lambda _, a, b: a + b,
    "Celu": lambda attrs, x: F.celu(x, attrs.get("alpha", 1.0)),
    "Clip": clip,
    "Constant": lambda attrs: attrs["value"],
    "Div": lambda _, a, b: a / b,
    "Dropout": lambda _, x, *ratio_and_mode: x,  # golden data is made with dropout switched off
    "Elu": lambda attrs, x: F.elu(x, attrs.get("alpha", 1.0)),
    "Erf": lambda _, x: torch.erf(x),
    "Exp": lambda _, x: torch.exp(x),
    "Flatten": flatten,
    "Gelu": lambda attrs, x: F.gelu(x, approximate=attrs.get("approximate", b"none").decode()),
    "Gemm": gemm,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": lambda _, x: F.hardswish(x),
    "Identity": lambda _, x: x * 1,
    "LayerNormalization": layer_norm,
    "LeakyRelu": lambda attrs, x: F.leaky_relu(x, attrs.get("alpha", 0.01)),
    "Log": lambda _, x: torch.log(x),
    "LogSoftmax": log_softmax,
    "MatMul": lambda _, a, b: a @ b,
    "Mean": lambda _, *x: sum(x) / len(x),
    "Mish": lambda _, x: F.mish(x),
    "Mul": lambda _, a, b: a * b,
    "PRelu": prelu,
    "Pow": lambda _, x, p: torch.pow(x, p.item()),
    "Reciprocal": lambda _, x: 1 / x,
    "ReduceMean": reduce(torch.mean),
    "ReduceSum": reduce(torch.sum),
    "Relu": lambda _, x: torch.relu(x),
    "Reshape": reshape,
    "Selu": selu,
    "Sigmoid": lambda _, x: torch.sigmoid(x),
    "Softmax": softmax,
    "Softplus": lambda _, x: torch.logaddexp(x, torch.zeros_like(x)),
    "Softsign": lambda _, x: F.softsign(x),
    "Sqrt": lambda _, x: torch.sqrt(x),
    "Sub": lambda _, a, b: a - b,
    "Sum": lambda _, *x: sum(x),
    "Tanh": lambda _, x: torch.tanh(x),
    "ThresholdedRelu": thresholded_relu,
    "Transpose": transpose,
}


def to_torch(proto):
    """TensorProto to a torch tensor; float32 widens to float64."""
    array = np.array(numpy_helper.to_array(proto))
    return torch.from_numpy(array.astype(np.float64) if array.dtype == np.float32 else array)


def attributes(node):
    """Attributes as {name: value}; float attributes keep the float32 value that the file holds."""
    values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {k: to_torch(v) if isinstance(v, TensorProto) else v for k, v in values.items()}


def run_graph(graph, tensors):
    """Run all nodes on ``tensors`` (name -> torch tensor: inputs and initializers), adding every result."""
    for node in graph.node:
        inputs = [tensors[name] if name else None for name in node.input]
        tensors[node.output[0]] = OPS[node.op_type](attributes(node), *inputs)
    return tensors


def is_parameter(graph, proto):
    """Trained initializers are the float ones that are not a Dropout's ratio."""
    ratios = {node.input[1] for node in graph.node if node.op_type == "Dropout" and len(node.input) > 1}
    return proto.data_type in FLOAT_TYPES and proto.name not in ratios


def parameters_of(graph):
    """Trained parameters as {name: float64 leaf}, in file order."""
    return {p.name: to_torch(p).requires_grad_() for p in graph.initializer if is_parameter(graph, p)}


def forward(graph, feed, parameters):
    """The graph's first output for ``feed`` (name -> tensor) and ``parameters``."""
    tensors = {p.name: to_torch(p) for p in graph.initializer}
    tensors.update(parameters)
    tensors.update(feed)
    return run_graph(graph, tensors)[graph.output[0].name]
