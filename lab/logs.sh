#!/bin/bash
# Shows a service's log on a host: logs.sh HOST controller|etcd|node-agent|haproxy|keepalived|dockerd [-f]
set -euo pipefail
# shellcheck source=lab/lib.sh
. "$(dirname "$0")/lib.sh"
load_settings
[ $# -ge 2 ] || die "usage: logs.sh HOST controller|node-agent|haproxy|keepalived|dockerd [-f]"
host=$1 service=$2
shift 2
if [ "$LAB_PROVIDER" = docker ]; then
  on "$host" tail -n 100 "$@" "/var/log/longshore/$service/current"
else
  on "$host" journalctl -n 100 -u "longshore-$service" "$@"
fi
