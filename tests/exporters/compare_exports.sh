#!/bin/sh
# compare_exports.sh CKPTTRAIN ARGS: runs compare_exports.py with the interpreter in CKPT_PYTHON or python3.
python=${CKPT_PYTHON:-python3}
if ! "$python" -c 'import numpy, onnx' 2>/dev/null; then
    echo "skipped: $python cannot import numpy and onnx; set CKPT_PYTHON to one that can, with torch, tf2onnx or skl2onnx"
    exit 77
fi
exec "$python" "$(dirname "$0")/compare_exports.py" "$@"
