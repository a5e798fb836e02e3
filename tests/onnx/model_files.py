"""The files that the tests of saved models and of gradients start from: bundled, golden and exported models, and what other
exporters would have made of the same networks (other types, opsets, IR versions, places of the weights)."""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TREE = pathlib.Path(__file__).resolve().parent.parent.parent
FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
NEWEST_OPSET = onnx.defs.onnx_opset_version()
UNKNOWN = bytes([0xC0, 0xB8, 0x02, 0x07])  # field 5000 as a varint of 7, which no message of ONNX has


def shape_of(value):
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def inputs_of(model):
    """The inputs that are no initializers."""
    known = {i.name for i in model.graph.initializer}
    return [i for i in model.graph.input if i.name not in known]


def to_type(model, data_type):
    """A copy with all floats of another type."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)

    def convert(tensor):
        if tensor.data_type in FLOATS:
            array = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(data_type))
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array).reshape(tensor.dims), tensor.name))

    for tensor in copy.graph.initializer:
        convert(tensor)
    for value in [*copy.graph.input, *copy.graph.output, *copy.graph.value_info]:
        if value.type.tensor_type.elem_type in FLOATS:
            value.type.tensor_type.elem_type = data_type
    for node in copy.graph.node:
        if node.op_type == "GroupNormalization" and copy.opset_import[0].version >= 21:
            node.attribute.append(helper.make_attribute("stash_type", data_type))
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                convert(attribute.t)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in FLOATS:
                attribute.i = data_type
    return copy


def for_evaluation(model):
    """A copy without what exporters leave in for training: masks, and statistics of the batch."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.op_type == "Dropout":
            del node.input[2:]
        if node.op_type == "BatchNormalization":
            del node.output[1:]
            for attribute in node.attribute:
                if attribute.name == "training_mode":
                    attribute.i = 0
    return copy


def for_training(model):
    """A copy in which BatchNormalization uses the batch's statistics."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if copy.opset_import[0].version < 14 and any(n.op_type == "BatchNormalization" for n in copy.graph.node):
        copy.opset_import[0].version = 15  # the evaluator's older ones have no training
    for i, node in enumerate(copy.graph.node):
        if node.op_type == "BatchNormalization":
            kept = [a for a in node.attribute if a.name != "training_mode"]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("training_mode", 1)])
            del node.output[1:]
            node.output.extend([f"moved_{i}_0", f"moved_{i}_1"])
    return copy


def with_unknown_fields(model):
    """Fields of a later ONNX in the model, its graph, a node, an input and an initializer; metadata and texts."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for message in (copy.graph.node[0], copy.graph.input[0], copy.graph.initializer[0], copy.graph, copy):
        message.ParseFromString(message.SerializeToString() + UNKNOWN)
    copy.doc_string, copy.producer_name, copy.producer_version, copy.model_version = "a text", "someone", "1.2", 7
    helper.set_model_props(copy, {"author": "nobody", "licence": "none"})
    return copy


def mlp(opset, ir_version, *, weights_are_inputs=False, tail="Softmax", function=False):
    """Gemm, Relu, MatMul, Add and a tail, as any exporter of the opset would write them."""
    random = np.random.default_rng(5)
    weight = lambda name, *shape: numpy_helper.from_array((random.standard_normal(shape) / 3).astype(np.float32), name)
    weights = [weight("w1", 6, 5), weight("b1", 5), weight("w2", 5, 4), weight("b2", 4)]
    nodes = [helper.make_node("Gemm", ["x", "w1", "b1"], ["a"], "fc1"), helper.make_node("Relu", ["a"], ["h"], "relu"),
             helper.make_node("MatMul", ["h", "w2"], ["m"], "fc2"), helper.make_node("Add", ["m", "b2"], ["z"], "bias"),
             helper.make_node(tail, ["z"], ["y"], "tail")]
    functions, opsets = [], [helper.make_opsetid("", opset)]
    if function:
        body = [helper.make_node("MatMul", ["p", "q"], ["t"], "product"), helper.make_node("Add", ["t", "r"], ["s"], "sum")]
        functions = [helper.make_function("local", "Dense", ["p", "q", "r"], ["s"], body, [helper.make_opsetid("", opset)])]
        nodes[2:4] = [helper.make_node("Dense", ["h", "w2", "b2"], ["z"], "dense", domain="local")]
        opsets.append(helper.make_opsetid("local", 1))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])]
    if weights_are_inputs:
        inputs += [helper.make_tensor_value_info(w.name, TensorProto.FLOAT, list(w.dims)) for w in weights]
    graph = helper.make_graph(nodes, "mlp", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])], weights)
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=ir_version)


