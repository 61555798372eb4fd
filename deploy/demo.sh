#!/usr/bin/env bash
# The whole job of gong on this machine: installs what is missing (Debian 12, as root:
# a C compiler, make and small fonts), builds, and runs `gong demo` with the arguments given.
#
#   deploy/demo.sh
#   deploy/demo.sh --people 200000 --out /tmp/demo
#
#   CARGO  the cargo to call
# Nothing is sent anywhere: every gateway is a loopback of gong's own. Run again at will.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
here=$PWD

CARGO=${CARGO:-cargo}

die() { echo "demo.sh: $*" >&2; exit 1; }

install() {
  [ "$(id -u)" -eq 0 ] || die "missing: $*. Run as root, or: apt-get install $*"
  command -v apt-get >/dev/null || die "missing: $*, and there is no apt-get to install it with"
  apt-get update -qq || die "apt-get update failed; without the network install first: $*"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null \
    || die "apt-get could not install: $*"
}

# A rustup that was just installed is not on the path yet.
command -v "$CARGO" >/dev/null || PATH=$HOME/.cargo/bin:$PATH
command -v "$CARGO" >/dev/null || die "no cargo. Install Rust 1.95 or newer: https://rustup.rs"
{ command -v cc && command -v make; } >/dev/null || install build-essential
"$root/deploy/services/fonts.sh" || die "sheets need a Chinese font; see above"

echo "demo.sh: building (the first time takes some minutes)"
(cd "$root" && "$CARGO" build --release --locked) || die "the build failed"
target=${CARGO_TARGET_DIR:-$root/target}
cd "$here"
exec "$target/release/gong" demo "$@"
