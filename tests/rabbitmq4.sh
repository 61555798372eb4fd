#!/usr/bin/env bash
# The tests of the broker on RabbitMQ 4, where this machine's Debian 12 has 3.10.
# Usage: tests/rabbitmq4.sh [FILTER…]      (as root; all tests that meet a broker where none are named)
#
# Makes a Debian 13 in the user's cache folder once (600 MB), by debootstrap. Its broker
# runs beside the usual one, with every deprecated feature forbidden, and sees of this
# machine its network and a folder of its own under /tmp.
#   CARGO  the cargo to call
set -euo pipefail
cd "$(dirname "$0")/.."

root=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/gong/debian13
shared=/tmp/gong-rabbitmq4

die() { echo "tests/rabbitmq4.sh: $*" >&2; exit 1; }

[ "$(id -u)" -eq 0 ] || die "run as root: a system in a folder is made and entered"

make_root() {
  [ -x "$root/usr/lib/rabbitmq/bin/rabbitmq-server" ] && return
  command -v debootstrap >/dev/null \
    || { apt-get update -qq && apt-get install -y -qq --no-install-recommends debootstrap >/dev/null; } \
    || die "missing: debootstrap (apt-get install debootstrap)"
  # What an interrupted run left is of no use.
  rm -rf "$root"
  mkdir -p "$root"
  debootstrap --variant=minbase trixie "$root" http://deb.debian.org/debian >/dev/null || die "debootstrap failed"
  printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
  chmod +x "$root/usr/sbin/policy-rc.d"
  chroot "$root" apt-get update -qq
  chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rabbitmq-server \
    >/dev/null || die "RabbitMQ could not be installed in $root"
}

leave() {
  deploy/services/rabbitmq.sh stop || true
  umount "$root/proc" "$root$shared" || true
}

make_root
mkdir -p "$shared" "$root$shared"
# Tests start brokers of their own where TMPDIR says.
export GONG_TEST_RABBITMQ_ROOT=$root GONG_TEST_DIR=$shared TMPDIR=$shared
GONG_TEST_RABBITMQ_CONF=$(printf 'deprecated_features.permit.%s = false\n' \
  amqp_address_v1 global_qos management_metrics_collection ram_node_type transient_nonexcl_queues)
export GONG_TEST_RABBITMQ_CONF
trap leave EXIT
mount --bind "$shared" "$root$shared" || die "this machine lets nobody mount"
mount -t proc proc "$root/proc" || die "this machine lets nobody mount"

GONG_TEST_POSTGRES=$(env -u GONG_TEST_DIR deploy/services/postgres.sh start)
GONG_TEST_RABBITMQ=$(deploy/services/rabbitmq.sh start)
export GONG_TEST_POSTGRES GONG_TEST_RABBITMQ
echo "RabbitMQ $(deploy/services/rabbitmq.sh ctl version)"
[ $# -gt 0 ] || set -- rabbit:: intake:: lanes:: workers:: bench:: \
  kills::broker kills::cluster kills::links kills::pressure kills::points kills::database kills::soak
"${CARGO:-cargo}" test --locked --features failpoints --test it -- "$@"
