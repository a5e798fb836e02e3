#!/usr/bin/env python3
"""Step time and memory against PyTorch on the same device: two live processes take turns at blocks of steps.

    bench/compare.py --bench build-release/bench/step_bench --python VENV/bin/python3 [--rounds 9]
    bench/compare.py --bench build-cuda/bench/step_bench --python python3 --device cuda --size launch-256 --size 1024 \\
        --precision fp32 --precision tf32 --mode all --results rows.jsonl --limit 500

One row for each size, precision and PyTorch mode: the median over rounds of (PyTorch's seconds) / (ours), each pair
measured one after the other while the other process sleeps, and the memory of both. A time counts only where both
lose as much: with the same weights and batch and without dropout step by step, and with dropout, where masks differ,
on average. What does not run is a row with the reason. `--python` is an interpreter that can import torch.

With --results, finished rows are kept in that file and not measured again, and no row is begun after --limit seconds:
the same command again goes on. Exit status: 0 all rows are there, 1 a loss curve differs, 3 rows are left.
"""

import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import compare_report

HERE = pathlib.Path(__file__).resolve().parent

SIZES = {  # layers, width, batch
    "launch-256": (16, 256, 128),
    "launch-512": (16, 512, 128),
    "1024": (16, 1024, 8192),
    "4096": (16, 4096, 8192),
    "8192": (8, 8192, 8192),
}
MODES = {  # in the order in which they are measured: those that figures are taken from first
    "eager": ["--mode", "eager"],
    "compile-reduce-overhead": ["--mode", "compile-reduce-overhead"],
    "checkpoint_sequential": ["--checkpoint"],  # and sequential:K; ours then runs under its peak as a budget
    "compile-max-autotune": ["--mode", "compile-max-autotune"],
    "cudagraph": ["--mode", "cudagraph"],
    "compile": ["--mode", "compile"],
    "compile-budget-1": ["--mode", "compile", "--activation-budget", "1"],
    "compile-budget-.75": ["--mode", "compile", "--activation-budget", ".75"],
    "compile-budget-.5": ["--mode", "compile", "--activation-budget", ".5"],
    "compile-budget-.25": ["--mode", "compile", "--activation-budget", ".25"],
}
CURVE_STEPS = 12
# Of the first loss. Without dropout: a step's rounding, grown over CURVE_STEPS. With: noise of masks, on the mean.
CURVE_TOLERANCE = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 2e-2}
MASK_TOLERANCE = 0.1
LEARNING_RATE = {"sgd": 0.01, "adam": 1e-4}  # so that the loss falls smoothly, and by far more than these tolerances


class PeerError(Exception):
    """A process that refused, failed or ended."""


