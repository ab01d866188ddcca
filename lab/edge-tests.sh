#!/bin/bash
# Runs the HAProxy driver's tests against another HAProxy than the installed one.
#
#   edge-tests.sh [PROGRAM]     by default Debian 13's package, which is fetched (SUITE=sid: another)
set -euo pipefail
# shellcheck source=lab/lib.sh
. "$(dirname "$0")/lib.sh"

suite=${SUITE:-trixie}
program=${1:-}
[ -n "$program" ] || program=$("$LAB_ROOT/lab/haproxy-package.sh" "$LAB_STATE/haproxy-$suite" "$suite")
program=$(realpath -s "$program")
[ -x "$program" ] || die "$program is no program"
first=$(mktemp -d)
trap 'rm -rf "$first"' EXIT
# The tests take the first program of this name.
ln -s "$program" "$first/haproxy"
export PATH=$first:$PATH
say "the driver's tests against $(haproxy -v | head -n 1)"
cd "$LAB_ROOT"
what=(-p longshore-haproxy-driver)
if cargo nextest --version >/dev/null 2>&1; then
  # CI has built the whole workspace, with features that this package alone would not have.
  [ -z "${CI:-}" ] || what=(--workspace --exclude longshore-lab -E 'package(longshore-haproxy-driver)')
  cargo nextest run "${what[@]}"
else
  cargo test "${what[@]}"
fi
