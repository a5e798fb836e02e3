#!/usr/bin/env python3
"""Writes reports/: one .case a kind of report (test_differential.c says in which form), with models and data.

    tests/differential/make_reports.py SOURCE      # the folder of the reports, from which models and data are taken

Values are computed here from the files themselves, in float64 by PyTorch (tests/golden/onnx_in_torch.py runs the graph), and
compared with those of the report where it has some. Beside the reported inputs stand others of the same kind.
"""

import pathlib
import shutil
import sys

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "golden")]
import exporting
import onnx_in_torch

PLACE = "@/tests/differential/reports"
TARGET = HERE / "reports"
FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}


# --- the graph in PyTorch ---------------------------------------------------------------------------------------------------


def to_torch(proto):
    array = np.array(numpy_helper.to_array(proto))
    return torch.from_numpy(array.astype(np.float64) if proto.data_type in FLOATS else array)


def reduce(operation):
    def run(attrs, x, axes=None):
        axes = attrs.get("axes") if axes is None else axes.tolist()
        return operation(x, list(range(x.dim())) if axes is None else axes, keepdim=bool(attrs.get("keepdims", 1)))

    return run


def unsqueeze(attrs, x, axes=None):
    for axis in sorted(attrs["axes"] if axes is None else axes.tolist()):
        x = x.unsqueeze(axis)
    return x


def cast(attrs, x):
    return x.double() if attrs["to"] in FLOATS else x


onnx_in_torch.to_torch = to_torch
onnx_in_torch.OPS.update(
    {
        "ReduceMean": reduce(torch.mean),
        "ReduceSum": reduce(torch.sum),
        "Unsqueeze": unsqueeze,
        "Cast": cast,
        "Neg": lambda _, x: -x,
        "PRelu": lambda _, x, slope: torch.where(x < 0, slope * x, x),
        "Shape": lambda _, x: torch.tensor(x.shape),
        "Expand": lambda _, x, shape: x.expand(*shape.tolist()),
        "Constant": lambda attrs: (
            attrs["value"] if "value" in attrs else torch.tensor(next(iter(attrs.values())), dtype=torch.float64)
        ),
    }
)


def flattened_softmax(attrs, x):
    """Before opset 13: over all axes from `axis` (1) on."""
    axis = attrs.get("axis", 1)
    return torch.softmax(x.flatten(axis), -1).reshape(x.shape)


class Reference:
    """Training of a file: the tensors named are the parameters."""

    def __init__(self, model, arrays, loss, names, optimizer="sgd", lr=0.1):
        self.model, self.arrays, self.loss = model, arrays, loss
        held = {t.name: to_torch(t) for t in model.graph.initializer}
        self.before = {n: held[n].clone() for n in names}
        self.parameters = {n: held[n].requires_grad_() for n in names}
        self.tensors = held
        self.optimizer = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer](
            list(self.parameters.values()) or [torch.zeros(1, requires_grad=True)], lr
        )
        self.softmax = flattened_softmax if model.opset_import[0].version < 13 else onnx_in_torch.softmax

    def output(self, rows):
        onnx_in_torch.OPS["Softmax"] = self.softmax
        feed = {i.name: self.rows(i.name, rows) for i in self.model.graph.input if i.name in self.arrays}
        tensors = dict(self.tensors) | feed
        return onnx_in_torch.run_graph(self.model.graph, tensors)[self.model.graph.output[0].name]

    def rows(self, name, rows):
        value = torch.from_numpy(self.arrays[name][rows])
        return value.double() if value.is_floating_point() else value

    def run(self, batch, steps=None, epochs=1):
        samples, losses = len(next(iter(self.arrays.values()))), []
        for _ in range(epochs):
            for at in range(0, samples, batch):
                if steps is not None and len(losses) == steps:
                    break
                rows = slice(at, at + batch)
                self.optimizer.zero_grad()
                target = self.rows("y", rows) if "y" in self.arrays else None
                loss = self.loss(self.output(rows), target)
                if loss.requires_grad:
                    loss.backward()
                self.optimizer.step()
                losses.append(float(loss.detach()))
        return losses


def ce(out, y, **options):
    return F.cross_entropy(out, y, **options)


def last_ce(out, y):
    return F.cross_entropy(out.movedim(-1, 1), y)


def of_probabilities(out, y):
    return F.nll_loss(torch.log(out), y)


def mse(out, y):
    return F.mse_loss(out, y)


def bce(out, y):
    return F.binary_cross_entropy_with_logits(out.reshape(y.shape), y)


def itself(out, y):
    return out


# --- cases ------------------------------------------------------------------------------------------------------------------


class Case:
    def __init__(self, name, *remarks):
        self.name, self.lines = name, [f"# {remark}" for remark in remarks]

    def add(self, *lines):
        self.lines += lines
        return self

    def model(self, name, model):
        onnx.save(exporting.strip(model), str(TARGET / f"{self.name}_{name}.onnx"))
        return onnx.load(str(TARGET / f"{self.name}_{name}.onnx"))

    def data(self, name, **arrays):
        np.savez_compressed(TARGET / f"{self.name}_{name}.npz", **arrays)
        return {k: np.asarray(v) for k, v in arrays.items()}

    def run(self, model, data, options="", program="train"):
        return self.add(
            "",
            f"run {program} {PLACE}/{self.name}_{model}.onnx"
            + (f" --data {PLACE}/{self.name}_{data}" if data else "")
            + (f" {options}" if options else ""),
        )

    def trains(
        self,
        model,
        data,
        names,
        loss,
        batch,
        steps=None,
        epochs=1,
        options="",
        optimizer="sgd",
        lr=0.1,
        kept=(),
        may_refuse=False,
        changes=True,
    ):
        """A run with the losses and the changes that PyTorch makes of the file."""
        file, arrays = onnx.load(str(TARGET / f"{self.name}_{model}.onnx")), dict(np.load(TARGET / f"{self.name}_{data}.npz"))
        reference = Reference(file, arrays, loss, names, optimizer, lr)
        losses = reference.run(batch, steps, epochs)
        words = f"--batch {batch} --shuffle off --optimizer {optimizer} --lr {lr:g}" + (
            f" --steps {steps}" if steps else f" --epochs {epochs}"
        )
        self.run(model, data + ".npz", words + (f" {options}" if options else ""))
        self.add("may refuse" if may_refuse else "exit 0")
        self.add(*[f"loss {i} {value:.12g}" for i, value in enumerate(losses)])
        if changes:
            for n in names:
                change = (reference.parameters[n].detach() - reference.before[n]).reshape(-1)
                self.add(f"change {n} " + " ".join(f"{v:.9g}" for v in change))
        self.add(*[f"kept {n}" for n in kept])
        return losses

    def refused(self, status, model, data, says, options="", program="train"):
        self.run(model, data, options, program)
        return self.add(f"exit {status}", *[f"says {word}" for word in says])

    def write(self):
        (TARGET / f"{self.name}.case").write_text("\n".join(self.lines) + "\n")


def tensor(name, value, kind=np.float32):
    return numpy_helper.from_array(np.asarray(value, dtype=kind), name)


def graph(nodes, inputs, output, initializers, opset=17, producer="", free=("N",)):
    """nodes: (op, "inputs", "outputs", attributes). inputs: name: (type, shape). A number among the initializers becomes a Constant
    node in a file of producer pytorch, as that exporter writes numbers: no parameter."""
    numbers = [t for t in initializers if not t.dims and t.data_type == TensorProto.FLOAT]
    if numbers:
        producer = "pytorch"
    initializers = [t for t in initializers if t not in numbers]
    nodes = [("Constant", "", t.name, {"value": t}) for t in numbers] + nodes
    made = [
        helper.make_node(op, i.split(",") if i else [], o.split(","), name=f"n{k}", **a) for k, (op, i, o, a) in enumerate(nodes)
    ]
    put = lambda n, t, s: helper.make_tensor_value_info(n, t, s)
    g = helper.make_graph(
        made, "g", [put(n, t, s) for n, (t, s) in inputs.items()], [put(output[0], TensorProto.FLOAT, output[1])], initializers
    )
    model = helper.make_model(g, opset_imports=[helper.make_opsetid("", opset)], producer_name=producer)
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


