#!/usr/bin/env python3
"""Networks whose last batch is smaller, trained by PyTorch in float64: README.md says what the files are.

    make_last_batch.py            write everything
    make_last_batch.py --check    compare with fresh results within 1e-9; exit 1 if any differs

The networks come from torch.onnx.export as users have them. Weights start at float32 values, which the files hold, and an
epoch of plain SGD over 4 + R samples in their order is two steps, the second of R samples. Needs torch, onnx, numpy.
"""

import argparse
import io
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn as nn
import torch.nn.functional as F
from onnx import numpy_helper

HERE = Path(__file__).resolve().parent
BATCH, RATE, CLASSES, FEATURES = 4, 0.5, 3, 5


class BatchNorm(nn.Module):
    """PyTorch refuses its statistics of one sample."""

    sizes = (2, 3)

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


def make(name):
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
            files[f"{name}/{folder}/{i:02}.pb"] = numpy_helper.from_array(value, key).SerializeToString(deterministic=True)
        file = io.BytesIO()
        np.savez(file, x=x[:samples].numpy(), y=y[:samples].numpy())
        files[f"{name}/data_{samples}.npz"] = file.getvalue()
        network.float()
    return files


def differs(path, new):
    if not path.exists():
        return True
    a, b = (numpy_helper.to_array(onnx.TensorProto.FromString(data)) for data in (path.read_bytes(), new))
    return not np.allclose(a, b, rtol=1e-9, atol=1e-12)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    check, wrong = parser.parse_args().check, 0
    for name in NETWORKS:
        for path, data in make(name).items():
            if check:
                wrong += path.endswith(".pb") and differs(HERE / path, data)
            else:
                (HERE / path).parent.mkdir(parents=True, exist_ok=True)
                (HERE / path).write_bytes(data)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
