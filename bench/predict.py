#!/usr/bin/env python3
"""Step times as predicted from a profile against those measured, over models and strategies.

    predict.py [--build build-release] [--steps 300] [--rounds 3] [--threads N] [MODEL:BATCH ...]

A round measures the model's nodes once, in a cache folder of its own, and then runs every strategy under it with
`ckpttrain --profile`. A row is the round in the middle by its error. Ends with how many rows are within 5%. Exit status 1 when a plan's measured peak is not the planned one.
"""
import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DEFAULT = ["digits:64", "digits:1024", "mlp_checkpointed:1024", "mlp_uniform64:256", "mlp_uniform64:2048",
           "mlp_hourglass:1024", "mlp_residual:1024", "mlp_prenorm_gelu:1024"]
STRATEGIES = ["none", "sqrt", "selective", "min"]


def run(program, model, batch, options, environment):
    path = model if model.endswith(".onnx") else os.path.join(ROOT, "models", model + ".onnx")
    done = subprocess.run([program, path, "--device", "cpu", "--batch", batch, "--json", *options], capture_output=True,
                          text=True, env=environment)
    if done.returncode:
        sys.exit(done.stderr.strip())
    return json.loads(done.stdout)


def processor_seconds(train, model, batch, options, predicted, environment):
    """Of a step: what a longer run takes beyond a shorter one, of the processor."""
    spent, few, many = [], 4, 4 + max(8, int(0.5 / predicted))
    for steps in (few, many):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        run(train, model, batch, [*options, "--steps", str(steps)], environment)
        spent.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)
    return (spent[1] - spent[0]) / (many - few)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build-release")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--busy", action="store_true", help="for a machine with other work: steps of a millisecond and more, "
                        "which are interrupted, are told by processor time where that is less; needs --threads 1")
    parser.add_argument("models", nargs="*", default=DEFAULT)
    args = parser.parse_args()
    folder = os.path.join(ROOT, args.build, "src", "cli")
    plan, train = os.path.join(folder, "ckptplan"), os.path.join(folder, "ckpttrain")
    threads = ["--threads", str(args.threads)] if args.threads else []
    good = rows = 0
    print("| model | batch | strategy | recomputed nodes | predicted ms | measured ms | off by |")
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: |")
    for item in args.models or DEFAULT:
        model, batch = item.rsplit(":", 1)
        found = {}
        for _ in range(args.rounds):  # a new profile each round, so that a machine that changes pace is seen to
            with tempfile.TemporaryDirectory() as cache:
                environment = dict(os.environ, XDG_CACHE_HOME=cache)
                memory = run(plan, model, batch, ["--cost", "flops"], environment)["memory"]
                half = (memory["store_all_total"] + memory["minimum_total"]) // 2
                for label, strategy in [(s, ["--strategy", s]) for s in STRATEGIES] + [("budget, half way", ["--budget", str(half)])]:
                    done = run(train, model, batch, ["--profile", "--steps", str(args.steps), *strategy, *threads], environment)
                    if done["memory"]["planned_peak"] != done["memory"]["measured_peak"]:
                        sys.exit(f"{item} {strategy}: the measured peak is not the planned one")
                    times = done["step_seconds"]
                    if args.busy and times["predicted"] >= 1e-3:
                        times["measured"] = min(times["measured"], processor_seconds(
                            train, model, batch, ["--profile", *strategy, *threads], times["predicted"], environment))
                    found.setdefault(label, []).append(
                        (times["predicted"] / times["measured"] - 1, times["predicted"], times["measured"],
                         done["recomputed_nodes_per_step"]))
        for label, values in found.items():
            off, predicted, measured, nodes = sorted(values)[len(values) // 2]
            rows += 1
            good += abs(off) <= 0.05
            print(f"| {model} | {batch} | {label} | {nodes} | {1e3 * predicted:.4g} | {1e3 * measured:.4g} | {100 * off:+.1f} % |",
                  flush=True)
    print(f"\n{good} of {rows} within 5 %")


if __name__ == "__main__":
    main()
