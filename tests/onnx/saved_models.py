#!/usr/bin/env python3
"""What ckpttrain saves is the model that was read, with other weights: ONNX's checker takes it, nothing but the values of float
initializers differs, and ONNX's evaluators compute from it what this program does.

    tests/onnx/saved_models.py CKPTTRAIN ONNX_NODE [--only TEXT]     # ONNX_NODE: the program test_onnx_node

Each model is trained for two steps, validated and saved. What this program computes is seen twice: by the validation loss at
the end, and output by output from the saved file (test_onnx_node saved). The evaluator is onnxruntime where it is there, else
onnx.reference; dropout is off and BatchNormalization uses its running statistics."""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

import model_files

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

TOLERANCE = 1e-5
BATCH = 4
FLAT = {"op_hardsigmoid_wide", "op_pow_0", "op_pow_zero_base"}  # nothing to learn: the gradient is 0
# Not trained: a scale of one number is a constant; Gather belongs to networks with embeddings.
REFUSED = {"op_pow_number_base": "no trainable parameter", "torch113_gpt_eval_static": "(Gather, opset 17)",
           "torch113_tied_eval": "(Gather, opset 17)", "torch113_tied_train": "(Gather, opset 17)"}
HALVES = {TensorProto.FLOAT16, TensorProto.BFLOAT16}


class Wrong(Exception):
    pass


def evaluate(model, folder, feed):
    """All outputs, by onnxruntime where it has kernels for the model, else by ONNX's reference evaluator."""
    path = str(folder / "evaluation.onnx")
    onnx.save(model, path)
    if onnxruntime:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, feed)
        except Exception:  # types, opsets and operators that it does not have
            pass
    return ReferenceEvaluator(path).run(None, feed)


def train(program, path, data, *more):
    command = [program, str(path), "--device", "cpu", "--data", str(data), "--val-data", str(data), "--loss", "mse", "--epochs",
               "1", "--steps", "2", "--shuffle", "off", "--json", *more]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stderr.strip(), json.loads(done.stdout) if done.returncode == 0 else None


PAYLOAD = ("raw_data", "float_data", "double_data", "int32_data", "data_location", "external_data")


def compare_structure(before, after, name):
    """Everything but the values of float initializers is the same, byte for byte."""
    old = {t.name: t for t in before.graph.initializer}
    changed = 0
    for tensor in after.graph.initializer:
        was = old.get(tensor.name)
        if was is None or tensor.SerializeToString() == was.SerializeToString():
            continue
        if was.data_type not in model_files.FLOATS or (tensor.data_type, tensor.dims) != (was.data_type, was.dims):
            raise Wrong(f"the initializer '{tensor.name}' is not what it was")
        changed += 1
        for field in PAYLOAD:
            tensor.ClearField(field)
            if field in ("raw_data", "data_location"):
                if was.HasField(field):
                    setattr(tensor, field, getattr(was, field))
            else:
                getattr(tensor, field).extend(getattr(was, field))
    if not changed and name not in FLAT:
        raise Wrong("no weight has changed")
    if after.SerializeToString(deterministic=True) != before.SerializeToString(deterministic=True):
        raise Wrong("something else than weights has changed")


def compare_rounded(program, model, after, folder, options):
    """Training is in floats whatever the file's type, and rounded when it is saved. Returns what the same weights in floats
    become."""
    read, saved = folder / "wide.onnx", folder / "wide_saved.onnx"
    onnx.save(model_files.to_type(model, TensorProto.FLOAT), read)
    status, error, _ = train(program, read, *options, "--lr", "0.001", "--save", str(saved))
    if status:
        raise Wrong(error)
    wide = onnx.load(saved)
    for a, b in zip(after.graph.initializer, wide.graph.initializer, strict=True):
        a, b = numpy_helper.to_array(a), numpy_helper.to_array(b)
        if not np.array_equal(a, b.astype(a.dtype)):
            raise Wrong("a weight is not what it is in floats, rounded")
    return wide


def sample_feed(model, rows, array):
    random = np.random.default_rng(8)
    feed = {}
    for value in model_files.inputs_of(model):
        dims = [rows if isinstance(d, str) else d for d in model_files.shape_of(value)]
        feed[value.name] = array if array is not None else random.standard_normal(dims).astype(np.float32)
    return feed


def typed(feed, model):
    of = {i.name: onnx.helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type) for i in model.graph.input}
    return {name: array.astype(of[name]) for name, array in feed.items()}


def make_case(folder, model, feed, outputs):
    """A case for test_onnx_node."""
    data = folder / "test_data_set_0"
    data.mkdir(parents=True)
    for value, array in zip([*model_files.inputs_of(model), *model.graph.output], [*feed.values(), *outputs]):
        for dim, size in zip(value.type.tensor_type.shape.dim, np.shape(array)):
            dim.dim_value = size
    onnx.save(model, folder / "model.onnx")
    for i, (name, array) in enumerate(typed(feed, model).items()):
        (data / f"input_{i}.pb").write_bytes(numpy_helper.from_array(array, name).SerializeToString())
    for value, (i, array) in zip(model.graph.output, enumerate(outputs)):
        (data / f"output_{i}.pb").write_bytes(numpy_helper.from_array(np.asarray(array), value.name).SerializeToString())


