#!/bin/bash
# Builds an example's images on this machine's engine, and loads them into the workers of the lab:
# examples/NAME/Dockerfile is longshore/NAME:1, examples/NAME/PART/Dockerfile longshore/NAME-PART:1.
#
#   images.sh NAME
set -euo pipefail
# shellcheck source=lab/lib.sh
. "$(dirname "$0")/../lab/lib.sh"
load_settings
cd "$LAB_ROOT/examples"
[[ ${1:-} =~ ^[a-z0-9-]+$ && -d $1 ]] || die "usage: images.sh NAME, one of $(echo */ | tr -d /)"

# The marker on a worker names the image that was loaded last: a second run costs one look.
load() {
  local image=$1 host=$2 id marker=/var/lib/longshore/image-${1//[\/:]/_}
  id=$(docker image inspect -f '{{.Id}}' "$image")
  if [ "$(on "$host" cat "$marker" 2>/dev/null)" = "$id" ] && on "$host" docker image inspect "$image" >/dev/null 2>&1; then
    return 0
  fi
  docker save "$image" | on "$host" docker load -q >/dev/null || die "$host: cannot load $image"
  echo "$id" | on "$host" sh -c "cat > $marker"
}

found=0
for file in "$1"/Dockerfile "$1"/*/Dockerfile; do
  [ -f "$file" ] || continue
  found=1 folder=${file%/Dockerfile}
  image=longshore/${folder//\//-}:1
  # The proxies' values come from the environment, if there are any.
  docker build --build-arg http_proxy --build-arg https_proxy --build-arg no_proxy \
    -t "$image" "$folder" >"$LAB_STATE/build.log" 2>&1 || {
    tail -n 15 "$LAB_STATE/build.log" >&2
    die "cannot build $image; see .lab/build.log"
  }
  # lab-down removes what the lab made.
  grep -qxF "$image" "$LAB_STATE/images" || echo "$image" >>"$LAB_STATE/images"
  workers | each load "$image"
  say "image $image: on $(workers | paste -sd' ')"
done
[ $found = 1 ] || die "examples/$1 has no Dockerfile"
