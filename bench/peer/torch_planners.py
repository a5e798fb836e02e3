#!/usr/bin/env python3
"""What PyTorch's own planners make of a chain, beside ckptplan's plans.

    torch_planners.py --ckptplan build-release/src/cli/ckptplan MODEL.onnx:BATCH...

Peers: the min-cut partitioner of torch.compile with activation_memory_budget from 0 to 1, and
torch.utils.checkpoint.checkpoint_sequential. A row each:

    peak       the most bytes of tensors that are there at once in a step (parameters, gradients, data and all)
    recompute  arithmetic of matrix products beyond that of a step without recomputation, as a share of that
    planning   seconds in the partitioner
    ckptplan   the smallest planned total (which is measured to the byte when it runs) with no more recomputation; planning
               is the whole program, reading the model and reporting included

Ends with whether larger budgets ever made the peak or the recomputation larger. SGD, fp32, the CPU. Both partitions of
the compiled step run as they are, without code generation, so that bytes are those of the partitioner's graph.
"""

import argparse
import json
import math
import subprocess
import sys
import time

import torch
import torch._functorch.config as functorch_config
from functorch.compile import min_cut_rematerialization_partition
from torch._dynamo.backends.common import aot_autograd
from torch.utils.checkpoint import checkpoint_sequential

import torch_mlp

BUDGETS = [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
PRODUCTS = {torch.ops.aten.mm.default: (0, 1), torch.ops.aten.addmm.default: (1, 2), torch.ops.aten.bmm.default: (0, 1)}


def product_flops(module):
    """Multiplications and additions of the matrix products in a graph."""
    flops = 0
    for node in module.graph.nodes:
        if node.target in PRODUCTS:
            a, b = (node.args[i].meta["val"].shape for i in PRODUCTS[node.target])
            flops += 2 * math.prod(a) * b[-1]
    return flops


class Sequential(torch.nn.Module):
    """The blocks; in segments by checkpoint_sequential where that is asked for."""

    def __init__(self, blocks, segments=0):
        super().__init__()
        self.blocks, self.segments = torch.nn.Sequential(*blocks), segments

    def forward(self, x):
        if not self.segments:
            return self.blocks(x)
        return checkpoint_sequential(self.blocks, self.segments, x, use_reentrant=False)


def trainer_of(path, batch, network_of):
    args = torch_mlp.parse_arguments(["--model", str(path), "--batch", str(batch), "--lr", "0.01"])
    trainer = torch_mlp.Trainer(args)
    blocks = [block for segment in trainer.network.segments for block in segment] + [trainer.network.head]
    trainer.network = network_of(blocks)
    for _ in range(2):
        trainer.step()
    return trainer


def partitioned(path, batch, budget):
    """Peak, recomputation and planning time of the min-cut partitioner under a budget."""
    seen = {"seconds": 0.0}

    def partition(joint, joint_inputs, **options):
        start = time.perf_counter()
        forward, backward = min_cut_rematerialization_partition(joint, joint_inputs, **options)
        seen["seconds"] += time.perf_counter() - start
        seen["joint"] = product_flops(joint)
        seen["parts"] = product_flops(forward) + product_flops(backward)
        return forward, backward

    def as_it_is(module, _):
        def call(arguments):  # boxed: what the backward pass has used is given up, as compiled code does
            return torch.fx.Interpreter(module).boxed_run(arguments)

        call._boxed_call = True
        return call

    torch._dynamo.reset()
    with functorch_config.patch(activation_memory_budget=budget):
        backend = aot_autograd(fw_compiler=as_it_is, bw_compiler=as_it_is, partition_fn=partition)
        trainer = trainer_of(path, batch, lambda blocks: torch.compile(Sequential(blocks), backend=backend, fullgraph=True))
    return trainer.peak_bytes(), seen["parts"] / seen["joint"] - 1, seen["seconds"]


def sequential(path, batch, segments):
    """The same of checkpoint_sequential, which has nothing to plan; products counted as they run."""
    from torch.utils.flop_counter import FlopCounterMode

    def flops(trainer):
        with FlopCounterMode(display=False) as counter:
            trainer.step()
        return counter.get_total_flops()

    plain = trainer_of(path, batch, Sequential)
    trainer = trainer_of(path, batch, lambda blocks: Sequential(blocks, segments))
    return trainer.peak_bytes(), flops(trainer) / flops(plain) - 1, 0.0


class Ckptplan:
    """The frontier of a model's plans, and what the plan for a budget takes to make."""

    def __init__(self, program, path, batch):
        self.command = [program, path, "--device", "cpu", "--cost", "flops", "--batch", str(batch), "--json"]
        self.points = self.ask("--frontier")["points"]

    def ask(self, *options):
        return json.loads(subprocess.run([*self.command, *options], capture_output=True, text=True, check=True).stdout)

    def within(self, recompute):
        """Smallest total with no more recomputation, that recomputation, and seconds of `ckptplan --budget TOTAL`."""
        point = min((p for p in self.points if p["recompute_fraction"] <= recompute + 1e-9), key=lambda p: p["total"])
        start = time.perf_counter()
        plan = self.ask("--budget", str(point["total"]))
        return plan["memory"]["total"], plan["compute"]["recompute_fraction"], time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckptplan", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("models", nargs="+", metavar="MODEL.onnx:BATCH")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"PyTorch {torch.__version__}\n")
    print("| model | planner | peak MiB | recompute | planning s | ckptplan MiB | recompute | planning s |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for item in args.models:
        path, batch = item.rsplit(":", 1)
        name, batch = path.rsplit("/", 1)[-1].removesuffix(".onnx"), int(batch)
        blocks = len(torch_mlp.onnx_mlp(path))
        own = Ckptplan(args.ckptplan, path, batch)
        settings = [(f"partitioner {b:g}", partitioned, b) for b in BUDGETS]
        settings += [("eager, no planner", sequential, 0)]
        settings += [(f"checkpoint_sequential {s}", sequential, s)
                     for s in sorted({2, 4, round(math.sqrt(blocks)), blocks // 2}) if 1 < s <= blocks]
        found = []
        for label, run, value in settings:
            peak, again, seconds = run(path, batch, value)
            total, share, own_seconds = own.within(again)
            found.append((run, value, peak, again))
            print(f"| {name} | {label} | {peak / 2**20:.2f} | {100 * again:.1f} % | {seconds:.3f} | {total / 2**20:.2f} | "
                  f"{100 * share:.1f} % | {own_seconds:.3f} |", flush=True)
        budgets = [row for row in found if row[0] is partitioned]
        larger = [(a[1], b[1], a[2] / b[2]) for a in budgets for b in budgets if a[1] < b[1] and a[2] > b[2]]
        more = [(a[1], b[1]) for a in budgets for b in budgets if a[1] < b[1] and b[3] > a[3] + 1e-9]
        say = f"| {name} | partitioner, smaller budget but larger peak: {len(larger)} of {len(budgets) * (len(budgets) - 1) // 2} pairs"
        if larger:
            low, high, ratio = max(larger, key=lambda x: x[2])
            say += f", worst {low:g} against {high:g}: {ratio:.2f} times"
        print(f"{say}; larger budget but more recomputation: {len(more)} | | | | | | |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
