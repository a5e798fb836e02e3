#!/usr/bin/env python3
"""Make the bundled models and data, or check that the committed files are what this script makes.

    make_models.py                    write every file beside this script
    make_models.py --check            compare the files beside this script with fresh ones; exit 1 if any differs
    make_models.py --mlp OUT.onnx --layers 16 --width 1024 [--features ... --classes ...]
                                      write one MLP of a chosen size (for benchmarks; not committed)

Needs numpy and onnx; the digits data also needs scikit-learn. Weights come from numpy's frozen Mersenne
Twister (``RandomState``), whose stream does not change between numpy versions, so the output is the same
everywhere: He (Kaiming) uniform weights with bound sqrt(6 / fan_in), biases uniform in
+-1 / sqrt(fan_in), both in float32.
"""

import argparse
import io
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
IR_VERSION = {17: 8, 20: 9}  # the IR version that came with each opset
DROPOUT = 0.1


class GraphBuilder:
    """Collects nodes and initializers under the names a PyTorch exporter would give them.

    Every method takes and returns tensor names; ``scope`` is a module path such as ``hidden.0``, and
    becomes the node name ``/hidden.0/Gemm`` and the parameter names ``hidden.0.weight``, ``hidden.0.bias``.
    ``gain`` scales the weights of a linear layer.
    """

    def __init__(self, seed, dropout_constants=False):
        """``dropout_constants``: give Dropout its inputs by Constant nodes instead of initializers."""
        self.nodes = []
        self.initializers = []
        self._random = np.random.RandomState(seed)
        self._dropout_constants = dropout_constants
        self._dropout_inputs = None

    def _uniform(self, bound, shape):
        samples = self._random.random_sample(shape)
        return ((2.0 * samples - 1.0) * bound).astype(np.float32)

    def _linear(self, fan_in, fan_out, gain):
        """He-uniform weight (fan_out, fan_in) and bias (fan_out,)."""
        weight = self._uniform(gain * np.sqrt(6.0 / fan_in), (fan_out, fan_in))
        return weight, self._uniform(1.0 / np.sqrt(fan_in), (fan_out,))

    def parameter(self, name, value):
        name = name.replace("/", ".")
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op, inputs, scope, output=None, suffix="", **attributes):
        name = f"/{scope}/{op}{suffix}" if scope else f"/{op}{suffix}"
        output = output or f"{name}_output_0"
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))
        return output

    def constant(self, value, scope, suffix=""):
        return self.node("Constant", [], scope, suffix=suffix, value=numpy_helper.from_array(np.asarray(value)))

    def gemm(self, x, fan_in, fan_out, scope, output=None, gain=1.0):
        """Linear layer as one Gemm with transB = 1, weight (fan_out, fan_in)."""
        weight, bias = self._linear(fan_in, fan_out, gain)
        inputs = [x, self.parameter(f"{scope}.weight", weight), self.parameter(f"{scope}.bias", bias)]
        return self.node("Gemm", inputs, scope, output, alpha=1.0, beta=1.0, transB=1)

    def matmul_add(self, x, fan_in, fan_out, scope, output=None, gain=1.0):
        """Linear layer as exporters write it for N-D inputs: MatMul with (fan_in, fan_out), then bias + product."""
        weight, bias = self._linear(fan_in, fan_out, gain)
        product = self.node("MatMul", [x, self.parameter(f"{scope}.weight", np.ascontiguousarray(weight.T))], scope)
        return self.node("Add", [self.parameter(f"{scope}.bias", bias), product], scope, output)

    def dropout(self, x, scope, ratio=DROPOUT):
        """Dropout with training_mode = true; ratio and mode are shared by all Dropout nodes of the graph."""
        if self._dropout_inputs is None:
            values = np.array(ratio, np.float32), np.array(True)
            if self._dropout_constants:
                self._dropout_inputs = [self.constant(values[0], ""), self.constant(values[1], "", "_1")]
            else:
                names = "dropout.ratio", "dropout.training_mode"
                self._dropout_inputs = [self.parameter(n, v) for n, v in zip(names, values)]
        return self.node("Dropout", [x, *self._dropout_inputs], scope)

    def layer_norm(self, x, width, scope):
        """LayerNormalization over the last axis; scale near 1 and bias near 0, so that neither is trivial."""
        scale = self.parameter(f"{scope}.weight", np.float32(1.0) + self._uniform(0.1, (width,)))
        bias = self.parameter(f"{scope}.bias", self._uniform(0.1, (width,)))
        return self.node("LayerNormalization", [x, scale, bias], scope, axis=-1, epsilon=1e-5)

    def gelu_by_erf(self, x, scope):
        """GELU as exporters decompose it below opset 20: 0.5 * (x * (1 + erf(x / sqrt(2))))."""
        root2 = self.constant(np.float32(np.sqrt(2.0)), scope)
        erf = self.node("Erf", [self.node("Div", [x, root2], scope)], scope)
        plus_one = self.node("Add", [erf, self.constant(np.float32(1.0), scope, "_1")], scope)
        product = self.node("Mul", [x, plus_one], scope)
        return self.node("Mul", [product, self.constant(np.float32(0.5), scope, "_2")], scope, suffix="_1")

    def model(self, name, inputs, outputs, opset):
        """``inputs``, ``outputs``: (name, width) of float tensors (batch, width). Checks and returns the model."""
        value = lambda n, width: helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", width])
        graph = helper.make_graph(
            self.nodes, name, [value(*i) for i in inputs], [value(*o) for o in outputs], self.initializers
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=IR_VERSION[opset],
            producer_name="make_models.py",
        )
        onnx.checker.check_model(model, full_check=True)
        return model


