#!/bin/bash
# Builds the example's two images, and loads them into the workers of the lab.
set -euo pipefail
# shellcheck source=lab/lib.sh
. "$(dirname "$0")/../../lab/lib.sh"
load_settings

for name in web redis; do
  image=longshore/counter-$name:1
  # The proxies' values come from the environment, if there are any.
  docker build -q --build-arg http_proxy --build-arg https_proxy --build-arg no_proxy \
    -t "$image" "$LAB_ROOT/examples/web-redis/$name" >/dev/null
  # lab-down removes what the lab made.
  grep -qxF "$image" "$LAB_STATE/images" || echo "$image" >>"$LAB_STATE/images"
  for host in $(workers); do
    docker save "$image" | on "$host" docker load -q | sed "s/^/$host: /"
  done
done
