#!/bin/sh
# Prints the name of an installed Rust toolchain that is the pinned version, if it is not installed
# under that name: then nothing needs to be downloaded. Prints nothing where there is no choice.
pinned=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' "$(dirname "$0")/../rust-toolchain.toml")
command -v rustup >/dev/null || exit 0
toolchains=$(rustup toolchain list 2>/dev/null | cut -d' ' -f1)
case "$toolchains" in *"$pinned-"*) exit 0 ;; esac
for t in $toolchains; do
  case "$(rustc "+$t" -V 2>/dev/null)" in
  "rustc $pinned "*)
    echo "${t%%-*}"
    exit 0
    ;;
  esac
done
