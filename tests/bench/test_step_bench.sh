#!/usr/bin/env bash
# test_step_bench.sh STEP_BENCH DEVICE [PRECISION]: what `serve` answers is what compare.py reads, and every row of `table`
# trains equal weights in the bytes that are planned. Times are not looked at: the device may be a fake one.
set -uo pipefail
bench=$1 device=$2 precision=${3:-fp32} failed=0
shape=(--layers 4 --width 32 --batch 24 --lr 0.1 --device "$device" --precision "$precision")
say() { echo "$*" >&2; failed=1; }

answers=$(printf 'losses 4\nmemory\nrun 2\nfly\nquit\n' | "$bench" serve "${shape[@]}" --dropout 0) || say 'serve failed'
[ "$(wc -l <<<"$answers")" -eq 5 ] || say "not an answer a line: $answers"
losses() { sed -n 's/{"losses": \[\(.*\)\]}/\1/p' | tr , '\n'; }
# The same network on the CPU loses as much; TF32's factors have 11 bits, bf16's 8.
case $precision in fp32) tolerance=1e-5 ;; tf32) tolerance=1e-3 ;; *) tolerance=1e-2 ;; esac
want=$(printf 'losses 4\nquit\n' | "$bench" serve "${shape[@]}" --dropout 0 --device cpu --precision fp32 | losses)
paste <(losses <<<"$answers") <(echo "$want") |
  awk -v most=$tolerance '{ d = $1 - $2; if (d < 0) d = -d; if (!(d < most * $2)) bad = 1 } END { exit bad || NR != 4 }' || say "other losses: $answers"
value() { sed -n "s/.*\"$1\": \([0-9]*\).*/\1/p" <<<"$answers" | head -1; }
[ -n "$(value planned_bytes)" ] && [ "$(value planned_bytes)" = "$(value peak_bytes)" ] || say 'planned bytes are not those requested'
for key in saved_bytes workspace_bytes used_bytes step_flops recompute_flops; do [ -n "$(value $key)" ] || say "no $key"; done

table=$("$bench" table "${shape[@]}" --rounds 1 --steps 2) || say 'table failed'
grep -q DIFFERENT <<<"$table" && say "$table"
[ "$(grep -c '| equal | equal |$' <<<"$table")" -ge 6 ] || say "rows are missing: $table"

# Refusals are answers too; a smaller budget than any plan's is one.
refusal=$("$bench" serve "${shape[@]}" --budget 100 </dev/null) && say 'a budget of 100 bytes was met'
grep -q '{"ready": false, "error": "no plan fits' <<<"$refusal" || say "$refusal"
"$bench" serve --device abacus </dev/null 2>/dev/null && say 'an unknown device was taken'
exit $failed
