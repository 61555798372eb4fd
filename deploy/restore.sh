#!/usr/bin/env bash
# Brings a backup of backup.sh back, on either engine. Stop every gong of the site first.
#
#   deploy/restore.sh BACKUP               check it, and bring its database back
#   deploy/restore.sh BACKUP --replace     PostgreSQL: what is in the database goes away
#   deploy/restore.sh BACKUP --check       only check it
#
#   GONG_CONFIG  the site's configuration, with the site's key in its place  (gong.toml)
#   GONG_AS      an operator with the role admin
#   GONG         the program                                                 (gong)
#
# Afterwards everything stands paused: what may have gone out since the backup is not sent
# again by itself; gong says how to go on. The site's files (site.tar.gz: configuration,
# channels, templates) are not touched; unpack them by hand where they are lost. Run it as
# the site's user (gong-run of the Debian package): what root writes, the service cannot
# open. A PostgreSQL holds old and new until all of the new is there: mind the disk.
set -euo pipefail
umask 077
here=$(cd "$(dirname "$0")" && pwd)

config=${GONG_CONFIG:-gong.toml}
gong=${GONG:-gong}
from=${1:-}
mode=${2:-}

# shellcheck source=deploy/site.sh
. "$here/site.sh"

if [ -z "$from" ] || [ $# -gt 2 ]; then die "usage: $0 BACKUP [--replace|--check]"; fi
case $mode in '' | --replace | --check) ;; *) die "usage: $0 BACKUP [--replace|--check]" ;; esac
[ ! -e "$from" ] || [ -r "$from" ] || die "$(id -un) may not read $from; as root: chown -R $(id -un): $from"
[ -f "$from/SHA256SUMS" ] || die "$from is no backup of backup.sh: there is no SHA256SUMS in it"
(cd "$from" && sha256sum --check --quiet --strict SHA256SUMS) || die "$from is damaged; take another backup"
if [ "$mode" = --check ]; then
  echo "restore.sh: $from is whole"
  exit 0
fi
read_site
as_owner
[ -f "$key" ] || die "the site's key $key is missing: put the copy of it there that you kept elsewhere"

sql() { psql --no-psqlrc --quiet --tuples-only --no-align -v ON_ERROR_STOP=1 "$url" -c "$1"; }

# The whole restore as one transaction: what was there goes away in it, and its COMMIT
# comes only after the last line of a dump that was read to its end.
script() {
  # A line a table that goes away would hide what is wrong.
  echo "BEGIN; SET LOCAL client_min_messages = warning;"
  [ "$1" = 0 ] || echo "DROP SCHEMA public CASCADE; CREATE SCHEMA public;"
  pg_restore --no-owner --no-privileges --file=- "$from/gong.dump" || return 1
  echo "COMMIT;"
}

restore_postgres() {
  need psql pg_restore
  [ -f "$from/gong.dump" ] || die "$from is of another engine: there is no gong.dump in it"
  local others tables
  others=$(sql "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'")
  [ "$others" = 0 ] || die "$others connections to the database are open: stop every gong first"
  tables=$(sql "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
  if [ "$tables" != 0 ]; then
    [ "$mode" = --replace ] || die "the database is not empty. To throw away what is in it: $0 $from --replace"
  fi
  script "$tables" | psql --no-psqlrc --quiet --output=/dev/null -v ON_ERROR_STOP=1 "$url" \
    || die "the restore failed and changed nothing: the database is as it was; see above"
  sql "ANALYZE"
  # Before any engine starts: or it would send again what went out since the backup.
  "$gong" restore --brought-back || die "the database is back and NOT yet paused: start no gong before this succeeds: $gong restore --brought-back"
}

case $engine in
  postgres) restore_postgres ;;
  sqlite)
    [ -f "$from/gong.db" ] || die "$from is of another engine: there is no gong.db in it"
    "$gong" restore "$from/gong.db"
    ;;
esac
"$gong" audit verify
