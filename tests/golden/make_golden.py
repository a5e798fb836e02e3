#!/usr/bin/env python3
"""Make the golden data of this folder with PyTorch in float64, or check it; README.md says what the files are.

    make_golden.py            write everything
    make_golden.py --check    compare with fresh results: float64 within 1e-9, all else exactly; exit 1 if any differs

Inputs are float32 and stored; every result is computed from exactly those values in float64 by running the
ONNX graph, node by node, in PyTorch (onnx_in_torch.py). Each model's output is also compared with onnx's own
reference evaluator before it is written. Needs torch, onnx, numpy.
"""

import argparse
import io
import platform
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnx_in_torch import forward, parameters_of

HERE = Path(__file__).resolve().parent
MODELS = HERE.parents[1] / "models"
OPSET, IR_VERSION = 20, 9

LOSSES = {  # all are means: over samples for ce and nll, over elements for bce and mse
    "ce": lambda logits, target: F.cross_entropy(logits, target),
    "bce": lambda logits, target: F.binary_cross_entropy_with_logits(logits, target),
    "mse": lambda output, target: F.mse_loss(output, target),
    "nll": lambda log_probabilities, target: F.nll_loss(log_probabilities, target),
}


# -- files ----------------------------------------------------------------------------------------------------


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
        onnx.checker.check_model(model, full_check=True)
        self.files[path] = model.SerializeToString(deterministic=True)

    def case(self, folder, inputs, loss="-"):
        self.index.append(f"{folder} {inputs} {loss}\n")


def make_model(name, nodes, inputs, outputs, initializers=()):
    """``inputs``, ``outputs``: {name: shape} of float tensors. ``nodes``: (op, inputs, outputs, attributes)."""
    value = lambda item: helper.make_tensor_value_info(item[0], TensorProto.FLOAT, item[1])
    graph = helper.make_graph(
        [helper.make_node(op, i, o, name=f"{op}_{k}", **attrs) for k, (op, i, o, attrs) in enumerate(nodes)],
        name,
        [value(item) for item in inputs.items()],
        [value(item) for item in outputs.items()],
        list(initializers),
    )
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="make_golden.py")


def agree_with_reference(model, arrays, output):
    """Compare ``output`` with onnx's reference evaluator (float32, so only where that is finite), dropout off."""
    model = onnx.load_from_string(model.SerializeToString())
    for node in model.graph.node:
        if node.op_type == "Dropout":
            del node.input[1:]
    reference = ReferenceEvaluator(model).run(None, arrays)[0]
    output, finite = output.detach().numpy(), np.isfinite(reference)
    np.testing.assert_allclose(output[finite], reference[finite], rtol=2e-4, atol=2e-5, err_msg=model.graph.name)


# -- operators ------------------------------------------------------------------------------------------------

INPUT_NAMES = ["a", "b", "c"]


def normal(random, *shape):
    return random.standard_normal(shape).astype(np.float32)


def operator_case(out, name, nodes, arrays, initializers=(), seed=0):
    """One case of ops/: loss = sum(output * upstream), gradients of all inputs."""
    feed = {n: torch.from_numpy(a.astype(np.float64)).requires_grad_() for n, a in zip(INPUT_NAMES, arrays)}
    shapes = {n: list(a.shape) for n, a in zip(INPUT_NAMES, arrays)}
    probe = make_model(name, nodes, shapes, {"y": None}, initializers)
    y = forward(probe.graph, feed, {})
    model = make_model(name, nodes, shapes, {"y": list(y.shape)}, initializers)
    agree_with_reference(model, dict(zip(INPUT_NAMES, arrays)), y)
    upstream = normal(np.random.RandomState(seed), *y.shape)
    (y * torch.from_numpy(upstream.astype(np.float64))).sum().backward()

    folder = f"ops/{name}"
    out.model(f"{folder}/model.onnx", model)
    out.tensor(f"{folder}/output_0.pb", y, "y")
    out.tensor(f"{folder}/upstream_0.pb", upstream, "grad_y")
    for i, (input_name, array) in enumerate(zip(INPUT_NAMES, arrays)):
        out.tensor(f"{folder}/input_{i}.pb", array, input_name)
        out.tensor(f"{folder}/grad_input_{i}.pb", feed[input_name].grad, f"grad_{input_name}")
    out.case(folder, len(arrays))


