# shellcheck shell=bash
# The image of the app of `make bench-handover` and `make faults`, built and on the workers. Sourced,
# after lib.sh.

BENCH_IMAGE=longshore/bench:1

# Static, so that it runs in an empty image whatever this machine's C library is.
build_app() {
  local context=$LAB_STATE/bench-image triple
  triple=$(rustc -vV | sed -n 's/^host: //p')
  RUSTFLAGS='-C target-feature=+crt-static' \
    cargo build -q --release --target "$triple" -p longshore-lab --bin bench-app
  mkdir -p "$context"
  cp image/bench/Dockerfile "${CARGO_TARGET_DIR:-target}/$triple/release/bench-app" "$context/"
  docker build -q -t "$BENCH_IMAGE" "$context" >/dev/null
  grep -qxF "$BENCH_IMAGE" "$LAB_STATE/images" 2>/dev/null || echo "$BENCH_IMAGE" >>"$LAB_STATE/images"
}

load_app() {
  local host=$1 id
  id=$(docker image inspect -f '{{.Id}}' "$BENCH_IMAGE")
  [ "$(on "$host" docker image inspect -f '{{.Id}}' "$BENCH_IMAGE" 2>/dev/null)" = "$id" ] ||
    docker save "$BENCH_IMAGE" | on "$host" docker load -q >/dev/null
}

bench_image() {
  step "image $BENCH_IMAGE" build_app
  step "image on the workers" eval 'workers | each load_app'
}
