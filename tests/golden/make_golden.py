#!/usr/bin/env python3
"""Make the golden data of this folder with PyTorch in float64, or check it; README.md says what the files are.

    make_golden.py                   write everything
    make_golden.py CASE...           write these cases and their lines of cases.txt, and touch nothing else
    make_golden.py --check [CASE...] compare with fresh results: float64 within 1e-9, all else exactly; exit 1 if any differs

A CASE is a line's folder in cases.txt (ops/relu), or the last part of it (relu). All cases are computed whatever is asked
for, because their inputs come from shared streams of random numbers.

Inputs are float32 and stored; every result is computed from exactly those values in float64 by running the
ONNX graph, node by node, in PyTorch (onnx_in_torch.py). Each model's output is also compared with onnx's own
reference evaluator before it is written. Needs torch, onnx, numpy.
"""

import argparse
import difflib
import io
import platform
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, numpy_helper

from golden_files import Output, agree_with_reference, make_model, normal
from golden_losses import make_terms
from golden_operators import make_bounded, make_operators
from golden_tier import make_tier
from onnx_in_torch import forward, parameters_of, train_step

HERE = Path(__file__).resolve().parent
MODELS = HERE.parents[1] / "models"

LOSSES = {  # all are means: over samples for ce and nll, over elements for bce and mse
    "ce": lambda logits, target: F.cross_entropy(logits, target),
    "bce": lambda logits, target: F.binary_cross_entropy_with_logits(logits, target),
    "mse": lambda output, target: F.mse_loss(output, target),
    "nll": lambda log_probabilities, target: F.nll_loss(log_probabilities, target),
}


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
    "nesterov": (torch.optim.SGD, {"lr": 2.0**-4, "momentum": 0.9, "nesterov": True}),
    "adagrad": (torch.optim.Adagrad, {"lr": 2.0**-4, "eps": 1e-10}),
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


def normalized_model(random):
    """12 -> 8 -> 5 with BatchNormalization and Relu between; its running statistics are outputs too."""
    floats = lambda name, array: numpy_helper.from_array(array.astype(np.float32), name)
    initializers = [
        floats("fc1.weight", random.standard_normal((8, 12)) * 0.4),
        floats("bn.weight", 1 + 0.3 * random.standard_normal(8)),
        floats("bn.bias", 0.3 * random.standard_normal(8)),
        floats("bn.running_mean", 0.2 * random.standard_normal(8)),
        floats("bn.running_var", 1 + 0.2 * random.random_sample(8)),
        floats("fc2.weight", random.standard_normal((5, 8)) * 0.5),
        floats("fc2.bias", 0.1 * random.standard_normal(5)),
    ]
    bn = ["h", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]
    nodes = [
        ("Gemm", ["x", "fc1.weight"], ["h"], {"transB": 1}),
        ("BatchNormalization", bn, ["n", "mean_out", "var_out"], {"training_mode": 1, "momentum": 0.8}),
        ("Relu", ["n"], ["r"], {}),
        ("Gemm", ["r", "fc2.weight", "fc2.bias"], ["logits"], {"transB": 1}),
    ]
    return make_model("mlp_batchnorm", nodes, {"x": ["batch", 12]}, {"logits": ["batch", 5]}, initializers)


def single_values_model(random):
    """Weights of one value behind nodes that only move them, as exporters write PReLU and Linear(1, 1)."""
    floats = lambda name, array: numpy_helper.from_array(np.asarray(array, np.float32), name)
    shape = lambda name, *dims: numpy_helper.from_array(np.array(dims, np.int64), name)
    initializers = [
        floats("fc1.weight", random.standard_normal((8, 12)) * 0.4),
        floats("prelu.weight", [0.3]),
        floats("one.weight", [[0.8]]),
        floats("one.bias", [-0.1]),
        floats("fc2.weight", random.standard_normal((5, 8)) * 0.5),
        shape("row", 1, 1), shape("column", 0, 8, 1), shape("flat", 0, 8), shape("three", 1, 1, 1),
    ]
    nodes = [
        ("Gemm", ["x", "fc1.weight"], ["h"], {"transB": 1}),
        ("Reshape", ["prelu.weight", "row"], ["slope"], {}),
        ("PRelu", ["h", "slope"], ["p"], {}),
        ("Reshape", ["p", "column"], ["c"], {}),
        ("Transpose", ["one.weight"], ["w"], {"perm": [1, 0]}),
        ("MatMul", ["c", "w"], ["m"], {}),
        ("Reshape", ["one.bias", "three"], ["b"], {}),
        ("Add", ["m", "b"], ["a"], {}),
        ("Reshape", ["a", "flat"], ["f"], {}),
        ("Gemm", ["f", "fc2.weight"], ["logits"], {"transB": 1}),
    ]
    model = make_model("mlp_single_values", nodes, {"x": ["batch", 12]}, {"logits": ["batch", 5]}, initializers)
    model.producer_name = "pytorch"
    return model