def make_operators(out):
    random = np.random.RandomState(100)
    n = lambda *shape: normal(random, *shape)

    def case(name, op, *arrays, initializers=(), **attrs):
        inputs = INPUT_NAMES[: len(arrays)] + [i.name for i in initializers]
        operator_case(out, name, [(op, inputs, ["y"], attrs)], arrays, initializers, seed=len(out.index))

    # Gemm: y = alpha A' B' + beta C, with A' (4, 3), B' (3, 5)
    case("gemm_no_c", "Gemm", n(4, 3), n(3, 5))
    case("gemm_vector_c", "Gemm", n(4, 3), n(3, 5), n(5))
    case("gemm_row_c", "Gemm", n(4, 3), n(3, 5), n(1, 5))
    case("gemm_column_c", "Gemm", n(4, 3), n(3, 5), n(4, 1))
    case("gemm_scalar_c", "Gemm", n(4, 3), n(3, 5), n())
    case("gemm_matrix_c", "Gemm", n(4, 3), n(3, 5), n(4, 5))
    case("gemm_transa", "Gemm", n(3, 4), n(3, 5), n(5), transA=1)
    case("gemm_transb", "Gemm", n(4, 3), n(5, 3), n(5), transB=1)
    case("gemm_transa_transb", "Gemm", n(3, 4), n(5, 3), n(5), transA=1, transB=1)
    case("gemm_alpha_beta", "Gemm", n(4, 3), n(3, 5), n(5), alpha=0.7, beta=-1.3)
    case("gemm_all", "Gemm", n(3, 4), n(5, 3), n(4, 5), alpha=0.7, beta=-1.3, transA=1, transB=1)

    case("matmul_2d", "MatMul", n(4, 3), n(3, 5))
    case("matmul_3d_2d", "MatMul", n(2, 3, 4), n(4, 5))
    case("matmul_4d_2d", "MatMul", n(2, 3, 2, 4), n(4, 5))
    case("matmul_batched_3d", "MatMul", n(2, 3, 4), n(2, 4, 5))
    case("matmul_batched_4d", "MatMul", n(2, 3, 3, 4), n(2, 3, 4, 2))
    case("matmul_batched_broadcast", "MatMul", n(2, 1, 3, 4), n(3, 4, 2))

    broadcasts = {
        "same": ((4, 5), (4, 5)),
        "row": ((4, 5), (5,)),
        "column": ((4, 5), (4, 1)),
        "scalar": ((4, 5), ()),
        "one": ((4, 5), (1,)),
        "left": ((5,), (4, 5)),
        "outer": ((4, 1), (1, 5)),
        "middle": ((2, 3, 4), (3, 1)),
        "both": ((2, 1, 4), (3, 1)),
    }
    for op in "Add", "Sub", "Mul", "Div":
        for kind, (a, b) in broadcasts.items():
            divisor = np.asarray(np.copysign(0.5 + random.random_sample(b), random.standard_normal(b)), np.float32)
            case(f"{op.lower()}_{kind}", op, n(*a), divisor if op == "Div" else n(*b))

    # Pointwise: normal values, and values far out where naive formulas overflow
    wide = lambda: np.array([[-200, -90, -30, -5, -1e-3], [1e-3, 5, 30, 90, 200]], np.float32)
    case("relu", "Relu", n(4, 5))
    case("relu_zero", "Relu", np.array([-1, -0.0, 0.0, 1], np.float32))  # the gradient at 0 is 0
    case("leakyrelu", "LeakyRelu", n(4, 5), alpha=0.1)
    case("leakyrelu_default", "LeakyRelu", n(4, 5))
    case("elu", "Elu", n(4, 5))
    case("elu_alpha", "Elu", n(4, 5), alpha=1.5)
    case("sigmoid", "Sigmoid", n(4, 5))
    case("sigmoid_wide", "Sigmoid", wide())
    case("tanh", "Tanh", n(4, 5))
    case("tanh_wide", "Tanh", wide())
    case("softplus", "Softplus", n(4, 5))
    case("softplus_wide", "Softplus", wide())
    case("gelu", "Gelu", n(4, 5))
    case("gelu_wide", "Gelu", wide())
    case("gelu_tanh", "Gelu", n(4, 5), approximate="tanh")
    case("gelu_tanh_wide", "Gelu", wide(), approximate="tanh")
    case("erf", "Erf", n(4, 5))
    case("identity", "Identity", n(4, 5))

    def composed(name, nodes, arrays, initializers=()):
        operator_case(out, name, nodes, arrays, initializers, seed=len(out.index))

    silu = [("Sigmoid", ["a"], ["s"], {}), ("Mul", ["a", "s"], ["y"], {})]
    composed("silu", silu, [n(4, 5)])
    composed("silu_wide", silu, [wide()])
    scalars = [numpy_helper.from_array(np.float32(v), k) for k, v in zip("rhi", (np.sqrt(2.0), 0.5, 1.0))]
    gelu = [
        ("Div", ["a", "r"], ["d"], {}),
        ("Erf", ["d"], ["e"], {}),
        ("Add", ["e", "i"], ["s"], {}),
        ("Mul", ["a", "s"], ["m"], {}),
        ("Mul", ["m", "h"], ["y"], {}),
    ]
    composed("gelu_by_erf", gelu, [n(4, 5)], scalars)

    case("layernorm_2d", "LayerNormalization", n(4, 5), n(5), n(5))
    case("layernorm_last_axis", "LayerNormalization", n(2, 3, 4), n(4), n(4), axis=-1)
    case("layernorm_axis1", "LayerNormalization", n(2, 3, 4), n(3, 4), n(3, 4), axis=1)
    case("layernorm_no_bias", "LayerNormalization", n(4, 5), n(5))
    case("layernorm_epsilon", "LayerNormalization", n(4, 5), n(5), n(5), epsilon=0.25)
    case("layernorm_offset", "LayerNormalization", n(4, 5) + np.float32(100), n(5), n(5))
    for op in "Softmax", "LogSoftmax":
        case(f"{op.lower()}_2d", op, n(4, 5))
        case(f"{op.lower()}_axis0", op, n(4, 5), axis=0)
        case(f"{op.lower()}_3d_last", op, n(2, 3, 4), axis=-1)
        case(f"{op.lower()}_3d_axis1", op, n(2, 3, 4), axis=1)
        case(f"{op.lower()}_wide", op, np.concatenate([wide(), wide()[::-1] * np.float32(0.01)]))

    case("transpose_2d", "Transpose", n(4, 5))
    case("transpose_3d", "Transpose", n(2, 3, 4), perm=[0, 2, 1])
    case("transpose_4d", "Transpose", n(2, 3, 4, 2), perm=[2, 0, 3, 1])
    shape = lambda *dims: [numpy_helper.from_array(np.array(dims, np.int64), "shape")]
    case("reshape", "Reshape", n(2, 3, 4), initializers=shape(4, 6))
    case("reshape_zero_minus1", "Reshape", n(2, 3, 4), initializers=shape(0, -1))
    case("flatten", "Flatten", n(2, 3, 4))
    case("flatten_axis2", "Flatten", n(2, 3, 4), axis=2)
    case("flatten_axis0", "Flatten", n(2, 3, 4), axis=0)
    make_more_acts(case, n, wide)
    make_sums(case, n)


