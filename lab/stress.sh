#!/bin/bash
# Puts load on the lab for a bounded time.
#
#   stress.sh cpu  [SECONDS]   stress-ng on every worker, or on the one named ON (CPU_LOAD percent
#                              of its CPUs, 90)
#   stress.sh http [SECONDS]   wrk on the app's /burn, through HAProxy (CONNECTIONS 16, BURN_MS 50)
set -euo pipefail
# shellcheck source=lab/lib.sh
. "$(dirname "$0")/lib.sh"
load_settings
seconds=${2:-60}
[[ $seconds =~ ^[1-9][0-9]{0,3}$ ]] || die "SECONDS=$seconds: a number from 1 to 9999"

stress_one() {
  # A container sees all of this machine's CPUs, but may use LAB_CPUS of them.
  on "$1" timeout $((seconds + 5)) stress-ng --quiet --cpu "$(awk -v c="$LAB_CPUS" 'BEGIN { print int(c + 0.999) }')" \
    --cpu-load "${CPU_LOAD:-90}" --timeout "${seconds}s"
}

all_running || die "the lab is not up: make lab"
case ${1:-} in
cpu)
  chosen=$(workers | grep -x -- "${ON:-.*}") || die "ON=${ON:-}: no worker of that name"
  say "stress-ng on $(paste -sd' ' <<<"$chosen") for $seconds s; watch it: controllerctl node ls -w"
  each stress_one <<<"$chosen"
  ;;
http)
  url="http://$(users_ip):8080/burn?ms=${BURN_MS:-50}"
  say "wrk on $url for $seconds s; watch it: controllerctl status -w"
  report=$(wrk -t 1 -c "${CONNECTIONS:-16}" -d "${seconds}s" --timeout 30s "$url")
  echo "$report"
  # wrk names them only if there are any.
  if grep -E 'Non-2xx|Socket errors' <<<"$report" >/dev/null; then
    die "some requests failed: see above, controllerctl status, controllerctl why hello"
  fi
  say "no request failed"
  ;;
*) die "usage: stress.sh cpu|http [SECONDS]" ;;
esac
