#!/usr/bin/env bash
# fuzz.sh TARGET SECONDS [OPTIONS of libFuzzer]: lets a fuzzer look, from what is kept in fuzz/seeds and what it found
# interesting before. What it finds is written to fuzz/seeds, so that it is looked at first from then on.
set -euo pipefail
target=$1 seconds=$2
shift 2
root=$(cd "$(dirname "$0")/.." && pwd)
seeds=$root/fuzz/seeds/$target
corpus=$root/target/fuzz/corpus/$target
log=$root/target/fuzz/$target.log
mkdir -p "$seeds" "$corpus"
program=$(ls "$root"/target/fuzz/*/release/"$target")
if ! "$program" "$corpus" "$seeds" -artifact_prefix="$seeds/found-" -len_control=0 -timeout=10 -rss_limit_mb=1024 \
  -max_total_time="$seconds" "$@" >"$log" 2>&1; then
  tail -n 40 "$log"
  echo "fuzz: $target found something: $seeds" >&2
  exit 1
fi
awk -v target="$target" '/^Done/ { runs = $2; secs = $5 } /cov:/ { for (i = 1; i < NF; i++) if ($i == "cov:") cov = $(i + 1) }
  END { printf "fuzz: %-9s %9d runs in %d s, %d edges reached\n", target, runs, secs, cov }' "$log"
