#!/usr/bin/env bash
# Every check and every test of gong. Usage: tests/run.sh [--embedded]
#
# Plain: installs what is missing (Debian 12, as root), starts a private PostgreSQL and
# a private RabbitMQ, Kannel and Postfix, and runs everything on both engines. --embedded: what needs no services.
#   CARGO          the cargo to call
#   GONG_TEST_DIR  where the services live (see deploy/services/*.sh)
#   CI             when set, build results are kept in the user's cache folder
set -euo pipefail
cd "$(dirname "$0")/.."

CARGO=${CARGO:-cargo}
embedded=no
done_stages=()
skipped=()
updated=no
database=
recovery=
unmet=

die() { echo "tests/run.sh: $*" >&2; exit 1; }

case "$*" in
  '') ;;
  --embedded) embedded=yes ;;
  *) echo "usage: tests/run.sh [--embedded]" >&2; exit 2 ;;
esac

clean_up() {
  rm -f "$recovery" "$unmet"
  [ -z "$database" ] || sql "DROP DATABASE IF EXISTS $database WITH (FORCE)" || true
}
trap clean_up EXIT

# Whether Debian packages can be installed here; their list is fetched at most once.
can_install() {
  [ "$(id -u)" -eq 0 ] || die "missing: $*. Run as root, or: apt-get install $*"
  command -v apt-get >/dev/null || die "missing: $*, and there is no apt-get to install it with"
  [ "$updated" = yes ] || apt-get update -qq || die "apt-get update failed; without the network install first: $*"
  updated=yes
}

install() {
  can_install "$@"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null \
    || die "apt-get could not install: $*"
}

need_tools() {
  command -v "$CARGO" >/dev/null || die "no cargo. Install Rust 1.95 or newer: https://rustup.rs"
  { command -v cc && command -v make; } >/dev/null || install build-essential
}

# Sheets need fonts, and tools that read what was printed.
need_sheets() {
  deploy/services/fonts.sh || return 1
  command -v pdftotext >/dev/null || install poppler-utils
}

need_postgres() {
  local conf=/etc/postgresql-common/createcluster.conf
  compgen -G "${GONG_PG_BIN:-/usr/lib/postgresql/*/bin}/initdb" >/dev/null && return
  can_install postgresql-15
  # Only the programs: Debian would also make and start a cluster on port 5432.
  install postgresql-common
  sed -ri 's/^#?(create_main_cluster) .*$/\1 = false/' "$conf" || return 1
  install postgresql-15
}

need_kannel() {
  [ -x /usr/sbin/bearerbox ] && [ -x /usr/lib/kannel/test/fakesmsc ] && return
  # Debian's own script starts nothing while /etc/default/kannel does not ask for it.
  install kannel kannel-extras
}

stage() {
  local name=$1 began=$SECONDS
  shift
  echo "== $name"
  "$@" || die "$name FAILED after $((SECONDS - began)) s: $*"
  echo "== $name: ok, $((SECONDS - began)) s"
  done_stages+=("$name")
}

# Runs psql as the test server's owner of databases.
sql() { psql --no-psqlrc -q -v ON_ERROR_STOP=1 "$server" -c "$1" 2>&1; }

