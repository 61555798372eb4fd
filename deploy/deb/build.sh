#!/usr/bin/env bash
# Makes the Debian package from a built program. It depends on nothing beyond Debian's
# base, so it installs without a network: dpkg -i gong_VERSION_ARCH.deb
#
#   deploy/deb/build.sh [FOLDER]     (.)
#   GONG     the program             (target/release/gong)
#   DEB_Z    dpkg-deb's compression  (xz)
#
# For sheets bring a font along: apt-get download fonts-wqy-microhei fonts-arphic-uming
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:-.}
gong=${GONG:-$root/target/release/gong}

die() { echo "build.sh: $*" >&2; exit 1; }

[ -x "$gong" ] || die "$gong is not there: cargo build --release, or name the program in GONG"
command -v dpkg-deb >/dev/null || die "no dpkg-deb: this makes packages on Debian only"
version=$(GONG_LANG=en "$gong" --version | awk '{print $2}')
arch=$(dpkg --print-architecture)
mkdir -p "$out"
umask 022
tree=$(mktemp -d)
chmod 0755 "$tree"
trap 'rm -rf "$tree"' EXIT

install -D -m 0755 "$gong" "$tree/usr/bin/gong"
if command -v strip >/dev/null; then strip "$tree/usr/bin/gong"; fi
install -D -m 0755 "$root/deploy/deb/gong-setup" "$tree/usr/sbin/gong-setup"
install -D -m 0755 "$root/deploy/deb/gong-run" "$tree/usr/bin/gong-run"
mkdir -p "$tree/lib/systemd/system"
install -m 0644 "$root"/deploy/systemd/* "$tree/lib/systemd/system/"
for script in backup.sh restore.sh; do install -D -m 0755 "$root/deploy/$script" "$tree/usr/share/gong/$script"; done
install -D -m 0644 "$root/deploy/site.sh" "$tree/usr/share/gong/site.sh"
for file in alerts.yml prometheus.yml grafana/gong.json; do
  install -D -m 0644 "$root/deploy/monitoring/$file" "$tree/usr/share/gong/monitoring/$file"
done
mkdir -p "$tree/usr/share/doc/gong/examples" "$tree/usr/share/bash-completion/completions"
install -m 0644 "$root"/channels/*.toml "$tree/usr/share/doc/gong/examples/"
install -m 0644 "$root/docs/HANDBOOK.md" "$root/docs/SCALE.md" "$tree/usr/share/doc/gong/"
gzip -9n < "$root/CHANGELOG.md" > "$tree/usr/share/doc/gong/changelog.gz"
install -m 0644 "$root/deploy/deb/copyright" "$tree/usr/share/doc/gong/copyright"
"$gong" completions bash > "$tree/usr/share/bash-completion/completions/gong"
# What the site owns; the folders belong to the user gong once it exists (postinst).
install -d -m 0755 "$tree/etc/gong"
install -m 0644 "$root/deploy/deb/README.etc" "$tree/etc/gong/README"

mkdir "$tree/DEBIAN"
size=$(du -sk --exclude=DEBIAN "$tree" | cut -f1)
sed -e "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@SIZE@/$size/" "$root/deploy/deb/control" > "$tree/DEBIAN/control"
echo /etc/gong/README > "$tree/DEBIAN/conffiles"
for script in postinst prerm postrm; do install -m 0755 "$root/deploy/deb/$script" "$tree/DEBIAN/$script"; done
(cd "$tree" && find usr lib -type f -print0 | sort -z | xargs -0 md5sum > DEBIAN/md5sums)

package=$out/gong_${version}_$arch.deb
dpkg-deb --root-owner-group -Z"${DEB_Z:-xz}" --build "$tree" "$package" >/dev/null
echo "$package"
