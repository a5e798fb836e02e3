#!/usr/bin/env python3
"""Trains random networks with ckpttrain and with PyTorch, and compares.

    tests/differential/differential.py BUILD/src/cli/ckpttrain [--count N] [--seed S] [--jobs J] [--failures DIR]
    tests/differential/differential.py CKPTTRAIN --seed 17 --count 1 --minimise
    tests/differential/differential.py --write tests/differential/cases --count 60      # the set that CTest runs, no ckpttrain

A network (networks.py) is exported by one of PyTorch's two exporters, trained a few steps by PyTorch in float64 and by ckpttrain
under two plans. Compared are the first loss (relative 1e-5), the change of every parameter (relative 1e-3), everything that is no
parameter bit for bit, the two plans' weights, planned with measured bytes, and what onnxruntime computes from the saved file.
A refusal is a failure. Not counted are networks that an exporter cannot write and those that single precision cannot decide.
Each failure is one line with its seed, and a folder with model, data, command and what was expected. Exit status 1 if any failed.
Ctrl-C ends a run with the counts so far.
"""

import argparse
import collections
import json
import multiprocessing
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

try:
    import numpy as np
    import onnx
    import onnxruntime
    import torch
except ImportError as error:
    print(f"{sys.executable} has no {error.name}: needed are torch, onnx, onnxscript, onnxruntime and numpy", file=sys.stderr)
    sys.exit(77)

import exporting
import networks
import reference

LOSS_ERROR, CHANGE_ERROR, OUTPUT_ERROR = 1e-5, 1e-3, 2e-4
# Operators that ckpttrain plans and does not train yet, or does not have: a refusal that names one is counted, and no failure.
NEXT_TIER = {
    "Equal",
    "Gather",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ScatterND",
    "Sign",
    "Trilu",
    "Where",
}


class Difference(Exception):
    """kind: one word; text: what differs."""

    def __init__(self, kind, text):
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class Skipped(Exception):
    pass


class NextTier(Exception):
    """ckpttrain says that it does not have the operator, or plans it and does not train it yet."""


def session(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model), options, providers=["CPUExecutionProvider"]
    )


def has_batch_norm(net):
    return any(isinstance(m, torch.nn.BatchNorm1d) for m in net.modules())


def compute(net, spec, arrays, dtype):
    inputs = [torch.from_numpy(arrays["x"]).to(dtype)]
    if spec["loss"] == "output":
        second = torch.from_numpy(arrays["y"])
        inputs.append(second.to(dtype) if second.is_floating_point() else second)
    with torch.no_grad():
        return net(*inputs).double().numpy()


def feed(spec, arrays):
    return {"x": arrays["x"]} | ({"y": arrays["y"]} if spec["loss"] == "output" else {})