X = lambda *shape: {"x": (TensorProto.FLOAT, ["N", *shape])}
r = np.random.default_rng(15)
normal = lambda *shape: (r.standard_normal(shape) * 0.6).astype(np.float32)


def classes(n, k, *more):
    return r.integers(0, k, (n, *more))


def copy(case, source, folder):
    """Models and data of a report, as CASE_NAME."""
    for path in sorted((source / folder).iterdir()):
        target = TARGET / f"{case.name}_{path.name}"
        if path.suffix == ".onnx":
            case.model(path.stem, onnx.load(str(path)))
        elif path.suffix in (".npz", ".csv"):
            shutil.copyfile(path, target)


def padded_rows(source):
    c = Case(
        "padded_rows",
        "pytorch#4132, keras#20241: rows that fill up a last batch are zeros, where Log, Sqrt and Reciprocal have no slope",
    )
    copy(c, source, "01-padded-rows-nan")
    for name, names in [
        ("log", ["W"]),
        ("rownorm", ["W"]),
        ("fc_sqrt", ["P", "V"]),
        ("fc_reciprocal", ["P", "V"]),
        ("fc_log", ["P", "V"]),
    ]:
        for batch in (4, 5):
            c.trains(name, "d", names, ce, batch)
    c.model(
        "rsqrt",
        graph(
            [("Pow", "x,p", "s", {}), ("MatMul", "s,W", "y", {})],
            X(3),
            ("y", ["N", 2]),
            [tensor("W", normal(3, 2)), tensor("p", -0.5)],
        ),
    )
    c.model(
        "logsum",
        graph(
            [("ReduceSum", "x,ax", "s", {}), ("Log", "s", "l", {}), ("Sub", "x,l", "p", {}), ("MatMul", "p,W", "y", {})],
            X(3),
            ("y", ["N", 2]),
            [tensor("W", normal(3, 2)), tensor("ax", [1], np.int64)],
        ),
    )
    c.model(
        "centred",
        graph(
            [
                ("MatMul", "x,P", "h", {}),
                ("ReduceMean", "h", "m", {"axes": [0]}),
                ("Sub", "h,m", "s", {}),
                ("MatMul", "s,V", "y", {}),
            ],
            X(3),
            ("y", ["N", 2]),
            [tensor("P", normal(3, 4)), tensor("V", normal(4, 2))],
        ),
    )
    c.model(
        "batchnorm",
        graph(
            [
                ("MatMul", "x,P", "h", {}),
                ("BatchNormalization", "h,s,b,mean,var", "n", {}),
                ("Relu", "n", "q", {}),
                ("MatMul", "q,V", "y", {}),
            ],
            X(3),
            ("y", ["N", 2]),
            [
                tensor("P", normal(3, 4)),
                tensor("s", np.ones(4)),
                tensor("b", np.zeros(4)),
                tensor("mean", np.zeros(4)),
                tensor("var", np.ones(4)),
                tensor("V", normal(4, 2)),
            ],
        ),
    )
    c.trains("rsqrt", "d", ["W"], ce, 3)
    c.trains("logsum", "d", ["W"], ce, 7, epochs=2)
    for batch in (3, 4, 6, 7, 8):
        c.trains("centred", "d", ["P", "V"], ce, batch)
    onnx_in_torch.OPS["BatchNormalization"] = lambda a, *x: (onnx_in_torch.batch_norm(a, *x)[0],)
    for batch in (4, 6, 7, 8):
        c.trains("batchnorm", "d", ["P", "s", "b", "V"], ce, batch)
    c.trains("log", "d", ["W"], ce, 6, optimizer="adam", lr=0.01)
    c.write()


def left_operand(source):
    c = Case("left_operand", "onnxsim#765, onnx2torch#132: weights that are the left operand of a product")
    copy(c, source, "03-left-operand-weight")
    for name, names in [("lora", ["W", "A", "B", "V"]), ("left", ["W", "V"]), ("mixer", ["W", "V"])]:
        c.trains(name, "d", names, ce, 6, epochs=3)
    c.data("tokens", x=normal(8, 4, 3), y=classes(8, 3))
    c.data("seven", x=normal(7, 6), y=normal(7, 2))
    c.model(
        "tokens",
        graph(
            [
                ("MatMul", "W,x", "h", {}),
                ("Add", "h,b", "k", {}),
                ("Relu", "k", "q", {}),
                ("Flatten", "q", "f", {}),
                ("MatMul", "f,V", "y", {}),
            ],
            X(4, 3),
            ("y", ["N", 3]),
            [tensor("W", normal(5, 4)), tensor("b", normal(5, 1)), tensor("V", normal(15, 3))],
        ),
    )
    c.model(
        "gemm",
        graph(
            [
                ("Gemm", "W,x", "h", {"transB": 1}),
                ("Transpose", "h", "t", {"perm": [1, 0]}),
                ("Tanh", "t", "q", {}),
                ("MatMul", "q,V", "y", {}),
            ],
            X(6),
            ("y", ["N", 2]),
            [tensor("W", normal(4, 6)), tensor("V", normal(4, 2))],
        ),
    )
    c.model(
        "chain",
        graph(
            [("MatMul", "A,B", "E", {}), ("MatMul", "E,C", "G", {}), ("Gemm", "x,G,b", "y", {"transB": 1})],
            X(6),
            ("y", ["N", 2]),
            [tensor("A", normal(2, 3)), tensor("B", normal(3, 4)), tensor("C", normal(4, 6)), tensor("b", normal(2))],
        ),
    )
    c.model(
        "zero_b",
        graph(
            [
                ("MatMul", "B,A", "D", {}),
                ("Mul", "D,two", "S", {}),
                ("Add", "W,S", "E", {}),
                ("Transpose", "E", "T", {"perm": [1, 0]}),
                ("MatMul", "x,T", "y", {}),
            ],
            X(6),
            ("y", ["N", 2]),
            [tensor("W", normal(2, 6)), tensor("A", normal(2, 6)), tensor("B", np.zeros((2, 2))), tensor("two", 2.0)],
        ),
    )
    c.trains("tokens", "tokens", ["W", "b", "V"], ce, 4, epochs=2)
    c.trains("gemm", "seven", ["W", "V"], mse, 4, epochs=2)
    c.trains("chain", "seven", ["A", "B", "C", "b"], mse, 4, epochs=2)
    c.trains("zero_b", "seven", ["W", "A", "B"], mse, 7, epochs=3)
    c.trains("zero_b", "seven", ["A", "B"], mse, 7, epochs=3, options="--freeze W", kept=["W"])
    c.write()


