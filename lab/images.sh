#!/bin/bash
# The two images of the lab: that of a host, and the demo app's. Builds only what changed.
set -euo pipefail
# shellcheck source=lab/lib.sh
. "$(dirname "$0")/lib.sh"

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# remember IMAGE: lab-down removes what the lab made.
remember() { grep -qxF "$1" "$LAB_STATE/images" 2>/dev/null || echo "$1" >>"$LAB_STATE/images"; }

# Where no registry can be reached, Debian's own bootstrap makes the same image.
base_image() {
  has_image "$BASE_IMAGE" && return 0
  if timeout 120 docker pull -q "$BASE_IMAGE" >/dev/null 2>&1; then
    remember "$BASE_IMAGE"
    return 0
  fi
  say "$BASE_IMAGE cannot be pulled: making it with debootstrap"
  local root=$LAB_STATE/rootfs
  as_root rm -rf "$root"
  as_root debootstrap --variant=minbase bookworm "$root" >"$LAB_STATE/debootstrap.log" 2>&1 || {
    tail -n 3 "$LAB_STATE/debootstrap.log" >&2
    die "debootstrap failed; see .lab/debootstrap.log"
  }
  # What the slim image leaves out, now and for packages that come later.
  printf 'path-exclude /usr/share/%s/*\n' doc man locale info |
    as_root tee "$root/etc/dpkg/dpkg.cfg.d/slim" >/dev/null
  as_root tar -C "$root" -c --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' \
    --exclude='./usr/share/locale/*' --exclude='./usr/share/info/*' \
    --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' . |
    docker import -c 'CMD ["bash"]' - "$BASE_IMAGE" >/dev/null
  as_root rm -rf "$root"
  remember "$BASE_IMAGE"
}

# build IMAGE FOLDER: the label holds a digest of the folder and its base, so that an image that
# is up to date costs one look.
build() {
  local image=$1 folder=$2 digest
  digest=$( (
    docker image inspect -f '{{.Id}}' "$BASE_IMAGE"
    cd "$folder"
    find . -type f -print0 | sort -z | xargs -0 sha256sum
  ) | sha256sum | cut -c1-16)
  if [ "$(docker image inspect -f '{{index .Config.Labels "longshore.digest"}}' "$image" 2>/dev/null)" = "$digest" ]; then
    say "image $image: is there already"
    return 0
  fi
  local start=$SECONDS
  # The proxies' values come from the environment, if there are any.
  docker build --build-arg http_proxy --build-arg https_proxy --build-arg no_proxy \
    --label "longshore.digest=$digest" -t "$image" "$folder" >"$LAB_STATE/build.log" 2>&1 || {
    tail -n 15 "$LAB_STATE/build.log" >&2
    die "cannot build $image; see .lab/build.log"
  }
  remember "$image"
  # What this build replaced: an unnamed image of ours.
  docker image prune -f --filter label=longshore.digest >/dev/null 2>&1 || true
  say "image $image: built ($((SECONDS - start)) s)"
}

base_image
# Virtual machines come from a box.
[ "${LAB_PROVIDER:-docker}" != docker ] || build "$HOST_IMAGE" "$LAB_ROOT/lab/host"
build "$DEMO_IMAGE" "$LAB_ROOT/image/hello"
