#!/usr/bin/env python3
"""PyTorch CPU peer of the benchmarks: an MLP trained in blocks of steps on request.

The network is --layers hidden layers Linear(width, width) + activation + dropout and a linear head of
--classes outputs, or with --model the same kind of chain read from an ONNX file (Gemm, pointwise activation,
Dropout; a final Softmax is folded into the loss). Data is fixed, random and resident. One step is
zero_grad(set_to_none=True), forward, loss, backward, optimizer step.

Protocol: one JSON line on stdout for the start and for each line read from stdin.

    (start)   {"ready": true, "torch": "...", ...}
    run N     {"seconds": ..., "steps": N, "loss": ...}       loss of the last step
    memory    {"saved_bytes": ..., "peak_bytes": ..., ...}    see measure_memory; runs two steps
    quit      (exit)
    anything else, or a failed command: {"error": "..."}

The first steps are slower (allocation, kernel choice): run a few before timing.
"""

import argparse
import json
import math
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

ACTIVATIONS = {
    "relu": nn.ReLU,
    "leakyrelu": nn.LeakyReLU,
    "elu": nn.ELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


# -- network --------------------------------------------------------------------------------------------------


def uniform_mlp(args):
    """Blocks of the network that the options describe: one nn.Sequential a layer."""
    features, blocks = args.features or args.width, []
    for _ in range(args.layers):
        parts = [nn.Linear(features, args.width), ACTIVATIONS[args.activation]()]
        if args.dropout > 0:
            parts.append(nn.Dropout(args.dropout))
        blocks.append(nn.Sequential(*parts))
        features = args.width
    return blocks + [nn.Sequential(nn.Linear(features, args.classes))]


def onnx_mlp(path):
    """Blocks of a chain read from an ONNX file, with its weights; ValueError for anything but such a chain."""
    import onnx
    from onnx import helper, numpy_helper

    graph = onnx.load(path).graph
    constants = {p.name: numpy_helper.to_array(p) for p in graph.initializer}
    blocks, last = [], graph.input[0].name
    for node in graph.node:
        attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(attrs["value"])
            continue
        if node.input[0] != last:
            raise ValueError(f"{path}: node '{node.name}' does not continue the chain")
        last = node.output[0]
        if node.op_type == "Gemm":
            if attrs.get("transA", 0) or attrs.get("alpha", 1.0) != 1 or attrs.get("beta", 1.0) != 1:
                raise ValueError(f"{path}: node '{node.name}' is not a linear layer")
            weight = torch.tensor(constants[node.input[1]])
            weight = weight if attrs.get("transB", 0) else weight.T.contiguous()
            has_bias = len(node.input) > 2
            layer = nn.Linear(weight.shape[1], weight.shape[0], bias=has_bias)
            layer.weight.data = weight
            if has_bias:
                layer.bias.data = torch.tensor(constants[node.input[2]])
            blocks.append([layer])
        elif not blocks:
            raise ValueError(f"{path}: node '{node.name}' comes before the first linear layer")
        elif node.op_type == "Dropout":
            ratio = float(constants[node.input[1]]) if len(node.input) > 1 and node.input[1] else 0.5
            blocks[-1].append(nn.Dropout(ratio))
        elif node.op_type == "LeakyRelu":
            blocks[-1].append(nn.LeakyReLU(attrs.get("alpha", 0.01)))
        elif node.op_type == "Elu":
            blocks[-1].append(nn.ELU(attrs.get("alpha", 1.0)))
        elif node.op_type == "Gelu":
            blocks[-1].append(nn.GELU(attrs.get("approximate", b"none").decode()))
        elif node.op_type == "Softmax" and last == graph.output[0].name:
            continue  # cross_entropy takes logits
        elif node.op_type in ("Relu", "Sigmoid", "Tanh", "Softplus"):
            blocks[-1].append(ACTIVATIONS[node.op_type.lower()]())
        else:
            raise ValueError(f"{path}: node '{node.name}' ({node.op_type}) is not known to this peer")
    return [nn.Sequential(*block) for block in blocks]


class Network(nn.Module):
    """The blocks in order, the hidden ones checkpointed in ``segments`` runs of equal length if it is not 0.

    Every hidden block is then in a segment: only the segments' inputs are kept. The head is not recomputed.
    """

    def __init__(self, blocks, segments):
        super().__init__()
        self.head = blocks[-1]
        hidden = blocks[:-1]
        per_segment = math.ceil(len(hidden) / segments) if segments else max(len(hidden), 1)
        self.segments = nn.ModuleList(
            nn.Sequential(*hidden[i : i + per_segment]) for i in range(0, len(hidden), per_segment)
        )
        self.recompute = bool(segments)

    def forward(self, x):
        for segment in self.segments:
            x = checkpoint(segment, x, use_reentrant=False) if self.recompute else segment(x)
        return self.head(x)


# -- training -------------------------------------------------------------------------------------------------


class Trainer:
    """Network, data and optimizer; ``step`` is what is timed."""

    def __init__(self, args):
        torch.manual_seed(args.seed)
        blocks = onnx_mlp(args.model) if args.model else uniform_mlp(args)
        self.network = Network(blocks, args.checkpoint)
        self.parameters = list(self.network.parameters())
        features, outputs = blocks[0][0].in_features, blocks[-1][0].out_features
        self.x = torch.randn(args.batch, features)
        if args.loss == "ce":
            self.target, self.loss = torch.randint(outputs, (args.batch,)), F.cross_entropy
        else:
            self.target, self.loss = torch.randn(args.batch, outputs), F.mse_loss
        options = {"lr": args.lr, **({"fused": True} if args.fused else {})}
        if args.optimizer == "adam":
            self.optimizer = torch.optim.Adam(self.parameters, **options)
        else:
            self.optimizer = torch.optim.SGD(self.parameters, **options)

    def step(self):
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.network(self.x), self.target)
        loss.backward()
        self.optimizer.step()
        return loss

    def run(self, steps):
        start = time.perf_counter()
        for _ in range(steps):
            loss = self.step()
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "steps": steps, "loss": loss.item()}

    # -- memory

    def resident_bytes(self):
        """Parameters, optimizer state and data: what lives between steps (gradients do not)."""
        state = [v for s in self.optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
        sizes = {
            "parameter_bytes": storage_bytes(self.parameters),
            "optimizer_bytes": storage_bytes(state),
            "data_bytes": storage_bytes([self.x, self.target]),
        }
        return sizes, sum(sizes.values())

    def saved_bytes(self):
        """Bytes that autograd keeps after the forward pass: unique storages, without parameters and data.

        With checkpointing, the tensors inside a segment are not kept and so not counted; its input is.
        """
        known = {storage_key(t) for t in [*self.parameters, self.x, self.target]}
        kept = {}

        def pack(tensor):
            if storage_key(tensor) not in known:
                kept[storage_key(tensor)] = tensor  # holding it keeps its address from being used again
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = self.loss(self.network(self.x), self.target)
        del loss
        return storage_bytes(kept.values())

    def peak_bytes(self):
        """Largest sum of tensor bytes during one step, by the allocator's record of allocations and frees.

        Library scratch that does not come from PyTorch's allocator is not in it.
        """
        self.optimizer.zero_grad(set_to_none=True)
        activities = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
            loss = self.step()
            del loss
        events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
        level = highest = 0
        for event in sorted(events, key=lambda e: e.start_ns()):
            level += event.nbytes()
            highest = max(highest, level)
        return self.resident_bytes()[1] + highest

    def measure_memory(self):
        """All of the above, in bytes, and the process's highest resident set."""
        self.step()  # the optimizer's state exists from the first step on
        resident, _ = self.resident_bytes()
        saved, peak = self.saved_bytes(), self.peak_bytes()
        return {"saved_bytes": saved, "peak_bytes": peak, **resident, "peak_rss_bytes": peak_rss_bytes()}


def storage_key(tensor):
    return tensor.untyped_storage().data_ptr()


def storage_bytes(tensors):
    """Bytes of the distinct storages behind ``tensors``."""
    return sum({storage_key(t): t.untyped_storage().nbytes() for t in tensors}.values())


def peak_rss_bytes():
    """VmHWM of this process (Linux), or None."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None


# -- command line ---------------------------------------------------------------------------------------------


def checkpoint_segments(text):
    """`none` -> 0, `segments:K` -> K."""
    if text == "none":
        return 0
    kind, _, count = text.partition(":")
    if kind != "segments" or not count.isdigit() or int(count) < 1:
        raise argparse.ArgumentTypeError("expected none or segments:K with K at least 1")
    return int(count)


def parse_arguments():
    parser = argparse.ArgumentParser(description="PyTorch CPU peer, controlled by lines on stdin.")
    parser.add_argument("--layers", type=int, default=16, help="hidden layers; a linear head follows")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--features", type=int, help="input width (default: --width)")
    parser.add_argument("--classes", type=int, default=10, help="outputs of the head")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--activation", choices=sorted(ACTIVATIONS), default="relu")
    parser.add_argument("--loss", choices=["ce", "mse"], default="ce")
    parser.add_argument("--optimizer", choices=["sgd", "adam"], default="sgd")
    parser.add_argument("--fused", action="store_true", help="PyTorch's fused optimizer kernels")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoint", type=checkpoint_segments, default=0, metavar="none|segments:K")
    parser.add_argument("--model", metavar="MODEL.onnx", help="read the network from here")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def answer(trainer, words):
    """The reply to one command line, as a dict."""
    if words[0] == "run" and len(words) == 2 and words[1].isdigit() and int(words[1]) > 0:
        return trainer.run(int(words[1]))
    if words == ["memory"]:
        return trainer.measure_memory()
    return {"error": f"unknown command: {' '.join(words)}"}


def main():
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    torch.set_num_interop_threads(1)
    say = lambda reply: print(json.dumps(reply), flush=True)
    try:
        trainer = Trainer(args)
    except (OSError, ValueError) as error:
        say({"ready": False, "error": str(error)})
        return 1
    count = sum(p.numel() for p in trainer.parameters)
    say({"ready": True, "torch": torch.__version__, "threads": torch.get_num_threads(), "parameters": count})
    for line in sys.stdin:
        words = line.split()
        if words == ["quit"]:
            break
        if words:
            try:
                say(answer(trainer, words))
            except RuntimeError as error:
                say({"error": str(error)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