def derived_weight(source):
    c = Case(
        "derived_weight",
        "onnx2torch#194, #132: weights behind Softplus, Exp, Slice, Split, Concat, Div, Sub before the product",
        "four is a number, not a weight",
    )
    copy(c, source, "04-derived-weight-untrained")
    for name, names in [
        ("softplus", "W V"),
        ("exp", "W V"),
        ("slice", "W V"),
        ("concat", "Wa Wb V"),
        ("centered", "W V"),
        ("torch_positive", "w o.weight o.bias"),
        ("torch_chunk", "w o.weight o.bias"),
    ]:
        c.trains(name, "d", names.split(), ce, 6, epochs=3)
    c.trains("div", "d", ["W", "V"], ce, 6, epochs=3, kept=["four"])  # the report's values are those with the number kept
    rows = {
        "max": [("Max", "W,Q", "E", {})],
        "pow": [("Pow", "W,two", "E", {})],
        "abs": [("Abs", "W", "E", {})],
        "min": [("Min", "Q,W", "E", {})],
        "sub": [("Sub", "Q,W", "E", {})],
        "root": [("Mul", "W,W", "S", {}), ("Sqrt", "S", "E", {})],
        "sigmoid": [("Sigmoid", "W", "E", {})],
        "ratio": [("Exp", "Q", "S", {}), ("Div", "W,S", "E", {})],
        "softmax": [("Softmax", "W", "E", {"axis": 0})],
        "transposes": [
            ("Transpose", "W", "S", {"perm": [1, 0]}),
            ("Reshape", "S,flat", "R", {}),
            ("Reshape", "R,back", "T", {}),
            ("Transpose", "T", "E", {"perm": [1, 0]}),
        ],
    }
    for name, nodes in rows.items():
        second = any("Q" in n[1] for n in nodes)
        numbers = {"two": tensor("two", 2.0), "flat": tensor("flat", [48], np.int64), "back": tensor("back", [8, 6], np.int64)}
        used = [v for k, v in numbers.items() if any(k in n[1].split(",") for n in nodes)]
        c.model(
            name,
            graph(
                nodes + [("MatMul", "x,E", "h", {}), ("Tanh", "h", "t", {}), ("MatMul", "t,V", "y", {})],
                X(6),
                ("y", ["N", 3]),
                [tensor("W", normal(6, 8)), tensor("V", normal(8, 3))] + ([tensor("Q", normal(6, 8))] if second else []) + used,
            ),
        )
        c.trains(name, "d", ["W", "V"] + (["Q"] if second else []), ce, 6, epochs=2)
    c.model(
        "expand",
        graph(
            [("Expand", "b,shape", "e", {}), ("MatMul", "x,W", "h", {}), ("Add", "h,e", "y", {})],
            X(6),
            ("y", ["N", 3]),
            [tensor("W", normal(6, 3)), tensor("b", normal(1)), tensor("shape", [3], np.int64)],
        ),
    )
    c.trains("expand", "d", ["W", "b"], ce, 6, epochs=2)
    one_value(c)
    c.write()


def one_value(c):
    """A slope is a parameter whatever its value; a frozen number that is combined with constants has its name still."""
    c.model(
        "slope",
        graph(
            [("MatMul", "x,W", "h", {}), ("PRelu", "h,slope", "y", {})],
            X(6),
            ("y", ["N", 3]),
            [tensor("W", normal(6, 3)), tensor("slope", [0.25])],
        ),
    )
    c.trains("slope", "d", ["W", "slope"], ce, 6, epochs=2)
    c.model(
        "number",
        graph(
            [("Mul", "t,ten", "s", {}), ("MatMul", "x,W", "h", {}), ("Mul", "h,s", "y", {})],
            X(6),
            ("y", ["N", 3]),
            [tensor("W", normal(6, 3)), tensor("t", [0.7]), tensor("ten", 0.1)],
        ),
    )
    c.trains("number", "d", ["W", "t"], ce, 6, epochs=2)
    c.trains("number", "d", ["W"], ce, 6, epochs=2, options="--freeze t", kept=["t"])
    mask = graph(
        [("Cast", "m", "f", {"to": 1}), ("Mul", "W,f", "E", {}), ("MatMul", "x,E", "y", {})],
        X(6),
        ("y", ["N", 3]),
        [tensor("W", normal(6, 3)), tensor("m", np.arange(18).reshape(6, 3) % 3 > 0, np.uint8)],
    )
    c.model("bytes", mask)
    c.trains("bytes", "d", ["W"], ce, 6, epochs=2, kept=["m"])


def buffers(source):
    c = Case("buffers", "onnxruntime#4099: what the file calls BUFFER is not trained")
    copy(c, source, "06-buffer-trained")
    c.trains(
        "att",
        "att",
        ["i.bias", "o.bias", "val_0", "val_2", "val_3", "val_5", "val_6"],
        last_ce,
        8,
        epochs=6,
        lr=0.5,
        kept=["mask", "val_4"],
    )
    c.trains("norm", "norm", ["l.weight", "l.bias"], ce, 16, epochs=6, lr=0.5, kept=["offset", "inv_std"])
    c.trains(
        "norm", "norm", ["l.bias"], ce, 16, epochs=2, lr=0.5, options="--freeze *weight", kept=["offset", "inv_std", "l.weight"]
    )
    c.trains("norm", "norm", ["offset", "l.weight", "l.bias"], ce, 16, epochs=2, lr=0.5, options="--train offset", kept=["inv_std"])
    plain = onnx.load(str(TARGET / "buffers_norm.onnx"))
    del plain.graph.value_info[:]
    for item in [plain, plain.graph, *plain.graph.node, *plain.graph.input, *plain.graph.output, *plain.graph.initializer]:
        del item.metadata_props[:]
    for t in plain.graph.initializer:
        if t.name == "inv_std":  # 1, 2, 3 in the report, which may be taken for positions
            t.CopyFrom(tensor("inv_std", [1.1, 1.9, 2.7]))
    plain.producer_name = ""
    c.model("plain", plain)  # nothing says what is what: a gradient decides, and the user
    c.trains("plain", "norm", ["offset", "inv_std", "l.weight", "l.bias"], ce, 16, epochs=2, lr=0.5)
    c.trains(
        "plain",
        "norm",
        ["l.weight", "l.bias"],
        ce,
        16,
        epochs=2,
        lr=0.5,
        options="--freeze offset,inv_std",
        kept=["offset", "inv_std"],
    )
    c.refused(2, "norm", "norm.npz", ["nothing_like_it"], "--batch 16 --steps 1 --freeze nothing_like_it")
    c.run("norm", None, "--batch 16 --loss ce --optimizer adam --json", "plan").add("exit 0", "number model.parameters 16")
    c.write()


def masks(source):
    c = Case("masks", "PaddleOCR#18341, onnxsim#1239: masks of 0 and 1 that multiply, of 0 and very negative values that add")
    copy(c, source, "07-inf-mask-nan")
    c.trains("m", "d", ["W", "V"], ce, 8, epochs=3, kept=["mask"])
    for name, low in [("minus_1e9", -1e9), ("minus_1e4", -1e4), ("float_min", np.finfo(np.float32).min)]:
        model = onnx.load(str(TARGET / "masks_m.onnx"))
        for t in model.graph.initializer:
            if t.name == "mask":
                t.CopyFrom(tensor("mask", np.where(np.isinf(numpy_helper.to_array(t)), low, 0)))
        c.model(name, model)
        c.trains(name, "d", ["W", "V"], ce, 8, epochs=3, kept=["mask"])
    shutil.copyfile(source / "08-pruned-mask-trained/d.npz", TARGET / "masks_pruned.npz")
    pruned = c.model("pruned", onnx.load(str(source / "08-pruned-mask-trained/m.onnx")))
    trained = ["0.bias", "0.weight_orig", "2.weight", "2.bias"]
    c.trains("pruned", "pruned", trained, ce, 16, epochs=5, lr=0.5, kept=["0.weight_mask"])
    for producer, name in [("", "pruned_unsaid"), ("pytorch", "pruned_no_cast")]:
        model = onnx.load(str(TARGET / "masks_pruned.onnx"))
        model.producer_name = producer
        if name == "pruned_no_cast":
            model.graph.node[1].input[0] = "0.weight_mask"
            del model.graph.node[0]
        c.model(name, model)
        c.trains(name, "pruned", trained, ce, 16, epochs=5, lr=0.5, kept=["0.weight_mask"])
    c.model(
        "features",
        graph(
            [("MatMul", "x,W", "h", {}), ("Mul", "keep,h", "k", {}), ("Relu", "k", "q", {}), ("MatMul", "q,V", "y", {})],
            X(6),
            ("y", ["N", 3]),
            [tensor("W", normal(6, 5)), tensor("keep", [1, 0, 1, 1, 0]), tensor("V", normal(5, 3))],
        ),
    )
    c.trains("features", "pruned", ["W", "V"], ce, 16, epochs=3, kept=["keep"])
    c.model(
        "causal",
        graph(
            [
                ("MatMul", "x,K", "k", {}),
                ("Transpose", "k", "t", {"perm": [0, 2, 1]}),
                ("MatMul", "x,t", "s", {}),
                ("Add", "s,mask", "m", {}),
                ("Softmax", "m", "p", {"axis": -1}),
                ("MatMul", "p,x", "a", {}),
                ("MatMul", "a,V", "y", {}),
            ],
            X(4, 3),
            ("y", ["N", 4, 5]),
            [tensor("K", normal(3, 3)), tensor("V", normal(3, 5)), tensor("mask", np.triu(np.full((4, 4), -np.inf), 1))],
        ),
    )
    c.data("causal", x=normal(6, 4, 3), y=classes(6, 5, 4))
    c.trains("causal", "causal", ["K", "V"], last_ce, 4, epochs=2, kept=["mask"])
    c.write()


