#!/bin/bash
# Which hosts the lab has, for people and for test harnesses.
#
#   hosts.sh                    one line per host: NAME ROLE IP CONTAINER
#   hosts.sh exec HOST CMD...   runs a command as root on a host
#   hosts.sh network            name of the lab's Docker network
set -euo pipefail
# shellcheck source=lab/lib.sh
. "$(dirname "$0")/lib.sh"
load_settings
case ${1:-} in
'') hosts ;;
network) network ;;
exec)
  [ $# -ge 3 ] || die "usage: hosts.sh exec HOST COMMAND..."
  shift
  on "$@"
  ;;
*) die "usage: hosts.sh [network | exec HOST COMMAND...]" ;;
esac
