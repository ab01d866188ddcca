#!/bin/bash
# What `make bench-handover` needs: its programs, the app's image on the workers, and the run.
#
#   CYCLES=20 KILLS=20 GATE=on|off PEERS=classic,swarm lab/bench.sh
set -euo pipefail
# shellcheck source=lab/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$LAB_ROOT"
load_settings

TARGET=${CARGO_TARGET_DIR:-target}
# shellcheck source=lab/bench-image.sh
. lab/bench-image.sh

# The gate off: a controller with a seeded mistake, which stops replicas before they have drained.
# No other build has it, and the edge gets its own controller back whatever happens.
controller_with_mistake() {
  local mutant=$LAB_STATE/controller.mutant
  cargo build -q --release -p controller --features mutants || return 1
  cp "$TARGET/release/controller" "$mutant" || return 1
  # What lies there is the ordinary one again.
  cargo build -q --release -p controller || return 1
  on edge sh -c 'cat > /usr/local/bin/controller.mutant' <"$mutant" || return 1
  on edge sh -c '
    set -e
    cd /usr/local/bin
    [ -e controller.whole ] || cp -p controller controller.whole
    printf "#!/bin/sh\nLONGSHORE_MUTANT=StopBeforeDrain exec /usr/local/bin/controller.mutant \"\$@\"\n" >controller.new
    chmod 755 controller.new controller.mutant
    mv -f controller.new controller
    sv restart controller' >/dev/null
}

controller_as_it_was() {
  on edge sh -c '
    cd /usr/local/bin
    mv -f controller.whole controller && rm -f controller.mutant && sv restart controller' >/dev/null
}

main() {
  all_running || die "the lab is not up: make lab"
  step "programs of the bench" cargo build -q --release -p longshore-lab --bin bench-handover --bin lab-load
  bench_image
  if [ "${GATE:-on}" = off ]; then
    [ "$LAB_PROVIDER" = docker ] || die "GATE=off needs the docker provider"
    trap controller_as_it_was EXIT
    step "a controller with a seeded mistake" controller_with_mistake
    wait_for 30 ctl --context lab node ls -o json || die "that controller does not answer"
  fi
  "$TARGET/release/bench-handover"
}
main