def softmax_axis(source):
    c = Case(
        "softmax_axis",
        "tvm#19420, openvino#37823, onnx-mlir#832: a final Softmax is folded only where its axis is that of the classes",
        "`may refuse`: a Softmax per head is refused, or its output taken as probabilities or as it is",
    )
    copy(c, source, "09-softmax-axis-folded")
    heads, arrays = onnx.load(str(TARGET / "softmax_axis_heads.onnx")), dict(np.load(TARGET / "softmax_axis_heads.npz"))
    one, two = (Reference(heads, arrays, loss, []).run(8)[0] for loss in (of_probabilities, ce))
    assert abs(one - 1.285177) < 1e-5
    c.run("heads", "heads.npz", "--batch 8 --steps 1 --shuffle off --lr 0").add("may refuse", f"either 0 {one:.12g} {two:.12g}")
    c.run("heads", "heads.npz", "--batch 8 --steps 1 --shuffle off --lr 0 --loss ce").add(
        "may refuse", f"either 0 {one:.12g} {two:.12g}"
    )
    opset11, arrays = onnx.load(str(TARGET / "softmax_axis_opset11.onnx")), dict(np.load(TARGET / "softmax_axis_opset11.npz"))
    one, two = (Reference(opset11, arrays, lambda o, y, f=f: f(o.movedim(-1, 1), y), []).run(8)[0] for f in (of_probabilities, ce))
    assert abs(one - 3.194644) < 1e-5
    c.run("opset11", "opset11.npz", "--batch 8 --steps 1 --shuffle off --lr 0").add("may refuse", f"either 0 {one:.12g} {two:.12g}")
    shutil.copyfile(source / "diff-11/data.npz", TARGET / "softmax_axis_flat.npz")
    flat, arrays = c.model("flat", onnx.load(str(source / "diff-11/model.onnx"))), dict(np.load(TARGET / "softmax_axis_flat.npz"))
    one, two = (Reference(flat, arrays, loss, []).run(4)[0] for loss in (of_probabilities, ce))
    assert abs(two - 2.478469) < 1e-5
    c.run("flat", "flat.npz", "--batch 4 --epochs 1 --shuffle off --lr 0 --loss ce").add(
        "may refuse", f"either 0 {one:.12g} {two:.12g}"
    )
    # where the axes do match, the loss is that of the probabilities, whatever the layout and the views
    c.data("first", x=normal(8, 3), y=classes(8, 4, 3))
    c.data("rows", x=normal(8, 3), y=classes(8, 4))
    w, shape = tensor("W", normal(3, 12)), lambda *s: tensor("s", list(s), np.int64)
    reshaped = [("MatMul", "x,W", "h", {}), ("Reshape", "h,s", "q", {})]
    c.model("classes_first", graph(reshaped + [("Softmax", "q", "y", {"axis": 1})], X(3), ("y", ["N", 4, 3]), [w, shape(-1, 4, 3)]))
    c.model("classes_last", graph(reshaped + [("Softmax", "q", "y", {"axis": 2})], X(3), ("y", ["N", 3, 4]), [w, shape(-1, 3, 4)]))
    c.model("log_first", graph(reshaped + [("LogSoftmax", "q", "y", {"axis": 1})], X(3), ("y", ["N", 4, 3]), [w, shape(-1, 4, 3)]))
    c.model(
        "turned",
        graph(
            reshaped + [("Softmax", "q", "p", {"axis": -1}), ("Transpose", "p", "y", {"perm": [0, 2, 1]})],
            X(3),
            ("y", ["N", 4, 3]),
            [w, shape(-1, 3, 4)],
        ),
    )
    c.model(
        "view",
        graph(
            [
                ("MatMul", "x,W", "h", {}),
                ("Reshape", "h,s", "q", {}),
                ("Softmax", "q", "p", {"axis": -1}),
                ("Reshape", "p,t", "y", {}),
            ],
            X(3),
            ("y", ["N", 4]),
            [tensor("W", normal(3, 4)), shape(-1, 1, 4), tensor("t", [-1, 4], np.int64)],
        ),
    )
    c.model(
        "opset11_rows",
        graph(
            [("MatMul", "x,W", "h", {}), ("Softmax", "h", "y", {})], X(3), ("y", ["N", 4]), [tensor("W", normal(3, 4))], opset=11
        ),
    )
    c.model(
        "clip",
        graph(
            [("MatMul", "x,W", "h", {}), ("Softmax", "h", "p", {}), ("Clip", "p,low,high", "y", {})],
            X(3),
            ("y", ["N", 4]),
            [tensor("W", normal(3, 4)), tensor("low", 0.05), tensor("high", 0.9)],
        ),
    )
    for name in ("classes_first", "turned"):
        c.trains(name, "first", ["W"], of_probabilities, 4, epochs=2)
    c.trains("log_first", "first", ["W"], F.nll_loss, 4, epochs=2)
    c.data("last", x=normal(8, 3), y=classes(8, 4, 3))
    c.trains("classes_last", "last", ["W"], lambda o, y: F.nll_loss(torch.log(o.movedim(-1, 1)), y), 3, epochs=1)
    for name in ("view", "opset11_rows"):
        c.trains(name, "rows", ["W"], of_probabilities, 5, epochs=2)
    c.trains("clip", "rows", ["W"], of_probabilities, 8, epochs=2, lr=0.5, options="--loss ce", may_refuse=True)
    c.write()


