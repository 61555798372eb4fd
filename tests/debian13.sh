#!/usr/bin/env bash
# The tests on PostgreSQL 17 and RabbitMQ 4, where this machine's Debian 12 has 15 and 3.10.
# Usage: tests/debian13.sh [FILTER…]      (as root; all tests that meet a server where none are named)
#
# Makes a Debian 13 in the user's cache folder once (900 MB), by debootstrap. Its servers
# run beside the usual ones, the broker with every deprecated feature forbidden, and see of
# this machine its network and a folder of their own under /tmp.
#   CARGO  the cargo to call
set -euo pipefail
cd "$(dirname "$0")/.."

root=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/gong/debian13
log=$root.log
shared=/tmp/gong-debian13

die() { echo "tests/debian13.sh: $*" >&2; exit 1; }

[ "$(id -u)" -eq 0 ] || die "run as root: a system in a folder is made and entered"

in_root() { chroot "$root" env DEBIAN_FRONTEND=noninteractive "$@" >> "$log" 2>&1; }

make_root() {
  [ -e "$root/made" ] && return
  command -v debootstrap >/dev/null \
    || { apt-get update -qq && apt-get install -y -qq --no-install-recommends debootstrap >/dev/null; } \
    || die "missing: debootstrap (apt-get install debootstrap)"
  # What an interrupted run left is of no use.
  rm -rf "$root"
  mkdir -p "$root"
  debootstrap --variant=minbase trixie "$root" http://deb.debian.org/debian > "$log" 2>&1 || die "debootstrap failed; see $log"
  # Packages start nothing, and make no database of their own.
  printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
  chmod +x "$root/usr/sbin/policy-rc.d"
  mkdir -p "$root/etc/postgresql-common"
  echo 'create_main_cluster = false' > "$root/etc/postgresql-common/createcluster.conf"
  in_root apt-get update -qq || die "apt-get update failed; see $log"
  in_root apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold rabbitmq-server postgresql-17 faketime \
    || die "the servers could not be installed; see $log"
  touch "$root/made"
}

leave() {
  deploy/services/rabbitmq.sh stop || true
  deploy/services/postgres.sh stop || true
  umount "$root/proc" "$root$shared" "$shared" || true
}

make_root
mkdir -p "$shared" "$root$shared"
# Tests start servers of their own where TMPDIR says.
export GONG_TEST_RABBITMQ_ROOT=$root GONG_TEST_POSTGRES_ROOT=$root GONG_TEST_DIR=$shared TMPDIR=$shared
GONG_TEST_RABBITMQ_CONF=$(printf 'deprecated_features.permit.%s = false\n' \
  amqp_address_v1 global_qos management_metrics_collection ram_node_type transient_nonexcl_queues)
export GONG_TEST_RABBITMQ_CONF
trap leave EXIT
# Disks that tests mount there are seen in both places.
{ mount --bind "$shared" "$shared" && mount --make-shared "$shared" && mount --bind "$shared" "$root$shared"; } \
  || die "this machine lets nobody mount"
mount -t proc proc "$root/proc" || die "this machine lets nobody mount"

GONG_TEST_POSTGRES=$(deploy/services/postgres.sh start)
GONG_TEST_RABBITMQ=$(deploy/services/rabbitmq.sh start)
export GONG_TEST_POSTGRES GONG_TEST_RABBITMQ
echo "PostgreSQL $(psql --no-psqlrc -At "$GONG_TEST_POSTGRES" -c 'SHOW server_version'), RabbitMQ $(deploy/services/rabbitmq.sh ctl version)"

run() { "${CARGO:-cargo}" test --locked --features failpoints "$@"; }
if [ $# -gt 0 ]; then
  run -- "$@"
else
  run --lib -- store:: planner:: dispatch:: receipts::
  # Without the backups, which take a pg_dump as new as the server.
  run --test it -- rabbit:: intake:: lanes:: workers:: bench:: stores:: migrations:: engine:: crash:: failover:: kills::
fi
