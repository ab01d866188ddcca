#!/bin/bash
# Fetches the haproxy package of another Debian suite into a directory, with the libraries that it
# needs, and makes DIR/haproxy run it there. Nothing is installed on this machine.
#
#   haproxy-package.sh DIR [SUITE]      prints the program's path; SUITE is trixie (3.0) by default
set -euo pipefail
# shellcheck source=lab/lib.sh
. "$(dirname "$0")/lib.sh"

dir=${1:?usage: haproxy-package.sh DIR [SUITE]} suite=${2:-trixie}
gone() { die "the haproxy package of $suite cannot be had: $*"; }
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
program=$dir/haproxy

# apt_apart: a package database of its own in which nothing is installed, so that all libraries
# come along.
apt_apart() {
  timeout 120 apt-get -o Dir::Etc::SourceList="$dir/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State="$dir/apt" -o Dir::State::Status="$dir/apt/status" -o Dir::Cache="$dir/apt/cache" \
    -o APT::Sandbox::User=root -o Acquire::Languages=none -o Debug::NoLocking=1 "$@"
}

fetch() {
  local keys=/usr/share/keyrings/debian-archive-keyring.gpg mirror
  command -v apt-get >/dev/null || gone "there is no apt-get here"
  # From where this machine has its own packages.
  mirror=$(apt-get indextargets --format "\$(REPO_URI)" "Created-By: Packages" "Component: main" \
    "Release: $(. /etc/os-release && echo "$VERSION_CODENAME")" | head -n 1)
  [ -n "$mirror" ] && [ -f "$keys" ] || gone "this machine's packages are not Debian's"
  mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial"
  : >"$dir/apt/status"
  echo "deb [signed-by=$keys] $mirror $suite main" >"$dir/sources.list"
  {
    apt_apart update && apt_apart install --download-only --no-install-recommends -y haproxy
  } >"$dir/apt.log" 2>&1 || gone "$(grep '^E:' "$dir/apt.log" | head -n 1), see $dir/apt.log"
}

if [ ! -x "$program" ]; then
  fetch
  mkdir -p "$dir/root"
  for package in "$dir"/apt/cache/archives/*.deb; do
    case ${package##*/} in haproxy_* | lib* | zlib1g_*) dpkg-deb -x "$package" "$dir/root" ;; esac
  done
  loader=$(find "$dir/root" -name 'ld-linux*.so.*' | head -n 1)
  libraries=$(find "$dir/root" -path '*/lib*' -name 'lib*.so.*' -printf '%h\n' | sort -u | paste -sd:)
  # Under its own name also where it starts itself again: a master does so at each reload.
  cat >"$program.new" <<EOF
#!/bin/sh
exec "$loader" --library-path "$libraries" --argv0 "$program" "$dir/root/usr/sbin/haproxy" "\$@"
EOF
  chmod +x "$program.new"
  "$program.new" -v >/dev/null || gone "it does not run here"
  mv "$program.new" "$program"
  rm -rf "$dir/apt"
fi
echo "$program"
