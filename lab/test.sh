#!/bin/bash
# The end-to-end tests, in a lab; a lab that was not up before is taken down again.
set -euo pipefail
# shellcheck source=lab/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$LAB_ROOT"
load_settings

down() {
  local status=$?
  # Images and the engine stay if they were there before.
  KEEP=$keep lab/down.sh || true
  exit $status
}

if ! { command -v docker >/dev/null && all_running; }; then
  keep=
  [ ! -f "$LAB_STATE/images" ] || keep=images
  # What context "lab" of the user's means is not for a test to change, or to trip over.
  export CONTROLLERCTL_CONFIG=$LAB_STATE/contexts.toml
  rm -f "$CONTROLLERCTL_CONFIG"
  trap down EXIT
fi
make lab
if cargo nextest --version >/dev/null 2>&1; then
  cargo nextest run -p longshore-lab --profile lab
else
  # One test at a time: they share the lab's hosts.
  cargo test -p longshore-lab -- --test-threads=1
fi
