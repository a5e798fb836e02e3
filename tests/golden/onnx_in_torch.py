"""Runs an ONNX graph with PyTorch functions in float64, so that autograd differentiates what the file says."""

import functools

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


def batch_norm(attrs, x, scale, bias, mean, variance):
    """In training, with ONNX's running statistics: of the population, momentum on the old value."""
    axes, keep = [0, *range(2, x.dim())], attrs.get("momentum", 0.9)
    batch = x.mean(axes), x.var(axes, unbiased=False)
    y = torch.batch_norm(x, scale, bias, None, None, True, 0.0, attrs.get("epsilon", 1e-5), False)  # F's refuses one sample
    return y, *(old * keep + new * (1 - keep) for old, new in zip((mean, variance), batch))


def group_norm(attrs, x, scale, bias):
    groups = attrs["num_groups"]
    if scale.numel() != x.shape[1]:  # before opset 21: one a group
        scale, bias = (v.repeat_interleave(x.shape[1] // groups) for v in (scale, bias))
    return F.group_norm(x, groups, scale, bias, attrs.get("epsilon", 1e-5))


def rms_norm(attrs, x, scale):
    return F.rms_norm(x, x.shape[attrs.get("axis", -1) % x.dim():], scale, attrs.get("epsilon", 1e-5))


def split(attrs, x, sizes=None):
    axis = attrs.get("axis", 0)
    each = -(-x.shape[axis] // attrs["num_outputs"]) if sizes is None else sizes.tolist()
    return torch.split(x, each, axis)


def slice_(_, x, starts, ends, axes=None, steps=None):
    count = starts.numel()
    axes = range(count) if axes is None else axes.tolist()
    steps = [1] * count if steps is None else steps.tolist()
    for axis, start, end, step in zip(axes, starts.tolist(), ends.tolist(), steps):
        x = x.index_select(axis, torch.tensor(range(x.shape[axis])[start:end:step]))
    return x


def pad(_, x, pads, fill):
    before, after = pads.tolist()[: x.dim()], pads.tolist()[x.dim() :]
    return F.pad(x, [n for pair in reversed(list(zip(before, after))) for n in pair], value=fill.item())


def class_loss(operation):
    def run(attrs, x, target, weight=None):
        ignore, reduction = attrs.get("ignore_index", -100), attrs.get("reduction", b"mean").decode()
        return operation(x, target, weight, ignore_index=ignore, reduction=reduction)

    return run


def fold(operation):
    return lambda _, *x: functools.reduce(operation, x)


OPS = {  # ONNX operator: function of (attributes, inputs)
    "Abs": lambda _, x: torch.abs(x),
    "Add": lambda _, a, b: a + b,
    "BatchNormalization": batch_norm,
    "Celu": lambda attrs, x: F.celu(x, attrs.get("alpha", 1.0)),
    "Clip": clip,
    "Concat": lambda attrs, *x: torch.cat(x, attrs["axis"]),
    "Constant": lambda attrs: attrs["value"],
    "Div": lambda _, a, b: a / b,
    "Dropout": lambda _, x, *ratio_and_mode: x,  # golden data is made with dropout switched off
    "Elu": lambda attrs, x: F.elu(x, attrs.get("alpha", 1.0)),
    "Erf": lambda _, x: torch.erf(x),
    "Exp": lambda _, x: torch.exp(x),
    "Flatten": flatten,
    "Gelu": lambda attrs, x: F.gelu(x, approximate=attrs.get("approximate", b"none").decode()),
    "Gemm": gemm,
    "GroupNormalization": group_norm,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": lambda _, x: F.hardswish(x),
    "Identity": lambda _, x: x * 1,
    "InstanceNormalization": lambda attrs, x, s, b: F.instance_norm(x, None, None, s, b, eps=attrs.get("epsilon", 1e-5)),
    "LayerNormalization": layer_norm,
    "LeakyRelu": lambda attrs, x: F.leaky_relu(x, attrs.get("alpha", 0.01)),
    "Log": lambda _, x: torch.log(x),
    "LogSoftmax": log_softmax,
    "MatMul": lambda _, a, b: a @ b,
    "Max": fold(torch.maximum),
    "Mean": lambda _, *x: sum(x) / len(x),
    "Min": fold(torch.minimum),
    "Mish": lambda _, x: F.mish(x),
    "Mul": lambda _, a, b: a * b,
    "NegativeLogLikelihoodLoss": class_loss(F.nll_loss),
    "Pad": pad,
    "PRelu": prelu,
    "Pow": lambda _, x, p: torch.pow(x, p),
    "RMSNormalization": rms_norm,
    "Reciprocal": lambda _, x: 1 / x,
    "ReduceMean": reduce(torch.mean),
    "ReduceSum": reduce(torch.sum),
    "Relu": lambda _, x: torch.relu(x),
    "Reshape": reshape,
    "Selu": selu,
    "Sigmoid": lambda _, x: torch.sigmoid(x),
    "Slice": slice_,
    "Softmax": softmax,
    "SoftmaxCrossEntropyLoss": class_loss(F.cross_entropy),
    "Softplus": lambda _, x: torch.logaddexp(x, torch.zeros_like(x)),
    "Softsign": lambda _, x: F.softsign(x),
    "Split": split,
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
        results = OPS[node.op_type](attributes(node), *inputs)
        tensors.update(zip(node.output, results if isinstance(results, tuple) else (results,)))
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


def train_step(graph, parameters, x, loss_of, rate):
    """A step of SGD on ``loss_of(output)`` for a batch; ``parameters``, and running statistics among them, are replaced.

    Returns output and loss."""
    running = {i: o for node in graph.node if node.op_type == "BatchNormalization" for i, o in zip(node.input[3:], node.output[1:])}
    constants = {p.name: to_torch(p) for p in graph.initializer}
    tensors = run_graph(graph, {**constants, **parameters, graph.input[0].name: x})
    y = tensors[graph.output[0].name]
    loss = loss_of(y)
    trained = [name for name in parameters if name not in running]
    for name, gradient in zip(trained, torch.autograd.grad(loss, [parameters[name] for name in trained])):
        parameters[name] = (parameters[name] - rate * gradient).detach().requires_grad_()
    parameters.update((kept, tensors[moved].detach()) for kept, moved in running.items())
    return y.detach(), loss.detach()
