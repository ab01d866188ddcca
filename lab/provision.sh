#!/bin/bash
# Makes a machine a lab host: the one provision script of all providers, run inside the host.
# Idempotent: says what it changed, restarts only what a change concerns.
#
#   provision.sh NAME edge|worker|controller IP CONTROLLER_IP [SOURCE [VIRTUAL_IP OTHER_EDGE_IP]]
#
# SOURCE (/vagrant) is the synced repository; the programs come from its .lab/bin. An edge at
# CONTROLLER_IP has the controller; one with a VIRTUAL_IP shares that with the other edge.
# On a VM systemd supervises the services, in a lab container runit does.
set -euo pipefail

name=${1:?NAME}
role=${2:?edge, worker or controller}
ip=${3:?IP}
controller_ip=${4:?CONTROLLER_IP}
src=${5:-/vagrant}
virtual_ip=${6:-}
other_ip=${7:-}
state=/var/lib/longshore

say() { echo "$name: $*"; }
die() {
  echo "$name: $*" >&2
  exit 1
}
under_systemd() { [ -d /run/systemd/system ]; }

# put MODE SOURCE TARGET: copies if the content differs, by rename so that running programs stay
# whole; true if it changed something.
put() {
  cmp -s "$2" "$3" && return 1
  install -D -m "$1" "$2" "$3.new" || die "cannot write $3"
  mv -f "$3.new" "$3" || die "cannot write $3"
  say "installed $3"
}

# --- packages -------------------------------------------------------------------------------

