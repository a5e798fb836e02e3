#!/usr/bin/env bash
# test_gpu_check.sh ROOT: scripts/gpu-check in a folder where every program it starts is a stand-in: what it refuses, that
# nothing fails or is missing unseen, that parts add up to one report. No report of a stand-in outlives the test.
set -uo pipefail
root=$1 failed=0
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/scripts" "$dir/bench" "$dir/bin" "$dir/build-cuda/tests/runtime" "$dir/build-cuda/bench"
cp "$root/scripts/gpu-check" "$dir/scripts/"
cp "$root"/bench/compare*.py "$dir/bench/"

program() { # PATH BODY
  printf '#!/bin/sh\n%s\n' "$2" >"$dir/$1"
  chmod +x "$dir/$1"
}
check() { # STATUS PATTERN-IN-OUTPUT OPTIONS...
  local want=$1 pattern=$2 got=0
  shift 2
  PATH=$dir/bin:/usr/bin:/bin CUDA_PATH=$dir "$dir/scripts/gpu-check" "$@" >"$dir/output" 2>&1 || got=$?
  if [ "$got" -ne "$want" ] || ! grep -q -- "$pattern" "$dir/output"; then
    echo "status $got instead of $want, or no '$pattern', with: $*" >&2
    cat "$dir/output" >&2
    failed=1
  fi
}
reports() { # NUMBER
  [ "$(find "$dir/docs" -name '*.md' 2>/dev/null | wc -l)" -eq "$1" ] || { echo "not $1 reports" >&2; failed=1; }
}
holds() { grep -q -- "$1" "$dir"/docs/gpu/*.md || { echo "no '$1' in the report" >&2; failed=1; }; }

program bin/nvcc 'exit 1'
program bin/nvidia-smi 'exit 9'
check 77 'no usable NVIDIA driver'
program bin/nvidia-smi 'echo "Stand-in GPU, 1.0, 9.0, 1 MiB"'
check 77 'no CUDA toolkit'
program bin/nvcc '[ "$1" != -o ] || exec cp "$CUDA_PATH/probe" "$2"; echo "Cuda compilation tools, release 0.0, V0.0.1"'
program bin/cmake 'exit 0'
program bin/ctest 'echo "1/1 Test #1: cuda_device ... Passed"; echo "100% tests passed"'
program probe 'exit 1'
check 77 'a CUDA program finds no device'
reports 0
[ ! -e "$dir/build-cuda/gpu-check" ] || { echo 'something was kept of a refused run' >&2; failed=1; }
program probe 'exit 0'
check 2 "no part 'speed'" --only speed

program build-cuda/bench/cuda_kernels 'echo "stand-in row"'
program bin/compute-sanitizer 'echo "Device not supported"; exit 1'
check 0 'stand-in-gpu.md' --only tests,sanitize
holds '| tests | passed |'
holds '| memcheck | did not run |'
holds '| kernels | did not run |'
check 0 'stand-in-gpu.md' --only kernels
holds '| tests | passed |'
holds 'stand-in row'
reports 1
program bin/compute-sanitizer 'echo "ERROR SUMMARY: 1 error"; exit 1'
check 1 'ERROR SUMMARY' --only sanitize
holds '| memcheck | failed (status 1) |'
program bin/compute-sanitizer 'exit 0'
program bin/ctest 'echo "1/1 Test #1: cuda_device ...***Skipped"; echo "100% tests passed"'
check 1 'Skipped' --only tests
holds '| tests | failed (status 1) |'

# No PyTorch; then rows that are left.
program bin/no-python 'case $1 in -c) exit 1 ;; esac; exec python3 "$@"'
check 0 'stand-in-gpu.md' --only bench-small -p no-python
holds '| bench-small | did not run |'
program bin/late-python 'case "$*" in *--report*) exec python3 "$@" ;; -c*) exit 0 ;; esac; exit 3'
check 3 'stand-in-gpu.md' --only bench-small -p late-python
holds '| bench-small | rows are left |'

# What takes too long is ended, and the report is there.
program build-cuda/bench/cuda_kernels 'exec sleep 30'
check 1 'stand-in-gpu.md' --only kernels -l 2
holds '| kernels | ended by -l |'

program bin/nvidia-smi 'echo "Other GPU, 1.0, 9.0, 1 MiB"'
check 2 'holds figures of: Stand-in GPU' --only kernels
program bin/cmake 'exit 1'
check 1 'other-gpu.md' --only kernels -w "$dir/other"
grep -q '| configure | failed' "$dir"/docs/gpu/*other-gpu.md && grep -q '| kernels | did not run' "$dir"/docs/gpu/*other-gpu.md || failed=1
exit $failed
