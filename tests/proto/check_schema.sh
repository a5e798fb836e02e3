#!/bin/sh
# check_schema.sh [PROTOC] ONNX_PROTO: runs check_schema.py with the interpreter in CKPT_PYTHON or python3.
python=${CKPT_PYTHON:-python3}
if ! "$python" -c 'import onnx' 2>/dev/null; then
    echo "skipped: $python cannot import onnx; set CKPT_PYTHON to one that can"
    exit 77
fi
exec "$python" "$(dirname "$0")/check_schema.py" "$@"
