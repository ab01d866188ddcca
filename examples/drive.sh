#!/bin/bash
# Puts a load on, and says how many replicas of APP/SERVICE the edge's HAProxy sends requests to, by its own
# statistics, until they are back to FEW or fewer. Fails if there were never more.
#
#   drive.sh APP/SERVICE FEW COMMAND...
set -euo pipefail
# shellcheck source=lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
load_settings
service=$1 few=$2 limit_s=240
shift 2

# Field 18 is a server's status; a seat that nobody has is in MAINT, one that leaves in DRAIN.
up() {
  curl -sf -m 5 "http://$(edge_ip):5050/haproxy?stats;csv" |
    awk -F, -v name="^be_${service/\//_}_" '$1 ~ name && $2 ~ /^slot/ && $18 ~ /^UP/' | wc -l
}
has_few() { [ "$(up)" -le "$few" ] && [ "$(up)" -gt 0 ]; }

wait_for $limit_s has_few || die "still $(up) replicas of $service after $limit_s s"
before=$(up) most=0 now=
"$@" &
load=$!
# What fails leaves no load behind.
trap 'kill "$load" 2>/dev/null || true' EXIT
SECONDS=0
while [ $SECONDS -lt $limit_s ]; do
  last=$now now=$(up)
  [ "$now" = "$last" ] || echo "$SECONDS s: $now in HAProxy"
  [ "$now" -le "$most" ] || most=$now
  if ! kill -0 "$load" 2>/dev/null && [ "$now" -le "$few" ]; then break; fi
  # As often as a person would look.
  sleep 0.5
done
trap - EXIT
wait "$load" || die "the load failed"
[ "$most" -gt "$few" ] || die "never more than $most replicas"
[ "$now" -le "$few" ] || die "still $now replicas after $limit_s s"
echo "$before -> $most -> $now replicas in $SECONDS s"