def ignored(source):
    c = Case("ignored", "pytorch#12670, #15508, transformers#24725: labels of any value that do not count, whole and in parts")
    copy(c, source, "10-ignore-index-refused")
    c.trains("m-100", "d-100", ["W"], itself, 8, steps=1)
    c.trains("m255", "d255", ["W"], itself, 8, steps=1)
    shutil.copyfile(source / "11-microbatch-masked-loss/a.npz", TARGET / "ignored_a.npz")
    shutil.copyfile(source / "11-microbatch-masked-loss/b.npz", TARGET / "ignored_b.npz")
    c.model("m1", onnx.load(str(source / "11-microbatch-masked-loss/m.onnx")))
    for data, want in (("a", 2.273725), ("b", 2.118394)):
        for options in ("", "--micro-batch 2", "--micro-batch 4", "--micro-batch 1"):
            assert abs(c.trains("m1", data, ["W"], itself, 8, steps=1, options=options)[0] - want) < 1e-5
    for data in ("a", "b"):
        for batch, options in ((3, ""), (6, "--micro-batch 2"), (6, "--micro-batch 3")):
            arrays = dict(np.load(TARGET / f"ignored_{data}.npz"))
            if all(np.any(arrays["t"][i : i + batch] != 1) for i in range(0, 8, batch)):
                c.trains("m1", data, ["W"], itself, batch, options=options)
    c.model(
        "weighted",
        graph(
            [("MatMul", "x,W", "h", {}), ("SoftmaxCrossEntropyLoss", "h,t,w", "loss", {"ignore_index": -1})],
            X(3) | {"t": (TensorProto.INT64, ["N"])},
            ("loss", []),
            [tensor("W", normal(3, 4)), tensor("w", [0.5, 2, 1, 0.25])],
        ),
    )
    t = np.array([0, 3, -1, -1, 2, 1, 0, 3, 2, -1])
    arrays = c.data("weighted", x=normal(10, 3), t=t)
    c.model(
        "nll",
        graph(
            [
                ("MatMul", "x,W", "h", {}),
                ("LogSoftmax", "h", "l", {"axis": 1}),
                ("NegativeLogLikelihoodLoss", "l,t,w", "loss", {"ignore_index": -1}),
            ],
            X(3) | {"t": (TensorProto.INT64, ["N"])},
            ("loss", []),
            [tensor("W", normal(3, 4)), tensor("w", [0.5, 2, 1, 0.25])],
        ),
    )
    c.model("logits", graph([("MatMul", "x,W", "y", {})], X(3), ("y", ["N", 4]), [tensor("W", normal(3, 4))]))
    for name in ("weighted", "nll"):
        for options in ("", "--micro-batch 2", "--micro-batch 1"):
            c.trains(name, "weighted", ["W"], itself, 4, epochs=2, options=options, kept=["w"])
    for value in (-100, 255, -1, 0):
        c.data(f"logits{value}", x=arrays["x"], y=np.where(t == -1, value, np.where(t == 0, 1 if value == 0 else 0, t)))
        options = "" if value == -100 else f"--ignore-index {value}"
        for more in ("", " --micro-batch 2"):
            c.trains(
                "logits",
                f"logits{value}",
                ["W"],
                lambda o, y, v=value: ce(o, y, ignore_index=v),
                4,
                options=(options + more).strip(),
            )
    c.trains("logits", "logits-100", ["W"], lambda o, y: ce(o, y, label_smoothing=0.1), 4, options="--label-smoothing 0.1")
    c.write()


def integers(source):
    c = Case("integers", "triton#8619: integers that do not fit the input's type are refused")
    copy(c, source, "12-int32-input-wraps")
    c.refused(2, "m", "d.npz", ["3000000000"], "--batch 4 --steps 1 --lr 0 --shuffle off")
    c.data("negative", x=np.array([[1, -2], [-2147483649, 5], [1, 1]]), y=np.array([0, 1, 2]))
    c.refused(2, "m", "negative.npz", ["-2147483649"], "--batch 3 --steps 1 --lr 0 --shuffle off")
    c.data("unsigned", x=np.array([[1, 2], [4000000000, 5], [1, 1]], dtype=np.uint32), y=np.array([0, 1, 2]))
    c.refused(2, "m", "unsigned.npz", ["4000000000"], "--batch 3 --steps 1 --lr 0 --shuffle off")
    c.data("fits", x=np.array([[1, -2], [7, 5], [3, 1]]), y=np.array([0, 1, 2]))
    c.trains("m", "fits", ["W"], ce, 3, steps=1)
    c.write()


def bce_tail(source):
    c = Case("bce_tail", "pytorch#195529: BCE(x, 1) and BCE(-x, 0) are the same number")
    copy(c, source, "15-bce-tail")
    logits = graph([("MatMul", "x,W", "y", {})], X(1), ("y", ["N", 1]), [tensor("W", [[1.0]])])
    c.model("logits", logits)
    for k, x in enumerate((20, -20, 30, -30, 5, -5)):
        c.data(f"e{k}", x=np.full((4, 1), x, np.float32), y=np.full(4, float(x > 0), np.float32))
    for model in ("m", "logits"):
        for data in [f"d{k}" for k in range(4)] + [f"e{k}" for k in range(6)]:
            arrays = dict(np.load(TARGET / f"bce_tail_{data}.npz"))
            want = float(np.log1p(np.exp(-np.abs(arrays["x"].astype(np.float64)))).mean())
            c.run(model, f"{data}.npz", "--batch 4 --steps 1 --lr 0 --shuffle off" + (" --loss bce" if model == "logits" else ""))
            c.add("exit 0", f"loss 0 {want:.9g} 1e-4")
    c.data("mixed", x=np.array([[15], [-15], [15], [-15]], np.float32), y=np.array([1, 0, 1, 0], np.float32))
    c.run("logits", "mixed.npz", "--batch 4 --steps 1 --lr 0 --shuffle off").add(
        "exit 0", "loss 0 3.05902e-07 1e-4", "says binary cross-entropy", "says mse"
    )
    c.data("wide", x=np.array([[15], [-15], [15], [-15]], np.float32), y=np.array([[1], [0], [1], [0]], np.int64))
    c.run("m", "wide.npz", "--batch 4 --steps 1 --lr 0 --shuffle off").add("exit 0", "loss 0 3.05902e-07 1e-4")
    c.write()


def soft_labels(source):
    c = Case("soft_labels", "pytorch#3670: one-hot and smoothed labels train cross-entropy")
    copy(c, source, "16-onehot-soft-labels")
    soft = lambda o, y: ce(o, y.double())
    folded = lambda o, y: ce(torch.log(o), y.double())
    c.trains("softmax", "onehot_i64", ["W"], folded, 6, steps=1)
    c.trains("softmax", "smooth", ["W"], folded, 6, steps=1, options="--loss ce")
    c.trains("softmax", "onehot_i64", ["W"], folded, 6, steps=1, options="--loss ce")
    c.trains("linear", "onehot_i64", ["W"], soft, 6, steps=1)
    c.trains("linear", "smooth", ["W"], soft, 4, epochs=2, options="--loss ce")
    c.trains("softmax", "smooth", ["W"], folded, 4, epochs=2, options="--loss ce --micro-batch 2")
    c.data("three", x=normal(7, 3), y=r.dirichlet(np.ones(3), 7).astype(np.float32))
    c.data("three_u8", x=normal(7, 3), y=np.eye(3, dtype=np.uint8)[classes(7, 3)])
    c.model(
        "three",
        graph(
            [("MatMul", "x,W", "l", {}), ("LogSoftmax", "l", "y", {"axis": -1})], X(3), ("y", ["N", 3]), [tensor("W", normal(3, 3))]
        ),
    )
    log_soft = lambda o, y: ce(o, y.double())
    c.trains("three", "three", ["W"], log_soft, 4, epochs=2, options="--loss ce")
    c.trains("three", "three_u8", ["W"], log_soft, 4, epochs=2)
    c.write()


