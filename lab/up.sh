#!/bin/bash
# Brings the lab up, step by step; each step first looks what is there already.
# Needs the three programs in .lab/bin (make build) and a Docker Engine (lab/setup.sh).
set -euo pipefail
# shellcheck source=lab/lib.sh
. "$(dirname "$0")/lib.sh"

check_network() {
  [ "$LAB_PROVIDER" = docker ] || return 0
  docker network inspect "$(network)" >/dev/null 2>&1 && return 0
  local clash
  clash=$(ip -o route show | awk -v n="$LAB_NET." 'index($1, n) == 1 { print $1 " on " $3 }' | head -n 1)
  [ -z "$clash" ] || die "this machine has $clash already: choose another network, such as LAB_NET=192.168.57 make lab"
}

# Containers with our names that Vagrant does not know here would end its start: those of a start
# that was broken off, or of a lab of another clone. A running lab of another clone is left alone.
remove_strays() {
  [ "$LAB_PROVIDER" = docker ] || return 0
  local id name root running
  for id in $(lab_containers); do
    grep -qsxF "$(docker inspect -f '{{.Id}}' "$id")" "$LAB_ROOT"/.vagrant/machines/*/docker/id && continue
    read -r name running root < <(docker inspect -f \
      '{{.Name}} {{.State.Running}} {{range .Mounts}}{{if eq .Destination "/vagrant"}}{{.Source}}{{end}}{{end}}' "$id")
    if [ "$running" = true ] && [ "$root" != "$LAB_ROOT" ] && [ -d "$root" ]; then
      die "a lab of $root runs on this engine (${name#/}): make lab-down there first"
    fi
    say "container ${name#/} of ${root:-an earlier lab}: left over, removed"
    docker rm -fv "$id" >/dev/null
  done
}

# Vagrant looks at all running containers for port collisions and fails if one goes away
# meanwhile: one more try is enough.
start_hosts() {
  local args=(up --no-provision --provider "$LAB_PROVIDER")
  : >"$LAB_STATE/vagrant.log"
  remove_strays
  vagrant_quiet "${args[@]}" || {
    echo '--- second try ---' >>"$LAB_STATE/vagrant.log"
    remove_strays
    vagrant_quiet "${args[@]}"
  } || {
    tail -n 12 "$LAB_STATE/vagrant.log" >&2
    return 1
  }
  if [ "$LAB_PROVIDER" != docker ]; then
    (cd "$LAB_ROOT" && vagrant ssh-config) >"$LAB_STATE/ssh_config" </dev/null
  fi
}

up_hosts() {
  if all_running; then
    say "hosts $(host_names | paste -sd' '): are up already"
  else
    save_settings
    step "hosts $(host_names | paste -sd' ')" start_hosts
  fi
}

provision_one() {
  local host=$1 role
  role=$(hosts | awk -v n="$host" '$1 == n { print $2 }')
  # shellcheck disable=SC2046  # two words, or none
  on "$host" /vagrant/lab/provision.sh "$host" "$role" "$(host_ip "$host")" "$(edge_ip)" /vagrant $(pair_of "$host") |
    sed 's/^/     /'
}

provision() {
  if [ "$LAB_PROVIDER" != docker ]; then vagrant_quiet rsync; fi
  if [ "$CONTROLLERS" != 1 ]; then start_etcd || return 1; fi
  # The first edge before all: every other agent needs its controller.
  provision_one edge && host_names | grep -vx edge | each provision_one
}

# On all hosts that will have a controller: members wait for each other.
start_etcd() {
  local host
  for host in $(controllers); do echo "$host $(host_ip "$host")"; done >"$LAB_STATE/controllers"
  "$LAB_ROOT/lab/controllers.sh" certs && controllers | each start_member && wait_for 30 etcd_serves
}
start_member() { on "$1" /vagrant/lab/controllers.sh member "$1" "$(host_ip "$1")"; }
etcd_serves() { on edge bash -c '. /etc/longshore/etcd/ctl && etcdctl endpoint health'; }

# Out of a copy of the cluster, which holds the keys.
join_controllers() {
  local host
  for host in $(controllers | grep -vx edge); do
    on "$host" test -e /etc/service/controller && continue
    ctl --context lab system backup - 2>/dev/null | on "$host" /vagrant/lab/controllers.sh join || return 1
    echo "     $host: a controller"
  done
}
all_controllers() { [ "$(ctl --context lab system info -o json | jq '.controllers | length')" = "$CONTROLLERS" ]; }

# The marker names the image that was loaded last: an engine may give it another id of its own.
load_demo() {
  local host=$1 id
  id=$(docker image inspect -f '{{.Id}}' "$DEMO_IMAGE")
  [ "$(on "$host" cat /var/lib/longshore/demo-image 2>/dev/null)" = "$id" ] &&
    on "$host" docker image inspect "$DEMO_IMAGE" >/dev/null 2>&1 && return 0
  docker save "$DEMO_IMAGE" | on "$host" docker load -q | sed "s/^/     $host: /" || return 1
  echo "$id" | on "$host" sh -c 'cat > /var/lib/longshore/demo-image'
}

controller_answers() { ctl --context lab node ls -o json; }

# The operator's credential comes out of `controller init` on the edge.
import_context() {
  if controller_answers >/dev/null 2>&1; then
    say "context lab: is there already"
    return 0
  fi
  local file=$LAB_STATE/operator.context
  (umask 077 && on edge cat /var/lib/longshore/controller/operator.context </dev/null >"$file")
  if [ -f "$LAB_STATE/context" ]; then ctl context rm lab >/dev/null 2>&1 || true; fi
  ctl context import "$file" --name lab >/dev/null
  echo "${CONTROLLERCTL_CONFIG:-}" >"$LAB_STATE/context"
  rm -f "$file"
  wait_for 20 controller_answers && return 0
  controller_answers >/dev/null || true
  die "the controller does not answer at https://$(edge_ip):7443; see lab/logs.sh edge controller"
}

join_one() {
  local host=$1 role token
  # Both must know: `node rm` leaves the host's files, a rebuilt host leaves the controller's.
  if grep -qxF "$host" <<<"$known" &&
    on "$host" test -f /var/lib/longshore/agent/identity/cert.pem; then
    return 0
  fi
  role=$(hosts | awk -v n="$host" '$1 == n { print $2 }')
  token=$(ctl --context lab token create --role "$role" --name "$host" --ttl 10m -o json | jq -er .token) ||
    die "no join token for $host"
  echo "$token" | on "$host" /vagrant/lab/join.sh || return 1
  echo "     $host: joined"
}

join_all() {
  known=$(ctl --context lab node ls -q) || return 1
  agents | each join_one
}

nodes_ready() { [ "$(ctl --context lab status -o json | jq .nodes_ready)" -ge $((NODES + EDGES)) ]; }

app_url() { echo "http://$(users_ip):8080/"; }
# Through every edge, and where there are two through their virtual address.
serves() {
  local ip
  for ip in $(hosts | awk '$2 == "edge" { print $3 }') "$(users_ip)"; do
    curl -sf -m 2 -o /dev/null "http://$ip:8080/" || return 1
  done
}

deploy() {
  ctl --context lab up -f "$LAB_ROOT/examples/hello/compose.yaml" -y
  wait_for 90 serves && return 0
  ctl --context lab status >&2 || true
  ctl --context lab ps >&2 || true
  die "the app does not answer at $(app_url) within 90 s; try: controllerctl why hello"
}

summary() {
  cat <<TEXT

The lab is up: $(hosts | wc -l) hosts.
  app               $(app_url)
  HAProxy's stats   $(hosts | awk '$2 == "edge" { print "http://" $3 ":5050/haproxy?stats" }' | paste -sd' ')
Next:
  export PATH=$LAB_BIN:\$PATH
  controllerctl status
  controllerctl scale hello=5
  make lab-stress        (make lab-down removes it all)
TEXT
}

main() {
  mkdir -p "$LAB_STATE"
  exec 9>"$LAB_STATE/lock"
  flock -n 9 || die "another make lab or lab-down is at work here"
  load_settings
  local p
  for p in controller node-agent controllerctl; do
    [ -x "$LAB_BIN/$p" ] || die "$LAB_BIN/$p is missing: make build"
  done
  check_network
  "$LAB_ROOT/lab/images.sh"
  up_hosts
  step "provision" provision
  step "demo image on the workers" eval 'workers | each load_demo'
  import_context
  if [ "$CONTROLLERS" != 1 ]; then
    step "controllers" join_controllers
    wait_for 30 all_controllers || die "not all controllers came up; see lab/logs.sh controller2 controller"
  fi
  step "join" join_all
  wait_for 20 nodes_ready || die "not all nodes came up; try: controllerctl --context lab node ls"
  if serves; then
    say "app hello: serves already"
  else
    step "deploy" deploy
  fi
  summary
}
main "$@"
