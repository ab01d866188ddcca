#!/bin/bash
# Images without a registry, with real programs: an engine of a Debian suite (lab/engine.sh), one
# controller, one agent, and skopeo as a client that is not ours. Prints figures, and fails where
# one is over what docs/images.md promises or where something does not fit together.
#
#   image-test.sh [SUITE] [classic|containerd]     MIB=400: the size of the image's large layer
#   BIN=DIR: the programs, by default those of make build
set -euo pipefail
# shellcheck source=lab/lib.sh
. "$(dirname "$0")/lib.sh"

suite=${1:-trixie} store=${2:-classic}
mib=${MIB:-400} bin=$(realpath "${BIN:-$LAB_BIN}")
# What is promised.
rss_kib_max=65536
small_bytes=1000000
registry=127.0.0.1:5071
app=imagetest image=imagetest-web address=10.99.0.1

if [ -z "${LONGSHORE_IMAGE_TEST:-}" ]; then
  for program in controller node-agent controllerctl; do
    [ -x "$bin/$program" ] || die "no $program in $bin: run make build, or say BIN=DIR"
  done
  for program in skopeo jq; do
    command -v "$program" >/dev/null || die "$program is missing: apt-get install $program"
  done
  LONGSHORE_IMAGE_TEST=1 BIN=$bin MIB=$mib "$LAB_ROOT/lab/engine.sh" "$suite" "$store" "$0" "$suite" "$store" ||
    { code=$?; [ $code = 77 ] && exit 0; exit $code; }
  exit 0
fi

# --- inside: this network is of this test alone, and everything ends with it --------------------

work=$(mktemp -d "$LAB_STATE/image-test.XXXXXX")
trap 'rm -rf "$work"' EXIT
export HOME=$work TMPDIR=$work XDG_CONFIG_HOME=$work/config XDG_STATE_HOME=$work/state
unset CONTROLLERCTL_CONTEXT CONTROLLERCTL_SERVER DOCKER_CONTEXT DOCKER_CONFIG
failed=0
ctl() { "$bin/controllerctl" "$@"; }
engine() { curl -sf --unix-socket "${DOCKER_HOST#unix://}" "$@"; }
wrong() {
  say "WRONG: $*"
  failed=1
}
# same WHAT ONE OTHER
same() { if [ "$2" = "$3" ]; then say "$1: the same"; else wrong "$1: $2, not $3"; fi; }
peak() { awk '/^VmHWM/ { print $2 }' "/proc/$1/status"; }
# within PROGRAM PID: its memory was never more than is promised.
within() { [ "$(peak "$2")" -le $rss_kib_max ] || wrong "$1: $(peak "$2") KiB are more than $rss_kib_max"; }
memory() { say "$1: most memory so far: controller $(($(peak "$controller") / 1024)) MiB, agent $(($(peak "$agent") / 1024)) MiB"; }

