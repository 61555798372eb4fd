#!/usr/bin/env bash
# A private Kannel for tests and trials, without systemd: start | stop | status | url
#
# Debian's bearerbox and smsbox with the fake SMSC, whose other side (fakesmsc) takes
# every SMS and sends nothing anywhere; delivery reports come back through dlr-url.
# It keeps to one folder and four ports of 127.0.0.1:
#   GONG_TEST_DIR          folder of the services   (/tmp/gong-tests-$UID)
#   GONG_TEST_KANNEL_PORT  port of sendsms          (a free one, kept in the folder)
# User gong, password kannel: anyone on this machine may use it.
set -euo pipefail

base=${GONG_TEST_DIR:-/tmp/gong-tests-$UID}
dir=$base/kannel
bin=/usr/sbin
fakesmsc=/usr/lib/kannel/test/fakesmsc

die() { echo "kannel.sh: $*" >&2; exit 1; }

url() { echo "http://127.0.0.1:$(cat "$dir/port")"; }

# Whether the process of a pid file is the program of that name.
alive() {
  local pid
  pid=$(cat "$dir/$1.pid" 2>/dev/null) && [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ]
}

running() { alive bearerbox && alive smsbox && alive fakesmsc; }

port_is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_port() {
  local port=$((20000 + RANDOM % 10000))
  while port_is_taken "$port"; do port=$((20000 + RANDOM % 10000)); done
  echo "$port"
}

# Waits up to 20 s until the port answers.
answers() {
  for _ in $(seq 200); do
    port_is_taken "$1" && return
    sleep 0.1
  done
  return 1
}

prepare() {
  [ -x $bin/bearerbox ] && [ -x $bin/smsbox ] || die "Kannel is not installed: apt-get install kannel"
  [ -x $fakesmsc ] || die "$fakesmsc is missing: apt-get install kannel-extras"
  mkdir -p "$base" && [ -O "$base" ] || die "$base belongs to somebody else; set GONG_TEST_DIR"
  mkdir -p "$dir/spool"
}

configure() {
  local sendsms=${GONG_TEST_KANNEL_PORT:-$(cat "$dir/port" 2>/dev/null || true)} admin box
  if [ -n "${GONG_TEST_KANNEL_PORT:-}" ]; then
    port_is_taken "$sendsms" && die "port $sendsms is taken; set GONG_TEST_KANNEL_PORT to another"
  elif [ -z "$sendsms" ] || port_is_taken "$sendsms"; then
    sendsms=$(free_port)
  fi
  admin=$(free_port) box=$(free_port) smsc=$(free_port)
  echo "$sendsms" > "$dir/port"
  (umask 077 && cat > "$dir/kannel.conf" <<CONF
group = core
admin-port = $admin
admin-interface = 127.0.0.1
admin-password = kannel
smsbox-port = $box
smsbox-interface = 127.0.0.1
box-allow-ip = "127.0.0.1"
box-deny-ip = "*.*.*.*"
log-file = "$dir/bearerbox.log"
log-level = 2
store-type = spool
store-location = "$dir/spool"
dlr-storage = internal

group = smsc
smsc = fake
smsc-id = fake
port = $smsc
connect-allow-ip = 127.0.0.1

group = smsbox
bearerbox-host = 127.0.0.1
bearerbox-port = $box
sendsms-port = $sendsms
sendsms-interface = 127.0.0.1
sendsms-chars = "0123456789"
global-sender = 10690000
log-file = "$dir/smsbox.log"
log-level = 2

group = sendsms-user
username = gong
password = kannel
concatenation = true
max-messages = 10

group = sms-service
keyword = default
max-messages = 0
text = ""
CONF
  )
}

# Starts a program of its own session and keeps its pid.
launch() {
  local name=$1
  shift
  setsid "$@" </dev/null >"$dir/$name.out" 2>&1 9>&- &
  echo $! > "$dir/$name.pid"
}

start() {
  prepare
  # Two runs may start it at once. The boxes must not inherit the lock.
  exec 9> "$dir/lock"
  flock 9
  if ! running; then
    stop_all
    configure
    launch bearerbox $bin/bearerbox "$dir/kannel.conf"
    answers "$smsc" || die "bearerbox does not start; see $dir/bearerbox.out"
    # -m 0: it says nothing by itself, and takes what comes for as long as it runs.
    launch fakesmsc $fakesmsc -H 127.0.0.1 -r "$smsc" -i 1 -m 0 "10690000 10690000 text nothing"
    launch smsbox $bin/smsbox "$dir/kannel.conf"
    answers "$(cat "$dir/port")" || die "smsbox does not start; see $dir/smsbox.out"
  fi
  exec 9>&-
  url
}

# Smsbox first: it hands what it holds to the bearerbox, which then waits for nobody.
stop_all() {
  local name pid
  for name in smsbox fakesmsc bearerbox; do
    alive $name || continue
    pid=$(cat "$dir/$name.pid")
    kill "$pid" 2>/dev/null || true
    for _ in $(seq 50); do
      alive $name || break
      sleep 0.1
    done
    if alive $name; then kill -9 "$pid" 2>/dev/null || true; fi
  done
  rm -f "$dir"/*.pid
}

case ${1:-} in
  start) start ;;
  stop) stop_all ;;
  status) if running; then echo "running: $(url)"; else echo "not running"; exit 3; fi ;;
  url) running || die "not running; start it first"; url ;;
  *) echo "usage: $0 start|stop|status|url" >&2; exit 2 ;;
esac
