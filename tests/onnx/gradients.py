#!/usr/bin/env python3
"""The gradients that ckpttrain trains with, against central differences of ONNX's reference evaluator in float64: every float
operator of the MLP tier, in the form of each opset in which it changed.

    tests/onnx/gradients.py CKPTTRAIN [--only TEXT]

A case is a network around one operator (model_files.py). The gradient of the mean squared error is seen in the weights after
one step of SGD, at a rate so high that nothing of it is rounded away, and compared along random directions."""

import argparse
import math
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

import model_files

RATE = float(2**19)
TOLERANCE = 2e-5  # of the gradient's norm; everything here is computed in floats
DIRECTIONS = 3
# At points without a derivative there is nothing to compare with.
KINKS = {"relu_zero", "abs", "clip_ends", "max_ties", "min_ties", "prelu_zero", "pow_zero_base"}
# 1 - y^2 where y is almost 1 in floats; a loss near 1e12, whose differences have few digits.
COARSE = {"tanh_wide": 1e-3, "silu_bounded_far": 2e-2}
# No weight of these has a gradient: they are constants of the operator, or stand where ckpttrain trains nothing.
CONSTANT = {"op_pow_number_base"}

OPERATORS = """Abs Add BatchNormalization Cast Celu Clip Concat ConstantOfShape Div Elu Erf Exp Flatten Gelu Gemm
GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization LayerNormalization LeakyRelu Log LogSoftmax MatMul Max
Mean Min Mish Mul Neg NegativeLogLikelihoodLoss PRelu Pow RMSNormalization Reciprocal ReduceMean ReduceSum Relu Reshape Selu
Sigmoid Softmax SoftmaxCrossEntropyLoss Softplus Softsign Split Sqrt Squeeze Sub Sum Swish Tanh ThresholdedRelu Transpose
Unsqueeze""".split()


class Erf(OpRun):
    """ONNX's own rounds to floats."""

    op_domain = ""

    def _run(self, x):
        return (np.vectorize(math.erf, otypes=[x.dtype])(x),)


class Gelu(OpRun):
    """ONNX's own has the error function in floats, too."""

    op_domain = ""

    def _run(self, x, approximate=None):
        if approximate == "tanh":
            return (x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),)
        return (x / 2 * (1 + np.vectorize(math.erf, otypes=[x.dtype])(x / np.sqrt(2))),)


def flat_softmax(log):
    """Before opset 13: over all axes from `axis` on as one."""

    class Softmax(OpRun):
        op_domain = ""

        def _run(self, x, axis):
            axis %= x.ndim
            rows = x.reshape(int(np.prod(x.shape[:axis], dtype=int)), -1)
            rows = rows - rows.max(axis=1, keepdims=True)
            rows = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
            return ((rows if log else np.exp(rows)).reshape(x.shape),)

    Softmax.__name__ = "LogSoftmax" if log else "Softmax"
    return Softmax


def in_double(model):
    """The loss's network in float64, with BatchNormalization by the batch's statistics, as training has it. Returns the
    initializers, the names of the float ones, which are its inputs, and the evaluator."""
    wide = model_files.for_training(model_files.to_type(model, TensorProto.DOUBLE))
    known = {t.name: numpy_helper.to_array(t) for t in wide.graph.initializer}
    floats = [n for n, a in known.items() if a.dtype == np.float64]
    for t in wide.graph.initializer:
        if t.name in floats:
            wide.graph.input.append(helper.make_tensor_value_info(t.name, TensorProto.DOUBLE, list(t.dims)))
    kept = [t for t in wide.graph.initializer if t.name not in floats]
    del wide.graph.initializer[:]
    wide.graph.initializer.extend(kept)
    old = model.opset_import[0].version < 13
    for node in wide.graph.node:
        if old and "Softmax" in node.op_type and not node.attribute:
            node.attribute.append(helper.make_attribute("axis", 1))  # the evaluator would take the newest default
    own = [Erf, Gelu] + ([flat_softmax(False), flat_softmax(True)] if old else [])
    return known, floats, ReferenceEvaluator(wide, new_ops=own)


def check(program, name, model, array, folder, rate=RATE):
    path, saved, data = folder / f"{name}.onnx", folder / f"{name}_saved.onnx", folder / f"{name}.npz"
    onnx.save(model, path)
    known, floats, evaluator = in_double(model)
    feed = {model_files.inputs_of(model)[0].name: array.astype(np.float64)}
    answer = np.asarray(evaluator.run(None, {**feed, **{n: known[n] for n in floats}})[0])
    target = (answer + np.random.default_rng(3).standard_normal(answer.shape)).astype(np.float32)
    np.savez(data, x=array, y=target)
    loss = lambda values: float(np.mean((np.asarray(evaluator.run(None, {**feed, **values})[0]) - target) ** 2))
    command = [program, path, "--device", "cpu", "--data", data, "--loss", "mse", "--steps", "1", "--lr", repr(RATE), "--save", saved]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip() if f"op_{name}" not in CONSTANT else None
    after = {t.name: numpy_helper.to_array(t) for t in onnx.load(saved).graph.initializer}
    base = {n: known[n] for n in floats}
    moved, random = 0, np.random.default_rng(4)
    statistics = {i for n in model.graph.node if n.op_type == "BatchNormalization" for i in n.input[3:5]}
    for n in floats:
        gradient = (known[n] - after[n]) / rate
        if n in statistics or (n != "in_front" and np.array_equal(known[n], after[n])):
            continue
        moved += 1
        for _ in range(DIRECTIONS):
            direction = random.standard_normal(known[n].shape)
            h = 1e-5
            difference = (loss({**base, n: known[n] + h * direction}) - loss({**base, n: known[n] - h * direction})) / (2 * h)
            norm = float(np.linalg.norm(gradient) * np.linalg.norm(direction))
            wrong = abs(float((gradient * direction).sum()) - difference)
            if not wrong <= COARSE.get(name, TOLERANCE) * norm + 1e-9 * (1 + loss(base)):
                return f"d/d{n}: {(gradient * direction).sum():.9g} but {difference:.9g} by differences"
    return None if moved else "nothing was trained"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    bad, done, seen = [], 0, set()
    with tempfile.TemporaryDirectory() as folder:
        control = check(options.program, *next(model_files.operators()), pathlib.Path(folder), RATE * 1.0001)
        if "by differences" not in str(control):
            print(f"a gradient that is off by 1e-4 is not noticed: {control}")
            return 1
        for name, model, array in [*model_files.operators(), *model_files.forms()]:
            if options.only not in name or name in KINKS:
                continue
            try:
                wrong = check(options.program, name, model, array, pathlib.Path(folder))
            except Exception as error:
                wrong = f"{type(error).__name__}: {error}"
            done += 1
            if wrong:
                bad.append(name)
                print(f"{name}: {wrong[:300]}")
            else:
                seen |= {n.op_type for n in model.graph.node}
    missing = sorted(set(OPERATORS) - seen) if not options.only else []
    print(f"{done - len(bad)} of {done} agree" + (f"; without a case: {' '.join(missing)}" if missing else ""))
    return 1 if bad or missing or not done else 0


if __name__ == "__main__":
    sys.exit(main())