def make_more_acts(case, n, wide):
    """Element functions with constants; what is not defined everywhere gets positive values."""
    number = lambda value, name="p": numpy_helper.from_array(np.array(value, np.float32), name)
    positive = lambda *shape: np.abs(n(*shape)) + np.float32(0.1)
    for op in "Selu", "Celu", "HardSigmoid", "HardSwish", "Softsign", "Mish", "ThresholdedRelu":
        case(op.lower(), op, n(4, 5) * np.float32(2))
        case(f"{op.lower()}_wide", op, wide())
    case("selu_constants", "Selu", n(4, 5), alpha=2.0, gamma=0.7)
    case("selu_negative", "Selu", n(4, 5), alpha=-2.0, gamma=0.7)
    case("celu_alpha", "Celu", n(4, 5), alpha=2.5)
    case("hardsigmoid_sixth", "HardSigmoid", n(4, 5) * np.float32(3), alpha=1 / 6, beta=0.5)
    case("thresholdedrelu_alpha", "ThresholdedRelu", n(4, 5), alpha=0.3)
    case("clip", "Clip", n(4, 5), initializers=[number(-0.5, "low"), number(0.75, "high")])
    case("clip_ends", "Clip", np.array([-1, 0, 3, 6, 7], np.float32), initializers=[number(0, "low"), number(6, "high")])
    case("clip_low", "Clip", n(4, 5), initializers=[number(-0.5, "low")])
    case("clip_none", "Clip", n(4, 5))
    case("exp", "Exp", n(4, 5))
    case("log", "Log", positive(4, 5))
    case("abs", "Abs", np.concatenate([n(7), np.zeros(2, np.float32)]))
    case("sqrt", "Sqrt", positive(4, 5))
    case("reciprocal", "Reciprocal", np.copysign(positive(4, 5), n(4, 5)))
    for exponent in 2, 3, 4, 5, 1, 0.5, -1, 0:
        case(f"pow_{exponent}".replace(".", "_").replace("-", "minus_"), "Pow",
             positive(4, 5) if exponent == 0.5 else np.copysign(positive(4, 5), n(4, 5)), initializers=[number(exponent)])
    case("pow_fraction", "Pow", positive(4, 5), initializers=[number(2.6)])
    case("pow_minus_fraction", "Pow", positive(4, 5), initializers=[number(-1.3)])
    case("pow_minus_2", "Pow", np.copysign(positive(4, 5), n(4, 5)), initializers=[number(-2)])
    case("prelu_scalar", "PRelu", n(4, 5), n(1))
    case("prelu_channel", "PRelu", n(4, 5), n(5))
    case("prelu_middle", "PRelu", n(2, 3, 4), n(3, 1))
    case("prelu_zero", "PRelu", np.array([-1, 0, 1], np.float32), np.array([0.3], np.float32))