def read_pb(path):
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return tensor


def as_trainable(model, array):
    """A model of one operator as a network for one sample, and its input: behind the input a scale for each value, then the
    operator in its own shape."""
    graph, first = model.graph, model.graph.input[0]
    dims = shape_of(first)
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == first.name:
                node.input[i] = "in_its_shape"
        for i, name in enumerate(node.output):
            if name == graph.output[0].name:
                node.output[i] = "in_own_shape"
    scale = np.random.default_rng(6).uniform(0.8, 1.2, array.size).astype(np.float32)
    graph.initializer.extend([numpy_helper.from_array(scale, "in_front"), numpy_helper.from_array(np.array(dims, np.int64), "dims"),
                              numpy_helper.from_array(np.array([1, -1], np.int64), "flat")])
    graph.node.insert(0, helper.make_node("Mul", [first.name, "in_front"], ["scaled"], "front"))
    graph.node.insert(1, helper.make_node("Reshape", ["scaled", "dims"], ["in_its_shape"], "to_shape"))
    graph.node.append(helper.make_node("Reshape", ["in_own_shape", "flat"], [graph.output[0].name], "to_flat"))
    count = int(np.prod(shape_of(graph.output[0]), dtype=int))
    graph.input[0].CopyFrom(helper.make_tensor_value_info(first.name, TensorProto.FLOAT, [1, array.size]))
    graph.output[0].CopyFrom(helper.make_tensor_value_info(graph.output[0].name, TensorProto.FLOAT, [1, count]))
    return model, array.reshape(1, -1) / scale


def trainable_operator(folder):
    """A golden operator model as a network; its inputs behind the first are weights."""
    model = onnx.load(folder / "model.onnx")
    for i, value in enumerate(model.graph.input[1:], 1):
        tensor = read_pb(folder / f"input_{i}.pb")
        tensor.name = value.name
        model.graph.initializer.append(tensor)
    del model.graph.input[1:]
    return as_trainable(model, numpy_helper.to_array(read_pb(folder / "input_0.pb")))


def network(opset, nodes, dims, *weights):
    """Input 'a' of the given shape, output 'y'; nodes: (op, inputs, outputs, attributes)."""
    made = [helper.make_node(op, i, o, name=f"{op}_{k}", **attrs) for k, (op, i, o, attrs) in enumerate(nodes)]
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(made, "network", [value("a", dims)], [value("y", None)], list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7 if opset < 15 else 10)
    shape = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.output[0]
    model.graph.output[0].CopyFrom(shape)
    return model