# -- models ---------------------------------------------------------------------------------------------------


def relu_dropout(graph, x, scope, dropout=DROPOUT):
    x = graph.node("Relu", [x], scope)
    return graph.dropout(x, scope, dropout) if dropout else x


def mlp_checkpointed():
    """64 -> 32 -> 4 x (32 -> 32) -> 10: `input`, `hidden.0` to `hidden.3`, `output`."""
    graph = GraphBuilder(seed=1, dropout_constants=True)
    x = relu_dropout(graph, graph.gemm("x", 64, 32, "input"), "input")
    for i in range(4):
        x = relu_dropout(graph, graph.gemm(x, 32, 32, f"hidden.{i}"), f"hidden.{i}")
    graph.gemm(x, 32, 10, "output", output="logits")
    return graph.model("mlp_checkpointed", [("x", 64)], [("logits", 10)], opset=17)


def mlp_uniform(name, layers, width, features, classes, dropout, activation, seed=2):
    """``layers`` hidden layers (Linear, activation, Dropout if not 0) of one width, then a linear head.

    Dropout raises the mean square of what it passes by 1 / (1 - p); the weights make up for it, so that deep
    models keep their scale in training.
    """
    graph = GraphBuilder(seed)
    x = "x"
    for i in range(layers):
        scope = f"layers.{i}"
        x = graph.gemm(x, width if i else features, width, scope, gain=np.sqrt(1.0 - dropout))
        x = graph.node(activation, [x], scope)
        x = graph.dropout(x, scope, dropout) if dropout else x
    graph.gemm(x, width, classes, "head", output="logits")
    return graph.model(name, [("x", features)], [("logits", classes)], opset=17)


def mlp_uniform64():
    """64 equal layers of width 32 and a head 32 -> 10."""
    return mlp_uniform("mlp_uniform64", 64, 32, 32, 10, DROPOUT, "Relu")


def mlp_hourglass():
    """Autoencoder 64-56-40-24-12-6-12-24-40-56-64 with a different activation at almost every layer."""
    widths = [64, 56, 40, 24, 12, 6, 12, 24, 40, 56, 64]
    activations = ["LeakyRelu", "Tanh", "Elu", "Sigmoid", None, "Softplus", "SiLU", "LeakyRelu", "Relu", None]
    graph = GraphBuilder(seed=3)
    x = "x"
    for i, activation in enumerate(activations):
        last = i == len(activations) - 1
        scope = f"encoder.{i}" if i < 5 else f"decoder.{i - 5}"
        x = graph.gemm(x, widths[i], widths[i + 1], scope, "reconstruction" if last else None)
        if activation == "SiLU":
            x = graph.node("Mul", [x, graph.node("Sigmoid", [x], scope)], scope)
        elif activation:
            attributes = {"LeakyRelu": {"alpha": 0.1}, "Elu": {"alpha": 1.0}}.get(activation, {})
            x = graph.node(activation, [x], scope, **attributes)
        if i in (1, 8):
            x = graph.dropout(x, scope)
    return graph.model("mlp_hourglass", [("x", 64)], [("reconstruction", 64)], opset=17)


def mlp_residual():
    """Stem 64 -> 24, six blocks x + W2 drop(relu(W1 x)), head 24 -> 10; linear layers as MatMul + Add.

    W2 is scaled down so that the sum over the blocks stays near the scale of its input.
    """
    graph = GraphBuilder(seed=4)
    x = graph.matmul_add("x", 64, 24, "stem")
    for i in range(6):
        block = f"blocks.{i}"
        branch = relu_dropout(graph, graph.matmul_add(x, 24, 24, f"{block}/fc1"), block)
        branch = graph.matmul_add(branch, 24, 24, f"{block}/fc2", gain=0.4)
        x = graph.node("Add", [x, branch], block)
    graph.matmul_add(x, 24, 10, "head", output="logits")
    return graph.model("mlp_residual", [("x", 64)], [("logits", 10)], opset=17)


def mlp_prenorm_gelu():
    """Stem 64 -> 24, four blocks x + W2 drop(gelu(W1 norm(x))), final norm, head 24 -> 10.

    W2 is scaled as in `mlp_residual`. Blocks 0 and 2 spell GELU with Erf, block 1 is the Gelu operator, block 3
    its tanh approximation.
    """
    graph = GraphBuilder(seed=5)
    x = graph.gemm("x", 64, 24, "stem")
    for i in range(4):
        block = f"blocks.{i}"
        branch = graph.layer_norm(x, 24, f"{block}/norm")
        branch = graph.gemm(branch, 24, 48, f"{block}/fc1")
        if i % 2 == 0:
            branch = graph.gelu_by_erf(branch, f"{block}/act")
        else:
            branch = graph.node("Gelu", [branch], f"{block}/act", approximate="none" if i == 1 else "tanh")
        branch = graph.gemm(graph.dropout(branch, f"{block}/drop"), 48, 24, f"{block}/fc2", gain=0.4)
        x = graph.node("Add", [x, branch], block)
    graph.gemm(graph.layer_norm(x, 24, "norm"), 24, 10, "head", output="logits")
    return graph.model("mlp_prenorm_gelu", [("x", 64)], [("logits", 10)], opset=20)