def make_sums(case, n):
    axes = lambda *values: [numpy_helper.from_array(np.array(values, np.int64), "axes")]
    for op in "Sum", "Mean":
        case(f"{op.lower()}_one", op, n(4, 5))
        case(f"{op.lower()}_three", op, n(4, 5), n(4, 5), n(4, 5))
        case(f"{op.lower()}_broadcast", op, n(4, 5), n(5), n(4, 1))
    for op in "ReduceSum", "ReduceMean":
        case(f"{op.lower()}_all", op, n(2, 3, 4))
        case(f"{op.lower()}_last", op, n(2, 3, 4), initializers=axes(-1))
        case(f"{op.lower()}_drop", op, n(2, 3, 4), initializers=axes(1), keepdims=0)
        case(f"{op.lower()}_outer", op, n(2, 3, 4), initializers=axes(0, -1))
        case(f"{op.lower()}_scalar", op, n(2, 3, 4), initializers=axes(0, 1, 2), keepdims=0)


# -- losses ---------------------------------------------------------------------------------------------------

FOLDED = {"Softmax": "ce", "Sigmoid": "bce", "LogSoftmax": "nll"}  # last operator that the loss absorbs


def loss_case(out, name, loss, array, target, op="Identity"):
    """One case of losses/: a one-node model and the loss of its output, or of its input where they fold."""
    model = make_model(name, [(op, ["a"], ["y"], {})], {"a": list(array.shape)}, {"y": list(array.shape)})
    a = torch.from_numpy(array.astype(np.float64)).requires_grad_()
    y = forward(model.graph, {"a": a}, {})
    agree_with_reference(model, {"a": array}, y)
    t = torch.from_numpy(target.astype(np.float64) if target.dtype == np.float32 else target)
    value = LOSSES[loss](a if op in ("Softmax", "Sigmoid") else y, t)
    value.backward()

    folder = f"losses/{name}"
    out.model(f"{folder}/model.onnx", model)
    out.tensor(f"{folder}/input_0.pb", array, "a")
    out.tensor(f"{folder}/target_0.pb", target, "target")
    out.tensor(f"{folder}/output_0.pb", y, "y")
    out.tensor(f"{folder}/loss.pb", value, "loss")
    out.tensor(f"{folder}/grad_input_0.pb", a.grad, "grad_a")
    out.case(folder, 1, loss)


