#!/usr/bin/env python3
"""Networks whose last batch is smaller, trained by PyTorch in float64: README.md says what the files are.

    make_last_batch.py            write everything
    make_last_batch.py --check    compare with fresh results within 1e-9; exit 1 if any differs
    make_last_batch.py --compare CKPTTRAIN [--batch 64]
                                  train the files of this repository with the program, for every R, and compare all weights;
                                  exit 1 if a tensor's change is off by more than 1e-3

Some networks come from torch.onnx.export as users have them; others are files of this repository, the bundled models among
them, which PyTorch runs node by node (onnx_in_torch.py) with the dropout of ONNX's reference implementation. Weights start at
float32 values, which the files hold, and an epoch of plain SGD over B + R samples in their order is two steps, the second of R
samples. Needs torch, onnx, numpy.
"""

import argparse
import io
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn as nn
import torch.nn.functional as F
from onnx import numpy_helper

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(HERE.parent))

from onnx_in_torch import OPS, parameters_of, train_step

BATCH, RATE, CLASSES, FEATURES = 4, 0.5, 3, 5


class BatchNorm(nn.Module):
    """PyTorch's layer refuses the statistics of one sample, its operator has them: a variance of 0."""

    sizes = (1, 2, 3)

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(FEATURES, 6), nn.BatchNorm1d(6), nn.Linear(6, CLASSES)

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.first(x))))


class Spatial(nn.Module):
    """Statistics over samples and positions, behind a Reshape and a Transpose."""

    sizes = (1, 2, 3)

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(FEATURES, 12), nn.BatchNorm1d(3), nn.Linear(12, CLASSES)

    def forward(self, x):
        h = self.first(x).reshape(-1, 4, 3).transpose(1, 2)
        return self.last(torch.tanh(self.norm(h)).flatten(1))


class Across(nn.Module):
    """Means, a softmax and products over the samples; numbers and constants that are made of the batch's size."""

    sizes = (1, 2, 3)

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(FEATURES, 6), nn.Linear(6, CLASSES)
        self.offset = nn.Parameter(torch.randn(6))

    def forward(self, x):
        h = torch.tanh(self.first(x)) + self.offset
        centred = h - h.mean(0)
        alike = torch.softmax(h @ h.transpose(0, 1), dim=-1)
        sums = torch.ones(x.shape[0], x.shape[0], dtype=x.dtype) @ h / x.shape[0]
        return self.last(centred * torch.softmax(h, dim=0) + alike @ h + sums)


class Poles(nn.Module):
    """Functions without a finite value or slope at 0, behind a product that a row of zeros would not move from there."""

    sizes = (1, 2, 3)

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(FEATURES, 6, bias=False), nn.Linear(24, CLASSES)

    def forward(self, x):
        size = self.first(x) ** 2
        return self.last(torch.cat([size.log(), size.sqrt(), 1 / (1 + 1 / size), size / size.sum(1, keepdim=True)], 1))


NETWORKS = {"batchnorm": BatchNorm, "spatial": Spatial, "across": Across, "poles": Poles}


def train(network, x, y, micro):
    """An epoch of SGD; a batch's gradient is that of the mean over its samples, in parts of `micro`."""
    network = network.double().train()
    F._verify_batch_size = lambda size: None  # what refuses one sample
    for begin in range(0, len(x), BATCH):
        end = min(begin + BATCH, len(x))
        network.zero_grad()
        for part in range(begin, end, micro):
            stop = min(part + micro, end)
            loss = F.cross_entropy(network(x[part:stop]), y[part:stop], reduction="sum") / (end - begin)
            loss.backward()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= RATE * parameter.grad
    return {name: parameter.detach().numpy() for name, parameter in network.named_parameters()}


