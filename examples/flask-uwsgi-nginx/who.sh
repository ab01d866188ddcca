#!/bin/bash
# Who answers URL: 500 requests, 50 at a time. Fails if a host has one process only.
#
#   who.sh URL
set -euo pipefail
answers=$(seq 500 | xargs -P 50 -I{} curl -sf -m 20 "$1?{}")
count() { jq -r "$1" <<<"$answers" | sort -u | wc -l; }
hosts=$(count .host) processes=$(count '"\(.host) \(.pid)"')
[ "$processes" -ge $((2 * hosts)) ] || { echo "$hosts hosts and $processes processes only" >&2; exit 1; }
echo "$(wc -l <<<"$answers") answers from $hosts hosts, $processes processes"
