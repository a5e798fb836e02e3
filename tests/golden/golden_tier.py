"""Golden cases of operators of several tensors: pairs, moves, normalizations by channels, losses as nodes."""

import numpy as np
from onnx import numpy_helper

from golden_files import OPSET, normal
from golden_operators import INPUT_NAMES, operator_case


def make_tier(out):
    random = np.random.RandomState(150)
    n = lambda *shape: normal(random, *shape)

    def case(name, op, *arrays, initializers=(), kinks=False, opset=OPSET, **attrs):
        inputs = INPUT_NAMES[: len(arrays)] + [i.name for i in initializers]
        operator_case(out, name, [(op, inputs, ["y"], attrs)], arrays, initializers, len(out.index), kinks, opset)

    make_pairs(case, n)
    make_moves(out, case, n)
    make_norms(out, n)
    make_class_losses(out, random)


def make_pairs(case, n):
    """Max and Min (the gradient is shared evenly where values are equal), Pow of two tensors."""
    positive = lambda *shape: np.abs(n(*shape)) + np.float32(0.1)
    for op in "Max", "Min":
        case(f"{op.lower()}_two", op, n(4, 5), n(4, 5))
        case(f"{op.lower()}_three", op, n(4, 5), n(4, 5), n(4, 5))
        case(f"{op.lower()}_row", op, n(4, 5), n(5))
        case(f"{op.lower()}_outer", op, n(4, 1), n(1, 5))
        case(f"{op.lower()}_scalar", op, n(4, 5), n())
        ties = np.array([[-1, 0, 2], [0, 0, 3]], np.float32)
        case(f"{op.lower()}_ties", op, ties, ties[::-1].copy(), np.zeros((2, 3), np.float32), kinks=True)
    case("pow_tensor", "Pow", positive(4, 5), n(4, 5))
    case("pow_tensor_row", "Pow", positive(4, 5), n(5))
    case("pow_tensor_outer", "Pow", positive(4, 1), n(1, 5))
    case("pow_number_base", "Pow", positive(1), n(4, 5))
    whole = numpy_helper.from_array(np.array([0, 1, 2, 3, -1], np.float32), "p")
    case("pow_negative_base", "Pow", n(4, 5), initializers=[whole])
    zero = np.array([0, 0, 0, 2], np.float32)
    case("pow_zero_base", "Pow", zero, np.array([0, 2, 1, 0], np.float32), kinks=True)


def make_moves(out, case, n):
    """Concat, Split, Slice and Pad."""
    ints = lambda name, *values: numpy_helper.from_array(np.array(values, np.int64), name)
    case("concat_axis0", "Concat", n(2, 5), n(3, 5), axis=0)
    case("concat_axis1", "Concat", n(4, 1), n(4, 3), n(4, 2), axis=1)
    case("concat_3d_middle", "Concat", n(2, 3, 4), n(2, 1, 4), axis=-2)

    def composed(name, nodes, array, *initializers):
        operator_case(out, name, nodes, [array], initializers, seed=len(out.index))

    swap = [("Split", ["a", "sizes"], ["s", "t"], {"axis": 1}), ("Concat", ["t", "s"], ["y"], {"axis": 1})]
    composed("split_sizes", swap, n(4, 5), ints("sizes", 2, 3))
    gate = [("Split", ["a"], ["s", "t"], {"axis": -1, "num_outputs": 2}), ("Mul", ["s", "t"], ["y"], {})]
    composed("split_product", gate, n(3, 8))
    composed("split_rows", [("Split", ["a"], ["s", "t"], {"num_outputs": 2}), ("Sub", ["s", "t"], ["y"], {})], n(4, 5))
    composed("split_one_used", [("Split", ["a"], ["s", "y", "t"], {"axis": 1, "num_outputs": 3})], n(2, 7))
    limits = lambda *values: [ints(name, *v) for name, v in zip(("starts", "ends", "axes", "steps"), values)]
    case("slice_2d", "Slice", n(4, 5), initializers=limits((1, 0), (3, -1)))
    case("slice_steps", "Slice", n(7, 5), initializers=limits((6, 1), (0, 5), (0, 1), (-2, 3)))
    case("pad", "Pad", n(2, 3), initializers=[ints("pads", 1, 0, 0, 2), numpy_helper.from_array(np.float32(1.5), "fill")])


