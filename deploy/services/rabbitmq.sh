#!/usr/bin/env bash
# A private RabbitMQ for tests and trials, without systemd: start | stop | status | url | wipe | kill
#   also: vhost NAME (makes one and prints its URL), drop NAME, ctl ARGS… (rabbitmqctl),
#   join FOLDER (starts it as one more node of the cluster of the broker whose GONG_TEST_DIR that is)
#
# Debian's rabbitmq-server is installed where it is missing (as root). It keeps to one
# folder and three ports of 127.0.0.1, with an Erlang port mapper of its own:
#   GONG_TEST_DIR            folder of the services  (/tmp/gong-tests-$UID)
#   GONG_TEST_RABBITMQ_PORT  port of AMQP            (a free one, kept in the folder)
#   GONG_TEST_RABBITMQ_CONF  further lines of rabbitmq.conf
#   GONG_TEST_RABBITMQ_ROOT  take the programs from the system in this folder (as root); the
#                            folder of the services must be at the same path in it.
#                            tests/debian13.sh makes one with RabbitMQ 4
# User and password guest: anyone on this machine may use it. wipe stops it, throws
# away everything it holds, and starts it anew on the same port. kill ends it with SIGKILL.
set -euo pipefail

base=${GONG_TEST_DIR:-/tmp/gong-tests-$UID}
dir=$base/rabbitmq
bin=/usr/lib/rabbitmq/bin
root=${GONG_TEST_RABBITMQ_ROOT:-}
# A short name that every machine resolves: the host's own may stand nowhere.
first=gong@localhost

die() { echo "rabbitmq.sh: $*" >&2; exit 1; }

url() { echo "amqp://guest:guest@127.0.0.1:$(cat "$dir/port")"; }

port_is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_port() {
  local port=$((20000 + RANDOM % 10000))
  while port_is_taken "$port"; do port=$((20000 + RANDOM % 10000)); done
  echo "$port"
}

# Runs one of RabbitMQ's programs with this node's settings, as the user of Debian's
# package when we are root. The folder is its home: the cookie lies there.
as_owner() {
  local settings=(HOME="$dir" RABBITMQ_NODENAME="$(cat "$dir/node" 2>/dev/null || echo "$first")" RABBITMQ_NODE_PORT="$(cat "$dir/port")"
    RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_DIST_PORT="$(cat "$dir/dist")" ERL_EPMD_PORT="$(cat "$dir/epmd")"
    ERL_EPMD_ADDRESS=127.0.0.1 RABBITMQ_MNESIA_BASE="$dir/data" RABBITMQ_LOG_BASE="$dir/log" RABBITMQ_CONF_ENV_FILE="$dir/none"
    RABBITMQ_CONFIG_FILE="$dir/rabbitmq" RABBITMQ_ENABLED_PLUGINS_FILE="$dir/plugins" RABBITMQ_PID_FILE="$dir/pid"
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}")
  if [ "$UID" -eq 0 ]; then
    (cd / && chroot "${root:-/}" runuser -u rabbitmq -- env "${settings[@]}" "$@")
  else
    (cd / && env "${settings[@]}" "$@")
  fi
}

ctl() { as_owner $bin/rabbitmqctl -q "$@"; }

# The pid file names the process; a stale one may name another's.
running() {
  local pid
  pid=$(cat "$dir/pid" 2>/dev/null) && [ -n "$pid" ] && [[ "$(cat "/proc/$pid/comm" 2>/dev/null)" == beam* ]] \
    && grep -qzx "HOME=$dir" "/proc/$pid/environ" 2>/dev/null
}

install() {
  [ -x "$root$bin/rabbitmq-server" ] && return
  [ -z "$root" ] || die "there is no RabbitMQ in $root; tests/debian13.sh installs one"
  [ "$(id -u)" -eq 0 ] || die "RabbitMQ is not installed: apt-get install rabbitmq-server"
  local policy=/usr/sbin/policy-rc.d made=no
  # Debian would start a server of its own on the usual port.
  if [ ! -e $policy ]; then
    made=yes
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod +x $policy
  fi
  apt-get update -qq >&2 || true
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rabbitmq-server >/dev/null || {
    [ $made = no ] || rm -f $policy
    die "apt-get could not install rabbitmq-server"
  }
  [ $made = no ] || rm -f $policy
}