def archive(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def serialized(array, name):
    return numpy_helper.from_array(array, name).SerializeToString(deterministic=True)


def make_exported(name):
    """{relative path: bytes}"""
    torch.manual_seed(len(name))
    network = NETWORKS[name]().float()
    if hasattr(network, "norm"):
        nn.init.uniform_(network.norm.weight, 0.5, 1.5)
        nn.init.uniform_(network.norm.bias, -0.5, 0.5)
    x, y = torch.randn(2 * BATCH - 1, FEATURES), torch.arange(2 * BATCH - 1) * 2 % CLASSES
    start = {key: value.clone() for key, value in network.state_dict().items()}
    files, file = {}, io.BytesIO()
    torch.onnx.export(network, (x[:BATCH],), file, input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "N"}, "y": {0: "N"}},
                      opset_version=17, dynamo=False, training=torch.onnx.TrainingMode.TRAINING, do_constant_folding=False)
    files[f"{name}/model.onnx"] = file.getvalue()
    cases = [(str(left), BATCH + left, BATCH) for left in network.sizes] + [("micro", 2 * BATCH - 1, 2)] * (name == "spatial")
    for folder, samples, micro in cases:
        network.load_state_dict(start)
        final = train(network, x[:samples].double(), y[:samples], micro)
        for i, (key, value) in enumerate(final.items()):
            files[f"{name}/{folder}/{i:02}.pb"] = serialized(value, key)
        files[f"{name}/data_{samples}.npz"] = archive(x=x[:samples].numpy(), y=y[:samples].numpy())
        network.float()
    return files


# -- files ----------------------------------------------------------------------------------------------------

SLOW = 2.0**-6  # the learning rate
FIRST = 420  # of the digits that are taken: behind it no Relu's input is so near 0 that rounding decides
SUMS = 8  # of a tensor's change, which are kept instead of its values
FILES = {  # network: (file, columns of the digits that are its x, loss)
    "mlp_checkpointed": ("models/mlp_checkpointed.onnx", slice(64), F.cross_entropy),
    "mlp_uniform64": ("models/mlp_uniform64.onnx", slice(16, 48), F.cross_entropy),
    "mlp_hourglass": ("models/mlp_hourglass.onnx", slice(64), F.mse_loss),
    "mlp_residual": ("models/mlp_residual.onnx", slice(64), F.cross_entropy),
    "mlp_prenorm_gelu": ("models/mlp_prenorm_gelu.onnx", slice(64), F.cross_entropy),
    "digits": ("models/digits.onnx", slice(64), lambda p, y: F.nll_loss(torch.log(p), y)),  # its output is a Softmax's
    "statistics": ("tests/golden/training/batchnorm_sgd/model.onnx", slice(26, 38), F.cross_entropy),
}


def dropped(attrs, x, ratio, training):
    """As in onnx/reference/ops/op_dropout.py, where the file has no seed with 0."""
    keep = np.random.RandomState(attrs.get("seed", 0)).uniform(0, 1, tuple(x.shape)) >= ratio.item()
    return x * torch.from_numpy(keep) / (1 - ratio)


OPS["Dropout"] = dropped


def signs(count):
    """(count, SUMS) of 1 and -1: high bits of a linear congruential generator, which the test in C runs too."""
    states = itertools.accumulate(range(count), lambda state, _: (state * 1664525 + 1013904223) % 2**32, initial=1)
    return 1.0 - 2 * (np.array(list(states))[1:, None] >> np.arange(32 - SUMS, 32) & 1)


