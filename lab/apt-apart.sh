# shellcheck shell=bash
# Packages of another Debian suite, fetched beside this machine's own; nothing is installed.
# Sourced after lib.sh, not run.

# apt_apart DIR ARGUMENTS...: apt-get with a package database of its own in which nothing is
# installed, so that all libraries come along.
apt_apart() {
  local dir=$1
  shift
  timeout 120 apt-get -o Dir::Etc::SourceList="$dir/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State="$dir/apt" -o Dir::State::Status="$dir/apt/status" -o Dir::Cache="$dir/apt/cache" \
    -o APT::Sandbox::User=root -o Acquire::Languages=none -o Debug::NoLocking=1 "$@"
}

# fetch_packages DIR SUITE PACKAGE...: leaves them and what they need in DIR/apt/cache/archives,
# from where this machine has its own packages. Says why not, on stderr.
fetch_packages() {
  local dir=$1 suite=$2 keys=/usr/share/keyrings/debian-archive-keyring.gpg mirror
  shift 2
  command -v apt-get >/dev/null || { echo "there is no apt-get here" >&2 && return 1; }
  mirror=$(apt-get indextargets --format "\$(REPO_URI)" "Created-By: Packages" "Component: main" \
    "Release: $(. /etc/os-release && echo "$VERSION_CODENAME")" | head -n 1)
  [ -n "$mirror" ] && [ -f "$keys" ] || { echo "this machine's packages are not Debian's" >&2 && return 1; }
  mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial"
  : >"$dir/apt/status"
  echo "deb [signed-by=$keys] $mirror $suite main" >"$dir/sources.list"
  {
    apt_apart "$dir" update && apt_apart "$dir" install --download-only --no-install-recommends -y "$@"
  } >"$dir/apt.log" 2>&1 || { echo "$(grep '^E:' "$dir/apt.log" | head -n 1), see $dir/apt.log" >&2 && return 1; }
}