def digits():
    """Classifier 64 -> 8 x 64 -> 10 for 8x8 digits that ends in Softmax, as inference exports do: deep enough
    that checkpoints are worth their while."""
    graph = GraphBuilder(seed=6)
    x = "x"
    for i in range(8):
        x = relu_dropout(graph, graph.gemm(x, 64, 64, f"fc{i + 1}"), f"fc{i + 1}")
    x = graph.gemm(x, 64, 10, "fc9")
    graph.node("Softmax", [x], "", output="probabilities", axis=-1)
    return graph.model("digits", [("x", 64)], [("probabilities", 10)], opset=17)


MODELS = [mlp_checkpointed, mlp_uniform64, mlp_hourglass, mlp_residual, mlp_prenorm_gelu, digits]

# -- data -----------------------------------------------------------------------------------------------------


def stratified_counts(sizes, total):
    """Share ``total`` over classes in proportion to their sizes: largest remainders, ties to the lower class."""
    exact = sizes * total / sizes.sum()
    counts = np.floor(exact).astype(int)
    by_remainder = np.argsort(-(exact - counts), kind="stable")
    counts[by_remainder[: total - counts.sum()]] += 1
    return counts


def digits_data(validation=360, seed=7):
    """The 1,797 digits of scikit-learn as {file name: {"x": (N, 64) in 0..1, "y": (N,)}}, split by class."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = (bunch.data / 16.0).astype(np.float32)
    y = bunch.target.astype(np.int64)
    order = np.random.RandomState(seed).permutation(len(y))
    in_validation = np.zeros(len(y), bool)
    for digit, count in enumerate(stratified_counts(np.bincount(y), validation)):
        in_validation[order[y[order] == digit][:count]] = True
    parts = {
        "digits_train.npz": order[~in_validation[order]],
        "digits_val.npz": order[in_validation[order]],
    }
    return {name: {"x": x[rows], "y": y[rows]} for name, rows in parts.items()}


def npz_bytes(arrays):
    """The smaller of the compressed and the plain .npz form; numpy writes neither with a time stamp."""
    candidates = []
    for save in np.savez_compressed, np.savez:
        buffer = io.BytesIO()
        save(buffer, **arrays)
        candidates.append(buffer.getvalue())
    return min(candidates, key=len)


# -- command line ---------------------------------------------------------------------------------------------


def same_content(name, committed, fresh):
    """True if two files are the same bytes, or at least hold the same model or the same arrays."""
    if committed == fresh:
        return True
    if name.endswith(".onnx"):
        return onnx.load_from_string(committed) == onnx.load_from_string(fresh)
    a, b = np.load(io.BytesIO(committed)), np.load(io.BytesIO(fresh))
    return sorted(a) == sorted(b) and all(a[k].dtype == b[k].dtype and np.array_equal(a[k], b[k]) for k in a)


def make_all():
    """All files as {name: bytes}."""
    files = {f"{make.__name__}.onnx": make().SerializeToString(deterministic=True) for make in MODELS}
    files.update((name, npz_bytes(arrays)) for name, arrays in digits_data().items())
    return files


def check():
    wrong = 0
    for name, fresh in make_all().items():
        path = HERE / name
        if not path.exists():
            verdict = "missing"
        elif path.read_bytes() == fresh:
            verdict = "identical"
        elif same_content(name, path.read_bytes(), fresh):
            verdict = "same content, other bytes"
        else:
            verdict = "DIFFERS"
        wrong += verdict in ("missing", "DIFFERS")
        print(f"{name}: {verdict}")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description="Make or check the bundled models and data.")
    parser.add_argument("--check", action="store_true", help="compare committed files with fresh ones")
    parser.add_argument("--mlp", metavar="OUT.onnx", help="write only one MLP of the size given below")
    parser.add_argument("--layers", type=int, default=16, help="hidden layers; a linear head follows")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--features", type=int, help="input width (default: --width)")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--dropout", type=float, default=DROPOUT)
    parser.add_argument("--activation", default="Relu", help="ONNX operator without attributes, such as Relu or Tanh")
    args = parser.parse_args()
    if args.check:
        return check()
    if args.mlp:
        features = args.features or args.width
        model = mlp_uniform(
            "mlp", args.layers, args.width, features, args.classes, args.dropout, args.activation
        )
        Path(args.mlp).write_bytes(model.SerializeToString(deterministic=True))
        return 0
    for name, content in make_all().items():
        (HERE / name).write_bytes(content)
        print(f"{name}: {len(content)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
