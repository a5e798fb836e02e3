"""Golden cases of operators: tests/golden/ops."""

import numpy as np
import torch
from onnx import numpy_helper

from golden_files import OPSET, agree_with_reference, make_model, normal
from onnx_in_torch import forward

INPUT_NAMES = ["a", "b", "c"]


def check_gradients(name, graph, feed, upstream):
    """Central differences of sum(output * upstream) along random directions, in float64, against autograd."""
    random = np.random.RandomState(7)
    for key, x in feed.items():
        direction = torch.from_numpy(random.standard_normal(x.shape))
        moved = lambda h: (forward(graph, {**feed, key: x.detach() + h * direction}, {}) * upstream).sum().item()
        h = 1e-6
        difference = (moved(h) - moved(-h)) / (2 * h)
        wanted = (x.grad * direction).sum().item()
        tolerance = 1e-6 * (1 + abs(wanted)) + 1e-8 * abs(moved(0))
        assert abs(difference - wanted) <= tolerance, f"{name}: d/d{key} {wanted} but {difference} by differences"


def operator_case(out, name, nodes, arrays, initializers=(), seed=0, kinks=False, opset=OPSET):
    """One case of ops/: loss = sum(output * upstream), gradients of all inputs. kinks: at points without a derivative."""
    feed = {n: torch.from_numpy(a.astype(np.float64)).requires_grad_() for n, a in zip(INPUT_NAMES, arrays)}
    shapes = {n: list(a.shape) for n, a in zip(INPUT_NAMES, arrays)}
    probe = make_model(name, nodes, shapes, {"y": None}, initializers, opset)
    y = forward(probe.graph, feed, {})
    model = make_model(name, nodes, shapes, {"y": list(y.shape)}, initializers, opset)
    agree_with_reference(model, dict(zip(INPUT_NAMES, arrays)), y)
    upstream = normal(np.random.RandomState(seed), *y.shape)
    (y * torch.from_numpy(upstream.astype(np.float64))).sum().backward()
    if not kinks:
        check_gradients(name, model.graph, feed, torch.from_numpy(upstream.astype(np.float64)))

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

    def case(name, op, *arrays, initializers=(), kinks=False, opset=OPSET, **attrs):
        inputs = INPUT_NAMES[: len(arrays)] + [i.name for i in initializers]
        operator_case(out, name, [(op, inputs, ["y"], attrs)], arrays, initializers, len(out.index), kinks, opset)

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
    case("relu_zero", "Relu", np.array([-1, -0.0, 0.0, 1], np.float32), kinks=True)  # the gradient at 0 is 0
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
    case("clip_ends", "Clip", np.array([-1, 0, 3, 6, 7], np.float32), initializers=[number(0, "low"), number(6, "high")],
         kinks=True)
    case("clip_low", "Clip", n(4, 5), initializers=[number(-0.5, "low")])
    case("clip_none", "Clip", n(4, 5))
    case("exp", "Exp", n(4, 5))
    case("log", "Log", positive(4, 5))
    case("abs", "Abs", np.concatenate([n(7), np.zeros(2, np.float32)]), kinks=True)
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
    case("prelu_zero", "PRelu", np.array([-1, 0, 1], np.float32), np.array([0.3], np.float32), kinks=True)


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


def make_bounded(out):
    """Groups of element nodes that are a well-known function on one side of a bound only."""
    number = lambda name, value: numpy_helper.from_array(np.array(value, np.float32), name)
    x = np.array([-30, -9, -3, -0.5, 0.5, 3, 7.5, 8.5, 9, 12, 30], np.float32)
    silu = [("Clip", ["a", "", "bound"], ["c"], {}), ("Sigmoid", ["a"], ["s"], {}), ("Mul", ["c", "s"], ["y"], {})]
    softsign = [("Abs", ["a"], ["m"], {}), ("Clip", ["m", "", "bound"], ["c"], {}), ("Add", ["c", "one"], ["d"], {}),
                ("Div", ["a", "d"], ["y"], {})]
    mish = [("Clip", ["a", "", "bound"], ["c"], {}), ("Softplus", ["a"], ["s"], {}), ("Tanh", ["s"], ["t"], {}),
            ("Mul", ["c", "t"], ["y"], {})]
    operator_case(out, "silu_bounded", silu, [x], [number("bound", 8)], seed=9001)
    operator_case(out, "silu_bounded_far", silu, [x * np.float32(1e5)], [number("bound", 1e6)], seed=9002)
    operator_case(out, "softsign_bounded", softsign, [x], [number("bound", 10), number("one", 1)], seed=9004)
    operator_case(out, "mish_bounded", mish, [x], [number("bound", 10)], seed=9005)