def forms():
    """(name, model, input): operators and forms of older opsets that no golden case has."""
    random = np.random.default_rng(11)
    ints = lambda name, *values: numpy_helper.from_array(np.array(values, np.int64), name)
    floats = lambda name, *shape: numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
    newest = NEWEST_OPSET

    def case(name, opset, nodes, dims, *weights):
        model = network(opset, nodes, dims, *weights)
        array = random.standard_normal(dims).astype(np.float32)
        return name, *as_trainable(model, array)

    one = lambda op, **attrs: [(op, ["a"], ["y"], attrs)]
    yield case("abs_smooth", 13, one("Abs"), [4, 5])
    yield case("neg", 13, one("Neg"), [4, 5])
    yield case("swish", 24, one("Swish"), [4, 5])
    yield case("swish_alpha", 24, one("Swish", alpha=1.7), [4, 5])
    yield case("silu_newest", newest, [("Sigmoid", ["a"], ["s"], {}), ("Mul", ["a", "s"], ["y"], {})], [4, 5])
    for op in "Softmax", "LogSoftmax":  # before opset 13 the axes from `axis` on are one, and it is 1 unless given
        for axis in None, 1, 2, -1, 0:
            attrs = {} if axis is None else {"axis": axis}
            for opset in 7, 11, 13:
                if axis != -1 or opset > 7:
                    yield case(f"{op.lower()}_{opset}_{axis}", opset, one(op, **attrs), [2, 3, 4])
    yield case("clip_6", 7, one("Clip", min=-0.5, max=0.75), [4, 5])
    for op in "ReduceSum", "ReduceMean":
        yield case(f"{op.lower()}_axes", 11, one(op, axes=[1], keepdims=0), [2, 3, 4])
        yield case(f"{op.lower()}_axes_7", 7, one(op, axes=[0, 2]), [2, 3, 4])
    yield case("reducemean_axes_17", 17, one("ReduceMean", axes=[-1]), [2, 3, 4])
    yield case("split_attribute", 11, [("Split", ["a"], ["s", "t"], {"axis": 1, "split": [2, 3]}),
                                       ("Concat", ["t", "s"], ["y"], {"axis": 1})], [4, 5])
    yield case("unsqueeze_11", 11, [("Unsqueeze", ["a"], ["s"], {"axes": [1]}), ("Mul", ["s", "c"], ["t"], {}),
                                    ("Squeeze", ["t"], ["y"], {"axes": [1]})], [4, 5], floats("c", 5))
    yield case("unsqueeze_13", 13, [("Unsqueeze", ["a", "one"], ["s"], {}), ("Mul", ["s", "c"], ["t"], {}),
                                    ("Squeeze", ["t", "one"], ["y"], {})], [4, 5], ints("one", 1), floats("c", 5))
    yield case("constantofshape", 17, [("ConstantOfShape", ["size"], ["c"], {"value": helper.make_tensor("v", 1, [1], [0.5])}),
                                       ("Max", ["a", "c"], ["s"], {}), ("Exp", ["s"], ["y"], {})], [4, 5], ints("size", 4, 5))
    yield case("cast", 17, [("Cast", ["a"], ["s"], {"to": TensorProto.FLOAT}), ("Tanh", ["s"], ["y"], {})], [4, 5])
    yield case("batchnorm_9", 9, [("BatchNormalization", ["a", "s", "b", "m", "v"], ["y"], {})], [6, 3], floats("s", 3), floats("b", 3),
               floats("m", 3), numpy_helper.from_array(np.array([0.5, 1, 2], np.float32), "v"))
    for op in "Sum", "Mean", "Max", "Min":
        yield case(f"{op.lower()}_7", 8, [(op, ["a", "b", "c"], ["y"], {})], [4, 5], floats("b", 4, 5), floats("c", 5))
    yield case("pow_7", 7, [("Exp", ["a"], ["e"], {}), ("Pow", ["e", "p"], ["y"], {})], [4, 5], floats("p", 5))
    yield case("prelu_7", 7, [("PRelu", ["a", "b"], ["y"], {})], [4, 5], floats("b", 5))


def bundled():
    """(name, model) of every file in the tree that is a network."""
    for path in sorted((TREE / "models").glob("*.onnx")) + sorted((TREE / "tests/golden/training").glob("*/model.onnx")):
        yield (path.stem if path.stem != "model" else path.parent.name), onnx.load(path)


def made():
    """(name, model): what other exporters write. IR 3 is the last version whose initializers must be inputs as well."""
    ir_of = {o: v for o, v in ((7, 3), (8, 3), (9, 4), (10, 5), (11, 6), (12, 7), (13, 7), (14, 7), (15, 8))}
    for opset in range(7, NEWEST_OPSET + 1):
        ir = ir_of.get(opset, min(10, onnx.IR_VERSION))
        yield f"opset_{opset}", mlp(opset, ir, weights_are_inputs=ir <= 3, tail="Softmax" if opset % 2 else "LogSoftmax")
    yield "weights_are_inputs", mlp(17, 8, weights_are_inputs=True)
    yield "local_function", mlp(17, 8, function=True)
    plain = onnx.load(TREE / "models/mlp_residual.onnx")
    yield "double", to_type(plain, TensorProto.DOUBLE)
    yield "half", to_type(plain, TensorProto.FLOAT16)
    for name in "mlp_sgd", "batchnorm_sgd":  # without dropout, whose ratio ONNX has in no bfloat16
        golden = onnx.load(TREE / f"tests/golden/training/{name}/model.onnx")
        yield f"bfloat_{name}", to_type(golden, TensorProto.BFLOAT16)
    yield "unknown_fields", with_unknown_fields(plain)


def operators():
    """(name, model, input) of every golden operator."""
    for folder in sorted((TREE / "tests/golden/ops").iterdir()):
        yield folder.name, *trainable_operator(folder)


def exported(folder):
    for path in sorted(pathlib.Path(folder).glob("*.onnx")):
        yield path.stem, onnx.load(path)