class Case:
    """A network with its file, its data, and what PyTorch says."""

    def __init__(self, spec, folder):
        self.spec, self.folder = spec, pathlib.Path(folder)
        self.net = networks.build(spec)
        if not any(p.requires_grad for p in self.net.parameters()):
            raise Skipped("nothing to train")
        self.arrays = networks.data(spec, self.net)
        if has_batch_norm(self.net) and not self.net.tokens and self.spec["samples"] % self.spec["batch"] == 1:
            raise Skipped("a last batch of one sample, which PyTorch's BatchNorm refuses")
        self.exact = reference.train(spec, self.net, self.arrays)
        single = reference.train(spec, self.net, self.arrays, torch.float32)
        why = reference.unfit(spec, self.net, self.exact, single)
        if why:
            raise Skipped(why)
        self.rounding = reference.rounding(self.exact, single)
        self.model = exporting.strip(exporting.export(spec, self.net, self.arrays, str(self.folder / "model.onnx")))
        onnx.save(self.model, str(self.folder / "model.onnx"))
        self.check_export()
        self.found, self.missing = exporting.mapping(self.net, self.model)
        self.folded = [n for n in self.missing if not self.is_merged(n) and self.matters(n)] + self.made_by_folding()
        np.savez(self.folder / "data.npz", **{k: v for k, v in self.arrays.items() if k != "class_weights"})
        if "class_weights" in self.arrays:
            np.save(self.folder / "class_weights.npy", self.arrays["class_weights"])
        (self.folder / "spec.json").write_text(json.dumps(spec, indent=1) + "\n")

    def check_export(self):
        norms = sum(isinstance(m, torch.nn.BatchNorm1d) for m in self.net.modules())
        if norms:  # onnxruntime does not run them in training
            if sum(node.op_type == "BatchNormalization" for node in self.model.graph.node) < norms:
                raise exporting.Failed("the exporter folded a BatchNorm away")
            return
        try:
            got = session(self.model).run(None, feed(self.spec, self.arrays))[0]
        except Exception as error:
            raise exporting.Failed(f"onnxruntime: {str(error).splitlines()[0][:100]}")
        want = compute(self.net, self.spec, self.arrays, torch.float32)
        if got.shape != want.shape or not np.allclose(got, want, rtol=1e-4, atol=1e-4, equal_nan=True):
            raise exporting.Failed("the file does not compute what the network does")

    def made_by_folding(self):
        """Initializers that the TorchScript exporter computed from weights: in the file they are weights of their own."""
        mapped = {i for i, _ in self.found.values()}
        return [
            t.name
            for t in self.model.graph.initializer
            if self.spec["export"].get("fold")
            and t.name.startswith("onnx::")
            and t.name not in mapped
            and t.data_type == onnx.TensorProto.FLOAT
        ]

    def is_merged(self, name):
        return exporting.merged(self.net, name)

    def matters(self, name):
        parameters = dict(self.net.named_parameters())
        return name in parameters and parameters[name].requires_grad and self.exact.gradients.get(name, 0) > 0

    def parameters(self):
        return {n: p for n, p in self.net.named_parameters()}

    def frozen(self):
        """What ckpttrain has to be told about: parameters without a gradient, by their own name where the exporter wrote one
        tensor for several, and buffers that nothing in a TorchScript file tells from parameters."""
        parameters, names = self.parameters(), []
        names += [n for n in self.missing if n in parameters and not parameters[n].requires_grad and self.is_merged(n)]
        for name, (initializer, _) in self.found.items():
            if name in parameters and not parameters[name].requires_grad:
                names.append(initializer)
            elif name not in parameters and "running_" not in name and self.spec["export"]["by"] == "torchscript":
                value = self.net.state_dict()[name].numpy()
                if not np.all(np.isin(value, (0, 1))) and not np.all((value == 0) | (value <= -1e4)):
                    names.append(initializer)
        return names

    def arguments(self, folder):
        s = self.spec
        words = [
            "--data",
            f"{folder}/data.npz",
            "--batch",
            str(s["batch"]),
            "--epochs",
            str(s["epochs"]),
            "--shuffle",
            "off",
            "--optimizer",
            s["optimizer"],
            "--lr",
            f"{reference.RATES[s['optimizer']]:g}",
        ]
        if s["say_loss"] and s["loss"] != "output":
            words += ["--loss", s["loss"]]
        if s["micro"]:
            words += ["--micro-batch", str(s["micro"])]
        if s["ignore"] not in (None, -100):
            words += ["--ignore-index", str(s["ignore"])]
        if s["smoothing"]:
            words += ["--label-smoothing", f"{s['smoothing']:g}"]
        if s["class_weights"]:
            words += ["--class-weights", f"{folder}/class_weights.npy"]
        frozen = self.frozen()
        if frozen:
            words += ["--freeze", ",".join(frozen)]
        return words

    def changes(self):
        """{initializer: (before, the change that PyTorch makes)} of everything that is trained and has a place in the file."""
        before, after = reference.doubles(self.net.state_dict()), reference.doubles(self.exact.net.state_dict())
        held, parameters, out = exporting.values(self.model), self.parameters(), {}
        for name, (initializer, transposed) in self.found.items():
            if name in parameters and parameters[name].requires_grad:
                change = after[name] - before[name]
                out[initializer] = held[initializer], (change.T if transposed else change).reshape(held[initializer].shape)
        return out

    def undecided(self):
        """{initializer: four times PyTorch's own float32 error} where that is no small part of the change."""
        changes, out = self.changes(), {}
        for name, (initializer, _) in self.found.items():
            error = self.rounding.get(name, 0.0)
            if initializer in changes and error > CHANGE_ERROR * np.linalg.norm(changes[initializer][1]):
                out[initializer] = 4 * error
        return out

    def noise(self):
        """A gradient that is zero but for rounding is some 1e-6 of the others."""
        return 1e-6 * max((np.linalg.norm(change) for _, change in self.changes().values()), default=0.0)

    def kept(self):
        """Initializers that stay as they are, bit for bit. Not so a second copy of a trained one, which an exporter made by folding
        its transpose: ckpttrain joins the two again, and the saved file has one."""
        if self.folded:
            return []
        moving = {i for node in self.model.graph.node if node.op_type == "BatchNormalization" for i in node.input[3:]}
        changes, held = self.changes(), exporting.values(self.model)

        def is_copy(name):
            return any(np.array_equal(held[name], held[other].T) for other in changes if held[other].ndim == 2)

        trained = set(changes) | moving
        return [t.name for t in self.model.graph.initializer if t.name not in trained and not is_copy(t.name)]


