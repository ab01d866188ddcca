#!/bin/bash
# Runs a command beside a Docker Engine of its own: that of a Debian suite, in namespaces of its
# own, so that nothing of this machine's engine, network or firewall is touched, and nothing is
# left once the command has ended. Nothing is installed on this machine.
#
#   engine.sh SUITE [classic|containerd] COMMAND...
#
# SUITE: bookworm (20.10), trixie (26.1), sid (28.5 or newer). The store is the engine's image
# store: classic by default; containerd is in engines from 24 on. The command gets DOCKER_HOST, an
# empty engine but for the image longshore-engine-test:1 (busybox), and loopback as its network.
# Ends with 77 where the suite's packages cannot be had.
set -euo pipefail
# shellcheck source=lab/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=lab/apt-apart.sh
. "$(dirname "$0")/apt-apart.sh"

suite=${1:?usage: engine.sh SUITE [classic|containerd] COMMAND...}
store=classic
shift
case ${1:-} in classic | containerd) store=$1 && shift ;; esac
[ $# -gt 0 ] || die "usage: engine.sh SUITE [classic|containerd] COMMAND..."
dir=$LAB_STATE/engine-$suite
root=$dir/root

unpack() {
  local package folder why new=$root.new
  mkdir -p "$dir"
  why=$(fetch_packages "$dir" "$suite" docker.io busybox-static 2>&1) || {
    say "skipped: the engine of $suite cannot be had: $why" >&2
    exit 77
  }
  rm -rf "$new"
  mkdir -p "$new"
  for package in "$dir"/apt/cache/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -C "$new" -x --keep-directory-symlink || return 1
  done
  for folder in bin sbin lib lib64; do
    # Suites from before everything was under /usr have both.
    if [ -d "$new/$folder" ] && [ ! -L "$new/$folder" ]; then
      cp -a "$new/$folder/." "$new/usr/$folder/" && rm -rf "$new/$folder"
    fi
    [ ! -e "$new/usr/$folder" ] || ln -sfn "usr/$folder" "$new/$folder"
  done
  mkdir -p "$new"/{proc,sys,dev,run,tmp,var/lib/docker}
  # What installing would have chosen.
  for folder in iptables ip6tables; do ln -sfn xtables-nft-multi "$new/usr/sbin/$folder"; done
  rm -rf "$root" "$dir/apt"
  mv "$new" "$root"
}

# Inside: the first process of its namespaces; what is left when it ends is ended by the kernel.
start_engine() {
  local socket=$root/run/docker.sock in_containerd=false
  [ "$store" = classic ] || in_containerd=true
  ip link set lo up
  mount --bind "$root" "$root"
  mount -t proc proc "$root/proc"
  mount --rbind /sys "$root/sys"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs tmpfs "$root/run"
  rm -rf "$root/var/lib/docker"
  mkdir -p "$root/var/lib/docker" "$root/etc/docker" "$root/mnt"
  echo "{\"features\": {\"containerd-snapshotter\": $in_containerd}}" >"$root/etc/docker/daemon.json"
  # The root of its mounts, not only of its files: commands run in containers begin there.
  # shellcheck disable=SC2016  # $1 is the inner shell's
  unshare --mount -- sh -c '
    cd "$1" && pivot_root . mnt && cd / && busybox umount -l /mnt &&
      PATH=/usr/sbin:/usr/bin:/sbin:/bin exec dockerd --host unix:///run/docker.sock --cgroup-parent /longshore-engine
  ' sh "$root" >"$dir/dockerd.log" 2>&1 &
  engine=$!
  trap 'kill "$engine" 2>/dev/null && wait "$engine" 2>/dev/null || true' EXIT
  export DOCKER_HOST=unix://$socket
  for _ in $(seq 150); do
    version=$(curl -sf --unix-socket "$socket" http://engine/version 2>/dev/null) && break
    kill -0 "$engine" 2>/dev/null || break
    sleep 0.2
  done
  [ -n "${version:-}" ] || die "the engine of $suite does not start; $dir/dockerd.log ends: $(tail -n 3 "$dir/dockerd.log")"
}

# busybox under the names that it knows, as one layer.
import_image() {
  local tree=$dir/busybox name
  rm -rf "$tree"
  mkdir -p "$tree/bin" "$tree/tmp"
  chmod 1777 "$tree/tmp"
  cp "$root/bin/busybox" "$tree/bin/busybox"
  for name in $("$root/bin/busybox" --list); do
    [ "$name" = busybox ] || ln -sf busybox "$tree/bin/$name"
  done
  tar -C "$tree" -c . | curl -sf --unix-socket "$root/run/docker.sock" -X POST -T - \
    -H 'Content-Type: application/x-tar' \
    'http://engine/images/create?fromSrc=-&repo=longshore-engine-test&tag=1' >/dev/null ||
    die "the engine of $suite does not import an image"
}

if [ -z "${LONGSHORE_ENGINE_INSIDE:-}" ]; then
  [ "$(id -u)" = 0 ] || die "an engine of its own needs root"
  mkdir -p "$dir"
  # One at a time: it has one directory.
  exec 8>"$dir/lock"
  flock -n 8 || die "the engine of $suite runs already"
  [ -x "$root/usr/sbin/dockerd" ] || unpack
  export LONGSHORE_ENGINE_INSIDE=1
  exec unshare --mount --net --pid --fork --kill-child --mount-proc -- "$0" "$suite" "$store" "$@"
fi
unset LONGSHORE_ENGINE_INSIDE
start_engine
import_image
info=$(curl -sf --unix-socket "$root/run/docker.sock" http://engine/info)
driver=$(grep -o '"Driver":"[^"]*"' <<<"$info" | head -n 1)
say "engine $(sed -n 's/.*"Version":"\([^"]*\)","ApiVersion".*/\1/p' <<<"$version") of $suite, $store store, ${driver//\"/}"
if [ "$store" = containerd ] && ! grep -q 'io.containerd.snapshotter.v1' <<<"$info"; then
  say "skipped: the engine of $suite has no containerd store" >&2
  exit 77
fi
"$@" 8>&-
