#!/bin/bash
# Removes the lab: hosts with their volumes, network, context, images, and the Docker Engine if
# make lab started it. KEEP=images keeps images and engine, so that the next make lab is a warm
# one. `down.sh purge` also removes the packages that make lab installed.
set -euo pipefail
# shellcheck source=lab/lib.sh
. "$(dirname "$0")/lib.sh"

remove_context() {
  [ -f "$LAB_STATE/context" ] || return 0
  # The file it was imported into, if not the user's own.
  local CONTROLLERCTL_CONFIG
  CONTROLLERCTL_CONFIG=$(cat "$LAB_STATE/context")
  export CONTROLLERCTL_CONFIG
  # Somebody may have removed it by hand.
  if ctl context ls -q 2>/dev/null | grep -qx lab; then
    ctl context rm lab >/dev/null || die "context lab cannot be removed: controllerctl context rm lab"
  fi
  rm -f "$LAB_STATE/context"
  say "context lab: removed"
}

engine_answers() { command -v docker >/dev/null && docker version >/dev/null 2>&1; }

# By name and all at once: five times as fast as vagrant destroy, and it also finds what Vagrant
# does not know of any more (its state lost, a start broken off).
remove_containers() {
  local ids
  engine_answers || return 0
  ids=$(lab_containers)
  [ -z "$ids" ] || xargs -P 8 -n 1 docker rm -fv <<<"$ids" >/dev/null
  if docker network inspect "$(network)" >/dev/null 2>&1; then
    docker network rm "$(network)" >/dev/null 2>&1 || say "network $(network) is in use by others: left"
  fi
}

remove_machines() {
  command -v vagrant >/dev/null || die "vagrant is missing: the lab's virtual machines cannot be removed"
  vagrant_quiet destroy -f || {
    tail -n 5 "$LAB_STATE/vagrant.log" >&2
    die "vagrant destroy failed; see .lab/vagrant.log"
  }
}

remove_hosts() {
  if [ "$LAB_PROVIDER" = docker ]; then remove_containers; else remove_machines; fi
  rm -rf "$LAB_ROOT/.vagrant"
  rm -f "$LAB_STATE/env" "$LAB_STATE/ssh_config" "$LAB_STATE/controllers"
  rm -rf "$LAB_STATE/etcd"
  say "hosts: removed"
}

remove_images() {
  [ -f "$LAB_STATE/images" ] && engine_answers || return 0
  local image
  # The newest first: images keep their base.
  while read -r image; do
    docker rmi "$image" >/dev/null 2>&1 || say "image $image is in use by others: left"
  done < <(tac "$LAB_STATE/images")
  rm -f "$LAB_STATE/images"
  say "images: removed"
}

# The engine's bridge, packet filter chains and kernel settings outlive it.
undo_network() {
  local ip_forward='' forward_policy=''
  # shellcheck source=/dev/null
  . "$LAB_STATE/started-engine"
  as_root ip link del docker0 2>/dev/null || true
  as_root sh -c "iptables-save | sed '/DOCKER/d;/docker0/d' | iptables-restore" ||
    say "the packet filter still has Docker's chains"
  if [ "$forward_policy" = ACCEPT ]; then as_root iptables -P FORWARD ACCEPT; fi
  if [ "$ip_forward" = 0 ]; then as_root sysctl -qw net.ipv4.ip_forward=0; fi
}

# Leaves an engine alone that others have come to use meanwhile.
stop_engine() {
  [ -f "$LAB_STATE/started-engine" ] && engine_answers || return 0
  if [ -n "$(docker ps -q)" ]; then
    say "the Docker Engine runs containers of others: left running"
    return 0
  fi
  if [ -d /run/systemd/system ]; then
    as_root systemctl stop docker docker.socket
  else
    as_root kill "$(cat /var/run/docker.pid)"
    # It stops answering before it is gone; the pid file goes last.
    wait_for 20 test ! -e /var/run/docker.pid || die "the Docker Engine does not stop; see .lab/dockerd.log"
  fi
  undo_network
  rm -f "$LAB_STATE/started-engine"
  say "Docker Engine: stopped"
}

purge_packages() {
  [ -s "$LAB_STATE/installed" ] || return 0
  local packages=()
  mapfile -t packages < <(sort -u "$LAB_STATE/installed")
  as_root env DEBIAN_FRONTEND=noninteractive apt-get purge -y "${packages[@]}" >"$LAB_STATE/apt.log" 2>&1 ||
    die "apt-get cannot remove ${packages[*]}; see .lab/apt.log"
  rm -f "$LAB_STATE/installed"
  say "packages: removed (${packages[*]})"
  [ ! -d /var/lib/docker ] || say "/var/lib/docker is left: rm -rf it if nobody else used it"
}

main() {
  [ -d "$LAB_STATE" ] || {
    say "there is no lab here"
    return 0
  }
  exec 9>"$LAB_STATE/lock"
  flock -n 9 || die "another make lab or lab-down is at work here"
  load_settings
  remove_context
  remove_hosts
  [ "${KEEP:-}" = images ] && return 0
  remove_images
  stop_engine
  if [ "${1:-}" = purge ]; then purge_packages; fi
  # Only the list of packages outlives the lab, for a later lab-purge.
  find "$LAB_STATE" -mindepth 1 -maxdepth 1 ! -name installed ! -name started-engine -exec rm -rf {} +
  rmdir "$LAB_STATE" 2>/dev/null || true
}
main "$@"