def run(program, case, strategy, name, folder):
    saved, log = folder / f"{name}.onnx", folder / f"{name}.jsonl"
    command = [
        str(program),
        str(folder / "model.onnx"),
        *case.arguments(folder),
        "--strategy",
        strategy,
        "--threads",
        "1",
        "--device",
        "cpu",
        "--save",
        str(saved),
        "--log",
        str(log),
        "--json",
    ]
    environment = dict(os.environ, OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive", XDG_CACHE_HOME="/dev/null")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    (folder / "command.txt").write_text(" ".join(command).replace(str(folder) + "/", "") + "\n")
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""
        if any(f"({op}, opset" in said for op in NEXT_TIER):
            raise NextTier(said)
        raise Difference("refused" if done.returncode in (2, 3) else f"exit {done.returncode}", said.replace(str(folder) + "/", ""))
    document = json.loads(done.stdout)
    losses = [json.loads(line)["loss"] for line in log.read_text().splitlines() if '"loss"' in line]
    return document, losses, saved, done.stderr


def relative(got, want):
    return abs(got - want) / max(abs(want), 1e-30)


def compare(program, case, folder):
    one, losses, saved, said = run(program, case, "none", "first", folder)
    two, _, _, _ = run(program, case, case.spec["second_plan"], "second", folder)
    exact = case.exact
    if relative(losses[0], exact.losses[0]) > LOSS_ERROR:
        raise Difference("first loss", f"{losses[0]:.9g}, PyTorch {exact.losses[0]:.9g}")
    for document in (one, two):
        if document["memory"]["planned_peak"] != document["memory"]["measured_peak"]:
            raise Difference(
                "memory", f"planned {document['memory']['planned_peak']}, measured {document['memory']['measured_peak']}"
            )
    if one["weights_sha256"] != two["weights_sha256"]:
        raise Difference("plans", f"other weights under {case.spec['second_plan']}")
    after = exporting.values(onnx.load(saved))
    held = exporting.values(case.model)
    for name in case.kept():
        if name not in after or held[name].tobytes() != after[name].tobytes():
            raise Difference("kept", f"'{name}' is no parameter and has changed")
    if case.folded:
        return "folded"
    if len(losses) != len(exact.losses):
        raise Difference("steps", f"{len(losses)}, PyTorch {len(exact.losses)}")
    noise, undecided, excused = case.noise(), case.undecided(), False
    for name, (before, change) in case.changes().items():
        got = after[name].astype(np.float64) - before
        error = np.linalg.norm(got - change)
        if error <= CHANGE_ERROR * np.linalg.norm(change) + reference.floor(before) + noise:
            continue
        excused = error <= undecided.get(name, 0.0)
        if not excused:
            moved = "is not trained" if not np.any(got) else f"changes by {np.linalg.norm(got):.4g}"
            raise Difference("weights", f"'{name}' {moved}, in PyTorch by {np.linalg.norm(change):.4g}, difference {error:.2g}")
    for i, (got, want) in enumerate(zip(losses, exact.losses)):
        if abs(got - want) > 1e-4 * abs(want) + 1e-6:
            raise Difference("loss", f"step {i}: {got:.9g}, PyTorch {want:.9g}")
    if not has_batch_norm(case.net):
        got = session(saved).run(None, feed(case.spec, case.arrays))[0]
        want = compute(exact.net, case.spec, case.arrays, torch.float64)
        if np.linalg.norm(got - want) > OUTPUT_ERROR * np.linalg.norm(want) + 1e-6:
            raise Difference("saved", f"onnxruntime's answers from the saved file differ by {np.linalg.norm(got - want):.2g}")
    return "conditioned" if excused else "equal"


def attempt(program, spec):
    """(outcome, text, folder kept or None) of one network."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="differential."))
    keep = False
    try:
        case = Case(spec, folder)
        try:
            return compare(program, case, folder), "", None
        except Difference as difference:
            keep = True
            expected(case, folder, difference)
            return "FAILED", str(difference), folder
    except Skipped as why:
        return "skipped", str(why), None
    except NextTier as why:
        return "next tier", str(why), None
    except exporting.Failed as why:
        return "not exported", str(why), None
    except subprocess.TimeoutExpired:
        keep = True
        return "FAILED", "timeout: ckpttrain takes more than 120 s", folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def expected(case, folder, difference):
    def some(value):
        flat = np.asarray(value).reshape(-1)
        return " ".join(f"{v:.6g}" for v in flat[:8]) + (" ..." if flat.size > 8 else "")

    lines = [str(difference), "", "losses, PyTorch float64: " + some(case.exact.losses), ""]
    for name, (before, change) in case.changes().items():
        lines.append(f"trained {name}: {some(before)} -> {some(before + change)}")
    lines += [f"kept    {name}" for name in case.kept()] + ["", str(case.net), ""]
    (folder / "EXPECTED.txt").write_text("\n".join(lines))


def minimise(program, spec, text):
    """Takes blocks away, then options, while the difference stays of its kind."""
    kind = text.split(":")[0]

    def still(candidate):
        try:
            outcome, said, folder = attempt(program, candidate)
        except Exception:
            return False
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        return outcome == "FAILED" and (signature(said) == signature(text) if kind == "refused" else said.split(":")[0] == kind)

    changed = True
    while changed:
        changed = False
        for i in range(len(spec["blocks"])):
            candidate = dict(spec, blocks=spec["blocks"][:i] + spec["blocks"][i + 1 :])
            if still(candidate):
                spec, changed = candidate, True
                break
    simpler = [
        ("optimizer", "sgd"),
        ("micro", 0),
        ("smoothing", 0),
        ("class_weights", False),
        ("ignore", None),
        ("freeze", False),
        ("epochs", 1),
        ("samples", spec["batch"]),
        ("head", "mse"),
        ("tokens", 0),
        ("pool", "mean"),
        ("outputs", 2),
        ("width", 4),
        ("head_bias", True),
    ]
    for key, value in simpler:
        candidate = dict(spec, **{key: value})
        if key == "head":
            candidate["loss"] = "mse"
        if candidate != spec and still(candidate):
            spec = candidate
    return spec


def signature(text):
    """A failure without its names and numbers, so that one kind is counted as one."""
    return re.sub(r"'[^']*'", "'...'", re.sub(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?", "N", text))


def work(task):
    program, seed, options = task
    torch.set_num_threads(1)
    try:
        spec = networks.random_spec(seed, options["dynamo"])
        if options["left"]:
            spec["samples"] = spec["batch"] + min(options["left"], spec["batch"])
        outcome, text, folder = attempt(program, spec)
        if outcome == "FAILED" and options["minimise"]:
            shutil.rmtree(folder, ignore_errors=True)
            spec = minimise(program, spec, text)
            outcome, text, folder = attempt(program, spec)
    except Exception as error:
        return seed, "broken", f"{type(error).__name__}: {error}", None, ""
    return (
        seed,
        outcome,
        text,
        str(folder) if folder else None,
        f"{spec['export']['by']}, {'+'.join(b['kind'] for b in spec['blocks'])}, {spec['head']}",
    )


def write_cases(target, count, seed):
    """Networks for CTest, with what PyTorch says, in the form that test_differential.c reads."""
    target.mkdir(parents=True, exist_ok=True)
    written = 0
    while written < count:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="differential."))
        try:
            case = Case(networks.random_spec(seed, 0.4), folder)
            if not case.folded and not NEXT_TIER & {node.op_type for node in case.model.graph.node}:
                write_case(case, target, f"net{written:02d}")
                written += 1
        except (Skipped, exporting.Failed):
            pass
        finally:
            shutil.rmtree(folder)
            seed += 1
    (target / "VERSIONS").write_text(exporting.versions())


def write_case(case, target, name):
    place = "@/tests/differential/cases"
    onnx.save(case.model, str(target / f"{name}.onnx"))
    np.savez_compressed(target / f"{name}.npz", **{k: v for k, v in case.arrays.items() if k != "class_weights"})
    if "class_weights" in case.arrays:
        np.save(target / f"{name}_class_weights.npy", case.arrays["class_weights"])
    words = (
        " ".join(case.arguments(place))
        .replace("/data.npz", f"/{name}.npz")
        .replace("/class_weights.npy", f"/{name}_class_weights.npy")
    )
    blocks = ", ".join(b["kind"] for b in case.spec["blocks"])
    lines = [f"# {case.spec['export']['by']}; {blocks}; {case.spec['head']}", f"run train {place}/{name}.onnx {words}", "exit 0"]
    lines += [f"loss {i} {loss:.12g}" for i, loss in enumerate(case.exact.losses)]
    for initializer, (_, change) in case.changes().items():
        if np.linalg.norm(change) > 1e3 * case.noise():
            lines.append(f"change {initializer} " + " ".join(f"{v:.9g}" for v in change.reshape(-1)))
    lines += [f"kept {initializer}" for initializer in case.kept()]
    (target / f"{name}.case").write_text("\n".join(lines) + "\n")


def keep(failures, seed, folder):
    """Moves what failed to its place."""
    place = pathlib.Path(failures) / str(seed)
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder, place)
    return place


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", nargs="?", help="ckpttrain")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="of the first network; the others have the numbers that follow")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--dynamo", type=float, default=0.2, help="share of networks by the dynamo exporter, which is slow")
    parser.add_argument("--left", type=int, default=0, help="samples of the last batch of all networks, instead of what is drawn")
    parser.add_argument("--failures", default="differential-failures", help="folder for what fails")
    parser.add_argument("--minimise", action="store_true", help="take blocks away while a failure stays")
    parser.add_argument("--write", help="write cases for CTest to this folder instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.write:
        write_cases(pathlib.Path(options.write), options.count, options.seed)
        return 0
    if not options.program:
        parser.error("the path of ckpttrain is missing")
    program = pathlib.Path(options.program).resolve()
    started, outcomes, kinds = time.time(), collections.Counter(), collections.Counter()
    drawn = {"dynamo": options.dynamo, "left": options.left, "minimise": options.minimise}
    tasks = [(program, options.seed + i, drawn) for i in range(options.count)]
    try:
        with multiprocessing.Pool(options.jobs, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
            for seed, outcome, text, folder, network in pool.imap_unordered(work, tasks):
                outcomes[outcome] += 1
                if outcomes.total() % 100 == 0:
                    print(f"{outcomes.total()} of {options.count}, {outcomes['FAILED']} differ", file=sys.stderr, flush=True)
                if outcome in ("FAILED", "broken"):
                    kinds[signature(text)] += 1
                    place = keep(options.failures, seed, folder) if folder else ""
                    print(f"{outcome} seed {seed}: {text} [{network}] {place}", flush=True)
    except KeyboardInterrupt:
        print(f"stopped after {outcomes.total()} of {options.count}", flush=True)
    for kind, count in kinds.most_common():
        print(f"{count:5d}  {kind}")
    compared = outcomes["equal"] + outcomes["conditioned"] + outcomes["folded"] + outcomes["FAILED"]
    print(
        f"{outcomes.total()} networks, {compared} compared, {outcomes['FAILED']} differ; {outcomes['equal']} equal, "
        f"{outcomes['conditioned']} equal but for weights that PyTorch's float32 does not determine either, "
        f"{outcomes['folded']} with weights that the exporter folded (loss and plans only); {outcomes['skipped']} skipped, "
        f"{outcomes['not exported']} not exported, "
        f"{outcomes['next tier']} with operators of the next tier, "
        f"{outcomes['broken']} broken; {time.time() - started:.0f} s"
    )
    return 1 if outcomes["FAILED"] or outcomes["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