def make_norms(out, n):
    """RMSNormalization, GroupNormalization of both kinds, InstanceNormalization, BatchNormalization in training."""

    def norm(name, op, *arrays, initializers=(), opset=OPSET, **attrs):
        inputs = INPUT_NAMES[: len(arrays)] + [i.name for i in initializers]
        operator_case(out, name, [(op, inputs, ["y"], attrs)], arrays, initializers, len(out.index), opset=opset)

    norm("rmsnorm_2d", "RMSNormalization", n(4, 5), n(5), opset=23)
    norm("rmsnorm_axis1", "RMSNormalization", n(2, 3, 4), n(3, 4), axis=1, opset=23)
    norm("rmsnorm_epsilon", "RMSNormalization", n(4, 37), n(37), epsilon=0.25, opset=23)
    norm("groupnorm_2d", "GroupNormalization", n(4, 6), n(6), n(6), num_groups=2, opset=21)
    norm("groupnorm_one_group", "GroupNormalization", n(4, 6), n(6), n(6), num_groups=1, opset=21)
    norm("groupnorm_3d", "GroupNormalization", n(2, 6, 5), n(6), n(6), num_groups=3, epsilon=0.1, opset=21)
    norm("groupnorm_opset18", "GroupNormalization", n(4, 6), n(2), n(2), num_groups=2, opset=18)
    norm("groupnorm_opset18_3d", "GroupNormalization", n(2, 6, 5), n(3), n(3), num_groups=3, opset=18)
    norm("instancenorm_3d", "InstanceNormalization", n(2, 3, 7), n(3), n(3))
    for name, x, attrs in (
        ("2d", n(6, 5), {}),
        ("3d", n(4, 3, 5), {}),
        ("wide", n(9, 133), {}),
        ("epsilon", n(6, 5), {"epsilon": 0.25}),
        ("offset", n(6, 5) + np.float32(100), {}),
    ):
        channels = x.shape[1]
        running = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in
                   (("mean", np.zeros(channels)), ("variance", np.ones(channels)))]
        nodes = [("BatchNormalization", ["a", "b", "c", "mean", "variance"], ["y", "m", "v"], {"training_mode": 1, **attrs})]
        operator_case(out, f"batchnorm_{name}", nodes, [x, n(channels), n(channels)], running, len(out.index))


def make_class_losses(out, random):
    """SoftmaxCrossEntropyLoss and NegativeLogLikelihoodLoss as nodes."""
    n = lambda *shape: normal(random, *shape)

    def loss(name, op, x, ignored=None, weighted=False, **attrs):
        target = random.randint(0, x.shape[1], (x.shape[0], *x.shape[2:])).astype(np.int64)
        if ignored is not None:
            target.flat[1] = target.flat[-1] = attrs["ignore_index"] = ignored
        constants = [numpy_helper.from_array(target, "t")]
        if weighted:
            constants.append(numpy_helper.from_array(np.abs(n(x.shape[1])) + np.float32(0.1), "w"))
        operator_case(out, name, [(op, ["a"] + [c.name for c in constants], ["y"], attrs)], [x], constants, len(out.index))

    for op, short in ("SoftmaxCrossEntropyLoss", "sce"), ("NegativeLogLikelihoodLoss", "nllloss"):
        for reduction in "mean", "sum", "none":
            loss(f"{short}_{reduction}", op, n(7, 5), reduction=reduction)
            loss(f"{short}_{reduction}_weighted", op, n(7, 5), weighted=True, reduction=reduction)
        loss(f"{short}_ignored", op, n(7, 5), ignored=2)
        loss(f"{short}_ignored_negative", op, n(7, 5), ignored=-100, weighted=True)
        loss(f"{short}_3d", op, n(3, 5, 4), weighted=True)