def train_file(name, whole, left, nudge=0):
    """What is fed, and every tensor's change in two epochs of a batch of `whole` and one of `left`.

    nudge: the seed of relative changes of the first weights by at most 5e-7, or 0 for none."""
    path, columns, loss = FILES[name]
    graph, digits = onnx.load(ROOT / path).graph, np.load(ROOT / "models/digits_train.npz")
    classes = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    rows = slice(FIRST, FIRST + whole + left)
    x = digits["x"][rows, columns]
    y = x if loss is F.mse_loss else digits["y"][rows] % classes
    parameters = parameters_of(graph)
    random, most = np.random.RandomState(nudge), 5e-7 * (nudge > 0)
    for value in parameters.values():
        value.data *= torch.from_numpy(1 + random.uniform(-most, most, value.shape))
    start = {key: value.detach().clone() for key, value in parameters.items()}
    for batch in 2 * [slice(whole), slice(whole, None)]:
        target = torch.from_numpy(y[batch].astype(np.float64 if y is x else np.int64))
        train_step(graph, parameters, torch.from_numpy(x[batch].astype(np.float64)), lambda out: loss(out, target), SLOW)
    return archive(x=x, y=y), {key: (value.detach() - start[key]).numpy() for key, value in parameters.items()}


def make_file(name, whole=8):
    """{relative path: bytes}: data, and for each R the sums of every tensor's change."""
    files = {}
    for left in range(1, whole):
        files[f"{name}/data_{whole + left}.npz"], change = train_file(name, whole, left)
        files[f"{name}/{left}.pb"] = serialized(np.stack([c.flatten() @ signs(c.size) for c in change.values()]), name)
    return files


def train_here(program, name, whole, data):
    """Every tensor's change by the program, and its memory."""
    path = ROOT / FILES[name][0]
    tensors = lambda file: {t.name: numpy_helper.to_array(t).astype(np.float64) for t in onnx.load(file).graph.initializer}
    words = f"--data data.npz --batch {whole} --epochs 2 --lr {SLOW} --shuffle off --dropout-rng onnx-ref --device cpu --json"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "data.npz").write_bytes(data)
        run = subprocess.run([Path(program).resolve(), path, *words.split(), "--save", "last.onnx"], cwd=folder, capture_output=True, check=True)
        start, final = tensors(path), tensors(Path(folder, "last.onnx"))
    return {key: final[key] - start[key] for key in start}, json.loads(run.stdout)["memory"]


def compare(program, whole):
    """Trains every file with every last batch; false, and it is said, where that is not what PyTorch has.

    Where the input of a Relu is 0 but for rounding, float32 may be on the other side: then PyTorch must have these weights
    from a start that is nudged by at most 5e-7, some roundings of a float32."""
    off = lambda ours, change: max(np.linalg.norm(ours[k] - c) / np.linalg.norm(c) for k, c in change.items())
    fine = True
    for name in FILES:
        worst, nudged = 0, 0
        for left in range(1, whole):
            data, change = train_file(name, whole, left)
            ours, memory = train_here(program, name, whole, data)
            error, nudge = off(ours, change), 0
            while error > 1e-3 and nudge < 64:
                nudge += 1
                error = off(ours, train_file(name, whole, left, nudge)[1])
            worst, nudged = max(worst, error), nudged + (nudge > 0)
            fine = fine and error <= 1e-3 and memory["planned_peak"] == memory["measured_peak"]
        print(f"{name}: last batches of 1 to {whole - 1}: largest difference of a tensor's change {worst:.2g}, {nudged} nudged", flush=True)
    print("equal" if fine else "DIFFERENT, or planned and measured bytes are")
    return fine


# -- command line ---------------------------------------------------------------------------------------------


def differs(path, new):
    if not path.exists():
        return True
    a, b = (numpy_helper.to_array(onnx.TensorProto.FromString(data)) for data in (path.read_bytes(), new))
    return not np.allclose(a, b, rtol=1e-9, atol=1e-12)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--compare", metavar="CKPTTRAIN")
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    if options.compare:
        sys.exit(not compare(options.compare, options.batch))
    check, wrong = options.check, 0
    made = [make_exported(name) for name in NETWORKS] + [make_file(name) for name in FILES]
    for path, data in (item for files in made for item in files.items()):
        if check:
            wrong += path.endswith(".pb") and differs(HERE / path, data)
        else:
            (HERE / path).parent.mkdir(parents=True, exist_ok=True)
            (HERE / path).write_bytes(data)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
