# shellcheck shell=bash disable=SC2034
# What the lab's scripts share: names, state, messages, and how to run a command on a host.
# Sourced, not run.

LAB_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
LAB_STATE=$LAB_ROOT/.lab
LAB_BIN=$LAB_STATE/bin
HOST_IMAGE=longshore-lab-host:latest
DEMO_IMAGE=longshore/hello:1
BASE_IMAGE=debian:bookworm-slim
# Every setting of the lab; see the Vagrantfile for what they mean.
LAB_SETTINGS=(NODES EDGES CONTROLLERS LAB_NET LAB_CPUS LAB_MEMORY LAB_BOX LAB_DRIVER LAB_PROVIDER)

say() { echo "lab: $*"; }
die() {
  echo "lab: $*" >&2
  exit 1
}

# step TEXT COMMAND...: runs a step and says how long it took. As in every condition, `set -e`
# does not hold inside: a step returns its failures itself.
step() {
  local text=$1 start=$SECONDS
  shift
  "$@" || die "$text: failed"
  say "$text: done ($((SECONDS - start)) s)"
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "'$*' needs root: run as root, or install sudo"
  fi
}

# load_settings: the settings of the lab that is there, or else of the environment. A lab keeps
# the settings that it was made with: the Vagrantfile must name the same hosts in every call.
load_settings() {
  local setting saved
  : "${NODES:=}" "${EDGES:=}" "${CONTROLLERS:=}" "${LAB_NET:=}" "${LAB_CPUS:=}" "${LAB_MEMORY:=}" "${LAB_BOX:=}" "${LAB_DRIVER:=}" "${LAB_PROVIDER:=}"
  if [ -f "$LAB_STATE/env" ]; then
    for setting in "${LAB_SETTINGS[@]}"; do
      saved=$(sed -n "s/^$setting=//p" "$LAB_STATE/env")
      # A lab from before there was a choice.
      case $setting in EDGES | CONTROLLERS) : "${saved:=1}" ;; esac
      [ -z "${!setting}" ] || [ "${!setting}" = "$saved" ] ||
        die "the lab that is there has $setting=$saved, not ${!setting}: make lab-down first"
      printf -v "$setting" %s "$saved"
    done
  fi
  : "${NODES:=3}" "${EDGES:=1}" "${CONTROLLERS:=1}" "${LAB_NET:=192.168.56}" "${LAB_CPUS:=1.0}" "${LAB_MEMORY:=1024}"
  : "${LAB_BOX:=debian/bookworm64}" "${LAB_DRIVER:=kvm}" "${LAB_PROVIDER:=docker}"
  [[ $NODES =~ ^[1-9][0-9]?$ ]] || die "NODES=$NODES: a number from 1 to 99"
  [[ $EDGES =~ ^[12]$ ]] || die "EDGES=$EDGES: 1 or 2"
  [[ $CONTROLLERS =~ ^[13]$ ]] || die "CONTROLLERS=$CONTROLLERS: 1 or 3"
  [ "$CONTROLLERS" = 1 ] || [ "$LAB_PROVIDER" = docker ] || die "CONTROLLERS=3 needs the docker provider"
  [[ $LAB_NET =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || die "LAB_NET=$LAB_NET: three numbers, such as 192.168.56"
  [[ $LAB_CPUS =~ ^[0-9]+(\.[0-9]+)?$ ]] || die "LAB_CPUS=$LAB_CPUS: a number, such as 1.0"
  export "${LAB_SETTINGS[@]}"
  export VAGRANT_DEFAULT_PROVIDER=$LAB_PROVIDER VAGRANT_CHECKPOINT_DISABLE=1 VAGRANT_NO_COLOR=1
  # Debian keeps Vagrant's plugins outside; nothing of the lab's needs to be in the home directory.
  export VAGRANT_HOME=$LAB_STATE/vagrant.d
}

save_settings() {
  local setting
  for setting in "${LAB_SETTINGS[@]}"; do echo "$setting=${!setting}"; done >"$LAB_STATE/env"
}

# hosts: one line per host: NAME ROLE IP CONTAINER
hosts() {
  local i
  echo "edge edge $LAB_NET.10 longshore-lab-edge"
  [ "$EDGES" = 1 ] || echo "edge2 edge $LAB_NET.8 longshore-lab-edge2"
  [ "$CONTROLLERS" = 1 ] || for i in 2 3; do echo "controller$i controller $LAB_NET.$((4 + i)) longshore-lab-controller$i"; done
  for i in $(seq "$NODES"); do echo "worker$i worker $LAB_NET.$((10 + i)) longshore-lab-worker$i"; done
}
host_names() { hosts | cut -d' ' -f1; }
# Those that have an agent.
agents() { hosts | awk '$2 != "controller" { print $1 }'; }
# Those that have a controller, the first one's host first.
controllers() { echo edge && hosts | awk '$2 == "controller" { print $1 }'; }
workers() { hosts | awk '$2 == "worker" { print $1 }'; }
host_ip() { hosts | awk -v n="$1" '$1 == n { print $3 }'; }
container() { echo "longshore-lab-$1"; }
# The first edge, which has the controller as well.
edge_ip() { host_ip edge; }
edges() { hosts | awk '$2 == "edge" { print $1 }'; }
# What users talk to: the edges' virtual address, where there are two of them.
users_ip() { if [ "$EDGES" = 1 ]; then edge_ip; else echo "$LAB_NET.9"; fi; }
# For provision.sh: the virtual address and the other edge, of an edge that has another one.
pair_of() {
  local other
  other=$(edges | grep -vxF "$1" || true)
  if [ "$EDGES" = 2 ] && [ "$(edges | grep -cxF "$1")" = 1 ]; then echo "$(users_ip) $(host_ip "$other")"; fi
}
network() { echo "vagrant_network_$LAB_NET.0/24"; }

# on HOST COMMAND...: runs it as root on a host; standard input is passed on.
on() {
  local host=$1
  shift
  if [ "$LAB_PROVIDER" = docker ]; then
    docker exec -i "$(container "$host")" "$@"
  else
    ssh -F "$LAB_STATE/ssh_config" "$host" "sudo $(printf '%q ' "$@")"
  fi
}

# each COMMAND...: runs `COMMAND HOST` for all hosts that come on standard input, at the same time.
each() {
  local host pids=() pid failed=0
  while read -r host; do
    "$@" "$host" </dev/null &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  return $failed
}

is_running() { [ "$(docker inspect -f '{{.State.Running}}' "$(container "$1")" 2>/dev/null)" = true ]; }

# lab_containers: ids of the hosts' containers on this engine, whoever made them.
lab_containers() { docker ps -aq --filter 'name=^/?longshore-lab-(edge2?|controller[0-9]|worker[0-9]+)$'; }

# all_running: true if every host is up (docker), or has answered before (virtual machines).
all_running() {
  local host
  if [ "$LAB_PROVIDER" != docker ]; then
    [ -s "$LAB_STATE/ssh_config" ] || return 1
    for host in $(host_names); do on "$host" true </dev/null 2>/dev/null || return 1; done
    return 0
  fi
  for host in $(host_names); do is_running "$host" || return 1; done
}

# vagrant_quiet ARGS...: Vagrant's output goes to a log, without the progress lines.
vagrant_quiet() {
  (cd "$LAB_ROOT" && vagrant "$@" --no-tty) </dev/null 2>&1 | tr '\r' '\n' |
    sed '/Progress: /d' >>"$LAB_STATE/vagrant.log"
}

# wait_for SECONDS COMMAND...: tries until it succeeds.
wait_for() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.2
  done
}

ctl() { "$LAB_BIN/controllerctl" "$@"; }
