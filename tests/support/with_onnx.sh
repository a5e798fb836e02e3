#!/bin/sh
# with_onnx.sh SCRIPT ARGS: runs a Python script with the interpreter in CKPT_PYTHON or python3; 77, "skipped", where that has no
# onnx.
python=${CKPT_PYTHON:-python3}
if ! "$python" -c 'import onnx' 2>/dev/null; then
    echo "skipped: $python cannot import onnx; set CKPT_PYTHON to one that can"
    exit 77
fi
exec "$python" -B "$@"
