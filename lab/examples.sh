#!/bin/bash
# The READMEs of the examples, command by command, in a lab; a lab that was not up before is taken down
# again. A line for each: name, ok or failed, seconds, its figures.
#
#   examples.sh [NAME...]
set -euo pipefail
# shellcheck source=lab/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$LAB_ROOT"
load_settings
[ "$LAB_NET $EDGES" = "192.168.56 1" ] || die "the READMEs are written for LAB_NET=192.168.56 and EDGES=1"

down() {
  local status=$?
  # Images and the engine stay if they were there before.
  KEEP=$keep lab/down.sh || true
  exit $status
}

if ! { command -v docker >/dev/null && all_running; }; then
  keep=
  [ ! -f "$LAB_STATE/images" ] || keep=images
  trap down EXIT
fi
make lab
cargo build -q -p longshore-lab --bin lab-examples
"${CARGO_TARGET_DIR:-target}/debug/lab-examples" "$@"
