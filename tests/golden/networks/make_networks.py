#!/usr/bin/env python3
"""Writes well-known networks as small ONNX files, and the shapes that onnx infers for all of their tensors.

    python make_networks.py [FILE.onnx ...]      # more files to infer shapes for

The weights are ConstantOfShape nodes, so a file holds structure alone. NAME.shapes has a line a tensor, name and sizes,
for batch 2 and a sequence of 16; its first line says which version of onnx found them.
"""
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
BOUND = {"batch": 2, "seq": 16}


class Net:
    def __init__(self, opset):
        self.opset, self.nodes, self.init, self.count = opset, [], {}, 0

    def name(self, hint):
        self.count += 1
        return f"{hint}{self.count}"

    def ints(self, values, scalar=False):
        key = ("s" if scalar else "i") + "_".join(str(v) for v in values).replace("-", "m")
        array = np.array(values, dtype=np.int64)
        self.init[key] = numpy_helper.from_array(array.reshape(()) if scalar else array, key)
        return key

    def number(self, value):
        key = f"f{value}"
        self.init[key] = numpy_helper.from_array(np.array(value, dtype=np.float32), key)
        return key

    def weight(self, *shape):
        return self.op("ConstantOfShape", [self.ints(shape)], hint="w")

    def op(self, kind, inputs, outputs=1, hint=None, **attrs):
        out = [self.name(hint or kind.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, out, name=out[0], **attrs))
        return out[0] if outputs == 1 else out

    def conv(self, x, cin, cout, k, stride=1, bias=False, group=1):
        ins = [x, self.weight(cout, cin // group, k, k)] + ([self.weight(cout)] if bias else [])
        return self.op("Conv", ins, kernel_shape=[k, k], strides=[stride] * 2, pads=[k // 2] * 4, group=group)

    def norm(self, x, c):
        return self.op("BatchNormalization", [x] + [self.weight(c) for _ in range(4)], hint="bn")

    def relu(self, x):
        return self.op("Relu", [x])

    def linear(self, x, cin, cout):
        return self.op("Add", [self.op("MatMul", [x, self.weight(cin, cout)]), self.weight(cout)])

    def layernorm(self, x, d):
        return self.op("LayerNormalization", [x, self.weight(d), self.weight(d)], hint="ln", axis=-1)

    def save(self, name, inputs, output):
        graph = helper.make_graph(self.nodes, name, inputs, [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
                                  list(self.init.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], producer_name="make_networks")
        model.ir_version = 8
        onnx.save(model, HERE / f"{name}.onnx")
        write_shapes(HERE / f"{name}.onnx")


def image(side, channels=3):
    return [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", channels, side, side])]


def classifier(n, x, features, classes):
    x = n.op("Flatten", [n.op("GlobalAveragePool", [x])])
    return n.op("Gemm", [x, n.weight(classes, features), n.weight(classes)], transB=1)


def resnet(name, blocks):
    """He et al. 2016, bottleneck blocks."""
    n = Net(17)
    x = n.relu(n.norm(n.conv("x", 3, 64, 7, 2), 64))
    x = n.op("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    cin = 64
    for stage, count in enumerate(blocks):
        width = 64 << stage
        for i in range(count):
            stride = 2 if i == 0 and stage else 1
            y = n.relu(n.norm(n.conv(x, cin, width, 1), width))
            y = n.relu(n.norm(n.conv(y, width, width, 3, stride), width))
            y = n.norm(n.conv(y, width, 4 * width, 1), 4 * width)
            if i == 0:
                x = n.norm(n.conv(x, cin, 4 * width, 1, stride), 4 * width)
            x, cin = n.relu(n.op("Add", [y, x])), 4 * width
    n.save(name, image(224), classifier(n, x, cin, 1000))


def densenet(name, blocks, growth=32):
    """Huang et al. 2017: every layer reads all before it in its block."""
    n = Net(17)
    x = n.relu(n.norm(n.conv("x", 3, 64, 7, 2), 64))
    x, c = n.op("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), 64
    for stage, count in enumerate(blocks):
        parts = [x]
        for i in range(count):
            y = n.op("Concat", parts, axis=1) if len(parts) > 1 else parts[0]
            y = n.conv(n.relu(n.norm(y, c + i * growth)), c + i * growth, 4 * growth, 1)
            parts.append(n.conv(n.relu(n.norm(y, 4 * growth)), 4 * growth, growth, 3))
        x, c = n.op("Concat", parts, axis=1), c + count * growth
        if stage + 1 < len(blocks):
            x = n.conv(n.relu(n.norm(x, c)), c, c // 2, 1)
            x, c = n.op("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2]), c // 2
    n.save(name, image(224), classifier(n, n.relu(n.norm(x, c)), c, 1000))


def unet(name, depth=4, base=64):
    """Ronneberger et al. 2015, with group normalization; up by ConvTranspose and once by Resize."""
    n = Net(18)

    def block(x, cin, cout):
        for c in (cin, cout):
            x = n.relu(n.op("InstanceNormalization", [n.conv(x, c, cout, 3), n.weight(cout), n.weight(cout)], hint="in"))
        return x

    x, cin, skips = "x", 3, []
    for level in range(depth):
        x, cin = block(x, cin, base << level), base << level
        skips.append(x)
        x = n.op("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x, cin = block(x, cin, base << depth), base << depth
    for level in reversed(range(depth)):
        cout = base << level
        if level:
            x = n.op("ConvTranspose", [x, n.weight(cin, cout, 2, 2), n.weight(cout)], kernel_shape=[2, 2], strides=[2, 2])
        else:
            scales = "scales"
            n.init[scales] = numpy_helper.from_array(np.array([1, 1, 2, 2], dtype=np.float32), scales)
            x = n.conv(n.op("Resize", [x, "", scales], mode="nearest"), cin, cout, 3, bias=True)
        x = block(n.op("Concat", [skips[level], x], axis=1), 2 * cout, cout)
        cin = cout
    n.save(name, image(256), n.conv(x, cin, 2, 1, bias=True))


def transformer(name, blocks, d, heads, vocabulary, fused=False):
    """Pre-norm decoder blocks as exporters spell them: shapes computed from shapes, a causal mask, GELU by Erf."""
    n = Net(23 if fused else 17)
    last = n.op("Shape", ["ids"])
    seq = n.op("Gather", [last, n.ints([1], True)], axis=0)
    positions = n.op("Range", [n.ints([0], True), seq, n.ints([1], True)])
    x = n.op("Add", [n.op("Gather", [n.weight(vocabulary, d), "ids"]), n.op("Gather", [n.weight(1024, d), positions])])
    if not fused:
        row, column = (n.op("Unsqueeze", [positions, n.ints([axis])]) for axis in (1, 0))
        mask = n.op("LessOrEqual", [column, row])

    def unsqueezed(value):
        return n.op("Unsqueeze", [value, n.ints([0])])

    def split_heads(t):
        shape = n.op("Shape", [t])
        b = n.op("Gather", [shape, n.ints([0], True)], axis=0)
        s = n.op("Gather", [shape, n.ints([1], True)], axis=0)
        to = n.op("Concat", [unsqueezed(b), unsqueezed(s), n.ints([heads]), n.ints([d // heads])], axis=0)
        return n.op("Reshape", [t, to])

    def attention(x):
        qkv = n.linear(x, d, 3 * d)
        q, k, v = n.op("Split", [qkv, n.ints([d] * 3)], outputs=3, axis=2)
        if fused:
            return n.op("Attention", [q, k, v], q_num_heads=heads, kv_num_heads=heads, is_causal=1)
        q = n.op("Transpose", [split_heads(q)], perm=[0, 2, 1, 3])
        k = n.op("Transpose", [split_heads(k)], perm=[0, 2, 3, 1])
        v = n.op("Transpose", [split_heads(v)], perm=[0, 2, 1, 3])
        scale = n.op("Sqrt", [n.op("Cast", [n.ints([d // heads], True)], to=TensorProto.FLOAT)])
        scores = n.op("Where", [mask, n.op("Div", [n.op("MatMul", [q, k]), scale]), n.number(-3e38)])
        y = n.op("MatMul", [n.op("Softmax", [scores], axis=-1), v])
        return n.op("Reshape", [n.op("Transpose", [y], perm=[0, 2, 1, 3]), n.ints([0, 0, d])])

    for _ in range(blocks):
        x = n.op("Add", [x, n.linear(attention(n.layernorm(x, d)), d, d)])
        h = n.linear(n.layernorm(x, d), d, 4 * d)
        e = n.op("Add", [n.op("Erf", [n.op("Div", [h, n.number(2.0 ** 0.5)])]), n.number(1.0)])
        h = n.op("Mul", [n.op("Mul", [h, e]), n.number(0.5)])
        x = n.op("Add", [x, n.linear(h, 4 * d, d)])
    ids = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "seq"])]
    n.save(name, ids, n.op("MatMul", [n.layernorm(x, d), n.weight(d, vocabulary)]))


def encoder(name, blocks, d, heads, vocabulary):
    """Post-norm encoder blocks with a padding mask that comes with the batch, as BERT's exports have it."""
    n = Net(17)
    x = n.op("Gather", [n.weight(vocabulary, d), "ids"])
    seen = n.op("Cast", [n.op("Unsqueeze", ["mask", n.ints([1, 2])])], to=TensorProto.FLOAT)
    mask = n.op("Mul", [n.op("Sub", [n.number(1.0), seen]), n.number(-1e4)])

    def heads_of(x, perm):
        return n.op("Transpose", [n.op("Reshape", [n.linear(x, d, d), n.ints([0, 0, heads, d // heads])])], perm=perm)

    for _ in range(blocks):
        q, k, v = heads_of(x, [0, 2, 1, 3]), heads_of(x, [0, 2, 3, 1]), heads_of(x, [0, 2, 1, 3])
        weights = n.op("Softmax", [n.op("Add", [n.op("MatMul", [q, k]), mask])], axis=-1)
        y = n.op("Transpose", [n.op("MatMul", [weights, v])], perm=[0, 2, 1, 3])
        x = n.layernorm(n.op("Add", [x, n.linear(n.op("Reshape", [y, n.ints([0, 0, d])]), d, d)]), d)
        x = n.layernorm(n.op("Add", [x, n.linear(n.op("Tanh", [n.linear(x, d, 4 * d)]), 4 * d, d)]), d)
    inputs = [helper.make_tensor_value_info(i, TensorProto.INT64, ["batch", "seq"]) for i in ("ids", "mask")]
    first = n.op("Gather", [x, n.ints([0], True)], axis=1)
    n.save(name, inputs, n.linear(n.op("Tanh", [n.linear(first, d, d)]), d, 2))


def write_shapes(path):
    model = onnx.load(path, load_external_data=False)
    del model.graph.value_info[:]
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = BOUND.get(dim.dim_param, 2)
    for value in model.graph.output: # what exporters say of outputs may be of another batch
        value.type.tensor_type.ClearField("shape")
    known = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    made = {name for node in model.graph.node for name in node.output}
    lines = []
    for value in list(known.value_info) + list(known.output):
        dims = value.type.tensor_type.shape.dim
        whole = value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims)
        if value.name in made and whole:
            lines.append(" ".join([value.name] + [str(d.dim_value) for d in dims]))
    print(f"{path.name}: {len(lines)} of {len(made)} tensors, {path.stat().st_size} bytes")
    (HERE / f"{path.stem}.shapes").write_text(f"# onnx {onnx.__version__} shape_inference, {len(lines)} of {len(made)} tensors\n" +
                                              "\n".join(sorted(lines)) + "\n")


if __name__ == "__main__":
    resnet("resnet152", (3, 8, 36, 3))
    densenet("densenet121", (6, 12, 24, 16))
    unet("unet")
    transformer("transformer24", 24, 1024, 16, 32000)
    transformer("attention4", 4, 256, 8, 1000, fused=True)
    encoder("encoder8", 8, 256, 4, 1000)
    for more in sys.argv[1:]:
        write_shapes(pathlib.Path(more))
