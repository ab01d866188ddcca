#!/bin/bash
# Asks URL again and again, ten times a second at most, and counts answers and failures.
# usage: loop.sh URL SECONDS
set -euo pipefail
url=$1 until=$((SECONDS + $2)) good=0 bad=0 slowest=0
while [ "$SECONDS" -lt "$until" ]; do
  if took=$(curl -sf -m 10 -o /dev/null -w '%{time_total}' "$url"); then
    good=$((good + 1))
    slowest=$(printf '%s\n%s\n' "$slowest" "$took" | sort -g | tail -n 1)
  else
    bad=$((bad + 1))
    echo "failed at $(date -u +%T)"
  fi
  sleep 0.1
done
echo "$good answers, $bad failures; slowest $slowest s"
