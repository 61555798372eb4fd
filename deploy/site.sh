# What backup.sh and restore.sh know of a site; sourced, with $config set.
# shellcheck shell=bash

die() { echo "${0##*/}: $*" >&2; exit 1; }

need() {
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null || die "$program is missing: apt-get install postgresql-client"
  done
}

# Root writes nothing in another user's site: its service could not open it.
as_owner() {
  local owner
  [ "$(id -u)" -eq 0 ] && [ -e "${key:?}" ] || return 0
  owner=$(stat -c %U "$key")
  [ "$owner" = root ] || die "the site belongs to $owner. Run it as $owner: runuser -u $owner -- $0 … (with the Debian package: gong-run $0 …)"
}

# A setting of [store], from the environment or the configuration; nothing where it is a default.
store_setting() {
  local name=$1 variable=GONG_STORE__${1^^}
  if [ -n "${!variable:-}" ]; then
    echo "${!variable}"
    return
  fi
  awk -v name="$name" '
    /^[[:space:]]*\[/ { inside = ($0 ~ /^[[:space:]]*\[store\]/) }
    inside && $0 ~ "^[[:space:]]*" name "[[:space:]]*=" {
      sub(/^[^=]*=[[:space:]]*/, "")
      quote = substr($0, 1, 1)
      rest = substr($0, 2)
      print substr(rest, 1, index(rest, quote) - 1)
      exit
    }' "${config:?}"
}

# Sets site (its folder), engine, url (of PostgreSQL), database (of SQLite) and key.
read_site() {
  [ -f "$config" ] || die "there is no configuration $config; name it in GONG_CONFIG"
  export GONG_CONFIG=$config
  site=$(cd "$(dirname "$config")" && pwd)
  url=$(store_setting url)
  key=$(store_setting key_file)
  key=${key:-data/gong.key}
  [[ $key = /* ]] || key=$site/$key
  database=
  case $url in
    postgres:* | postgresql:*) engine=postgres ;;
    sqlite:* | '')
      engine=sqlite
      database=${url#sqlite:}
      database=${database#//}
      database=${database:-data/gong.db}
      [[ $database = /* ]] || database=$site/$database
      ;;
    *) die "[store] url of $config is neither sqlite: nor postgres:" ;;
  esac
  # For whoever sources this.
  : "$engine" "$database" "$key"
}

# The site's own files, without data, keys, logs and sheets.
site_files() {
  local name
  basename "$config"
  for name in channels templates fonts; do
    [ ! -d "$site/$name" ] || echo "$name"
  done
}
