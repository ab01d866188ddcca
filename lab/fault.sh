#!/bin/bash
# Faults for tests and for the curious (docker provider): what happens to a host, and its end.
#
#   fault.sh kill HOST             power loss          fault.sh start HOST    power back
#   fault.sh cut HOST              cable pulled        fault.sh heal HOST     cable back
#   fault.sh part HOST             its agent loses the controller, and nothing else
#   fault.sh rejoin HOST           and has it back
#   fault.sh mute HOST             the controller      fault.sh unmute HOST
#                                  hears nothing of it
#   fault.sh deaf HOST             it hears nothing    fault.sh undeaf HOST
#                                  of the controller
#   fault.sh apart WORKER          edges lose its      fault.sh together WORKER
#                                  replicas only
#   fault.sh freeze HOST           everything stands   fault.sh thaw HOST
#   fault.sh kill9 HOST SERVICE    kill -9 of controller, etcd, node-agent, haproxy, keepalived or
#                                  dockerd; its supervisor starts it again
#   fault.sh stop HOST SERVICE     stopped for good    fault.sh run HOST SERVICE
#   fault.sh halt HOST SERVICE     it stands still     fault.sh go HOST SERVICE
set -euo pipefail
# shellcheck source=lab/lib.sh
. "$(dirname "$0")/lib.sh"
load_settings
[ $# -ge 2 ] || die "usage: fault.sh kill|start|cut|heal|part|rejoin|mute|unmute|deaf|undeaf|apart|together|freeze|thaw HOST, kill9|stop|run|halt|go HOST SERVICE"
[ "$LAB_PROVIDER" = docker ] || die "faults need the docker provider"
fault=$1 host=$2 service=${3:-}
[ -n "$(host_ip "$host")" ] || die "no host $host: one of $(host_names | paste -sd' ')"
box=$(container "$host")

# Drops silently, as a pulled cable does: both ways, forwarded packets of replicas included.
cable() {
  local how=$1 dev
  dev=$(on "$host" ip -o -4 addr show to "$(host_ip "$host")" | awk '{ print $2 }')
  on "$host" iptables -w -t raw "$how" PREROUTING -i "$dev" -j DROP
  on "$host" iptables -w -t mangle "$how" POSTROUTING -o "$dev" -j DROP
}

# What the controller says to the host is dropped, or what the host says to the controller.
deafness() {
  local from
  for from in $(controllers); do
    on "$host" iptables -w -t raw "$1" PREROUTING -p tcp -s "$(host_ip "$from")" --sport 7443 -j DROP
  done
}
muteness() {
  local to
  for to in $(controllers); do
    on "$host" iptables -w -t mangle "$1" POSTROUTING -p tcp -d "$(host_ip "$to")" --dport 7443 -j DROP
  done
}

# Both ways, so that neither end hears of it.
control() { deafness "$1" && muteness "$1"; }

# Between the worker's replicas and HAProxy, whatever else there is between the hosts.
replicas() {
  local how=$1 edge
  for edge in $(edges); do
    on "$host" iptables -w -t raw "$how" PREROUTING -p tcp -s "$(host_ip "$edge")" ! --sport 7443 -j DROP
    on "$host" iptables -w -t mangle "$how" POSTROUTING -p tcp -d "$(host_ip "$edge")" ! --dport 7443 -j DROP
  done
}

needs_service() { [ -n "$service" ] || die "which service of $host?"; }

case $fault in
kill) docker kill "$box" >/dev/null ;;
start) docker start "$box" >/dev/null ;;
cut) cable -I ;;
heal) cable -D ;;
part) control -I ;;
rejoin) control -D ;;
mute) muteness -I ;;
unmute) muteness -D ;;
deaf) deafness -I ;;
undeaf) deafness -D ;;
apart) replicas -I ;;
together) replicas -D ;;
freeze) docker pause "$box" >/dev/null ;;
thaw) docker unpause "$box" >/dev/null ;;
kill9) needs_service && on "$host" sv kill "$service" ;;
stop) needs_service && on "$host" sv -w 15 down "$service" ;;
halt) needs_service && on "$host" sv pause "$service" ;;
go) needs_service && on "$host" sv cont "$service" ;;
run) needs_service && on "$host" sv -w 15 up "$service" ;;
*) die "unknown fault: $fault" ;;
esac