prepare() {
  install
  mkdir -p "$base" && [ -O "$base" ] || die "$base belongs to somebody else; set GONG_TEST_DIR"
  mkdir -p "$dir/log" "$dir/data"
  local port=${GONG_TEST_RABBITMQ_PORT:-$(cat "$dir/port" 2>/dev/null || true)}
  if [ -n "${GONG_TEST_RABBITMQ_PORT:-}" ]; then
    port_is_taken "$port" && die "port $port is taken; set GONG_TEST_RABBITMQ_PORT to another"
  elif [ -z "$port" ] || port_is_taken "$port"; then
    port=$(free_port)
  fi
  echo "$port" > "$dir/port"
  free_port > "$dir/dist"
  # Nodes of a cluster keep the port mapper by which they find each other.
  [ -e "$dir/cluster" ] || free_port > "$dir/epmd"
  # Tests on a full disk or a small machine must not stop the broker.
  cat > "$dir/rabbitmq.conf" <<'CONF'
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = 1GB
log.console = false
log.file.level = warning
CONF
  printf '%s\n' "${GONG_TEST_RABBITMQ_CONF:-}" >> "$dir/rabbitmq.conf"
  echo '[].' > "$dir/plugins"
  if [ "$UID" -eq 0 ]; then chroot "${root:-/}" chown -R rabbitmq: "$dir"; fi
  as_owner test -w "$dir" || die "the user rabbitmq cannot reach $dir; set GONG_TEST_DIR to a folder that others may enter"
}

launch() {
  prepare
  rm -f "$dir/pid"
  as_owner $bin/rabbitmq-server -detached </dev/null >/dev/null 2>"$dir/log/start" 9>&- || die "RabbitMQ does not start; see $dir/log"
  for _ in $(seq 600); do
    if port_is_taken "$(cat "$dir/port")" && running; then return; fi
    sleep 0.1
  done
  die "RabbitMQ does not answer; see $dir/log"
}

# Two runs may start it at once. The server must not inherit the lock.
locked() {
  mkdir -p "$dir"
  exec 9> "$dir/lock"
  flock 9
  "$@"
  exec 9>&-
}

start() { running || launch; }

stop() {
  local pid
  running || return 0
  pid=$(cat "$dir/pid")
  ctl stop "$dir/pid" >/dev/null 2>&1 || kill "$pid" 2>/dev/null || true
  for _ in $(seq 300); do [ -d "/proc/$pid" ] || break; sleep 0.1; done
  [ ! -d "/proc/$pid" ] || kill -9 "$pid" || true
  rm -f "$dir/pid"
  as_owner epmd -kill >/dev/null 2>&1 || true
}

join() {
  local other=$1/rabbitmq
  [ -e "$other/.erlang.cookie" ] || die "there is no broker in $1; start it first"
  touch "$other/cluster" "$dir/cluster"
  cp -p "$other/.erlang.cookie" "$other/epmd" "$dir/"
  echo "gong-$RANDOM@localhost" > "$dir/node"
  launch
  { ctl stop_app && ctl join_cluster "$first" && ctl start_app; } >/dev/null || die "it cannot join; see $dir/log"
}

kill_it() {
  local pid
  [ -n "${GONG_TEST_DIR:-}" ] || die "kill is for a broker of your own: set GONG_TEST_DIR"
  running || return 0
  pid=$(cat "$dir/pid")
  kill -KILL "$pid"
  while [ -d "/proc/$pid" ] && ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null; do sleep 0.02; done
  # Its other threads may still be ending; who starts it next finds its port free.
  while port_is_taken "$(cat "$dir/port")"; do sleep 0.02; done
  rm -f "$dir/pid"
  as_owner epmd -kill >/dev/null 2>&1 || true
}

wipe() {
  stop
  # The ports stay: whoever was connected comes back to an empty broker.
  rm -rf "$dir/data"
  launch
}

# One call, since each starts an Erlang machine: a virtual host that guest may use.
vhost() {
  [[ "$1" =~ ^[a-z0-9_-]+$ ]] || die "a virtual host is named with a-z, 0-9, _ and -"
  ctl eval "rabbit_vhost:add(<<\"$1\">>, <<\"gong\">>), rabbit_auth_backend_internal:set_permissions(<<\"guest\">>, <<\"$1\">>, <<\".*\">>, <<\".*\">>, <<\".*\">>, <<\"gong\">>)." >/dev/null \
    || die "the virtual host $1 could not be made; see $dir/log"
  echo "$(url)/$1"
}

case ${1:-} in
  start) locked start; url ;;
  stop) [ ! -d "$dir" ] || locked stop ;;
  join) locked join "${2:?a folder}"; url ;;
  wipe) locked wipe; url ;;
  kill) locked kill_it ;;
  status) if running; then echo "running: $(url)"; else echo "not running"; exit 3; fi ;;
  url) running || die "not running; start it first"; url ;;
  vhost) running || die "not running; start it first"; vhost "${2:?a name}" ;;
  drop) running || die "not running; start it first"; ctl delete_vhost "${2:?a name}" >/dev/null ;;
  ctl) running || die "not running; start it first"; shift; ctl "$@" ;;
  *) echo "usage: $0 start|stop|status|url|wipe|kill|vhost NAME|drop NAME|ctl ARGS|join FOLDER" >&2; exit 2 ;;
esac
