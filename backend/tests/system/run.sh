#!/usr/bin/env bash
# Runs the tests that need programs of their own: PostgreSQL, PgBouncer, HAProxy, a browser, Node and
# Python.
set -euo pipefail
cd "$(dirname "$0")/../../.."
source backend/tests/support/programs.sh

# Most of these tests wait most of the time; those that load the machine get it for themselves.
alone='fairness|lists|plans|quick-streams'
files=(backend/tests/system/*.system.ts)
run() { # the files that match, or with -v those that do not, and options of bun
  mapfile -t chosen < <(printf './%s\n' "${files[@]}" | grep -E "$1" "/($alone)\.system")
  bun test --timeout 60000 "${@:2}" "${chosen[@]}" 2>&1 | tee "$TMPDIR/output" || return
  # A file without a test in it is no failure to bun.
  tail -n 6 "$TMPDIR/output" | grep -Eq '^ *[1-9][0-9]* pass$' || { echo 'No test ran' >&2; return 1; }
}
failed=
run -v --parallel=2 || failed=1
run -e || failed=1
[ -z "$failed" ]