def file_loss(source):
    c = Case("file_loss", "onnxruntime#19464, #22411: a file that computes its own scalar loss is trained on that")
    copy(c, source, "17-file-loss-by-nodes")
    c.data("mse", x=normal(8, 3), t=normal(8, 4))
    c.data("classes", x=normal(8, 3), t=classes(8, 4))
    for name, data in (("mse", "mse"), ("none", "classes")):
        c.run(name, None, "--batch 8 --steps 1").add("exit 0", "says loss")
        c.run(name, None, "--batch 1 --steps 1").add("exit 0", "says loss")
        for batch in (8, 1, 3):
            for options in ("", "--loss output"):
                c.trains(name, data, ["W"], itself, batch, options=options)
    put = X(3) | {"t": (TensorProto.FLOAT, ["N", 4])}
    error = [
        ("MatMul", "x,W", "h", {}),
        ("Sub", "h,t", "d", {}),
        ("Mul", "d,d", "q", {}),
        ("ReduceMean", "q", "m", {"keepdims": 0}),
    ]
    c.model(
        "decay",
        graph(
            error
            + [
                ("Mul", "W,W", "w2", {}),
                ("ReduceSum", "w2", "s", {"keepdims": 0}),
                ("Mul", "s,k", "p", {}),
                ("Add", "m,p", "loss", {}),
            ],
            put,
            ("loss", []),
            [tensor("W", normal(3, 4)), tensor("k", 0.01)],
        ),
    )
    c.model("sum", graph(error[:3] + [("ReduceSum", "q", "loss", {"keepdims": 0})], put, ("loss", []), [tensor("W", normal(3, 4))]))
    c.model(
        "smooth",
        graph(
            error[:3] + [("Add", "q,one", "e", {}), ("Sqrt", "e", "g", {}), ("ReduceMean", "g", "loss", {"keepdims": 0})],
            put,
            ("loss", []),
            [tensor("W", normal(3, 4)), tensor("one", 1.0)],
        ),
    )
    c.model(
        "keepdims",
        graph(error[:3] + [("ReduceMean", "q", "loss", {"keepdims": 1})], put, ("loss", [1, 1]), [tensor("W", normal(3, 4))]),
    )
    c.model(
        "hidden",
        graph(
            [("MatMul", "x,P", "g", {}), ("Relu", "g", "r", {}), ("MatMul", "r,W", "h", {})]
            + error[1:3]
            + [("ReduceMean", "q", "loss", {"keepdims": 0})],
            put,
            ("loss", []),
            [tensor("P", normal(3, 5)), tensor("W", normal(5, 4))],
        ),
    )
    c.trains("decay", "mse", ["W"], itself, 4, epochs=2)
    c.trains("sum", "mse", ["W"], itself, 4, epochs=2, lr=0.01)
    c.trains("smooth", "mse", ["W"], itself, 4, epochs=2)
    c.trains("keepdims", "mse", ["W"], lambda o, y: o.sum(), 4, epochs=2)
    c.trains("hidden", "mse", ["P", "W"], itself, 3, epochs=2)
    c.write()


def loss_parts(source):
    c = Case("loss_parts", "losses of the file, and outputs with the samples last, whole and in parts of one sample and two")
    c.data("mse", x=normal(9, 3), t=normal(9, 2))
    c.data("classes", x=normal(9, 3), y=classes(9, 4))
    put = X(3) | {"t": (TensorProto.FLOAT, ["N", 2])}
    error = [("MatMul", "x,W", "h", {}), ("Sub", "h,t", "d", {}), ("Mul", "d,d", "q", {})]
    losses = {
        "mean": [("ReduceMean", "q", "loss", {"keepdims": 0})],
        "sum": [("ReduceSum", "q", "loss", {"keepdims": 0})],
        "rows": [("ReduceSum", "q,one", "r", {"keepdims": 0}), ("ReduceMean", "r", "loss", {"keepdims": 0})],
        "columns": [("ReduceMean", "q", "r", {"axes": [0], "keepdims": 0}), ("ReduceSum", "r", "loss", {"keepdims": 0})],
        "decay": [
            ("ReduceMean", "q", "m", {"keepdims": 0}),
            ("Mul", "W,W", "w2", {}),
            ("ReduceSum", "w2", "s", {"keepdims": 0}),
            ("Add", "m,s", "loss", {}),
        ],
    }
    one = numpy_helper.from_array(np.array([1], np.int64), "one")
    for name, nodes in losses.items():
        c.model(name, graph(error + nodes, put, ("loss", []), [tensor("W", normal(3, 2)), one]))
        for options in ("", "--micro-batch 2", "--micro-batch 1"):
            c.trains(name, "mse", ["W"], itself, 4, options=options, lr=0.02)
    nodes = [("Transpose", "x", "t", {"perm": [1, 0]}), ("MatMul", "W,t", "logits", {})]
    c.model("last", graph(nodes, X(3), ("logits", [4, "N"]), [tensor("W", normal(4, 3))]))
    for options in ("", "--micro-batch 2", "--micro-batch 1"):
        c.trains("last", "classes", ["W"], lambda o, y: F.cross_entropy(o.t(), y), 4, options=options)
    c.write()


def sparse(source):
    c = Case("sparse", "onnxruntime#5540, sklearn-onnx#310: a sparse_initializer is named: refused, or read as a dense one")
    copy(c, source, "18-sparse-initializer")
    file = onnx.load(str(TARGET / "sparse_m.onnx"))
    stored, dense = file.graph.sparse_initializer[0], np.zeros(12, np.float32)
    dense[numpy_helper.to_array(stored.indices)] = numpy_helper.to_array(stored.values)
    file.graph.initializer.append(tensor("Ws", dense.reshape(3, 4)))
    arrays = c.data("d", x=normal(7, 3), y=classes(7, 2))
    reference = Reference(file, arrays, ce, ["Ws", "V"])
    losses = reference.run(4, epochs=2)
    c.run("m", None, "--batch 4 --cost nominal", "plan").add("says sparse", "says Ws", "may refuse")
    c.run("m", "d.npz", "--batch 4 --epochs 2 --shuffle off --lr 0.1").add("says sparse", "says Ws", "may refuse")
    c.add(*[f"loss {i} {value:.12g}" for i, value in enumerate(losses)])
    change = (reference.parameters["V"].detach() - reference.before["V"]).reshape(-1)
    c.add("change V " + " ".join(f"{v:.9g}" for v in change))
    c.write()


class Rotary(torch.nn.Module):
    """Rotary embeddings: tables of cos and sin from integers, which the exporter folds."""

    def __init__(self, width, tokens):
        super().__init__()
        self.q, self.k, self.o = (torch.nn.Linear(width, width, bias=False) for _ in range(3))
        self.width, self.tokens = width, tokens

    def turn(self, x):
        half = self.width // 2
        angle = torch.outer(
            torch.arange(self.tokens, dtype=torch.float32), 1.0 / 100 ** (torch.arange(half, dtype=torch.float32) / half)
        )
        cos, sin = torch.cat([angle.cos()] * 2, -1), torch.cat([angle.sin()] * 2, -1)
        return x * cos.to(x.dtype) + torch.cat([-x[..., half:], x[..., :half]], -1) * sin.to(x.dtype)

    def forward(self, x):
        scores = torch.softmax(self.turn(self.q(x)) @ self.turn(self.k(x)).transpose(1, 2), -1)
        return self.o(scores @ x)


def tables(source):
    c = Case("tables", "onnxruntime#4099: tables of cos and sin are no parameters (a small network like the reported one)")
    torch.manual_seed(19)
    net = Rotary(6, 5)
    x = torch.from_numpy(normal(8, 5, 6))
    y = torch.from_numpy(classes(8, 6, 5))
    c.data("d", x=x.numpy(), y=y.numpy())
    wide = {k: v.clone() for k, v in net.state_dict().items()}
    for name, options in (
        (
            "dynamo",
            {
                "dynamo": True,
                "opset_version": 18,
                "dynamic_shapes": ({0: torch.export.Dim("batch")},),
                "external_data": False,
                "verbose": False,
            },
        ),
        (
            "torchscript",
            {
                "dynamo": False,
                "opset_version": 17,
                "dynamic_axes": {"x": {0: "batch"}, "out": {0: "batch"}},
                "training": torch.onnx.TrainingMode.TRAINING,
                "do_constant_folding": False,
            },
        ),
    ):
        with exporting.quiet():
            torch.onnx.export(
                net, (x[:4],), str(TARGET / f"tables_{name}.onnx"), input_names=["x"], output_names=["out"], **options
            )
        model = c.model(name, onnx.load(str(TARGET / f"tables_{name}.onnx")))
        found, missing = exporting.mapping(net, model)
        assert not missing, missing
        double = Rotary(6, 5)
        double.load_state_dict(wide)
        double.double()
        # the tables of the file are float32
        double.turn = lambda v: Rotary.turn(double, v)
        optimizer = torch.optim.SGD(double.parameters(), 0.1)
        losses = []
        for at in (0, 3, 6):
            optimizer.zero_grad()
            loss = last_ce(double(x[at : at + 3].double()), y[at : at + 3])
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        c.run(name, "d.npz", "--batch 3 --epochs 1 --shuffle off --lr 0.1").add(
            "exit 0", *[f"loss {i} {v:.12g}" for i, v in enumerate(losses)]
        )
        for parameter, (initializer, transposed) in found.items():
            change = (double.state_dict()[parameter] - wide[parameter].double()).numpy()
            c.add(f"change {initializer} " + " ".join(f"{v:.9g}" for v in (change.T if transposed else change).reshape(-1)))
        trained = {i for i, _ in found.values()}
        c.add(*[f"kept {t.name}" for t in model.graph.initializer if t.name not in trained])
        c.run(name, None, "--batch 4 --cost nominal --optimizer adam --json --loss mse", "plan").add(
            "exit 0", "number model.parameters 108"
        )
    c.write()


