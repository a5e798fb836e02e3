#!/usr/bin/env bash
# test_program.sh CKPTTRAIN MODELS: what the program says and answers on a fake device: with and without a driver, with
# too little memory, with a budget that follows from what is free.
set -uo pipefail
program=$1 model=$2/mlp_uniform64.onnx failed=0
XDG_CACHE_HOME=$(mktemp -d)
export XDG_CACHE_HOME
trap 'rm -rf "$XDG_CACHE_HOME"' EXIT

# expect STATUS STREAM PATTERN COMMAND...
expect() {
  local want=$1 stream=$2 pattern=$3 got=0 out=$XDG_CACHE_HOME/stdout err=$XDG_CACHE_HOME/stderr
  shift 3
  env "$@" >"$out" 2>"$err" || got=$?
  local text=$err
  [ "$stream" = out ] && text=$out
  if [ "$got" -ne "$want" ] || ! grep -Eq -- "$pattern" "$text"; then
    echo "status $got instead of $want, or no '$pattern' in std$stream of: $*" >&2
    cat "$out" "$err" >&2
    failed=1
  fi
}
lines() { # as many lines on stderr
  local want=$1 got
  shift
  got=$(env "$@" 2>&1 >/dev/null | wc -l)
  [ "$got" -eq "$want" ] || { echo "$got lines on stderr instead of $want: $*" >&2; failed=1; }
}

run=("$program" "$model" --steps 3 --seed 1)
expect 0 out '"device": "cuda"' "${run[@]}" --json
expect 0 err 'no usable NVIDIA GPU: training on the CPU' FAKE_CUDA_DRIVER=35 "${run[@]}"
expect 0 out '"device": "cpu"' FAKE_CUDA_DRIVER=35 "${run[@]}" --json
expect 0 out '"device": "cpu"' FAKE_CUDA_DRIVER=34 "${run[@]}" --json
expect 1 err '^ckpttrain: .*--device cuda: no usable NVIDIA driver.*--device cpu' FAKE_CUDA_DRIVER=35 "${run[@]}" --device cuda
lines 1 FAKE_CUDA_DRIVER=35 "${run[@]}" --device cuda
expect 2 err 'no CUDA device 1' "${run[@]}" --device cuda:1
# The workspace alone takes 32 MiB.
expect 5 err 'would fit: .*recomputing' FAKE_CUDA_MEMORY=45000000 "${run[@]}" --batch 4096
expect 5 err 'smallest plan needs .*--batch' FAKE_CUDA_MEMORY=30000000 "${run[@]}"
lines 1 FAKE_CUDA_MEMORY=30000000 "${run[@]}"
expect 0 out '"strategy": "budget"' FAKE_CUDA_MEMORY=48000000 "${run[@]}" --batch 4096 --budget auto --json
expect 0 out '"taken": [1-9]' "${run[@]}" --json
expect 0 out 'the context, and other processes' "${run[@]}"
expect 0 out '"device": "cuda"' "${run[@]}" --precision tf32 --json
expect 2 err 'tf32' "${run[@]}" --precision tf32 --device cpu
expect 2 err 'tf32' FAKE_CUDA_DRIVER=35 "${run[@]}" --precision tf32
expect 0 out '"device": "cuda"' "${run[@]}" --precision bf16 --json
expect 0 out '"device": "cpu"' "${run[@]}" --precision bf16 --device cpu --json

expect 0 out '"device": "cuda"' "${run[@]}" --algorithms recommended --json

# A saved state goes on, steps under way included; a CPU run's state is another run's.
hash_of() { "$@" --json 2>/dev/null | grep weights_sha256; }
state=$XDG_CACHE_HOME/run.state
whole=$(hash_of "${run[@]}" --batch 32 --steps 11)
hash_of "${run[@]}" --batch 32 --steps 5 --state "$state" --state-every 2 >/dev/null
for strategy in sqrt none; do
  rest=$(hash_of "${run[@]}" --batch 32 --steps 11 --state "$state" --state-every 3 --strategy $strategy)
  [ -n "$rest" ] && [ "$rest" = "$whole" ] || { echo "a continued run ends with other weights: $rest, $whole" >&2; failed=1; }
done
expect 2 err '--device cuda, this one has cpu' FAKE_CUDA_DRIVER=35 "${run[@]}" --batch 32 --state "$state"
exit $failed
