#!/usr/bin/env bash
# Installs small free fonts that print Chinese sheets (Debian, 11 MB): 黑 WenQuanYi Micro
# Hei, 宋 AR PL SungtiL GB, and AR PL UMing for the rare characters of names. What is
# there already is left alone. For official papers put the unit's own fonts (小标宋,
# 仿宋_GB2312) into the site's folder fonts/.
#
# Usage: deploy/services/fonts.sh
set -euo pipefail

packages=(fonts-wqy-microhei fonts-arphic-gbsn00lp fonts-arphic-uming)

die() { echo "fonts.sh: $*" >&2; exit 1; }

command -v dpkg-query >/dev/null \
  || die "this is no Debian. Install a Chinese font with your system's tools, or put font files into the site's folder fonts/"
missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
[ "$(id -u)" -eq 0 ] || die "missing: ${missing[*]}. Run as root, or: apt-get install ${missing[*]}"
apt-get update -qq || die "apt-get update failed; without the network install first: ${missing[*]}"
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null \
  || die "apt-get could not install: ${missing[*]}"
echo "fonts.sh: installed ${missing[*]}"