def make_losses(out):
    random = np.random.RandomState(200)
    n = lambda *shape: normal(random, *shape)
    classes = random.randint(0, 5, 7).astype(np.int64)
    bits = lambda *shape: (random.random_sample(shape) < 0.5).astype(np.float32)
    large = np.float32(60)
    loss_case(out, "ce", "ce", n(7, 5), classes)
    loss_case(out, "ce_large_logits", "ce", n(7, 5) * large, classes)
    loss_case(out, "ce_one_sample", "ce", n(1, 5), classes[:1])
    loss_case(out, "ce_softmax", "ce", n(7, 5), classes, "Softmax")
    loss_case(out, "bce", "bce", n(7, 1), bits(7, 1))
    loss_case(out, "bce_multilabel", "bce", n(7, 3), bits(7, 3))
    loss_case(out, "bce_large_logits", "bce", n(7, 3) * large, bits(7, 3))
    loss_case(out, "bce_sigmoid", "bce", n(7, 3), bits(7, 3), "Sigmoid")
    loss_case(out, "mse", "mse", n(7, 5), n(7, 5))
    loss_case(out, "mse_3d", "mse", n(2, 3, 4), n(2, 3, 4))
    log_probabilities = torch.log_softmax(torch.from_numpy(n(7, 5)), 1).numpy()
    loss_case(out, "nll", "nll", log_probabilities, classes)
    loss_case(out, "nll_logsoftmax", "nll", n(7, 5), classes, "LogSoftmax")


# -- optimizers -----------------------------------------------------------------------------------------------

# Learning rates are powers of two: the same number in float32 and float64.
OPTIMIZERS = {
    "sgd": (torch.optim.SGD, {"lr": 2.0**-4}),
    "momentum": (torch.optim.SGD, {"lr": 2.0**-4, "momentum": 0.9}),
    "adam": (torch.optim.Adam, {"lr": 2.0**-7, "betas": (0.9, 0.999), "eps": 1e-8}),
    "adamw": (torch.optim.AdamW, {"lr": 2.0**-7, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}),
}


def make_optimizers(out, steps=5, count=11):
    for name, (optimizer, options) in OPTIMIZERS.items():
        random = np.random.RandomState(300)
        initial = normal(random, count)
        gradients = normal(random, steps, count)
        gradients *= np.float32(10.0) ** np.arange(-5, count - 5, dtype=np.float32)  # from 1e-5 to 1e5
        gradients[:, 5] = 0  # and one weight that never gets a gradient
        weights = torch.from_numpy(initial.astype(np.float64)).requires_grad_()
        step = optimizer([weights], **options)
        trajectory = []
        for gradient in gradients:
            weights.grad = torch.from_numpy(gradient.astype(np.float64))
            step.step()
            trajectory.append(weights.detach().clone())

        folder = f"optimizers/{name}"
        out.tensor(f"{folder}/initial.pb", initial, "w")
        out.tensor(f"{folder}/gradients.pb", gradients, "gradients")
        out.tensor(f"{folder}/weights.pb", torch.stack(trajectory), "weights")
        out.tensor(f"{folder}/final.pb", weights, "w")
        flat = {**options, **dict(zip(("beta1", "beta2"), options.get("betas", ())))}
        flat.pop("betas", None)
        out.files[f"{folder}/options.txt"] = "".join(f"{k} {v!r}\n" for k, v in flat.items()).encode()
        out.case(folder, 0)