# A database for this run alone, so that two runs can share the server.
start_postgres() {
  server=$(deploy/services/postgres.sh start) || return 1
  database=run_$$_$(date +%s)
  sql "CREATE DATABASE $database" || return 1
  export GONG_TEST_POSTGRES=${server%/*}/$database
  echo "GONG_TEST_POSTGRES=$GONG_TEST_POSTGRES"
}

# A mail server that delivers to Maildirs of its own and bounces; it installs itself.
start_postfix() {
  GONG_TEST_POSTFIX=$(deploy/services/postfix.sh start) || return 1
  export GONG_TEST_POSTFIX
  echo "GONG_TEST_POSTFIX=$GONG_TEST_POSTFIX"
}

# The broker; it installs itself. Each test has a virtual host of its own.
start_rabbitmq() {
  GONG_TEST_RABBITMQ=$(deploy/services/rabbitmq.sh start) || return 1
  export GONG_TEST_RABBITMQ
  echo "GONG_TEST_RABBITMQ=$GONG_TEST_RABBITMQ"
}

# A library that makes a process see a wrong clock.
need_faketime() {
  compgen -G "/usr/lib/*/faketime/libfaketime.so.1" >/dev/null || install faketime
}

# A program that lets another wait for its disk.
need_strace() {
  command -v strace >/dev/null || install strace
}

start_kannel() {
  GONG_TEST_KANNEL=$(deploy/services/kannel.sh start) || return 1
  export GONG_TEST_KANNEL
  echo "GONG_TEST_KANNEL=$GONG_TEST_KANNEL"
}

# The rules are well-formed, each says what its test expects, and the dashboard asks in
# PromQL: a string of JSON is one of YAML, so its queries are checked as rules.
check_alerts() {
  local promtool=$1 queries rc=0
  "$promtool" check rules deploy/monitoring/alerts.yml || return 1
  "$promtool" test rules deploy/monitoring/alerts_test.yml || return 1
  queries=$(mktemp)
  {
    printf 'groups:\n  - name: dashboard\n    rules:\n'
    sed -nE 's/^ *"expr": (".*"),?$/\1/p' deploy/monitoring/grafana/gong.json \
      | awk '{ printf "      - record: panel:%d\n        expr: %s\n", NR, $0 }'
  } > "$queries"
  grep -q 'expr:' "$queries" && "$promtool" check rules "$queries" || rc=1
  rm -f "$queries"
  return $rc
}

if [ -n "${CI:-}" ] && [ -z "${CARGO_TARGET_DIR:-}" ]; then
  export CARGO_TARGET_DIR=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/gong-ci
fi

stage "tools" need_tools
stage "fonts and PDF tools" need_sheets
if [ "$embedded" = yes ]; then
  unset GONG_TEST_POSTGRES GONG_TEST_RABBITMQ GONG_TEST_KANNEL GONG_TEST_POSTFIX
  engines="SQLite only (--embedded)"
else
  stage "postgresql installed" need_postgres
  stage "postgresql started" start_postgres
  stage "rabbitmq started" start_rabbitmq
  stage "postfix started" start_postfix
  stage "faketime installed" need_faketime
  stage "strace installed" need_strace
  stage "kannel installed" need_kannel
  stage "kannel started" start_kannel
  engines="SQLite and PostgreSQL, with RabbitMQ, Kannel and Postfix"
fi
stage "fmt" "$CARGO" fmt --check
stage "clippy" "$CARGO" clippy --locked --all-targets --features failpoints -- -D warnings
stage "doc" env RUSTDOCFLAGS=-Dwarnings "$CARGO" doc --locked --no-deps
if command -v cargo-deny >/dev/null; then
  stage "deny" "$CARGO" deny check bans licenses sources
else
  echo "== deny: skipped, cargo-deny is not installed (cargo install cargo-deny --locked)"
  skipped+=(deny)
fi
if command -v shellcheck >/dev/null; then
  stage "shellcheck" shellcheck -x -S warning tests/run.sh tests/soak.sh tests/debian13.sh tests/large.sh deploy/*.sh deploy/services/*.sh deploy/deb/{build.sh,gong-setup,gong-run,postinst,prerm,postrm}
else
  echo "== shellcheck: skipped, it is not installed (apt-get install shellcheck)"
  skipped+=(shellcheck)
fi
# Nothing is installed for it, and no server started; only the fetching needs a network.
if promtool=$(deploy/services/promtool.sh); then
  stage "alert rules" check_alerts "$promtool"
else
  echo "== alert rules: skipped, there is no promtool and none could be fetched"
  skipped+=("alert rules")
fi
# How long it took to recover from each fault, a line each.
recovery=$(mktemp)
# Which tests lacked something on this machine, a line each.
unmet=$(mktemp)
export GONG_TEST_RECOVERY=$recovery GONG_TEST_SKIPPED=$unmet
# What says how quick something is has the machine for itself.
measured=bench::an_immediate_dispatch_overtakes_a_routine_one
# Failpoints are for tests alone: without the feature nothing of them is built.
stage "tests" "$CARGO" test --locked --features failpoints -- --skip kills:: --skip "$measured"
stage "measured" "$CARGO" test --locked --features failpoints --test it "$measured"
# These wait most of the time, for leases to end and servers to come back: one more at once.
stage "faults" "$CARGO" test --locked --features failpoints --test it kills:: -- --test-threads $(($(nproc) + 1))

if [ -s "$recovery" ]; then
  echo "== recovery, from a fault's end to the first message of what was sent after it (kill -9 at a place: from the death until others have its batches; of the embedded engine: from its start until it sends)"
  sort -k3 "$recovery"
fi
if [ "$embedded" = no ]; then
  echo "The PostgreSQL, RabbitMQ, Kannel and Postfix of the tests keep running for the next time; to stop them: deploy/services/{postgres,rabbitmq,kannel,postfix}.sh stop"
fi
echo "Of their own, for they take long: tests/soak.sh, tests/debian13.sh, tests/large.sh"
[ ! -s "$unmet" ] || skipped+=("some tests, for what this machine lacks:")
[ ${#skipped[@]} -eq 0 ] || echo "NOT RUN: ${skipped[*]}"
sort -u "$unmet" | sed 's/^/  /'
printf -v list '%s, ' "${done_stages[@]}"
echo "ALL PASSED in $SECONDS s on $engines: ${list%, }"