def csv(source):
    c = Case("csv", "fast-csv#131, node-csv-parse#284 and exports of spreadsheets: read right, or refused with the remedy")
    copy(c, source, "21-csv-quirks")
    words = "--batch 6 --steps 1 --lr 0 --shuffle off"
    right = "loss 0 0.897461 2e-6"
    for name in ("bom_crlf", "quoted", "spaces", "float_labels", "y_first", "blank_end"):
        c.run("m", f"{name}.csv", words).add("exit 0", right)
    for name in ("semicolon", "cr_only", "decimal_comma", "trailing_comma", "index", "named_index", "no_header", "utf16"):
        c.run("m", f"{name}.csv", words).add("may refuse", right)
    for name in ("empty_cell", "na"):
        c.refused(2, "m", f"{name}.csv", [f"{name}.csv", "x1"], words)
    model, text = onnx.load(str(TARGET / "csv_m.onnx")), (TARGET / "csv_blank_end.csv").read_text().split()
    cells = np.array([line.split(",") for line in text[1:]], dtype=np.float64).astype(np.float32)

    def loss(x, y):
        return Reference(model, {"x": x.astype(np.float32), "y": y.astype(np.int64)}, ce, []).run(6)[0]

    assert abs(loss(cells[:, :3], cells[:, 3]) - 0.897461) < 1e-6
    x = cells[:, :3].copy()
    x[:, 0] = 1234.5
    c.run("m", "thousands.csv", words).add("may refuse", f"loss 0 {loss(x, cells[:, 3]):.9g}")
    c.run("m", "named_index.csv", words + " --drop id").add("exit 0", right)
    c.run("m", "named_index.csv", words + " --features x0,x1,x2 --target y").add("exit 0", right)
    c.run("m", "y_first.csv", words + " --target y").add("exit 0", right)
    names = np.array(["no", "yes"])

    def sheet(name, header, rows, join=",", end="\n"):
        (TARGET / f"csv_{name}").write_text(end.join(join.join(row) for row in [header, *rows]) + end, newline="")

    rows = [line.split(",") for line in text[1:]]
    sheet("names.csv", ["x0", "x1", "x2", "y"], [row[:3] + [names[int(row[3])]] for row in rows])
    sheet("true.csv", ["x0", "x1", "x2", "y"], [row[:3] + [["False", "True"][int(row[3])]] for row in rows])
    sheet("tabs.tsv", ["x0", "x1", "x2", "y"], rows, "\t")
    sheet("outcome_first.csv", ["outcome", "x0", "x1", "x2"], [row[3:] + row[:3] for row in rows])
    sheet("twice.csv", ["x0", "x0", "x2", "y"], rows)
    for name in ("names.csv", "true.csv", "tabs.tsv"):
        c.run("m", name, words).add("exit 0", right)
    c.run("m", "outcome_first.csv", words + " --target outcome").add("exit 0", right)
    for name in ("outcome_first.csv", "twice.csv"):
        c.run("m", name, words).add("may refuse", right)
    (TARGET / "csv_class_names.csv").unlink()  # all of one class: it says nothing
    c.write()


def differences(source):
    def one(folder, name, names, loss, batch, remark, kept=(), options="", lr=0.1, epochs=2, extra=None, losses=None):
        c = Case(name, remark)
        c.model("m", onnx.load(str(source / folder / "model.onnx")))
        shutil.copyfile(source / folder / "data.npz", TARGET / f"{name}_d.npz")
        got = c.trains("m", "d", names, loss, batch, epochs=epochs, options=options, lr=lr, kept=kept)
        assert abs(got[0] - losses[0]) < 2e-6 * losses[0] and abs(got[1] - losses[1]) < 2e-5 * losses[1], (got, losses)
        if extra:
            extra(c)
        c.write()

    gemm = ["body.0.weight", "body.0.bias"]

    def group_norms(c):
        for name, module in (("affine_off", torch.nn.GroupNorm(2, 4, affine=False)), ("one_group", torch.nn.GroupNorm(1, 4))):
            exported(c, name, torch.nn.Sequential(torch.nn.Linear(4, 4), module, torch.nn.Linear(4, 2)))

    def layer_norms(c):
        exported(
            c,
            "plain",
            torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4, elementwise_affine=False), torch.nn.Linear(4, 2)),
        )
        exported(c, "no_bias", torch.nn.Sequential(torch.nn.LayerNorm(4, bias=False), torch.nn.ReLU(), torch.nn.Linear(4, 2)))
        exported(c, "both", torch.nn.Sequential(torch.nn.LayerNorm(4), torch.nn.Linear(4, 2)))

    def scalars(c):
        for name, f in (
            ("div", lambda m, x: m.f(x) / m.t),
            ("exp", lambda m, x: m.f(x) * torch.exp(m.t)),
            ("plus", lambda m, x: m.f(x) + m.t),
            ("rezero", lambda m, x: m.f(x + m.t * torch.tanh(x))),
        ):
            from networks import Fn

            exported(c, name, Fn(f, t=torch.nn.Parameter(torch.tensor([0.8])), f=torch.nn.Linear(4, 2)))

    one(
        "diff-01",
        "group_norm",
        gemm + ["body.1.weight", "body.1.bias", "body.2.weight", "body.2.bias"],
        mse,
        4,
        "GroupNorm: the exporter's constants of 1 and 0 are no parameters",
        extra=group_norms,
        losses=(0.6231107, 0.4483246),
    )
    one(
        "diff-02",
        "layer_norm",
        ["body.0.weight", "body.1.weight", "body.1.bias"],
        mse,
        4,
        "LayerNorm without bias or scale has none",
        extra=layer_norms,
        losses=(0.4893174, 0.3175987),
    )
    one(
        "diff-03",
        "mask_buffer",
        gemm + ["body.2.weight", "body.2.bias"],
        mse,
        4,
        "a mask that dynamo's file calls BUFFER",
        kept=["body.1.mask"],
        losses=(0.8908756, 0.6208802),
    )
    one(
        "diff-04",
        "scalar",
        ["body.t", "body.f.weight", "body.f.bias"],
        mse,
        4,
        "a parameter of one value is trained",
        extra=scalars,
        losses=(1.272296, 0.8073909),
    )
    one("diff-06", "lora", ["body.W", "body.A", "body.B"], mse, 4, "LoRA: W + B A", losses=(3.808096, 1.646551))
    one(
        "diff-08",
        "recognised",
        gemm,
        mse,
        8,
        "x clamped at 8 times sigmoid(x) is no SiLU",
        lr=0.001,
        extra=formulas,
        losses=(7.770796, 7.770785),
    )
    one(
        "diff-09",
        "across_samples",
        gemm + ["body.3.weight", "body.3.bias"],
        mse,
        4,
        "x - x.mean(0) in a last batch of three",
        epochs=1,
        extra=across,
        losses=(1.959214, 0.3380155),
    )
    one(
        "diff-12",
        "folded_weight",
        gemm + ["body.1.weight", "body.2.weight", "body.2.bias"],
        mse,
        4,
        "a weight of one value behind Unsqueeze is saved",
        extra=folded,
        losses=(0.9880112, 0.9685277),
    )
    c = Case("bfloat16", "a number that is cast to BFLOAT16; weights are saved in bfloat16, so that their change is not compared")
    c.model("m", onnx.load(str(source / "diff-13/model.onnx")))
    shutil.copyfile(source / "diff-13/data.npz", TARGET / "bfloat16_d.npz")
    losses = c.trains("m", "d", gemm + ["body.2.weight", "body.2.bias"], mse, 4, epochs=2, changes=False)
    assert abs(losses[0] - 1.772848) < 1e-5 and abs(losses[1] - 1.389982) < 1e-5, losses
    half = onnx.load(str(source / "diff-13/model.onnx"))
    text = half.SerializeToString()
    for t in half.graph.initializer:
        t.CopyFrom(numpy_helper.from_array(np.asarray(numpy_helper.to_array(t), np.float32).astype(np.float16), t.name))
    for value in [*half.graph.input, *half.graph.output, *half.graph.value_info]:
        if value.type.tensor_type.elem_type == TensorProto.BFLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    for node in half.graph.node:
        for a in node.attribute:
            if a.name == "to":
                a.i = TensorProto.FLOAT16
    c.model("float16", half)
    c.trains("float16", "d", gemm + ["body.2.weight", "body.2.bias"], mse, 4, epochs=2, changes=False)
    c.write()