def make_training(out, name, model, random, steps=3, batch=7):
    """training/NAME: SGD steps on consecutive batches: loss of each, weights and running statistics at the end."""
    x = normal(random, steps * batch, 12)
    target = random.randint(0, 5, steps * batch).astype(np.int64)
    parameters = parameters_of(model.graph)
    rate, losses = 2.0**-4, []
    for step in range(steps):
        rows = slice(step * batch, (step + 1) * batch)
        loss_of = lambda y: F.cross_entropy(y, torch.from_numpy(target[rows]))
        y, loss = train_step(model.graph, parameters, torch.from_numpy(x[rows].astype(np.float64)), loss_of, rate)
        if step == 0:
            agree_with_reference(model, {"x": x[rows]}, y)
        losses.append(loss)

    folder = f"training/{name}"
    out.model(f"{folder}/model.onnx", model)
    out.tensor(f"{folder}/input_0.pb", x, "x")
    out.tensor(f"{folder}/target_0.pb", target, "target")
    out.tensor(f"{folder}/losses.pb", torch.stack(losses), "losses")
    for i, (name, leaf) in enumerate(parameters.items()):
        out.tensor(f"{folder}/final_{i:03}.pb", leaf, name)
    data = io.BytesIO()
    np.savez(data, x=x, y=target)
    out.files[f"{folder}/data.npz"] = data.getvalue()
    settings = {"batch": batch, "steps": steps, "optimizer": "sgd", "lr": rate, "shuffle": "off"}
    out.files[f"{folder}/options.txt"] = "".join(f"{k} {v}\n" for k, v in settings.items()).encode()
    out.case(folder, 1, "ce")


# -- command line ---------------------------------------------------------------------------------------------


def make_all():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    out = Output()
    make_operators(out)
    make_tier(out)
    make_losses(out)
    make_terms(out)
    make_optimizers(out)
    make_model_gradients(out)
    for name, make, seed in ("mlp_sgd", training_model, 500), ("batchnorm_sgd", normalized_model, 600), ("single_values_sgd", single_values_model, 700):
        random = np.random.RandomState(seed)
        make_training(out, name, make(random), random)
    make_bounded(out)
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


def chosen_folders(files, words):
    """The folders of cases.txt that the words name, each once; ends the program at a word that names none."""
    folders = [line.split()[0] for line in files["cases.txt"].decode().splitlines()]
    chosen = []
    for word in words:
        found = [f for f in folders if word.rstrip("/") in (f, f.split("/")[-1])]
        if not found:
            near = difflib.get_close_matches(word, folders + [f.split("/")[-1] for f in folders], 3)
            sys.exit(f"make_golden.py: there is no case '{word}' in cases.txt" + (f"; nearest: {', '.join(near)}" if near else ""))
        chosen += [f for f in found if f not in chosen]
    return chosen


def check(files, folders):
    """Names every file of the folders that is missing, different or left over; 1 if there is one."""
    wrong = []
    for path, fresh in files.items():
        if not (HERE / path).exists():
            wrong.append(f"{path}: missing")
        elif not same(path, (HERE / path).read_bytes(), fresh):
            wrong.append(f"{path}: DIFFERS")
    for path in sorted(p for folder in folders for p in (HERE / folder).rglob("*") if p.is_file()):
        if str(path.relative_to(HERE)) not in files:
            wrong.append(f"{path.relative_to(HERE)}: not made by this script")
    print("\n".join(wrong) or f"{len(files)} files as expected")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description="Make or check the golden data of this folder.")
    parser.add_argument("--check", action="store_true", help="compare committed files with fresh results")
    parser.add_argument("case", nargs="*", help="a case of cases.txt; all of them where none is named")
    args = parser.parse_args()
    files = make_all()
    if args.case:
        folders = chosen_folders(files, args.case)
        files = {p: content for p, content in files.items() if p == "cases.txt" or str(Path(p).parent) in folders}
    else:
        folders = sorted({p.split("/")[0] for p in files if "/" in p})
    if args.check:
        return check(files, folders)
    if not args.case:
        files["VERSIONS.txt"] = versions()
    for path, content in files.items():
        (HERE / path).parent.mkdir(parents=True, exist_ok=True)
        (HERE / path).write_bytes(content)
    print(f"{len(files)} files, {sum(map(len, files.values()))} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
