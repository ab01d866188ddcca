#!/bin/bash
# Fetches the haproxy package of another Debian suite into a directory, with the libraries that it
# needs, and makes DIR/haproxy run it there. Nothing is installed on this machine.
#
#   haproxy-package.sh DIR [SUITE]      prints the program's path; SUITE is trixie (3.0) by default
set -euo pipefail
# shellcheck source=lab/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=lab/apt-apart.sh
. "$(dirname "$0")/apt-apart.sh"

dir=${1:?usage: haproxy-package.sh DIR [SUITE]} suite=${2:-trixie}
gone() { die "the haproxy package of $suite cannot be had: $*"; }
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
program=$dir/haproxy

if [ ! -x "$program" ]; then
  why=$(fetch_packages "$dir" "$suite" haproxy 2>&1) || gone "$why"
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
