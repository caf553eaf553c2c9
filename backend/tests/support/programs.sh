# For what needs programs besides Bun: the system tests source it, and the benchmark and the battery are
# run by it, as `programs.sh bun …`. On Debian, as root, what is missing is installed.
PATH=$PATH:/usr/sbin

missing=()
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
for program in curl pgbouncer haproxy chromium openssl wrk; do
  command -v "$program" >/dev/null || missing+=("$program")
done
command -v setpriv >/dev/null || missing+=(util-linux)
command -v node >/dev/null || missing+=(nodejs)
# The server in Python that the benchmark compares with, on Debian's own interpreter.
for package in fastapi httptools jwt sqlalchemy-ext sqlmodel asyncpg ujson uvicorn uvloop; do
  dpkg-query --show "python3-$package" >/dev/null 2>&1 || missing+=("python3-$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  install="apt-get install -y --no-install-recommends ${missing[*]}"
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "This needs: ${missing[*]}. On Debian: sudo $install" >&2
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

[ "${BASH_SOURCE[0]}" != "$0" ] || "$@"
