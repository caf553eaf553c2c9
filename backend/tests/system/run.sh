#!/usr/bin/env bash
# Runs the tests that need programs of their own: PostgreSQL, PgBouncer, HAProxy and a browser.
# On Debian, as root, what is missing is installed.
set -euo pipefail
cd "$(dirname "$0")/../../.."
PATH=$PATH:/usr/sbin

missing=()
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
for program in pgbouncer haproxy chromium openssl; do
  command -v "$program" >/dev/null || missing+=("$program")
done
command -v setpriv >/dev/null || missing+=(util-linux)
if [ ${#missing[@]} -gt 0 ]; then
  install="apt-get install -y --no-install-recommends ${missing[*]}"
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "The system tests need: ${missing[*]}. On Debian: sudo $install" >&2
    exit 1
  fi
  echo "Installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  $install -qq >/dev/null
fi

TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
chmod 755 "$TMPDIR" # PostgreSQL and PgBouncer run as another user

bun test --timeout 60000 ./backend/tests/system/*.system.ts 2>&1 | tee "$TMPDIR/output"
# A file without a test in it is no failure to bun.
tail -n 6 "$TMPDIR/output" | grep -Eq '^ *[1-9][0-9]* pass$' || { echo 'No test ran' >&2; exit 1; }
