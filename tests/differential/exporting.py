"""The files that PyTorch's two exporters write, and which initializer is which parameter."""

import contextlib
import io
import logging
import os
import warnings

import numpy as np
import onnx
import torch
from onnx import numpy_helper

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)


class Failed(Exception):
    """The exporter could not, or wrote a file that does not compute what the network does."""


@contextlib.contextmanager
def quiet():
    """The exporters print from C++ as well."""
    with open(os.devnull, "w") as nowhere:
        saved = os.dup(1), os.dup(2)
        os.dup2(nowhere.fileno(), 1), os.dup2(nowhere.fileno(), 2)
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                yield
        finally:
            os.dup2(saved[0], 1), os.dup2(saved[1], 2)
            os.close(saved[0]), os.close(saved[1])


def export(spec, net, arrays, path):
    how = spec["export"]
    inputs = [torch.from_numpy(arrays["x"][:4])]
    names = ["x"]
    if spec["loss"] == "output":
        inputs.append(torch.from_numpy(arrays["y"][:4]))
        names.append("y")
    training = how["train"] if how["by"] == "dynamo" else how["mode"] == "training"
    state = {k: v.clone() for k, v in net.state_dict().items()}
    net.train(training)
    try:
        with quiet():
            if how["by"] == "dynamo":
                batch = torch.export.Dim("batch")
                torch.onnx.export(
                    net,
                    tuple(inputs),
                    path,
                    dynamo=True,
                    opset_version=18,
                    verbose=False,
                    optimize=how["optimize"],
                    dynamic_shapes={k: {0: batch} for k in ("x", "second")[: len(inputs)]},
                    external_data=False,
                    input_names=names,
                    output_names=["out"],
                )
            else:
                mode = torch.onnx.TrainingMode.TRAINING if training else torch.onnx.TrainingMode.EVAL
                axes = {k: {0: "batch"} for k in names} | ({} if spec["loss"] == "output" else {"out": {0: "batch"}})
                torch.onnx.export(
                    net,
                    tuple(inputs),
                    path,
                    dynamo=False,
                    opset_version=17,
                    training=mode,
                    input_names=names,
                    do_constant_folding=how["fold"],
                    output_names=["out"],
                    dynamic_axes=axes,
                )
    except Exception as error:
        raise Failed(f"{how['by']}: {type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}")
    finally:
        net.load_state_dict(state)
        net.train()
    return onnx.load(path)


DROPPED = ("stack_trace", "ExportedProgram.graph_module")


def strip(model):
    """Without stack traces and the paths of the machine that exported it; what says which tensor is which stays."""

    def clean(item):
        kept = [(p.key, p.value) for p in item.metadata_props if not any(word in p.key for word in DROPPED)]
        del item.metadata_props[:]
        for key, value in kept:
            item.metadata_props.add(key=key, value=value)

    for item in [
        model,
        model.graph,
        *model.graph.node,
        *model.graph.value_info,
        *model.graph.input,
        *model.graph.output,
        *model.graph.initializer,
    ]:
        clean(item)
    for item in [*model.graph.node, *model.graph.initializer]:
        item.doc_string = ""
    return model


def versions():
    return "".join(f"{module.__name__} {module.__version__.split('+')[0]}\n" for module in (torch, onnx, np))


def values(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def mapping(net, model):
    """{parameter or buffer: (initializer, transposed)} and the names that the file has no initializer for, or several.

    By name, else by what dynamo's optimizer says it folded, and by value: both exporters fold transposes of weights into
    initializers with names of their own."""
    held = {k: v for k, v in values(model).items() if v.dtype == np.float32}
    state = {k: v.detach().float().numpy() for k, v in net.state_dict().items() if v.is_floating_point()}
    found = {k: (k, False) for k in state if k in held and held[k].shape == state[k].shape and np.array_equal(held[k], state[k])}
    folded = {
        v.name: p.value for v in model.graph.value_info for p in v.metadata_props if p.key == "pkg.onnxscript.optimizer.folded_from"
    }
    folded = {k: set(sources.strip("[]").replace("'", "").split(", ")) for k, sources in folded.items()}
    taken, missing = {name for name, _ in found.values()}, []
    for name, value in state.items():
        if name in found:
            continue
        said = [k for k, sources in folded.items() if name in sources]
        for other, data in held.items():
            if said and other not in said:
                continue
            if other in taken or data.size != value.size:
                continue
            if data.shape == value.shape and np.array_equal(data, value):
                found[name] = (other, False)
            elif value.ndim == 2 and data.shape == value.T.shape and np.array_equal(data, value.T):
                found[name] = (other, True)
            elif (said or value.size == 1) and np.array_equal(data.reshape(-1), value.reshape(-1)):
                found[name] = (other, False)
            if name in found:
                taken.add(other)
                break
        else:
            missing.append(name)
    for name, (initializer, transposed) in found.items():  # folded into a second initializer: no longer the same weight
        value = state[name].T
        if value.ndim == 2 and any(v.shape == value.shape and np.array_equal(v, value) for k, v in held.items() if k not in taken):
            missing.append(name)
    return found, missing


def merged(net, name):
    """Whether another tensor of the network has the same values, so that an exporter may have kept one for both."""
    state = net.state_dict()
    return any(k != name and v.shape == state[name].shape and torch.equal(v, state[name]) for k, v in state.items())
