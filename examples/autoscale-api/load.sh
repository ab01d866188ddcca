#!/bin/bash
# Asks URL from some clients, a connection for each request, for SECONDS. None may fail.
#
#   load.sh URL SECONDS
set -euo pipefail
url=$1 seconds=$2
report=$(ab -q -l -s 30 -c 16 -t "$seconds" -n 1000000 "$url" 2>&1)
count() { sed -n "s/^$1: *\([0-9]*\).*/\1/p" <<<"$report"; }
failed=$(count 'Failed requests') other=$(count 'Non-2xx responses')
echo "$(count 'Complete requests') requests, ${failed:-?} failed, ${other:-0} not 2xx"
[ "$failed" = 0 ] && [ -z "$other" ]
