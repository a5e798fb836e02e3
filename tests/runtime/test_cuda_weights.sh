#!/usr/bin/env bash
# test_cuda_weights.sh CKPTTRAIN MODELS STEPS: the weights after STEPS steps on cuda, dropout included, are the same bits
# whatever the strategy, recorded or not, and the planned bytes are those asked of the driver. Recomputations that draw
# other masks do change them. Exit status 77 without a device.
set -uo pipefail
program=$1 model=$2/mlp_checkpointed.onnx steps=$3 failed=0
dir=$(mktemp -d)
export XDG_CACHE_HOME=$dir
trap 'rm -rf "$dir"' EXIT

if ! "$program" "$model" --device cuda --steps 1 >/dev/null 2>"$dir/err"; then
  cat "$dir/err" >&2
  grep -q 'no usable NVIDIA driver\|no CUDA backend' "$dir/err" && exit 77
  exit 1
fi

value() { sed -n "s/.*\"$1\": \"\{0,1\}\([^\",]*\).*/\1/p" "$dir/run.json" | head -1; }
train() {
  "$program" "$model" --device cuda --steps "$steps" --batch 100 --seed 7 --optimizer adamw --json "$@" >"$dir/run.json" 2>"$dir/err" ||
    { echo "failed: $*" >&2; cat "$dir/err" >&2; exit 1; }
  if [ "$(value planned_peak)" != "$(value measured_peak)" ]; then
    echo "planned $(value planned_peak) bytes, requested $(value measured_peak): $*" >&2
    failed=1
  fi
}

train --strategy none --no-graph
want=$(value weights_sha256)
[ -n "$want" ] || { echo "no weights_sha256 in the report" >&2; exit 1; }
for options in '--strategy none' '--strategy sqrt' '--every 2' '--strategy selective' '--strategy min' '--layers *' \
  '--strategy sqrt --no-graph' '--strategy min --micro-batch 100'; do
  set -f
  # shellcheck disable=SC2086
  train $options
  set +f
  if [ "$(value weights_sha256)" != "$want" ]; then
    echo "other weights with $options" >&2
    failed=1
  fi
done
train --strategy sqrt --preserve-rng off
if [ "$(value weights_sha256)" = "$want" ]; then
  echo "masks drawn anew should have changed the weights" >&2
  failed=1
fi
exit $failed
