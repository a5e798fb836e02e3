"""Compares proto/onnx.proto with the schema of the installed onnx package.

    check_schema.py PROTOC proto/onnx.proto

Every message, field (number, name, label, type, packing, oneof) and enum value is compared. Ours must hold
all of IR 13: what it lacks is an error when the package is of IR 13 or older, and a note when it is newer.
What only ours has is an error when the package is of IR 14 or newer, the newest that ours takes values from.
Anything that both have must be the same. Exit status: 0 the same, 1 different, 77 skipped.
"""
import os
import subprocess
import sys
import tempfile

SCHEMA_IR = 13  # complete up to here
NEWEST_IR = 14  # a few values come from here


def skip(why):
    print("skipped:", why)
    sys.exit(77)


def message_facts(message, scope, facts):
    name = f"{scope}.{message.name}"
    facts[name] = "message"
    for field in message.field:
        oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None
        facts[f"{name}.{field.name}"] = (field.number, field.label, field.type, field.type_name,
                                         field.options.packed, oneof)
    for enum in message.enum_type:
        enum_facts(enum, name, facts)
    for nested in message.nested_type:
        message_facts(nested, name, facts)


def enum_facts(enum, scope, facts):
    for value in enum.value:
        if value.name != "IR_VERSION":  # an alias that moves with every version
            facts[f"{scope}.{enum.name}.{value.name}"] = value.number


def facts_of(file):
    """{dotted name: what the schema says about it}"""
    facts = {}
    for message in file.message_type:
        message_facts(message, "", facts)
    for enum in file.enum_type:
        enum_facts(enum, "", facts)
    return facts


def compile_schema(protoc, path):
    from google.protobuf import descriptor_pb2
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "set")
        subprocess.run([protoc, f"--proto_path={os.path.dirname(path)}", f"--descriptor_set_out={out}", path],
                       check=True)
        with open(out, "rb") as file:
            return descriptor_pb2.FileDescriptorSet.FromString(file.read()).file[0]


def main():
    if len(sys.argv) != 3 or sys.argv[1].endswith("NOTFOUND"):
        skip("protoc is not installed")
    try:
        import onnx
        from google.protobuf import descriptor_pb2
    except ImportError as error:
        skip(f"{sys.executable}: {error}; set CKPT_PYTHON to an interpreter with the onnx package")
    theirs_file = descriptor_pb2.FileDescriptorProto()
    onnx.onnx_ml_pb2.DESCRIPTOR.CopyToProto(theirs_file)
    ours, theirs = facts_of(compile_schema(sys.argv[1], sys.argv[2])), facts_of(theirs_file)

    errors, notes = [], []
    for name in sorted(theirs.keys() - ours.keys()):
        (notes if onnx.IR_VERSION > SCHEMA_IR else errors).append(f"only in onnx {onnx.__version__}: {name}")
    for name in sorted(ours.keys() - theirs.keys()):
        (notes if onnx.IR_VERSION < NEWEST_IR else errors).append(f"only in proto/onnx.proto: {name}")
    for name in sorted(ours.keys() & theirs.keys()):
        if ours[name] != theirs[name]:
            errors.append(f"{name}: ours {ours[name]}, onnx {onnx.__version__} {theirs[name]}")
    for line in notes:
        print("note:", line)
    for line in errors:
        print("error:", line)
    print(f"{len(ours)} facts compared with onnx {onnx.__version__} (IR {onnx.IR_VERSION}): {len(errors)} errors")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
