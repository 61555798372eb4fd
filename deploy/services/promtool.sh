#!/usr/bin/env bash
# Prometheus' own checker of alert rules, without Prometheus: prints where it is.
#
# One that is installed is used. Else (Debian) the package is fetched and this one
# program taken out of it: nothing is installed, no service starts. No root needed
# where apt-get has been updated.
#   GONG_TEST_DIR  folder of the services (/tmp/gong-tests-$UID)
# Usage: deploy/services/promtool.sh
set -euo pipefail

base=${GONG_TEST_DIR:-/tmp/gong-tests-$UID}
tool=$base/promtool/promtool

die() { echo "promtool.sh: $*" >&2; exit 1; }

if command -v promtool; then exit 0; fi
if [ -x "$tool" ]; then echo "$tool"; exit 0; fi

command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null \
  || die "no promtool, and this is no Debian to get it from. Put it on the PATH: https://prometheus.io/download"
mkdir -p "$base" && [ -O "$base" ] || die "$base belongs to somebody else; set GONG_TEST_DIR"
# Made aside and moved into its place: half a program is none.
aside=$(mktemp -d "$base/promtool.XXXXXX")
trap 'rm -rf "$aside"' EXIT
# Whoever fetches as _apt must be able to write there.
chmod 777 "$aside"

fetch() { (cd "$aside" && apt-get download -qq prometheus >/dev/null 2>&1); }
fetch || { apt-get update -qq >/dev/null 2>&1 && fetch; } \
  || die "cannot fetch Debian's package prometheus (no network?). With a network: apt-get update && apt-get install prometheus"
dpkg-deb --fsys-tarfile "$aside"/prometheus_*.deb | tar -x -C "$aside" --no-same-owner ./usr/bin/promtool \
  || die "the package prometheus has no promtool"
chmod 755 "$aside/usr/bin/promtool"
mkdir -p "${tool%/*}"
mv "$aside/usr/bin/promtool" "$tool"
echo "$tool"