# -- whole models ---------------------------------------------------------------------------------------------


def make_model_gradients(out, batch=7):
    """models/: loss and every parameter's gradient of bundled models, dropout off."""
    random = np.random.RandomState(400)
    for name, loss in (
        ("mlp_hourglass", "mse"),
        ("mlp_residual", "ce"),
        ("mlp_prenorm_gelu", "ce"),
        ("mlp_uniform64", "ce"),
    ):
        model = onnx.load(MODELS / f"{name}.onnx")
        width = lambda value: value.type.tensor_type.shape.dim[1].dim_value
        x = normal(random, batch, width(model.graph.input[0]))
        if loss == "ce":
            target = random.randint(0, width(model.graph.output[0]), batch).astype(np.int64)
        else:
            target = normal(random, batch, width(model.graph.output[0]))
        parameters = parameters_of(model.graph)
        y = forward(model.graph, {"x": torch.from_numpy(x.astype(np.float64))}, parameters)
        agree_with_reference(model, {"x": x}, y)
        t = torch.from_numpy(target.astype(np.float64) if loss == "mse" else target)
        value = LOSSES[loss](y, t)
        value.backward()

        folder = f"models/{name}"
        out.tensor(f"{folder}/input_0.pb", x, "x")
        out.tensor(f"{folder}/target_0.pb", target, "target")
        out.tensor(f"{folder}/output_0.pb", y, model.graph.output[0].name)
        out.tensor(f"{folder}/loss.pb", value, "loss")
        for i, (parameter, leaf) in enumerate(parameters.items()):
            out.tensor(f"{folder}/grad_{i:03}.pb", leaf.grad, parameter)
        out.case(folder, 1, loss)


def training_model(random):
    """Like models/mlp_checkpointed.onnx without dropout: 12 -> 8 -> 4 x (8 -> 8) -> 5."""
    widths = [12, 8, 8, 8, 8, 8, 5]
    scopes = ["input", "hidden.0", "hidden.1", "hidden.2", "hidden.3", "output"]
    nodes, initializers, x = [], [], "x"
    for i, scope in enumerate(scopes):
        bound = np.sqrt(6.0 / widths[i])
        weight = ((2 * random.random_sample((widths[i + 1], widths[i])) - 1) * bound).astype(np.float32)
        bias = ((2 * random.random_sample(widths[i + 1]) - 1) * 0.3).astype(np.float32)
        initializers += [numpy_helper.from_array(weight, f"{scope}.weight")]
        initializers += [numpy_helper.from_array(bias, f"{scope}.bias")]
        last = i == len(scopes) - 1
        y = "logits" if last else f"/{scope}/Gemm_output_0"
        nodes.append(("Gemm", [x, f"{scope}.weight", f"{scope}.bias"], [y], {"transB": 1}))
        x = y
        if not last:
            x = f"/{scope}/Relu_output_0"
            nodes.append(("Relu", [y], [x], {}))
    model = make_model("mlp", nodes, {"x": ["batch", 12]}, {"logits": ["batch", 5]}, initializers)
    for node in model.graph.node:
        node.name = node.output[0].removesuffix("_output_0") if "/" in node.output[0] else "/output/Gemm"
    return model