def exported(c, name, net, rows=6, batch=4, shape=(4,), training=True):
    """A network of PyTorch by the TorchScript exporter, with the values of PyTorch's own modules in float64."""
    import copy as copies

    net.train()
    x = torch.from_numpy(normal(rows, *shape))
    y = torch.from_numpy(normal(*net(x).shape))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with exporting.quiet():
        torch.onnx.export(
            net,
            (x[:4],),
            str(TARGET / f"{c.name}_{name}.onnx"),
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            output_names=["out"],
            dynamic_axes={"x": {0: "N"}, "out": {0: "N"}},
            do_constant_folding=not training,
            training=torch.onnx.TrainingMode.TRAINING if training else torch.onnx.TrainingMode.EVAL,
        )
    net.load_state_dict(before)
    model = c.model(name, onnx.load(str(TARGET / f"{c.name}_{name}.onnx")))
    c.data(name, x=x.numpy(), y=y.numpy())
    found, missing = exporting.mapping(net, model)
    double = copies.deepcopy(net).double()
    optimizer, losses = torch.optim.SGD(double.parameters(), 0.1), []
    for _ in range(2):
        for at in range(0, rows, batch):
            optimizer.zero_grad()
            loss = mse(double(x[at : at + batch].double()), y[at : at + batch].double())
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    c.run(name, f"{name}.npz", f"--batch {batch} --epochs 2 --shuffle off --lr 0.1 --loss mse").add(
        "exit 0", *[f"loss {i} {v:.12g}" for i, v in enumerate(losses)]
    )
    parameters = dict(net.named_parameters())
    for parameter, (initializer, transposed) in found.items():
        if parameter in parameters:
            change = (double.state_dict()[parameter] - before[parameter].double()).numpy()
            c.add(f"change {initializer} " + " ".join(f"{v:.9g}" for v in (change.T if transposed else change).reshape(-1)))


def formulas(c):
    from networks import Fn

    rows = {
        "softsign10": lambda x: x / (1 + x.abs().clamp(max=10)),
        "mish10": lambda x: x.clamp(max=10) * torch.tanh(F.softplus(x)),
        "gelu_cut": lambda x: (0.5 * x * (1 + torch.erf(x * 0.7071067811865476))).clamp(max=9),
        "silu_low": lambda x: x.clamp(min=-8) * torch.sigmoid(x),
        "silu_narrow": lambda x: x.clamp(-0.01, 7.5) * torch.sigmoid(x),
        "gelu_like": lambda x: 0.5 * x * (1 + torch.erf(x * 0.7072)),
    }
    for name, f in rows.items():
        net = Fn(lambda m, x, f=f: f(m.f(x)), f=torch.nn.Linear(1, 1))
        with torch.no_grad():
            net.f.weight.fill_(1.0), net.f.bias.fill_(0.0)
        grown(c, name, net)


def grown(c, name, net):
    """The same with inputs far from zero."""
    global normal
    plain = normal
    normal = lambda *shape: np.where(np.arange(int(np.prod(shape))) % 2, 12, -11).reshape(shape).astype(np.float32) + plain(*shape)
    try:
        exported(c, name, Scaled(net), shape=(1,))
    finally:
        normal = plain


class Scaled(torch.nn.Module):
    """So that a step of 0.1 is not too long for inputs of 12."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x) * 0.05


def across(c):
    from networks import Fn

    for name, f in (
        ("softmax", lambda m, x: m.g(m.f(x) * torch.softmax(m.f(x), 0))),
        ("sum", lambda m, x: m.g(torch.relu(m.f(x)) + 0.1 * x.sum(0, keepdim=True))),
        ("gram", lambda m, x: m.g(m.f(x) + 0.1 * (x @ x.t()) @ m.f(x))),
    ):
        exported(c, name, Fn(f, f=torch.nn.Linear(4, 4), g=torch.nn.Linear(4, 2)), rows=7)
    exported(
        c,
        "batchnorm_tokens",
        Fn(
            lambda m, x: m.g(m.n(m.f(x).transpose(1, 2)).transpose(1, 2)),
            f=torch.nn.Linear(4, 4),
            n=torch.nn.BatchNorm1d(4),
            g=torch.nn.Linear(4, 2),
        ),
        rows=7,
        shape=(3, 4),
    )
    exported(
        c,
        "batchnorm_flat",
        Fn(
            lambda m, x: m.g(m.n(m.f(x).reshape(-1, 4)).reshape(-1, 3, 4)),
            f=torch.nn.Linear(4, 4),
            n=torch.nn.BatchNorm1d(4),
            g=torch.nn.Linear(4, 2),
        ),
        rows=7,
        shape=(3, 4),
    )


def folded(c):
    from networks import Fn

    exported(
        c,
        "one_by_one",
        torch.nn.Sequential(torch.nn.Linear(4, 1), torch.nn.Linear(1, 1, bias=False), torch.nn.PReLU()),
        shape=(3, 4),
    )
    exported(
        c,
        "transposed",
        Fn(lambda m, x: m.f(x) * m.w.t(), w=torch.nn.Parameter(torch.tensor([[0.7]])), f=torch.nn.Linear(4, 2, bias=False)),
    )
    exported(
        c,
        "reshaped",
        Fn(
            lambda m, x: m.f(x) * m.w.reshape(1, 1) + m.v.view(1, 2),
            w=torch.nn.Parameter(torch.tensor(0.7)),
            v=torch.nn.Parameter(torch.tensor([0.1, -0.2])),
            f=torch.nn.Linear(4, 2, bias=False),
        ),
    )


def main():
    source = pathlib.Path(sys.argv[1]) if len(sys.argv) == 2 else None
    if not source or not source.is_dir():
        sys.exit("usage: make_reports.py SOURCE, the folder of the reports")
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir()
    (TARGET / "VERSIONS").write_text(exporting.versions())
    torch.manual_seed(15)
    for make in (
        padded_rows,
        left_operand,
        derived_weight,
        buffers,
        masks,
        softmax_axis,
        ignored,
        integers,
        bce_tail,
        soft_labels,
        file_loss,
        sparse,
        tables,
        csv,
        differences,
        loss_parts,
    ):
        make(source)


if __name__ == "__main__":
    main()