# The image of a lab container has them all; a plain Debian box gets them here.
install_packages() {
  local wanted=() missing=() p
  mapfile -t wanted <"$src/lab/host/packages"
  [ "$role" = worker ] && under_systemd && wanted+=(apparmor)
  for p in "${wanted[@]}"; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  say "installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# --- services -------------------------------------------------------------------------------

# Puts the definition of a service there without starting it; true if it changed something.
define_service() {
  local service=$1 changed=1
  if under_systemd; then
    put 644 "$src/packaging/systemd/longshore-$service.service" \
      "/etc/systemd/system/longshore-$service.service" && changed=0
    [ $changed = 0 ] && systemctl daemon-reload
  else
    put 755 "$src/packaging/runit/$service/run" "/etc/sv/$service/run" && changed=0
    put 755 "$src/packaging/runit/$service/log/run" "/etc/sv/$service/log/run" && changed=0
  fi
  return $changed
}

is_enabled() {
  if under_systemd; then
    systemctl is-enabled -q "longshore-$1" 2>/dev/null
  else
    [ -e "/etc/service/$1" ]
  fi
}

# enable_service NAME: starts it, now and at every boot.
enable_service() {
  is_enabled "$1" && return 0
  if under_systemd; then
    systemctl enable -q --now "longshore-$1"
  else
    ln -sfn "/etc/sv/$1" "/etc/service/$1"
  fi
  say "started $1"
}

restart_service() {
  is_enabled "$1" || return 0
  if under_systemd; then
    systemctl restart "longshore-$1"
  else
    sv restart "$1" >/dev/null
  fi
  say "restarted $1"
}

# install_service NAME CHANGED: defines a service and restarts it if it, or its program
# (CHANGED=0), is new. Does not enable it.
install_service() {
  local service=$1 changed=$2
  define_service "$service" && changed=0
  [ "$changed" = 0 ] && restart_service "$service"
  return 0
}

# --- the host's engine (workers) --------------------------------------------------------------

install_engine() {
  local changed=1
  put 644 "$src/lab/host/daemon.json" /etc/docker/daemon.json && changed=0
  if under_systemd; then
    systemctl enable -q docker
    if [ $changed = 0 ]; then systemctl restart docker; else systemctl start docker; fi
  elif [ ! -e /etc/service/dockerd ]; then
    enable_service dockerd
  elif [ $changed = 0 ]; then
    restart_service dockerd
  fi
  for _ in $(seq 120); do
    docker version >/dev/null 2>&1 && return 0
    sleep 0.25
  done
  die "the Docker Engine does not answer within 30 s; see /var/log/longshore/dockerd/current"
}

# --- the edge ---------------------------------------------------------------------------------

# The first configuration, until the edge agent has rendered its own: only the statistics, so that
# the service can start before the node has joined. No maxconn: HAProxy fits it to the descriptors
# that it may open, which are few in some containers.
first_haproxy_cfg() {
  cat <<'CFG'
global
    stats socket /run/haproxy/admin.sock mode 660 level admin
defaults
    mode http
    timeout connect 2s
    timeout client 30s
    timeout server 30s
frontend stats
    bind :8404
    http-request use-service prometheus-exporter if { path /metrics }
    stats enable
    stats uri /stats
    stats refresh 2s
CFG
}

# The agent's settings for its HAProxy; true if it changed something. HAProxy needs two descriptors
# per connection and does not start where it cannot have them. A container may offer fewer than the
# agent's default of 20,000 connections takes, for good.
edge_settings() {
  local limit file changed=1
  limit=$(ulimit -Hn)
  file=$(mktemp)
  if ! under_systemd && [ "$limit" != unlimited ] && [ "$limit" -lt 42000 ]; then
    printf '[haproxy]\n# This host offers %s descriptors.\nconnections_max = %s\n\n' \
      "$limit" $(((limit - 2000) / 2)) >"$file"
  fi
  cat "$src/lab/host/edge.toml" >>"$file"
  put 644 "$file" /etc/longshore/node-agent.toml && changed=0
  if under_systemd; then
    echo "NODE_AGENT_ARGS=--config /etc/longshore/node-agent.toml" >"$file"
    put 644 "$file" /etc/longshore/node-agent.env && changed=0
  fi
  rm -f "$file"
  return $changed
}

install_haproxy() {
  local cfg=$state/haproxy/haproxy.cfg
  if [ ! -s "$cfg" ]; then
    install -d "$state/haproxy" /run/haproxy
    first_haproxy_cfg >"$cfg.new"
    haproxy -c -q -f "$cfg.new" || die "HAProxy refuses the first configuration, $cfg.new"
    mv "$cfg.new" "$cfg"
  fi
  # Debian's own unit would bind the same ports.
  under_systemd && systemctl disable -q --now haproxy 2>/dev/null
  install_service haproxy 1
  enable_service haproxy
}

# Debian's package brings a unit of its own, which runs once there is a file; runit has ours.
install_keepalived() {
  local changed=1 file dev
  file=$(mktemp)
  dev=$(ip -o -4 addr show to "$ip" | awk '{ print $2 }')
  sed -e "s/\beno1\b/$dev/; s/\bedge1\b/$name/" -e "s/192\.0\.2\.9\b/$virtual_ip/" \
    -e "s/192\.0\.2\.11\b/$ip/; s/192\.0\.2\.12\b/$other_ip/" "$src/packaging/keepalived/keepalived.conf" >"$file"
  put 755 "$src/packaging/keepalived/edge-alive" /usr/local/lib/longshore/edge-alive || true
  put 644 "$file" /etc/keepalived/keepalived.conf && changed=0
  rm -f "$file"
  if under_systemd; then
    systemctl enable -q keepalived
    if [ $changed = 0 ]; then systemctl restart keepalived; else systemctl start keepalived; fi
  else
    install_service keepalived $changed
    enable_service keepalived
  fi
}

install_controller() {
  local program_changed=$1 data=$state/controller
  id longshore >/dev/null 2>&1 ||
    useradd --system --home-dir "$state" --shell /usr/sbin/nologin --user-group longshore
  install -d -m 700 -o longshore -g longshore "$data"
  if [ ! -f "$data/ca.pem" ] && [ "$role" != controller ]; then
    runuser -u longshore -- /usr/local/bin/controller init --data-dir "$data" --cluster lab --config /etc/longshore/controller.toml \
      --listen 0.0.0.0:7443 --advertise "$ip,$name" --context-out "$data/operator.context"
    say "controller initialised"
  fi
  install_service controller "$program_changed"
  # A further one gets its keys from the first (lab/controllers.sh join).
  if [ -f "$data/ca.pem" ]; then enable_service controller; fi
}

# The controller's settings; true if it changed something.
controller_settings() {
  local file changed=1
  file=$(mktemp)
  if [ -e /etc/longshore/etcd/env ]; then
    "$src/lab/controllers.sh" settings "$ip" "$name" >"$file"
  else
    cat "$src/lab/host/controller.toml" >"$file"
  fi
  put 644 "$file" /etc/longshore/controller.toml && changed=0
  rm -f "$file"
  return $changed
}

# --- main -------------------------------------------------------------------------------------

[ "$(id -u)" = 0 ] || die "provision.sh needs root"
case $role in edge | worker | controller) ;; *) die "unknown role $role: edge, worker or controller" ;; esac
[ -x "$src/.lab/bin/node-agent" ] || die "no programs in $src/.lab/bin: run make build"

install_packages
install -d -m 755 "$state" /etc/longshore
[ -d "$state/agent" ] || install -d -m 700 "$state/agent"
printf 'NAME=%s\nROLE=%s\nIP=%s\nCONTROLLER=%s\n' "$name" "$role" "$ip" "$controller_ip" >/etc/longshore/host

agent_changed=1 controller_changed=1
put 755 "$src/.lab/bin/node-agent" /usr/local/bin/node-agent && agent_changed=0
put 755 "$src/.lab/bin/controllerctl" /usr/local/bin/controllerctl || true
if [ "$ip" = "$controller_ip" ] || [ "$role" = controller ]; then
  put 755 "$src/.lab/bin/controller" /usr/local/bin/controller && controller_changed=0
  controller_settings && controller_changed=0
  install_controller $controller_changed
fi
if [ "$role" = controller ]; then
  say "ready ($role, $ip)"
  exit 0
fi
if [ "$role" = edge ]; then
  install_haproxy
  edge_settings && agent_changed=0
  [ -z "$virtual_ip" ] || install_keepalived
else
  install_engine
fi
install_service node-agent $agent_changed
# An enrolled node's agent always runs; the first time lab/join.sh starts it.
if [ -f "$state/agent/identity/cert.pem" ]; then enable_service node-agent; fi
say "ready ($role, $ip)"
