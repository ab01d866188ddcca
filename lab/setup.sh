#!/bin/bash
# Gets this machine ready: packages by apt, and a Docker Engine that answers.
# Records what it added in .lab/, for lab/down.sh.
#
#   setup.sh lab | test        what to get ready for
set -euo pipefail
# shellcheck source=lab/lib.sh
. "$(dirname "$0")/lib.sh"

# command:package pairs; a command that is there already needs no package.
LAB_NEEDS=(dockerd:docker.io debootstrap:debootstrap vagrant:vagrant rsync:rsync curl:curl jq:jq
  cc:build-essential iptables:iptables openssl:openssl ip:iproute2 ab:apache2-utils wrk:wrk ssh:openssh-client)
TEST_NEEDS=(haproxy:haproxy etcd:etcd-server cc:build-essential)

# can_reach_engine: a Docker Engine answers already, whoever runs it.
can_reach_engine() { command -v docker >/dev/null && docker version >/dev/null 2>&1; }

missing_packages() {
  local pair command package
  for pair in "$@"; do
    command=${pair%%:*} package=${pair#*:}
    [ "$package" = docker.io ] && can_reach_engine && continue
    # sbin is not on every user's path.
    PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || echo "$package"
  done
}

# newly installed packages, dependencies included, are what lab-purge removes.
install_packages() {
  local wanted=() before
  mapfile -t wanted < <(missing_packages "$@")
  [ ${#wanted[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "missing: ${wanted[*]}; there is no apt-get here, install them by hand"
  say "installing ${wanted[*]}"
  before=$(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' | sed -n 's/^ii *//p' | sort)
  {
    as_root apt-get update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${wanted[@]}"
  } >"$LAB_STATE/apt.log" 2>&1 || {
    tail -n 5 "$LAB_STATE/apt.log" >&2
    die "apt-get cannot install ${wanted[*]}; see .lab/apt.log"
  }
  dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' | sed -n 's/^ii *//p' | sort |
    comm -13 <(echo "$before") - >>"$LAB_STATE/installed"
}

start_engine() {
  can_reach_engine && return 0
  if [ -S /var/run/docker.sock ] && [ "$(id -u)" != 0 ] && as_root docker version >/dev/null 2>&1; then
    die "you may not talk to the Docker Engine: run as root, or join the group docker and log in again"
  fi
  say "starting the Docker Engine"
  # What an engine changes on the machine and leaves behind when it stops.
  {
    echo "ip_forward=$(cat /proc/sys/net/ipv4/ip_forward)"
    echo "forward_policy=$(as_root iptables -S FORWARD 2>/dev/null | sed -n 's/^-P FORWARD //p')"
  } >"$LAB_STATE/started-engine"
  if [ -d /run/systemd/system ]; then
    as_root systemctl start docker
  else
    # No init system here: in the background, detached from this terminal and its pipes.
    # shellcheck disable=SC2016  # $1 is the inner shell's
    as_root sh -c 'exec setsid dockerd </dev/null >"$1" 2>&1 9>&- &' sh "$LAB_STATE/dockerd.log"
  fi
  wait_for 45 can_reach_engine && return 0
  tail -n 5 "$LAB_STATE/dockerd.log" >&2 || true
  die "the Docker Engine does not start; see .lab/dockerd.log (a container without rights to mount and to change iptables cannot run one)"
}

check_disk() {
  local free
  free=$(df -Pm /var/lib 2>/dev/null | awk 'NR == 2 { print $4 }')
  [ "${free:-99999}" -ge 4096 ] || die "$free MiB free on /var/lib: the lab needs 4096; docker system prune frees some"
}

mkdir -p "$LAB_STATE"
case ${1:-lab} in
lab)
  check_disk
  install_packages "${LAB_NEEDS[@]}"
  start_engine
  ;;
test) install_packages "${TEST_NEEDS[@]}" ;;
*) die "usage: setup.sh lab|test" ;;
esac
