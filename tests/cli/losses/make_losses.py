"""Makes the models, the data and cases.txt of test_losses.c: which loss an output and its targets mean, and its value.

    python make_losses.py        (torch, onnx, onnxruntime, numpy; run in this folder)

The outputs come from onnxruntime for the same file, the losses of them from PyTorch in float64. A line of cases.txt is
    exit status <tab> loss or - <tab> loss after a step of 0.1 or - <tab> what is said <tab> options
"""
import os

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(15)
torch.manual_seed(15)
lines = []


def floats(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def model(name, nodes, weights, outputs, inputs=(("x", ["N", 3]),), types=None, opset=17):
    def info(name, shape):
        return helper.make_tensor_value_info(name, (types or {}).get(name, TensorProto.FLOAT), shape)

    graph = helper.make_graph([helper.make_node(op, i.split(), o.split(), **a) for op, i, o, a in nodes], "g",
                              [info(*i) for i in inputs], [info(*o) for o in outputs],
                              [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), name + ".onnx")
    return name


def outputs(name, **feed):
    session = onnxruntime.InferenceSession(name + ".onnx", providers=["CPUExecutionProvider"])
    return [torch.tensor(o).double() for o in session.run(None, feed)]


def after(loss, *weights):
    """The loss, a function of the weights, after a step of gradient descent."""
    weights = [torch.tensor(w).double().requires_grad_() for w in weights]
    loss(*weights).backward()
    with torch.no_grad():
        return loss(*[w - 0.1 * w.grad for w in weights])


def case(name, data, loss, said, options="", status=0, then=None):
    """data: a name, and arrays unless they are saved already; then: the loss after a step."""
    file, arrays = data
    if arrays is not None:
        np.savez(file + ".npz", **arrays)
    batch = len(next(iter(np.load(file + ".npz").values())))
    value = "-" if loss is None else "%.9g" % loss
    lines.append("\t".join([str(status), value, "-" if then is None else "%.9g" % then, said, f"@/tests/cli/losses/{name}.onnx --data @/tests/cli/losses/{file}.npz "
                            f"--batch {batch} {options}".strip()]))


def refused(name, data, said, options="", status=2):
    case(name, data, None, said, options, status)


def t(array):
    return torch.tensor(array)


x, wide, four, one = floats(8, 3), floats(3, 12), floats(3, 4), floats(3, 1)
x64 = t(x).double()

# Classes along axis 1 and along the last axis, by the targets' shape.
product = ("MatMul", "x w", "h", {})
model("plane", [product, ("Reshape", "h s", "y", {})], {"w": wide, "s": [-1, 4, 3]}, [("y", ["N", 4, 3])])
y = outputs("plane", x=x)[0]
first, last = rng.integers(0, 4, (8, 3)), rng.integers(0, 3, (8, 4))
case("plane", ("plane_first", dict(x=x, y=first)), F.cross_entropy(y, t(first)), "axis 1 of 'y' (4 classes)")
case("plane", ("plane_last", dict(x=x, y=last)), F.cross_entropy(y.transpose(1, 2), t(last)), "axis 2 of 'y' (3 classes)")
masked = first.copy()
masked[0, 0] = masked[3] = -100
case("plane", ("plane_masked", dict(x=x, y=masked)), F.cross_entropy(y, t(masked)), "ignoring -100")
masked = np.where(masked == -100, 255, masked)
case("plane", ("plane_255", dict(x=x, y=masked)), F.cross_entropy(y, t(masked), ignore_index=255), "ignoring 255", "--ignore-index 255")
case("plane", ("plane_first", None), F.cross_entropy(y, t(first), ignore_index=0), "ignoring 0", "--ignore-index 0")
refused("plane", ("plane_255", None), "class 255 at row 0")
case("plane", ("plane_first", None), F.cross_entropy(y, t(first), label_smoothing=0.1), "label smoothing 0.1", "--label-smoothing 0.1")
weights = np.array([0.5, 1, 2, 3], np.float32)
np.save("weights.npy", weights)
open("weights.txt", "w").write("0.5, 1\n2 3\n")
for file in ("weights.npy", "weights.txt"):
    case("plane", ("plane_first", None), F.cross_entropy(y, t(first), weight=t(weights).double()), file,
         "--class-weights @/tests/cli/losses/" + file)
balanced = first.size / (4 * np.bincount(first.ravel(), minlength=4))
case("plane", ("plane_first", None), F.cross_entropy(y, t(first), weight=t(balanced)), "class weights balanced", "--class-weights balanced")
everything = F.cross_entropy(y, t(masked), weight=t(weights).double(), label_smoothing=0.2, ignore_index=255)
options = "--class-weights @/tests/cli/losses/weights.npy --label-smoothing 0.2 --ignore-index 255"
case("plane", ("plane_255", None), everything, "label smoothing 0.2", options)
then = after(lambda w: F.cross_entropy((x64 @ w).reshape(-1, 4, 3), t(masked), t(weights).double(), ignore_index=255, label_smoothing=0.2), wide)
case("plane", ("plane_255", None), everything, "label smoothing 0.2", options + " --micro-batch 2 --verify", then=then)
open("three.txt", "w").write("1 2 3\n")
refused("plane", ("plane_first", None), "3 numbers for the 4 classes", "--class-weights @/tests/cli/losses/three.txt")
refused("plane", ("plane_first", None), "cannot be read", "--class-weights @/tests/cli/losses/none.txt")
soft = torch.softmax(torch.randn(8, 4, 3), 1)
case("plane", ("plane_soft", dict(x=x, y=soft.numpy())), F.cross_entropy(y, soft.double()), "axis 1 of 'y' (4 classes), targets 'y': probabilities",
     then=after(lambda w: F.cross_entropy((x64 @ w).reshape(-1, 4, 3), soft.double()), wide))

# A shape that both fit.
model("square", [product, ("Reshape", "h s", "y", {})], {"w": floats(3, 9), "s": [-1, 3, 3]}, [("y", ["N", 3, 3])])
y, square = outputs("square", x=x)[0], rng.integers(0, 3, (8, 3))
refused("square", ("square", dict(x=x, y=square)), "give --class-axis 1 or 2")
case("square", ("square", None), F.cross_entropy(y, t(square)), "axis 1", "--class-axis 1")
case("square", ("square", None), F.cross_entropy(y.transpose(1, 2), t(square)), "axis 2", "--class-axis 2")
refused("square", ("square", None), "has 3 axes", "--class-axis 4")

# A Softmax is folded where it runs over the classes, whatever views and transpositions are behind it.
for axis in (1, 2):
    model(f"softmax{axis}", [product, ("Reshape", "h s", "q", {}), ("Softmax", "q", "y", {"axis": axis})],
          {"w": floats(3, 9), "s": [-1, 3, 3]}, [("y", ["N", 3, 3])])
    p = outputs(f"softmax{axis}", x=x)[0].transpose(1, axis)
    case(f"softmax{axis}", ("square", None), F.nll_loss(p.log(), t(square)), f"axis {axis} of 'y' (3 classes)")
model("channels_last", [product, ("Reshape", "h s", "q", {}), ("Softmax", "q", "p", {"axis": -1}), ("Log", "p", "l", {}),
                        ("Transpose", "l", "y", {"perm": [0, 2, 1]})], {"w": wide, "s": [-1, 3, 4]}, [("y", ["N", 4, 3])])
case("channels_last", ("plane_first", None), F.nll_loss(outputs("channels_last", x=x)[0], t(first)), "folded",
     then=after(lambda w: F.cross_entropy((x64 @ w).reshape(-1, 3, 4).transpose(1, 2), t(first)), wide))
model("views", [product, ("LogSoftmax", "h", "p", {"axis": -1}), ("Unsqueeze", "p a", "u", {}), ("Flatten", "u", "y", {"axis": 1})],
      {"w": four, "a": [2]}, [("y", ["N", 4])])
row = rng.integers(0, 4, 8)
case("views", ("row", dict(x=x, y=row)), F.nll_loss(outputs("views", x=x)[0], t(row)), "folded")
for name, softmax in (("heads", "Softmax"), ("log_heads", "LogSoftmax")):
    model(name, [product, ("Reshape", "h s", "q", {}), (softmax, "q", "p", {"axis": -1}), ("Flatten", "p", "y", {})],
          {"w": wide, "s": [-1, 3, 4]}, [("y", ["N", 12])])
    p, twelve = outputs(name, x=x)[0], np.arange(8) % 12
    then = after(lambda w: F.nll_loss(torch.log_softmax((x64 @ w).reshape(-1, 3, 4), -1).reshape(-1, 12), t(twelve)), wide)
    case(name, ("twelve", dict(x=x, y=twelve)), F.nll_loss(p.log() if name == "heads" else p, t(twelve)), "does not run over the classes alone",
         then=then)
model("opset11", [product, ("Reshape", "h s", "q", {}), ("Softmax", "q", "y", {})], {"w": wide, "s": [-1, 3, 4]}, [("y", ["N", 3, 4])], opset=11)
rows = rng.integers(0, 4, (8, 3))
case("opset11", ("rows", dict(x=x, y=rows)), F.nll_loss(outputs("opset11", x=x)[0].log().transpose(1, 2), t(rows)), "does not run over")

# Probabilities that something has changed.
model("clip", [product, ("Softmax", "h", "p", {}), ("Clip", "p lo hi", "y", {})],
      {"w": 3 * four, "lo": np.float32(0.05), "hi": np.float32(0.9)}, [("y", ["N", 4])])
p = outputs("clip", x=x)[0]
case("clip", ("row", None), F.nll_loss(p.log(), t(row)), "of which the logarithm is taken",
     then=after(lambda w: F.nll_loss(torch.softmax(x64 @ w, 1).clamp(0.05, 0.9).log(), t(row)), 3 * four))
one_hot = np.eye(4)[row]
keras = -(t(one_hot) * (p / p.sum(1, keepdim=True)).log()).sum(1).mean()  # as keras.losses.categorical_crossentropy
case("clip", ("one_hot", dict(x=x, y=one_hot.astype(np.float32))), keras, "one-hot")
model("scaled", [product, ("Softmax", "h", "p", {}), ("Mul", "p k", "y", {})], {"w": four, "k": np.float32(5)}, [("y", ["N", 4])])
refused("scaled", ("row", None), "neither logits nor probabilities", status=3)
case("scaled", ("row", None), F.cross_entropy(outputs("scaled", x=x)[0], t(row)), "taken as it is for logits", "--loss ce")
bits = np.array([0, 1, 1, 0, 1, 0, 0, 1])
for name, high in (("chances", 0.95), ("edges", 1)):
    model(name, [product, ("Sigmoid", "h", "p", {}), ("Clip", "p lo hi", "y", {})],
          {"w": 5 * one, "lo": np.float32(0.05), "hi": np.float32(high)}, [("y", ["N", 1])])
case("chances", ("bits", dict(x=x, y=bits)), F.binary_cross_entropy(outputs("chances", x=x)[0][:, 0], t(bits).double()), "taken as they are",
     then=after(lambda w: F.binary_cross_entropy(torch.sigmoid(x64 @ w)[:, 0].clamp(0.05, 0.95), t(bits).double()), 5 * one))
refused("edges", ("bits", None), "from being 0 or 1", "--loss bce", status=3)

# One column of 0 and 1; other numbers; one-hot and other integers.
model("column", [("MatMul", "x w", "y", {})], {"w": one}, [("y", ["N", 1])])
y = outputs("column", x=x)[0][:, 0]
bce = F.binary_cross_entropy_with_logits(y, t(bits).double())
for name, array in (("bits", bits), ("bits_f32", bits.astype(np.float32)[:, None]), ("bits_bool", bits.astype(bool))):
    case("column", (name, dict(x=x, y=array)), bce, "--loss mse takes them as numbers")
case("column", ("bits", None), F.mse_loss(y, t(bits).double()), "mean squared error", "--loss mse")
counts = np.array([0, 1, 2, 0, 1, 0, 0, 1])
case("column", ("counts", dict(x=x, y=counts)), F.mse_loss(y, t(counts).double()), "mean squared error")
refused("column", ("counts", None), "class 2 at row 2", "--loss bce")
model("linear", [("MatMul", "x w", "y", {})], {"w": four}, [("y", ["N", 4])])
y = outputs("linear", x=x)[0]
case("linear", ("one_hot_i64", dict(x=x, y=one_hot.astype(np.int64))), F.cross_entropy(y, t(row)), "one-hot integers")
case("linear", ("one_hot_i64", None), F.mse_loss(y, t(one_hot)), "mean squared error", "--loss mse")
refused("linear", ("one_hot_i64", None), "y.argmax(1)", "--loss nll")
many = (rng.random((8, 4)) < 0.5).astype(np.int64)
many[0] = 1
case("linear", ("many", dict(x=x, y=many)), F.mse_loss(y, t(many).double()), "integers (the targets are numbers")
refused("linear", ("many", None), "y.argmax(1)", "--loss ce")
case("linear", ("many", None), F.binary_cross_entropy_with_logits(y, t(many).double()), "integers (as asked for)", "--loss bce")
refused("linear", ("three", dict(x=x, y=floats(8, 3))), "floats of shape [8,3]")
case("linear", ("row_f32", dict(x=x, y=row.astype(np.float32))), F.cross_entropy(y, t(row)), "class indices, saved as floats")
refused("linear", ("one_hot_i64", None), "give a file", "--class-weights balanced")
refused("linear", ("halves", dict(x=x, y=row + 0.5)), "astype(np.int64)", "--loss ce")

# Losses that the file computes by ordinary nodes.
squares = [product, ("Sub", "h t", "d", {}), ("Mul", "d d", "q", {})]
labelled = (("x", ["N", 3]), ("t", ["N", 4]))
labels = floats(8, 4)
model("own_mean", squares + [("ReduceMean", "q", "loss", {"keepdims": 0})], {"w": four}, [("loss", [])], labelled)
own = outputs("own_mean", x=x, t=labels)[0]
case("own_mean", ("own", dict(x=x, t=labels)), own, "the output 'loss', which the file computes as a mean over the batch, labels 't'")
case("own_mean", ("own_y", dict(x=x, y=labels)), own, "labels 't'", "--micro-batch 2 --verify",
     then=after(lambda w: F.mse_loss(x64 @ w, t(labels).double()), four))
case("own_mean", ("own_1", dict(x=x[:1], y=labels[:1])), outputs("own_mean", x=x[:1], t=labels[:1])[0], "labels 't'")
model("own_sum", squares + [("ReduceSum", "q", "loss", {"keepdims": 1})], {"w": four}, [("loss", [1, 1])], labelled)
case("own_sum", ("own", None), outputs("own_sum", x=x, t=labels)[0], "as a sum over the batch", "--micro-batch 4",
     then=after(lambda w: F.mse_loss(x64 @ w, t(labels).double(), reduction="sum"), four))
case("own_sum", ("own_1", None), outputs("own_sum", x=x[:1], t=labels[:1])[0], "which the file computes")
classes = (("x", ["N", 3]), ("t", ["N"]))
model("own_none", [product, ("SoftmaxCrossEntropyLoss", "h t", "l", {"reduction": "none"}), ("ReduceMean", "l", "loss", {"keepdims": 0})],
      {"w": four}, [("loss", [])], classes, {"t": TensorProto.INT64})
case("own_none", ("row_t", dict(x=x, t=row)), outputs("own_none", x=x, t=row)[0], "as a mean over the batch, labels 't'")
refused("own_none", ("row_high", dict(x=x, t=row + 3)), "the model takes 0 to 3")
model("own_penalty", [product, ("SoftmaxCrossEntropyLoss", "h t", "l", {}), ("Mul", "w w", "w2", {}), ("ReduceSum", "w2", "s", {"keepdims": 0}),
                      ("Constant", "", "k", {"value_float": 0.01}), ("Mul", "s k", "r", {}), ("Add", "l r", "loss", {})],
      {"w": four}, [("loss", [])], classes, {"t": TensorProto.INT64})
case("own_penalty", ("row_t", None), outputs("own_penalty", x=x, t=row)[0], "which the file computes", "--untie none",
     then=after(lambda w: F.cross_entropy(x64 @ w, t(row)) + 0.01 * (w * w).sum(), four))
refused("own_penalty", ("row_t", None), "--micro-batch", "--micro-batch 4")
scale = np.array([1, 2, 3, 0.5], np.float32)
model("own_constants", squares + [("Mul", "q c", "s", {}), ("ReduceMean", "s", "m", {"keepdims": 0}), ("Mul", "w w", "w2", {}),
                                  ("ReduceSum", "w2", "p", {"keepdims": 0}), ("Mul", "p k", "r", {}), ("Add", "m r", "loss", {})],
      {"w": four, "c": scale, "k": np.float32(0.01)}, [("loss", [])], labelled)
case("own_constants", ("own", None), outputs("own_constants", x=x, t=labels)[0], "c, k (a constant of the file's loss)", "--untie none",
     then=after(lambda w: (((x64 @ w) - t(labels).double()) ** 2 * t(scale).double()).mean() + t(np.float32(0.01)).double() * (w * w).sum(), four))
model("autoencoder", [product, ("MatMul", "h v", "r", {}), ("Sub", "r x", "d", {}), ("Mul", "d d", "q", {}),
                      ("ReduceMean", "q", "loss", {"keepdims": 0})], {"w": four, "v": floats(4, 3)}, [("loss", [])])
refused("autoencoder", ("row", None), "--loss output trains on it", status=3)
case("autoencoder", ("row", None), outputs("autoencoder", x=x)[0], "the output 'loss'", "--loss output")
refused("linear", ("row", None), "not one number", "--loss output")

# Outputs whose first axis does not count the samples.
steps, tokens = floats(8, 5, 3), rng.integers(0, 4, (8, 5))
turn = ("Transpose", "x", "xt", {"perm": [1, 0, 2]})
three = (("x", ["N", 5, 3]),)
model("time_first", [turn, ("MatMul", "xt w", "y", {})], {"w": four}, [("y", [5, "N", 4])], three)
y = outputs("time_first", x=steps)[0].transpose(0, 1)
ce = F.cross_entropy(y.reshape(-1, 4), t(tokens).reshape(-1))
case("time_first", ("tokens", dict(x=steps, y=tokens)), ce, "its samples put first")
case("time_first", ("tokens", None), ce, "its samples put first", "--micro-batch 2",
     then=after(lambda w: F.cross_entropy((t(steps).double() @ w).reshape(-1, 4), t(tokens).reshape(-1)), four))
case("time_first", ("tokens_5", dict(x=steps[:5], y=tokens[:5])), F.cross_entropy(y[:5].reshape(-1, 4), t(tokens[:5]).reshape(-1)),
     "its samples put first")
case("time_first", ("tokens_1", dict(x=steps[:1], y=tokens[:1])), F.cross_entropy(y[:1].reshape(-1, 4), t(tokens[:1]).reshape(-1)), "axis 2")
model("time_flat", [turn, ("MatMul", "xt w", "h", {}), ("Reshape", "h s", "y", {})], {"w": four, "s": [-1, 4]}, [("y", ["M", 4])], three)
case("time_flat", ("tokens", None), ce, "its samples put first")
model("flat", [("MatMul", "x w", "h", {}), ("Reshape", "h s", "y", {})], {"w": four, "s": [-1, 4]}, [("y", ["M", 4])], three)
case("flat", ("tokens", None), ce, "axis 1 of 'y' (4 classes)")
model("torn", [("MatMul", "x w", "h", {}), ("Transpose", "h", "u", {"perm": [1, 2, 0]}), ("Reshape", "u s", "y", {})],
      {"w": four, "s": [-1, 10]}, [("y", ["M", 10])], three)
refused("torn", ("tokens", None), "does not count the samples", "--loss mse", status=3)

# Several outputs.
value_weight = floats(3, 2)
model("two", [("MatMul", "x w", "class", {}), ("MatMul", "x v", "value", {}), ("ArgMax", "class", "label", {"axis": 1, "keepdims": 0})],
      {"w": four, "v": value_weight}, [("class", ["N", 4]), ("value", ["N", 2]), ("label", ["N"])], types={"label": TensorProto.INT64})
scores, values = outputs("two", x=x)[:2]
wanted = floats(8, 2)
ce, mse = F.cross_entropy(scores, t(row)), F.mse_loss(values, t(wanted).double())
case("two", ("row", None), ce, "outputs that no loss is on: 'value', 'label'")
case("two", ("value", dict(x=x, y=wanted)), mse, "mean squared error of 'value'", "--output value")
refused("two", ("value", None), "did you mean 'value'", "--output valeu")
sums = "--loss class=ce,value=mse:0.5"
for names in (("y_class", "y_value"), ("class", "value"), ("target_class", "label_value")):
    case("two", ("two_" + names[0], {"x": x, names[0]: row, names[1]: wanted}), ce + 0.5 * mse, "; plus mean squared error of 'value'", sums)
case("two", ("two_class", None), 2 * ce + mse, "times 2", "--loss class=auto:2,value=auto")
case("two", ("two_class", None), ce + 0.5 * mse, "plus", sums + " --micro-batch 2 --verify",
     then=after(lambda w, v: F.cross_entropy(x64 @ w, t(row)) + 0.5 * F.mse_loss(x64 @ v, t(wanted).double()), four, value_weight))
refused("two", ("two_class", None), "did you mean 'class'", "--loss clas=ce,value=mse")
refused("two", ("two_class", None), "did you mean 'ce'", "--loss class=cee")
refused("two", ("two_class", None), "given twice", "--loss class=ce,class=mse")
refused("two", ("two_class", None), "NAME=ce", "--loss ce,mse")

open("cases.txt", "w").write("\n".join(lines) + "\n")