def check(program, name, model, array, root, cases):
    """False where the model is refused as it should be; raises Wrong."""
    folder = root / name
    folder.mkdir()
    read = folder / "model.onnx"
    external = name.endswith("_external")
    onnx.save(model, read, save_as_external_data=external, size_threshold=0, location="weights.bin")
    model = onnx.load(read)
    rows = array.shape[0] if array is not None else BATCH
    feed = sample_feed(model, rows, array)
    wide = model_files.to_type(model_files.for_evaluation(model), TensorProto.FLOAT)
    before = np.asarray(evaluate(wide, folder, feed)[0])
    target = np.random.default_rng(9).standard_normal(before.shape).astype(np.float32)
    data = folder / "data.npz"
    np.savez(data, **feed, y=target)
    batch = [] if array is not None else ["--batch", str(BATCH)]
    saved = folder / "saved.onnx"
    status, error, report = train(program, read, data, *batch, "--lr", "0.001", "--save", str(saved))
    if status:
        if status != 3 or REFUSED.get(name, "not among those to be refused") not in error or str(read) not in error:
            raise Wrong(error)
        return False
    if model.opset_import[0].version != 18 or "GroupNorm" not in str(model.graph.node):  # deprecated there: refused as input, too
        onnx.checker.check_model(str(saved), full_check=True)
    if "untied '" not in error:  # what taking apart adds to the file is tested with the import
        compare_structure(model, onnx.load(saved), name)
    after = onnx.load(saved)
    wide = model_files.to_type(after, TensorProto.FLOAT)
    if model_files.inputs_of(model)[0].type.tensor_type.elem_type in HALVES:
        wide = compare_rounded(program, model, after, folder, [data, *batch])
    after, wide = model_files.for_evaluation(after), model_files.for_evaluation(wide)
    outputs = evaluate(wide, folder, feed)
    loss = float(np.mean((np.asarray(outputs[0], np.float64) - target) ** 2))
    if not abs(report["val"]["loss"] - loss) <= TOLERANCE * loss:
        raise Wrong(f"loss {report['val']['loss']:.9g} here, {loss:.9g} by ONNX's evaluator")
    if np.array_equal(outputs[0], before) and name not in FLAT:
        raise Wrong("the outputs are what they were")
    if model_files.inputs_of(model)[0].type.tensor_type.elem_type == TensorProto.FLOAT:  # others are computed in it, too
        make_case(cases / f"test_{name}", after, feed, evaluate(after, folder, typed(feed, after)))
    return True


def check_the_checks(onnx_node, root):
    """What must not pass does not: something else changed than weights, and outputs that are off by 3e-5."""
    def changed(change):
        copy = onnx.ModelProto()
        copy.CopyFrom(before)
        weights = copy.graph.initializer[1]  # the first has a field that this would lose
        weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights) * np.float32(2), weights.name))
        change(copy)
        try:
            compare_structure(before, copy, "a change")
        except Wrong:
            return True
        return False

    before = model_files.with_unknown_fields(model_files.mlp(17, 8))
    changes = [lambda m: setattr(m.opset_import[0], "version", 16), lambda m: setattr(m.graph.node[1], "name", "other"),
               lambda m: m.ClearField("metadata_props"), lambda m: m.graph.node[0].DiscardUnknownFields(),
               lambda m: m.graph.initializer[0].DiscardUnknownFields(), lambda m: m.graph.initializer.pop()]
    if changed(lambda m: None) or not all(changed(c) for c in changes):
        raise Wrong("the comparison of files does not see what it should")
    cases = root / "control"
    feed = sample_feed(before, BATCH, None)
    outputs = evaluate(before, root, feed)
    for name, factor, passes in ("good", 1, True), ("bad", 1.00003, False):
        make_case(cases / name / "test_control", before, feed, [o * np.float32(factor) for o in outputs])
        if (subprocess.run([onnx_node, "saved", str(cases / name)], capture_output=True).returncode == 0) != passes:
            raise Wrong("the comparison of outputs does not see what it should")


def all_cases():
    for name, model in [*model_files.bundled(), *model_files.made()]:
        yield name, model, None
    for name in ("mlp_residual", "mlp_prenorm_gelu"):
        yield f"{name}_external", onnx.load(model_files.TREE / f"models/{name}.onnx"), None
    for name, model, array in [*model_files.operators(), *model_files.forms()]:
        yield f"op_{name}", model, array
    shared = os.environ.get("CKPT_SHARED_DATA")
    if shared:
        for name, model in model_files.exported(f"{shared}/exported"):
            yield name, model, None
    else:
        print("left out: CKPT_SHARED_DATA names no folder with exported models")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("onnx_node")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    print(f"onnx {onnx.__version__}, " + (f"onnxruntime {onnxruntime.__version__}" if onnxruntime else "no onnxruntime"))
    failed, same, refused = [], 0, 0
    with tempfile.TemporaryDirectory() as root:
        root = pathlib.Path(root)
        cases = root / "cases"
        cases.mkdir()
        check_the_checks(options.onnx_node, root)
        for name, model, array in all_cases():
            if options.only not in name:
                continue
            try:
                result = check(options.program, name, model, array, root, cases)
            except Exception as error:
                failed.append(name)
                print(f"FAILED   {name}: {type(error).__name__}: {error}")
                continue
            same += result
            refused += not result
        if any(cases.iterdir()):
            done = subprocess.run([options.onnx_node, "saved", str(cases)], capture_output=True, text=True)
            print("\n".join(line for line in done.stdout.splitlines() if not line.startswith("[")))
            if done.returncode:
                failed.append("outputs")
    print(f"{same} saved and the same, {refused} refused as they should be, {len(failed)} failed: {' '.join(failed)}")
    return 1 if failed or not same else 0


if __name__ == "__main__":
    sys.exit(main())
