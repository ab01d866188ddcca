#!/bin/bash
# What `make faults` needs: its program, the app's image on the workers, and the run.
#
#   CASES=5,8 ROUNDS=3 lab/faults.sh
set -euo pipefail
# shellcheck source=lab/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$LAB_ROOT"
load_settings
# shellcheck source=lab/bench-image.sh
. lab/bench-image.sh

all_running || die "the lab is not up: make lab"
[ "$LAB_PROVIDER" = docker ] || die "faults need the docker provider"
step "program of the faults" cargo build -q --release -p longshore-lab --bin lab-faults
bench_image
"${CARGO_TARGET_DIR:-target}/release/lab-faults"
