#!/usr/bin/env bash
# Runs the tests that need programs of their own: PostgreSQL, PgBouncer, HAProxy, a browser, Node and
# Python.
set -euo pipefail
cd "$(dirname "$0")/../../.."
source backend/tests/support/programs.sh

bun test --timeout 60000 ./backend/tests/system/*.system.ts 2>&1 | tee "$TMPDIR/output"
# A file without a test in it is no failure to bun.
tail -n 6 "$TMPDIR/output" | grep -Eq '^ *[1-9][0-9]* pass$' || { echo 'No test ran' >&2; exit 1; }
