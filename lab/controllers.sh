#!/bin/bash
# Several controllers in the lab (CONTROLLERS=3; docker provider).
#
#   controllers.sh certs            makes the lab's own CA for etcd and a certificate for each member, once
#   controllers.sh member NAME IP   inside a host: its etcd member runs
#   controllers.sh settings IP NAME inside a host: writes the controller's settings for [store.etcd]
#   controllers.sh join             inside a host: a further controller, out of a copy on standard input
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
certs=$here/.lab/etcd
list=$here/.lab/controllers # NAME IP per line
conf=/etc/longshore/etcd

quietly() { openssl "$@" 2>/dev/null; }

# Members are servers and clients to each other; the controllers are clients with the same certificates.
make_certs() {
  local name ip
  mkdir -p "$certs"
  chmod 700 "$certs"
  [ -s "$certs/ca.pem" ] || quietly req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
    -subj "/CN=the lab's etcd" -keyout "$certs/ca-key.pem" -out "$certs/ca.pem"
  while read -r name ip; do
    [ -s "$certs/$name.pem" ] && continue
    quietly req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$name" \
      -keyout "$certs/$name-key.pem" -out "$certs/$name.csr"
    quietly x509 -req -in "$certs/$name.csr" -CA "$certs/ca.pem" -CAkey "$certs/ca-key.pem" -CAcreateserial -days 3650 \
      -extfile <(printf 'subjectAltName=IP:%s,DNS:%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$ip" "$name") \
      -out "$certs/$name.pem"
  done <"$list"
}

member() {
  local name=$1 ip=$2
  id longshore >/dev/null 2>&1 ||
    useradd --system --home-dir /var/lib/longshore --shell /usr/sbin/nologin --user-group longshore
  install -d -m 750 -g longshore "$conf"
  install -m 644 "$certs/ca.pem" "$conf/ca.pem"
  install -m 644 "$certs/$name.pem" "$conf/cert.pem"
  install -m 600 -o longshore -g longshore "$certs/$name-key.pem" "$conf/key.pem"
  cat >"$conf/env" <<ENV
ETCD_NAME=$name
ETCD_DATA_DIR=/var/lib/longshore/etcd
ETCD_INITIAL_CLUSTER=$(awk '{ printf "%s%s=https://%s:2380", sep, $1, $2; sep = "," }' "$list")
ETCD_INITIAL_ADVERTISE_PEER_URLS=https://$ip:2380
ETCD_LISTEN_PEER_URLS=https://$ip:2380
ETCD_ADVERTISE_CLIENT_URLS=https://$ip:2379
ETCD_LISTEN_CLIENT_URLS=https://$ip:2379
ETCD_TRUSTED_CA_FILE=$conf/ca.pem
ETCD_CERT_FILE=$conf/cert.pem
ETCD_KEY_FILE=$conf/key.pem
ETCD_CLIENT_CERT_AUTH=true
ETCD_PEER_TRUSTED_CA_FILE=$conf/ca.pem
ETCD_PEER_CERT_FILE=$conf/cert.pem
ETCD_PEER_KEY_FILE=$conf/key.pem
ETCD_PEER_CLIENT_CERT_AUTH=true
ETCD_LOGGER=zap
ENV
  # For etcdctl by hand and by make faults.
  printf 'export ETCDCTL_API=3 ETCDCTL_CACERT=%s ETCDCTL_CERT=%s ETCDCTL_KEY=%s ETCDCTL_ENDPOINTS=%s\n' \
    "$conf/ca.pem" "$conf/cert.pem" "$conf/key.pem" "$(awk '{ printf "%shttps://%s:2379", sep, $2; sep = "," }' "$list")" >"$conf/ctl"
  ln -sfn /etc/sv/etcd /etc/service/etcd
}

settings() {
  local ip=$1 name=$2
  cat <<TOML
advertise = ["$ip", "$name"]

TOML
  cat "$here/lab/host/controller.toml"
  cat <<TOML

[store.etcd]
endpoints = [$(awk '{ printf "%s\"https://%s:2379\"", sep, $2; sep = ", " }' "$list")]
ca_file = "$conf/ca.pem"
cert_file = "$conf/cert.pem"
key_file = "$conf/key.pem"
name = "$name"
TOML
}

join() {
  local data=/var/lib/longshore/controller
  install -d -m 700 -o longshore -g longshore "$data"
  [ -f "$data/ca.pem" ] || runuser -u longshore -- /usr/local/bin/controller join - --data-dir "$data" >/dev/null
  ln -sfn /etc/sv/controller /etc/service/controller
}

case ${1:-} in
certs) make_certs ;;
member) member "$2" "$3" ;;
settings) settings "$2" "$3" ;;
join) join ;;
*) echo "usage: controllers.sh certs|member|settings|join" >&2 && exit 2 ;;
esac