class Peer:
    """A process that answers each line on its stdin with a line of JSON."""

    def __init__(self, command, threads):
        self.process = None
        self.used_before = device_used_bytes()
        self.errors = tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace")
        env = dict(os.environ, OMP_NUM_THREADS=str(threads))
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                        text=True, env=env)
        try:
            self.hello = self.read()
        except PeerError:
            self.close()
            raise

    def read(self):
        """The next line of JSON; what a library prints between is passed over."""
        reply = None
        while not isinstance(reply, dict):
            line = self.process.stdout.readline()
            if not line:
                self.errors.seek(0)
                last = self.errors.read().strip().splitlines()
                raise PeerError(f"ended with status {self.process.wait()}: {last[-1] if last else 'no message'}")
            try:
                reply = json.loads(line)
            except ValueError:
                continue
        if "error" in reply:
            raise PeerError(reply["error"].splitlines()[0])
        return reply

    def ask(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # read says why
        return self.read()

    def memory(self):
        """Its own answer; device_process_bytes: what the driver has less than before the process began, or None."""
        sizes, now = self.ask("memory"), device_used_bytes()
        sizes["device_process_bytes"] = now - self.used_before if now is not None and self.used_before is not None else None
        return sizes

    def close(self):
        if not self.process:
            return
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()
        self.process = None


def device_used_bytes():
    """Of the GPU's memory, by nvidia-smi; None where there is none. Nobody else may use the device meanwhile."""
    try:
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        lines = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()
        return int(lines[0]) << 20
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
        return None


class Comparison:
    """What the command line asked for; ``measure`` gives one row."""

    def __init__(self, args):
        self.args, self.curves = args, {}

    def size(self, name):
        a = self.args
        return SIZES[name] if name in SIZES else (a.layers, a.width, a.batch)

    def shape(self, name, precision, optimizer, dropout):
        layers, width, batch = self.size(name)
        a = self.args
        return ["--layers", str(layers), "--width", str(width), "--batch", str(batch), "--threads", str(a.threads),
                "--optimizer", optimizer, "--lr", str(LEARNING_RATE[optimizer] if a.lr is None else a.lr), "--dropout", str(dropout), "--device", a.device,
                "--precision", precision]

    def ours(self, shape, budget=None):
        return Peer([self.args.bench, "serve", *shape, *(["--budget", str(budget)] if budget else [])], self.args.threads)

    def torch(self, shape, mode, layers):
        options = list(MODES[mode])
        if mode == "checkpoint_sequential":
            options.append(f"sequential:{max(2, round(math.sqrt(layers)))}")
        if self.args.device == "cuda":
            options.append("--fused")
        return Peer([self.args.python, str(HERE / "peer" / "torch_mlp.py"), *shape, *options], self.args.threads)

    def curve_difference(self, name, precision, optimizer):
        """Largest difference of the losses of CURVE_STEPS steps without dropout, over the first loss; PeerError where
        they are not the same or do not move, which would show nothing."""
        key = (name, precision, optimizer)
        if key not in self.curves:
            shape, curves = self.shape(name, precision, optimizer, 0), []
            for start in (lambda: self.ours(shape), lambda: self.torch(shape, "eager", self.size(name)[0])):
                peer = start()
                try:
                    curves.append(peer.ask(f"losses {CURVE_STEPS}")["losses"])
                finally:
                    peer.close()
            self.curves[key] = curves
        return self.judge(*self.curves[key], CURVE_TOLERANCE[precision])

    @staticmethod
    def judge(a, b, tolerance):
        worst = max(abs(x - y) for x, y in zip(a, b)) / a[0]
        moved = abs(a[0] - a[-1]) / a[0]
        if not worst <= tolerance:
            raise PeerError(f"loss curves differ by {worst:.2g} of the first loss: {a[0]:.5g}..{a[-1]:.5g} here, "
                            f"{b[0]:.5g}..{b[-1]:.5g} PyTorch")
        if not moved > 3 * tolerance:
            raise PeerError(f"the loss moved by {moved:.2g} of itself only, too little to compare; --lr is larger steps")
        return worst

    def measure(self, name, precision, optimizer, mode):
        """A row of results; one with "failed" where a process refused or the curves differ."""
        row = {"size": name, "shape": self.size(name), "precision": precision, "optimizer": optimizer, "mode": mode,
               "device": self.args.device}
        peers = {}
        try:
            row["curve"] = self.curve_difference(name, precision, optimizer)
            shape = self.shape(name, precision, optimizer, self.args.dropout)
            self.fill(row, peers, shape, mode)
        except PeerError as error:
            side = "" if len(peers) == 2 or not peers else f" (beside {', '.join(peers)})"
            row["failed"] = str(error) + side
        finally:
            for peer in peers.values():
                peer.close()
        return row

    def fill(self, row, peers, shape, mode):
        def start_torch(row):
            peers["PyTorch"] = self.torch(shape, mode, row["shape"][0])
            row["torch"], row["torch_device"] = peers["PyTorch"].hello["torch"], peers["PyTorch"].hello["device"]
            row["torch_losses"] = peers["PyTorch"].ask(f"losses {CURVE_STEPS}")["losses"]
            row["torch_memory"] = peers["PyTorch"].memory()
            peers["PyTorch"].ask("run 3")

        def start_ours(row, budget):
            peers["ckpt"] = self.ours(shape, budget)
            row["ckpt"] = peers["ckpt"].hello["ckpt"]
            row["ckpt_losses"] = peers["ckpt"].ask(f"losses {CURVE_STEPS}")["losses"]
            row["ckpt_memory"] = peers["ckpt"].memory()
            peers["ckpt"].ask("run 3")

        if mode == "checkpoint_sequential":
            start_torch(row)
            start_ours(row, row["torch_memory"]["peak_bytes"])
        else:
            start_ours(row, None)
            start_torch(row)
        half = CURVE_STEPS // 2
        means = [statistics.mean(row[key][half:]) for key in ("ckpt_losses", "torch_losses")]
        row["masked_curve"] = abs(means[0] - means[1]) / row["ckpt_losses"][0]
        if not row["masked_curve"] <= MASK_TOLERANCE:
            raise PeerError(f"mean losses with dropout differ: {means[0]:.4g} here, {means[1]:.4g} PyTorch")
        if mode in ("eager", "compile") and row["shape"][1] >= 1024 and self.args.device == "cuda":
            row["product_flops_per_second"] = peers["PyTorch"].ask("product")["flops_per_second"]
        self.time(row, peers["ckpt"], peers["PyTorch"])

    def time(self, row, ours, torch):
        """Pairs in alternating order; blocks of each side's own length, --block seconds or --steps."""
        steps = {}
        for peer in (ours, torch):
            steps[peer] = self.args.steps or max(1, math.ceil(self.args.block / (peer.ask("run 5")["seconds"] / 5)))
        pairs = []
        for i in range(self.args.rounds):
            spent = {}
            for peer in (ours, torch) if i % 2 == 0 else (torch, ours):
                spent[peer] = peer.ask(f"run {steps[peer]}")["seconds"] / steps[peer]
            pairs.append((spent[ours], spent[torch]))
        row["pairs"] = pairs


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", help="step_bench")
    parser.add_argument("--python")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--size", action="append", choices=[*SIZES, "custom"], help="custom: --layers, --width, --batch")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--precision", action="append", choices=list(CURVE_TOLERANCE))
    parser.add_argument("--mode", action="append", choices=[*MODES, "all"])
    parser.add_argument("--optimizer", action="append", choices=["sgd", "adam"])
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--lr", type=float, help=f"default: {LEARNING_RATE}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, help="in a block; else as many as take --block seconds")
    parser.add_argument("--block", type=float, default=0.3, help="seconds")
    parser.add_argument("--results", metavar="FILE.jsonl")
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds after which no row is begun")
    parser.add_argument("--report", action="store_true", help="only print the tables of --results")
    args = parser.parse_args()
    if args.report and not args.results or not args.report and not (args.bench and args.python):
        parser.error("--report needs --results, a measurement --bench and --python")
    return args


