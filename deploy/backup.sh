#!/usr/bin/env bash
# A backup of one site, on either engine, while everything goes on:
#
#   deploy/backup.sh [FOLDER]        a new folder gong-DATE-TIME in FOLDER (./backups)
#
#   GONG_CONFIG  the site's configuration           (gong.toml)
#   GONG_AS      an operator with the role admin    (needed where several could act)
#   GONG         the program                        (gong)
#   KEEP         backups kept; older ones go away   (14; 0 keeps all)
#
# In it: the database (`gong backup`, or pg_dump -Fc), the site's files, SHA256SUMS. Not
# in it: the key and the channels' secrets. Keep copies of those in another place: with
# the key anybody reads the backup, without it nobody does.
set -euo pipefail
umask 077
here=$(cd "$(dirname "$0")" && pwd)

config=${GONG_CONFIG:-gong.toml}
gong=${GONG:-gong}
keep=${KEEP:-14}
folder=${1:-backups}

# shellcheck source=deploy/site.sh
. "$here/site.sh"

[ $# -le 1 ] || die "usage: $0 [FOLDER]"
case $keep in '' | *[!0-9]*) die "KEEP is a number of backups, not '$keep'" ;; esac
read_site
as_owner

mkdir -p "$folder"
# What a backup left that was cut short, by a power failure for example.
find "$folder" -mindepth 1 -maxdepth 1 -type d -name '.gong-[0-9]*-[0-9]*.part' -mmin +1440 -exec rm -rf -- {} +
name=gong-$(date +%Y%m%d-%H%M%S)
to=$folder/$name
part=$folder/.$name.part
[ ! -e "$to" ] || die "$to exists"
mkdir "$part"
trap 'rm -rf "$part"' EXIT

case $engine in
  sqlite)
    "$gong" backup "$part/gong.db" >/dev/null || die "gong backup failed; see above"
    ;;
  postgres)
    need pg_dump pg_restore
    # One snapshot of everything; the dump is read back whole before it counts.
    pg_dump --format=custom --compress=6 --no-owner --no-privileges --file="$part/gong.dump" "$url" \
      || die "pg_dump failed; see above"
    pg_restore --file=/dev/null "$part/gong.dump" || die "the dump cannot be read back"
    ;;
esac
site_files | tar -C "$site" -czf "$part/site.tar.gz" --files-from=-
(cd "$part" && sha256sum -- * > SHA256SUMS)
sync -f "$part"
mv "$part" "$to"
trap - EXIT

if [ "$keep" -gt 0 ]; then
  # Names sort by time.
  mapfile -t all < <(find "$folder" -mindepth 1 -maxdepth 1 -type d -name 'gong-[0-9]*-[0-9]*' | sort)
  for ((i = 0; i < ${#all[@]} - keep; i++)); do rm -rf -- "${all[$i]}"; done
fi
echo "$to"
echo "backup.sh: the key $key is not in it. Keep a copy of it in another place." >&2
# So that `gong check` knows how old the last one is; `gong backup` has noted its own.
[ "$engine" != postgres ] || "$gong" backup --made >/dev/null || die "$to is made, but gong could not note it; see above"
