#!/bin/bash
# Of 100 requests to URL/host two hosts answer 50 each; /date is the time in UTC.
#
#   test.sh URL
set -euo pipefail
url=${1%/}
date=$(curl -sf -m 10 "$url/date")
[ $(($(date +%s) - $(date -d "$date" +%s))) -le 60 ] || { echo "/date says $date" >&2; exit 1; }
answers=$(for _ in $(seq 100); do curl -sf -m 10 "$url/host"; done | sort | uniq -c)
echo "$answers"
[ "$(awk '{ print $1 }' <<<"$answers" | paste -sd' ')" = "50 50" ] || { echo "not 50 and 50" >&2; exit 1; }
echo "50 each of 100 requests"