def row_key(row):
    return tuple(row[k] for k in ("device", "size", "precision", "optimizer", "mode")) + tuple(row["shape"])


def read_rows(path):
    """Rows of a results file; none where there is no file yet."""
    if not path or not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def main():
    """Runs the comparison and prints its tables (compare_report)."""
    args = parse_arguments()
    rows, start, left = read_rows(args.results), time.monotonic(), 0
    comparison = Comparison(args)
    modes = args.mode or ["eager"]
    cases = [] if args.report else [
        (size, precision, optimizer, mode) for mode in (MODES if "all" in modes else modes)
        for size in args.size or ["custom"] for precision in args.precision or ["fp32"] for optimizer in args.optimizer or ["sgd"]]
    done = {row_key(row) for row in rows}
    for case in cases:
        probe = dict(zip(("size", "precision", "optimizer", "mode"), case), device=args.device, shape=comparison.size(case[0]))
        if row_key(probe) in done:
            continue
        if time.monotonic() - start > args.limit:
            left += 1
            continue
        print(f"compare: {', '.join(case)}", file=sys.stderr, flush=True)
        rows.append(comparison.measure(*case))
        if args.results:
            with open(args.results, "a", encoding="utf-8") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    print(compare_report.tables(rows))
    if left:
        print(f"\n{left} rows are left; the same command goes on with them.")
        return 3
    return 1 if any("losses differ" in row.get("failed", "") or "curves differ" in row.get("failed", "") for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
