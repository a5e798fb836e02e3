#!/usr/bin/env python3
"""Step time against PyTorch on the CPU: two live processes take turns at blocks of steps.

    bench/compare.py --bench build-release/bench/step_bench --python VENV/bin/python3 [--rounds 9]

Reports the median over rounds of (PyTorch's seconds) / (ours), each pair measured one after the other, and what
both keep. The other process sleeps meanwhile. `--python` is an interpreter that can import torch.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess

HERE = pathlib.Path(__file__).resolve().parent


class Peer:
    """A process that answers each line on its stdin with a line of JSON."""

    def __init__(self, command, threads):
        env = dict(os.environ, OMP_NUM_THREADS=str(threads))
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True, env=env)
        self.hello = json.loads(self.process.stdout.readline())

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def main():
    """Runs the comparison and prints one row of a Markdown table for each setup."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=2, help="in a block")
    parser.add_argument("--optimizer", action="append", choices=["sgd", "adam"])
    args = parser.parse_args()
    shape = ["--layers", str(args.layers), "--width", str(args.width), "--batch", str(args.batch),
             "--threads", str(args.threads), "--dropout", "0.1"]
    print("| optimizer | ckpt s/step | PyTorch s/step | PyTorch / ckpt (median, min-max) | saved bytes, PyTorch / ckpt |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for optimizer in args.optimizer or ["sgd", "adam"]:
        ours = Peer([args.bench, "serve", "--optimizer", optimizer] + shape, args.threads)
        torch = Peer([args.python, str(HERE / "peer" / "torch_mlp.py"), "--optimizer", optimizer] + shape, args.threads)
        for peer in (ours, torch):
            peer.ask("run 2")
        pairs = []
        for _ in range(args.rounds):
            a = ours.ask(f"run {args.steps}")["seconds"] / args.steps
            b = torch.ask(f"run {args.steps}")["seconds"] / args.steps
            pairs.append((a, b))
        kept = json.loads(subprocess.run([args.bench, "kept"] + shape, check=True, capture_output=True, text=True).stdout)
        saved = torch.ask("memory")["saved_bytes"]
        ratios = [b / a for a, b in pairs]
        print(f"| {optimizer} | {statistics.median(a for a, _ in pairs):.3f} | {statistics.median(b for _, b in pairs):.3f} "
              f"| {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) "
              f"| {saved / kept['kept_bytes']:.2f} |", flush=True)
        for peer in (ours, torch):
            peer.process.stdin.write("quit\n")
            peer.process.stdin.close()
            peer.process.wait()
    print(f"\nPyTorch {torch.hello['torch']}, {args.threads} threads, {args.layers} layers of width {args.width}, "
          f"batch {args.batch}, {args.rounds} rounds of {args.steps} steps.")


if __name__ == "__main__":
    main()
