#!/usr/bin/env bash
# A private Postfix for tests and trials, without systemd: start | stop | status | address
#
# It takes mail on one port of 127.0.0.1 for the domain gong.test, delivers it to
# Maildirs of its own, bounces whoever it does not know, and sends nothing anywhere.
#   GONG_TEST_DIR        folder of the services   (/tmp/gong-tests-$UID)
#   GONG_TEST_SMTP_PORT  its port                 (a free one, kept in the folder)
# Mailboxes: people@gong.test and people+ANYTHING@gong.test in people/, bounces likewise
# in bounces/, under the folder that `start` prints after the address: HOST:PORT FOLDER
set -euo pipefail

base=${GONG_TEST_DIR:-/tmp/gong-tests-$UID}
dir=$base/postfix
postfix=/usr/sbin/postfix

die() { echo "postfix.sh: $*" >&2; exit 1; }

as_us() { "$postfix" -c "$dir/etc" "$@"; }

running() { [ -f "$dir/etc/main.cf" ] && as_us status >/dev/null 2>&1; }

address() { echo "127.0.0.1:$(cat "$dir/port") $dir/mail"; }

port_is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

pick_port() {
  local port=${GONG_TEST_SMTP_PORT:-$(cat "$dir/port" 2>/dev/null || true)}
  if [ -n "${GONG_TEST_SMTP_PORT:-}" ]; then
    port_is_taken "$port" && die "port $port is taken; set GONG_TEST_SMTP_PORT to another"
  fi
  while [ -z "$port" ] || port_is_taken "$port"; do port=$((20000 + RANDOM % 10000)); done
  echo "$port" > "$dir/port"
}

# Its master must be root, and its parts run as the user of the Debian package.
prepare() {
  [ "$UID" -eq 0 ] || die "Postfix starts as root only"
  if [ ! -x "$postfix" ]; then
    command -v apt-get >/dev/null || die "no Postfix, and no apt-get to install it with"
    # Without a configuration of its own Debian's package starts nothing.
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postfix >/dev/null 2>&1 \
      || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postfix >/dev/null; } \
      || die "apt-get could not install postfix"
  fi
  mkdir -p "$base" && [ -O "$base" ] || die "$base belongs to somebody else; set GONG_TEST_DIR"
  mkdir -p "$dir/etc" "$dir/queue" "$dir/data" "$dir"/mail/{people,bounces}/{new,cur,tmp}
  chown postfix "$dir/data"
  # Whoever reads a Maildir may have made it first.
  chown -R nobody "$dir/mail"
  chmod 755 "$dir" "$dir/etc"
}

configure() {
  cat > "$dir/etc/main.cf" <<CF
compatibility_level = 3.6
queue_directory = $dir/queue
data_directory = $dir/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
shlib_directory = /usr/lib/postfix
mail_owner = postfix
setgid_group = postdrop
default_privs = nobody
myhostname = mx.gong.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtp_dns_support_level = disabled
# Nothing goes out, whatever the address.
default_transport = error:this server is for tests
relay_transport = error:this server is for tests
virtual_mailbox_domains = gong.test
virtual_mailbox_base = $dir/mail
virtual_mailbox_maps = inline:{{people@gong.test=people/} {bounces@gong.test=bounces/}}
virtual_uid_maps = static:$(id -u nobody)
virtual_gid_maps = static:$(id -g nobody)
recipient_delimiter = +
# Take it first and bounce it then, as a server behind another does.
smtpd_reject_unlisted_recipient = no
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions =
maillog_file = $dir/data/mail.log
maillog_file_prefixes = $dir
smtpd_client_connection_count_limit = 0
CF
  # Debian's services, on our port and outside the chroot, for which nothing is laid out here.
  sed -E "s/^smtp( +inet)/127.0.0.1:$(cat "$dir/port")\1/; s/^([^# ]\S*\s+\S+\s+\S+\s+\S+\s+)y/\1n/" \
    /usr/share/postfix/master.cf.dist > "$dir/etc/master.cf"
  grep -q '^postlog' "$dir/etc/master.cf" \
    || echo 'postlog unix-dgram n - n - 1 postlogd' >> "$dir/etc/master.cf"
}

start() {
  prepare
  exec 9> "$dir/lock"
  flock 9
  if ! running; then
    pick_port
    configure
    as_us start </dev/null >"$dir/start.log" 2>&1 9>&- || die "Postfix does not start: $(cat "$dir/start.log")"
    local tries=0
    until port_is_taken "$(cat "$dir/port")"; do
      tries=$((tries + 1))
      [ "$tries" -le 100 ] || die "Postfix does not listen; see $dir/data/mail.log"
      sleep 0.1
    done
  fi
  exec 9>&-
  address
}

case ${1:-} in
  start) start ;;
  stop) if running; then as_us stop >/dev/null 2>&1; fi ;;
  status) if running; then echo "running: $(address)"; else echo "not running"; exit 3; fi ;;
  address) running || die "not running; start it first"; address ;;
  *) echo "usage: $0 start|stop|status|address" >&2; exit 2 ;;
esac