def make_training(out, steps=3, batch=7):
    """training/mlp_sgd: SGD steps on consecutive batches: loss of each, weights at the end."""
    random = np.random.RandomState(500)
    model = training_model(random)
    x = normal(random, steps * batch, 12)
    target = random.randint(0, 5, steps * batch).astype(np.int64)
    parameters = parameters_of(model.graph)
    options = {"lr": 2.0**-4}
    optimizer = torch.optim.SGD(parameters.values(), **options)
    losses = []
    for step in range(steps):
        rows = slice(step * batch, (step + 1) * batch)
        y = forward(model.graph, {"x": torch.from_numpy(x[rows].astype(np.float64))}, parameters)
        if step == 0:
            agree_with_reference(model, {"x": x[rows]}, y)
        loss = F.cross_entropy(y, torch.from_numpy(target[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())

    folder = "training/mlp_sgd"
    out.model(f"{folder}/model.onnx", model)
    out.tensor(f"{folder}/input_0.pb", x, "x")
    out.tensor(f"{folder}/target_0.pb", target, "target")
    out.tensor(f"{folder}/losses.pb", torch.stack(losses), "losses")
    for i, (name, leaf) in enumerate(parameters.items()):
        out.tensor(f"{folder}/final_{i:03}.pb", leaf, name)
    data = io.BytesIO()
    np.savez(data, x=x, y=target)
    out.files[f"{folder}/data.npz"] = data.getvalue()
    settings = {"batch": batch, "steps": steps, "optimizer": "sgd", "lr": options["lr"], "shuffle": "off"}
    out.files[f"{folder}/options.txt"] = "".join(f"{k} {v}\n" for k, v in settings.items()).encode()
    out.case(folder, 1, "ce")


# -- command line ---------------------------------------------------------------------------------------------


def make_all():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    out = Output()
    make_operators(out)
    make_losses(out)
    make_optimizers(out)
    make_model_gradients(out)
    make_training(out)
    out.files["cases.txt"] = "".join(out.index).encode()
    return out.files


def versions():
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "onnx": onnx.__version__,
        "numpy": np.__version__,
    }
    return "".join(f"{k} {v}\n" for k, v in found.items()).encode()


def same(path, committed, fresh):
    """Equal bytes; for float64 tensors equal within 1e-9, since sums may be ordered differently elsewhere."""
    if committed == fresh:
        return True
    if not path.endswith(".pb"):
        return False
    a, b = (TensorProto.FromString(content) for content in (committed, fresh))
    if (a.name, a.data_type, list(a.dims)) != (b.name, b.data_type, list(b.dims)):
        return False
    tolerance = 1e-9 if a.data_type == TensorProto.DOUBLE else 0.0
    return np.allclose(numpy_helper.to_array(a), numpy_helper.to_array(b), rtol=tolerance, atol=tolerance)


def check(files):
    """Names every file that is missing, different or left over; 1 if there is one."""
    wrong = []
    for path, fresh in files.items():
        if not (HERE / path).exists():
            wrong.append(f"{path}: missing")
        elif not same(path, (HERE / path).read_bytes(), fresh):
            wrong.append(f"{path}: DIFFERS")
    ours = {"VERSIONS.txt", "README.md", "make_golden.py", "onnx_in_torch.py", *files}
    for path in sorted(p for p in HERE.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        if str(path.relative_to(HERE)) not in ours:
            wrong.append(f"{path.relative_to(HERE)}: not made by this script")
    print("\n".join(wrong) or f"{len(files)} files as expected")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description="Make or check the golden data of this folder.")
    parser.add_argument("--check", action="store_true", help="compare committed files with fresh results")
    args = parser.parse_args()
    files = make_all()
    if args.check:
        return check(files)
    files["VERSIONS.txt"] = versions()
    for path, content in files.items():
        (HERE / path).parent.mkdir(parents=True, exist_ok=True)
        (HERE / path).write_bytes(content)
    print(f"{len(files)} files, {sum(map(len, files.values()))} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
