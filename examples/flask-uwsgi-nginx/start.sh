#!/bin/bash
# Both programs; if one ends, so does the container. nginx is told to finish its requests first.
set -uo pipefail
uwsgi --ini /app/uwsgi.ini &
uwsgi=$!
nginx -g 'daemon off;' &
nginx=$!
trap 'kill -QUIT $nginx; wait $nginx; kill -TERM $uwsgi; wait $uwsgi; exit 0' TERM
wait -n
kill $uwsgi $nginx 2>/dev/null
exit 1
