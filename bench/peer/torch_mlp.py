#!/usr/bin/env python3
"""PyTorch peer of the benchmarks, on the CPU or a GPU: an MLP trained in blocks of steps on request.

The network is --layers hidden layers Linear(width, width) + activation + dropout and a linear head of
--classes outputs, or with --model the same kind of chain read from an ONNX file (Gemm, pointwise activation,
Dropout; a final Softmax is folded into the loss). Data is fixed, random and resident; without --model, it and the
weights are the numbers of bench/step_bench.c. One step is zero_grad(set_to_none=True), forward, loss, backward,
optimizer step. --mode says how it runs: eager; cudagraph, the whole step recorded once with torch.cuda.CUDAGraph;
compile, compile-reduce-overhead and compile-max-autotune, forward and loss through torch.compile.

Protocol: one JSON line on stdout for the start and for each line read from stdin.

    (start)   {"ready": true, "torch": "...", ...}
    run N     {"seconds": ..., "steps": N, "loss": ...}       until the loss of the last step has been read
    losses N  {"losses": [...]}                               of N steps
    memory    {"saved_bytes": ..., "peak_bytes": ..., ...}    see measure_memory; runs two steps
    product   {"flops_per_second": ...}                       of a matrix product of the network's shape, at its precision
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
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

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


MODES = ["eager", "cudagraph", "compile", "compile-reduce-overhead", "compile-max-autotune"]

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


def rule_numbers(count, seed, device):
    """``count`` numbers in [-1, 1) by the linear congruential rule of step_bench.c (Numerical Recipes' constants).

    Element i is a**(i + 1) * seed' + c_i modulo 2**32, where a run of known elements gives the next one as long.
    """
    state = torch.zeros(count, dtype=torch.int64, device=device)
    factor, term, mask = 1664525, 1013904223, (1 << 32) - 1
    state[0] = (factor * (seed * 2654435761 & mask) + term) & mask
    known = 1
    while known < count:
        size = min(known, count - known)
        state[known : known + size] = (state[:size] * factor + term) & mask
        term, factor, known = (term * factor + term) & mask, factor * factor & mask, known + size
    return (state - ((state >> 31) << 32)).float() / 2147483648.0


def fill_by_rule(parameters, device):
    """As step_bench's fill: parameter k in the order of the layers draws from seed k + 1."""
    for k, parameter in enumerate(parameters):
        scale = 2.4 / math.sqrt(parameter.shape[1]) if parameter.dim() == 2 else 0.01
        with torch.no_grad():
            parameter.copy_((rule_numbers(parameter.numel(), k + 1, device) * scale).view_as(parameter))


class SequentialNetwork(nn.Module):
    """torch.utils.checkpoint.checkpoint_sequential over the blocks: its last segment, with the head, is kept."""

    def __init__(self, blocks, segments):
        super().__init__()
        self.blocks, self.count = nn.Sequential(*blocks), segments

    def forward(self, x):
        return checkpoint_sequential(self.blocks, self.count, x, use_reentrant=False)


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
    """Network, data and optimizer; ``step`` is what is timed, and gives a loss that the next step may overwrite."""

    def __init__(self, args):
        torch.manual_seed(args.seed)
        self.args, self.device = args, torch.device(args.device)
        self.cuda = self.device.type == "cuda"
        if args.precision == "tf32":
            if not self.cuda:
                raise ValueError("tf32 products are for --device cuda")
            torch.set_float32_matmul_precision("high")
        if args.mode == "cudagraph" and not self.cuda:
            raise ValueError("--mode cudagraph is for --device cuda")
        blocks = onnx_mlp(args.model) if args.model else uniform_mlp(args)
        kind, segments = args.checkpoint
        network = SequentialNetwork(blocks, segments) if kind == "sequential" else Network(blocks, segments)
        self.network = network.to(self.device)
        self.parameters = list(block_parameters(blocks))
        features, outputs = blocks[0][0].in_features, blocks[-1][0].out_features
        self.make_data(features, outputs)
        self.forward_loss = self.compiled() if args.mode.startswith("compile") else self.plain_loss
        options = {"lr": args.lr, **({"fused": True} if args.fused else {})}
        if args.optimizer == "adam":
            capturable = {"capturable": True} if args.mode == "cudagraph" else {}
            self.optimizer = torch.optim.Adam(self.parameters, **options, **capturable)
        else:
            self.optimizer = torch.optim.SGD(self.parameters, **options)
        self.graph, self.graph_loss, self.graph_peak = None, None, 0

    def make_data(self, features, outputs):
        """Input and target; the rule's numbers unless the network comes from a file."""
        args = self.args
        if not args.model:
            fill_by_rule(self.parameters, self.device)
            self.x = rule_numbers(args.batch * features, 1 << 20, self.device).view(args.batch, features)
        else:
            self.x = torch.randn(args.batch, features, device=self.device)
        if args.loss == "mse":
            self.target, self.loss = torch.randn(args.batch, outputs, device=self.device), F.mse_loss
        else:
            classes = (rule_numbers(args.batch, (1 << 20) + 1, self.device) + 1) * 0.499 * outputs
            self.target, self.loss = classes.long(), F.cross_entropy

    def plain_loss(self, x, target):
        if self.args.precision != "bf16":
            return self.loss(self.network(x), target)
        with torch.autocast(self.device.type, torch.bfloat16):  # fp32 parameters, products in bf16
            return self.loss(self.network(x), target)

    def compiled(self):
        mode = self.args.mode.removeprefix("compile").removeprefix("-") or "default"
        if self.args.activation_budget is not None:
            from torch._functorch import config

            config.activation_memory_budget = self.args.activation_budget
        return torch.compile(self.plain_loss, mode=mode)

    def work(self):
        loss = self.forward_loss(self.x, self.target)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def record(self):
        """The step as one CUDA graph, after warm-up on a side stream as PyTorch's documentation asks for."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.optimizer.zero_grad(set_to_none=True)
                self.work()
        torch.cuda.current_stream().wait_stream(side)
        self.optimizer.zero_grad(set_to_none=True)
        torch.cuda.reset_peak_memory_stats()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.graph_loss = self.work()
        self.graph_peak = torch.cuda.max_memory_allocated()

    def step(self):
        if self.args.mode == "cudagraph":
            if not self.graph:
                self.record()
            self.graph.replay()
            return self.graph_loss
        if self.args.mode in ("compile-reduce-overhead", "compile-max-autotune"):
            torch.compiler.cudagraph_mark_step_begin()
        self.optimizer.zero_grad(set_to_none=True)
        return self.work()

    def run(self, steps):
        start = time.perf_counter()
        for _ in range(steps):
            loss = self.step()
        value = loss.item()  # waits for all of it
        return {"seconds": time.perf_counter() - start, "steps": steps, "loss": value}

    def product(self):
        """Rate of batch x width x width alone, operands of random numbers: the median of nine blocks."""
        kind = torch.bfloat16 if self.args.precision == "bf16" else torch.float32
        width = self.args.width
        a, b = (torch.randn(n, width, device=self.device).to(kind) for n in (self.args.batch, width))
        out = torch.empty(self.args.batch, width, device=self.device, dtype=kind)
        flops, times = 2 * self.args.batch * width * width, []
        for _ in range(11):
            self.wait()
            start = time.perf_counter()
            for _ in range(10):
                torch.mm(a, b.t(), out=out)
            self.wait()
            times.append((time.perf_counter() - start) / 10)
        return {"flops_per_second": flops / sorted(times[2:])[4]}

    def wait(self):
        if self.cuda:
            torch.cuda.synchronize()

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
            loss = self.forward_loss(self.x, self.target)
        del loss
        return storage_bytes(kept.values())

    def peak_bytes(self):
        """Largest sum of tensor bytes during one step, by the allocator's record of allocations and frees.

        Library scratch that does not come from PyTorch's allocator is not in it. On a GPU PyTorch keeps that count
        itself (max_memory_allocated); a recorded step's is that of its recording.
        """
        self.optimizer.zero_grad(set_to_none=True)
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            self.step()
            self.wait()
            return max(torch.cuda.max_memory_allocated(), self.graph_peak)
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
        """All of the above, in bytes, the process's highest resident set, and what the driver counts on a GPU.

        Before anything else of it is run: hooks on saved tensors make a compiled network compile again. They see
        nothing of a recorded step, and what a compiled one keeps for itself.
        """
        self.step()  # the optimizer's state exists from the first step on
        resident, _ = self.resident_bytes()
        sizes = {"peak_bytes": self.peak_bytes(), **resident, "peak_rss_bytes": peak_rss_bytes()}
        if self.cuda:
            free, total = torch.cuda.mem_get_info()
            sizes |= {"reserved_bytes": torch.cuda.max_memory_reserved(), "used_bytes": total - free}
        if self.args.mode in ("eager", "compile"):
            sizes["saved_bytes"] = self.saved_bytes()
        return sizes


def block_parameters(blocks):
    """Weight, bias, weight, ... in the order of the layers."""
    for block in blocks:
        yield from block.parameters()


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
    """`none` -> (none, 0), `segments:K` -> (segments, K), `sequential:K` -> (sequential, K)."""
    kind, _, count = text.partition(":")
    if text == "none":
        return "none", 0
    if kind not in ("segments", "sequential") or not count.isdigit() or int(count) < 1:
        raise argparse.ArgumentTypeError("expected none, segments:K or sequential:K with K at least 1")
    return kind, int(count)


def parse_arguments(words=None):
    """Of the command line, or of `words`."""
    parser = argparse.ArgumentParser(description="PyTorch peer, controlled by lines on stdin.")
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
    parser.add_argument("--checkpoint", type=checkpoint_segments, default=("none", 0), metavar="none|segments:K|sequential:K")
    parser.add_argument("--model", metavar="MODEL.onnx", help="read the network from here")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["fp32", "tf32", "bf16"], default="fp32", help="bf16: by autocast")
    parser.add_argument("--mode", choices=MODES, default="eager")
    parser.add_argument("--activation-budget", type=float, help="activation_memory_budget of torch.compile")
    return parser.parse_args(words)


def answer(trainer, words):
    """The reply to one command line, as a dict."""
    if words[0] == "run" and len(words) == 2 and words[1].isdigit() and int(words[1]) > 0:
        return trainer.run(int(words[1]))
    if words[0] == "losses" and len(words) == 2 and words[1].isdigit():
        return {"losses": [trainer.step().item() for _ in range(int(words[1]))]}
    if words == ["memory"]:
        return trainer.measure_memory()
    if words == ["product"]:
        return trainer.product()
    return {"error": f"unknown command: {' '.join(words)}"}


def main():
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    torch.set_num_interop_threads(1)
    say = lambda reply: print(json.dumps(reply), flush=True)
    try:
        trainer = Trainer(args)
    except (OSError, ValueError, RuntimeError, AssertionError) as error:  # the last: PyTorch without CUDA
        say({"ready": False, "error": str(error)})
        return 1
    count = sum(p.numel() for p in trainer.parameters)
    name = torch.cuda.get_device_name() if trainer.cuda else "cpu"
    say({"ready": True, "torch": torch.__version__, "threads": torch.get_num_threads(), "parameters": count, "device": name})
    for line in sys.stdin:
        words = line.split()
        if words == ["quit"]:
            break
        if words:
            try:
                say(answer(trainer, words))
            except Exception as error:  # a compiler's failure has many types
                say({"error": f"{type(error).__name__}: {error}"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
