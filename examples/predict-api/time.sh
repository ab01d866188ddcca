#!/bin/bash
# How long 100 predictions take, 10 at a time.
#
#   time.sh URL
set -euo pipefail
replicas=$(controllerctl ps predict-api/api -o json | jq '[.[] | select(.traffic == "serve")] | length')
report=$(ab -q -l -s 60 -n 100 -c 10 -T application/json -p "$(dirname "$0")/setosa.json" "${1%/}/predict" 2>&1)
if ! grep -q '^Failed requests: *0$' <<<"$report" || grep -q Non-2xx <<<"$report"; then
  echo "$report" >&2
  exit 1
fi
awk -v n="$replicas" '/^Time taken/ { printf "%s replicas: 100 requests in %s s\n", n, $5 }' <<<"$report"
