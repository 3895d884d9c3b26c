# Shared by the scripts in this folder; sourced, never run.
#
# Invariants: everything built lies outside the clone; every build uses the release profile, because RocksDB alone takes
# a quarter of an hour for each profile; messages go to stderr, so that a script's stdout is its result.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ottla
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
binary=$CARGO_TARGET_DIR/release/ottla

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Runs a step under a heading and says how long it took.
step() {
  local what=$1 began=$SECONDS
  shift
  say "== $what"
  "$@" || die "== $what: failed after $((SECONDS - began)) s"
  say "== $what: $((SECONDS - began)) s"
}

# True when bindgen, which generates the bindings to RocksDB, will find libclang.
have_libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] || compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null \
    || { have ldconfig && ldconfig -p | grep -q libclang; }
}

# Installs the Debian packages that are named, as root or through sudo. Without apt it says what is missing.
install_packages() {
  [ $# -gt 0 ] || return 0
  have apt-get || die "please install what these Debian packages stand for, then run this again: $*"
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    have sudo || die "please install as root, then run this again: apt-get install $*"
    as_root=(sudo)
  fi
  say "installing: $*"
  "${as_root[@]}" apt-get update -qq >&2 || say "apt-get update failed; trying with the package lists that are here"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# What a build needs: a C++ compiler, make (jemalloc), libclang, and Rust.
need_build_tools() {
  local missing=()
  if ! have cc || ! have c++ || ! have make; then missing+=(build-essential); fi
  have pkg-config || missing+=(pkg-config)
  have_libclang || missing+=(clang libclang-dev)
  install_packages "${missing[@]}" || die "the build tools could not be installed"
  need_rust
}

# Explains a missing or old Rust instead of installing one: a toolchain is the user's own business.
need_rust() {
  local wanted have_now
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
  if ! have cargo && [ -x "$HOME/.cargo/bin/cargo" ]; then PATH=$HOME/.cargo/bin:$PATH; fi
  if ! have cargo || ! have rustc; then
    die "Rust $wanted or newer is needed and was not found.
  Get it from https://rustup.rs (no root needed), or on Debian 13: apt-get install rustup && rustup default stable
  Then open a new shell and run this again."
  fi
  have_now=$(rustc --version | cut -d' ' -f2)
  if [ "$(printf '%s\n' "$wanted" "${have_now%%-*}" | sort -V | head -n 1)" != "$wanted" ]; then
    die "Rust $wanted or newer is needed, this is $have_now. With rustup: rustup update stable"
  fi
}

# What the compatibility suites need beyond the build. A suite whose tools cannot be had is left out and said to be.
need_client_tools() {
  local missing=()
  have python3 || missing+=(python3)
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  have javac || missing+=(default-jdk-headless)
  have mvn || missing+=(maven)
  have node || missing+=(nodejs)
  have npm || missing+=(npm)
  have go || missing+=(golang-go)
  # node-rdkafka compiles its librdkafka, with gzip if it finds this.
  [ -e /usr/include/zlib.h ] || missing+=(zlib1g-dev)
  have ip || [ -x /usr/sbin/ip ] || missing+=(iproute2)
  have mkfs.ext4 || [ -x /usr/sbin/mkfs.ext4 ] || missing+=(e2fsprogs)
  install_packages "${missing[@]}" || say "not all client toolchains could be installed; their suites will be left out"
}

# Builds the broker.
build() {
  [ -x "$binary" ] || say "first build: RocksDB takes about a quarter of an hour on two cores"
  (cd "$root" && cargo build --release --locked --bin ottla) >&2
}