# until_so SECONDS COMMAND...: waits for it, and shows its last words if it does not come.
until_so() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >"$work/last" 2>&1; do
    [ $SECONDS -lt $end ] || {
      tail -n 20 "$work/last" "$work"/*.log >&2
      die "'$*' did not come true"
    }
    sleep 0.2
  done
}

start_agent() {
  printf 'engine_socket = "%s"\nimages_port = %s\npolicy_file = "%s/policy.toml"\nnames_peer_port = 0\n' \
    "${DOCKER_HOST#unix://}" "$1" "$work" >"$work/agent.toml"
  "$bin/node-agent" run --data-dir "$work/agent" --config "$work/agent.toml" >>"$work/agent.log" 2>&1 &
  agent=$!
  until_so 30 ready
}
ready() { ctl node ls -o json | jq -e '.[0].state == "ready"'; }

start_cluster() {
  local token
  ip address add "$address/32" dev lo
  "$bin/controller" init --data-dir "$work/controller" --cluster test --listen "$address:7443" \
    --advertise "$address" --context-out "$work/context.toml" >/dev/null
  # How full this machine's disk is, is not what is tested.
  printf '[images]\ndisk_free_percent_min = 1\n' >"$work/controller.toml"
  "$bin/controller" run --data-dir "$work/controller" --config "$work/controller.toml" >"$work/controller.log" 2>&1 &
  controller=$!
  ctl context import "$work/context.toml" --name test >/dev/null 2>&1
  until_so 30 ctl node ls
  token=$(ctl token create --role worker --name one --ttl 10m -o json | jq -er .token)
  LONGSHORE_JOIN_TOKEN=$token "$bin/node-agent" join --controller "https://$address:7443" --name one \
    --address "$address" --role worker --data-dir "$work/agent" >/dev/null
  start_agent 5071
}

# write_app: a large layer that cannot be compressed, and a small one on top of it.
write_app() {
  mkdir "$work/app"
  head -c "${mib}M" /dev/urandom >"$work/app/large"
  head -c $small_bytes /dev/urandom >"$work/app/small"
  printf 'FROM longshore-engine-test:1\nCOPY large /\nCOPY small /\nCMD ["httpd", "-f", "-p", "8080"]\n' \
    >"$work/app/Dockerfile"
  cat >"$work/app/compose.yaml" <<END
name: $app
services:
  web:
    build: .
    ports: ["8080"]
    stop_grace_period: 1s
END
}

# push TEXT: says what it took; leaves bytes and digest.
push() {
  local start answer
  start=$(date +%s%N)
  answer=$(ctl image push "$image" -o json 2>"$work/push.log") || die "$1: $(tail -n 3 "$work/push.log")"
  bytes=$(jq -er '.[0].bytes_sent' <<<"$answer") digest=$(jq -er '.[0].digest' <<<"$answer")
  say "$1: $bytes bytes sent in $((($(date +%s%N) - start) / 1000000)) ms"
}

# ahead: the node has what was pushed before anything runs it there.
ahead() {
  local start
  start=$(date +%s%N)
  ctl image push "$image" --node one -o json >"$work/ahead.json" 2>"$work/push.log" || die "$(tail -n 3 "$work/push.log")"
  has "$(name_there)" || wrong "the engine lacks what was fetched ahead"
  say "fetched ahead by hand: after $((($(date +%s%N) - start) / 1000000)) ms"
  ctl node ps one 2>&1 | grep -q "$image:latest here: .* asked for it" || wrong "node ps does not say what was fetched ahead"
}
name_there() { echo "longshore.local/$image:sha256-${digest#sha256:}"; }

# Steps that need BuildKit, where a client of docker's is here that can.
buildkit() {
  local code=0
  mkdir "$work/kit"
  printf 'hunter2' >"$work/kit/pw"
  printf 'FROM longshore-engine-test:1\nRUN --mount=type=cache,target=/c --mount=type=secret,id=pw cat /run/secrets/pw | wc -c >/n\n' \
    >"$work/kit/Dockerfile"
  printf 'name: kit\nservices:\n  web: { build: { context: ., secrets: [pw] } }\nsecrets: { pw: { file: ./pw } }\n' >"$work/kit/compose.yaml"
  ctl build -f "$work/kit/compose.yaml" --push -o json >"$work/kit.json" 2>"$work/kit.log" || code=$?
  if [ $code = 0 ]; then
    say "built with BuildKit: a cache and a secret mounted; pushed as $(jq -r '.[0].digest' "$work/kit.json" | head -c 19)"
  elif grep -q "needs BuildKit" "$work/kit.log"; then
    say "skipped: BuildKit: $(grep -m 1 -o 'needs BuildKit.*' "$work/kit.log")"
  else
    wrong "BuildKit: $(tail -n 5 "$work/kit.log")"
  fi
}

# runs DIGEST: the one replica is healthy and has that image.
runs() {
  ctl ps -o json >"$work/ps.json" && jq -e 'length == 1 and .[0].state == "healthy"' "$work/ps.json" &&
    engine http://engine/containers/json | jq -e --arg tag "sha256-${1#sha256:}" 'any(.[]; .Image | endswith($tag))'
}

apply() {
  local start
  start=$(date +%s%N)
  ctl up -f "$work/app/compose.yaml" --yes --no-build >"$work/up.log" 2>&1 || {
    cat "$work/up.log" >&2
    die "$1: up failed"
  }
  until_so 60 runs "$digest"
  say "$1: runs after $((($(date +%s%N) - start) / 1000000)) ms"
}

# Every blob of what skopeo copies has the digest that it is named by and the size that is said.
copied() {
  local blob size name=docker://$registry/$image:latest out=$work/copy
  skopeo copy -q --src-tls-verify=false "$name" "dir:$out"
  same "skopeo's manifest and the pushed digest" "sha256:$(sha256sum <"$out/manifest.json" | cut -d' ' -f1)" "$digest"
  while read -r blob size; do
    [ "$(stat -c %s "$out/${blob#sha256:}")" = "$size" ] || wrong "$blob: not $size bytes"
    [ "$(sha256sum <"$out/${blob#sha256:}" | cut -d' ' -f1)" = "${blob#sha256:}" ] || wrong "$blob: other bytes"
  done < <(jq -r '.config, .layers[] | "\(.digest) \(.size)"' "$out/manifest.json")
  same "layers here and in the engine" "$(jq -c '[.layers[].digest]' "$out/manifest.json")" \
    "$(engine "http://engine/images/$image/json" | jq -c .RootFS.Layers)"
  same "skopeo's inspect and the pushed digest" \
    "$(skopeo inspect --tls-verify=false "$name" | jq -r .Digest)" "$digest"
  same "skopeo's tags" "$(skopeo list-tags --tls-verify=false "${name%:*}" | jq -c .Tags)" '["latest"]'
  rm -rf "$out"
}

# asked STATUS PATH CURL-OPTIONS...
asked() {
  local status=$1 path=$2 got
  shift 2
  got=$(curl -s -o "$work/body" -w '%{http_code}' "$@" "http://$registry$path")
  [ "$got" = "$status" ] || wrong "$path $*: $got, not $status: $(head -c 200 "$work/body")"
}

# What clients ask besides: parts, conditions, what is not there, what is not allowed.
odd_requests() {
  local config size blob
  config=$(curl -s "http://$registry/v2/$image/manifests/latest" | jq -r '"\(.config.digest) \(.config.size)"')
  read -r config size <<<"$config"
  blob=/v2/$image/blobs/$config
  asked 200 /v2/
  asked 200 "$blob" -I
  asked 206 "$blob" -H "Range: bytes=1-"
  [ "$(stat -c %s "$work/body")" = $((size - 1)) ] || wrong "bytes=1- of $size gives $(stat -c %s "$work/body")"
  asked 416 "$blob" -H "Range: bytes=$((size + 5))-"
  asked 416 "$blob" -H "Range: bytes=$size-"
  asked 304 "$blob" -H "If-None-Match: \"$config\""
  asked 200 "$blob" -H "Range: bytes=1-" -H 'If-Range: "other"'
  asked 200 "/v2/$image/manifests/latest" -H 'Accept: application/vnd.docker.distribution.manifest.list.v2+json'
  asked 404 "/v2/$image/manifests/none"
  asked 404 "/v2/none/tags/list"
  asked 404 "/v2/$image/referrers/$digest"
  asked 405 "/v2/$image/blobs/uploads/" -X POST
  jq -e '.errors[0].code == "UNSUPPORTED"' "$work/body" >/dev/null || wrong "a refusal without a code"
  say "parts, conditions, what is not there: as the distribution API has them"
}

forget() {
  local name
  # The first time there is none yet.
  ctl down --yes "$app" >"$work/down.log" 2>&1 || true
  until_so 60 none_left
  # By name: an engine with the containerd store does not list an image of which it has a layer
  # from elsewhere, compressed.
  for name in "$image:latest" "$(name_there)" "$registry/$image@$digest"; do
    engine -X DELETE "http://engine/images/$name?force=1" >/dev/null || true
  done
  engine -X POST http://engine/images/prune >/dev/null
  ! has "$(name_there)" || die "the engine still has $image"
}
has() { engine -o "$work/body" "http://engine/images/$1/json"; }
# came WORD: how the engine got what runs. A pull leaves the registry's name, a load none.
came() {
  local way=loaded
  has "$registry/$image@$digest" && way=pulled
  same "how the engine got it" "$way" "$1"
}
none_left() { engine 'http://engine/containers/json?all=1' | jq -e 'length == 0'; }

start_cluster
memory "at the start"
write_app
ctl build -f "$work/app/compose.yaml" >"$work/build.log" 2>&1 || {
  cat "$work/build.log" >&2
  die "cannot build"
}
push "first push of $mib MiB"
push "the same again"
[ "$bytes" = 0 ] || wrong "$bytes bytes for nothing new"
copied
odd_requests
memory "pushed, and copied by skopeo"
forget
apply "pulled by the engine, by layers"
came pulled
first=$digest
memory "pulled"
# What was pushed is gone from the engine: build anew, with another small file.
head -c $small_bytes /dev/urandom >"$work/app/small"
ctl build -f "$work/app/compose.yaml" >"$work/build.log" 2>&1 || die "cannot build again: $(tail -n 5 "$work/build.log")"
push "another small layer of $small_bytes bytes"
[ "$bytes" -le $((small_bytes * 12 / 10)) ] || wrong "$bytes bytes are more than 1.2 times the layer"
[ "$first" != "$digest" ] || wrong "the same digest for another image"
ahead
apply "rolled on to it, which is there"
buildkit
forget
within agent "$agent"
kill "$agent"
wait "$agent" || true
start_agent 0
apply "loaded as one archive"
came loaded
memory "at the end"
within controller "$controller"
within agent "$agent"
[ $failed = 0 ] || die "image-test: engine of $suite, $store store: failed"
say "image-test: engine of $suite, $store store: all is well"
