#!/usr/bin/env bash
# A private PostgreSQL for tests and trials, without systemd: start | stop | status | url | kill
#
# It keeps to one folder and one port of 127.0.0.1, beside whatever else runs:
#   GONG_TEST_DIR      folder of the services      (/tmp/gong-tests-$UID)
#   GONG_TEST_PG_PORT  its port                    (a free one, kept in the folder)
#   GONG_PG_BIN        folder of PostgreSQL's programs (Debian's, the newest)
#   GONG_TEST_POSTGRES_ROOT  take the programs from the system in this folder (as root); the
#                      folder of the services must be at the same path in it.
#                      tests/debian13.sh makes one with PostgreSQL 17
#   GONG_PG_OPTIONS    more of its settings, when it starts: '-c shared_buffers=1GB'
# Anyone on this machine may log in: it must never hold real data. kill ends every
# process of it with SIGKILL; start goes on with what is on the disk.
set -euo pipefail

base=${GONG_TEST_DIR:-/tmp/gong-tests-$UID}
dir=$base/postgres
root=${GONG_TEST_POSTGRES_ROOT:-}
bin=${GONG_PG_BIN:-$(printf '%s\n' "$root"/usr/lib/postgresql/*/bin | sort -V | tail -n 1)}
bin=${bin#"$root"}

die() { echo "postgres.sh: $*" >&2; exit 1; }

# PostgreSQL refuses to run as root; Debian's package makes the user postgres.
as_owner() {
  if [ "$UID" -eq 0 ]; then (cd / && chroot "${root:-/}" runuser -u postgres -- "$@"); else "$@"; fi
}

running() { [ -d "$dir/data" ] && as_owner "$bin/pg_ctl" -D "$dir/data" status >/dev/null 2>&1; }

url() { echo "postgres://gong@127.0.0.1:$(cat "$dir/port")/postgres"; }

port_is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

pick_port() {
  local port=${GONG_TEST_PG_PORT:-$(cat "$dir/port" 2>/dev/null || true)}
  if [ -n "${GONG_TEST_PG_PORT:-}" ]; then
    port_is_taken "$port" && die "port $port is taken; set GONG_TEST_PG_PORT to another"
  fi
  while [ -z "$port" ] || port_is_taken "$port"; do port=$((20000 + RANDOM % 10000)); done
  echo "$port" > "$dir/port"
}

prepare() {
  [ -x "$root$bin/initdb" ] || die "PostgreSQL's server programs are not in $bin: apt-get install postgresql-15, or set GONG_PG_BIN"
  mkdir -p "$base" && [ -O "$base" ] || die "$base belongs to somebody else; set GONG_TEST_DIR"
  mkdir -p "$dir"
  if [ "$UID" -eq 0 ]; then
    chroot "${root:-/}" chown postgres: "$dir"
    as_owner test -w "$dir" || die "the user postgres cannot reach $dir; set GONG_TEST_DIR to a folder that others may enter"
  fi
}

init() {
  local version
  if [ -f "$dir/data/PG_VERSION" ]; then
    version=$(as_owner "$bin/postgres" --version | grep -oE '[0-9]+' | head -n 1)
    [ "$version" = "$(as_owner cat "$dir/data/PG_VERSION")" ] || die "$dir/data is of another PostgreSQL than $bin; remove $dir"
    return
  fi
  as_owner "$bin/initdb" -D "$dir/data.new" -U gong --auth=trust --encoding=UTF8 --locale=C.UTF-8 >/dev/null
  as_owner mv "$dir/data.new" "$dir/data"
}

start() {
  prepare
  # Two runs may start it at once. The server must not inherit the lock.
  exec 9> "$dir/lock"
  flock 9
  if ! running; then
    as_owner rm -rf "$dir/data.new"
    init 9>&-
    pick_port
    as_owner "$bin/pg_ctl" -D "$dir/data" -l "$dir/server.log" -w -t 60 -s start \
      -o "-p $(cat "$dir/port") -c listen_addresses=127.0.0.1 -c unix_socket_directories='$dir' -c max_connections=300 -c max_locks_per_transaction=256 -c fsync=on ${GONG_PG_OPTIONS:-}" \
      </dev/null >/dev/null 9>&- || die "PostgreSQL does not start; see $dir/server.log"
  fi
  exec 9>&-
  url
}

kill_all() {
  local pid all
  [ -n "${GONG_TEST_DIR:-}" ] || die "kill is for a server of your own: set GONG_TEST_DIR"
  pid=$(as_owner head -n 1 "$dir/data/postmaster.pid") || return 0
  # Stopped first, so that it starts no further child meanwhile.
  kill -STOP "$pid"
  mapfile -t all < <(pgrep -P "$pid" || true)
  kill -KILL "$pid" "${all[@]}" 2>/dev/null || true
  for one in "$pid" "${all[@]}"; do
    while [ -d "/proc/$one" ] && ! grep -q '^State:.Z' "/proc/$one/status" 2>/dev/null; do sleep 0.02; done
  done
  # A dead process that nobody has buried yet looks alive to pg_ctl and to its heir.
  rm -f "$dir/data/postmaster.pid" "$dir"/.s.PGSQL.*.lock
}

case ${1:-} in
  start) start ;;
  kill) kill_all ;;
  stop) if running; then as_owner "$bin/pg_ctl" -D "$dir/data" -m fast -w -s stop; fi ;;
  status) if running; then echo "running: $(url)"; else echo "not running"; exit 3; fi ;;
  url) running || die "not running; start it first"; url ;;
  *) echo "usage: $0 start|stop|status|url|kill" >&2; exit 2 ;;
esac
