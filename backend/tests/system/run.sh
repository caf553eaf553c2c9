#!/usr/bin/env bash
# Runs the tests that need programs of their own: PostgreSQL, PgBouncer, HAProxy, a browser, Node and
# Python.
set -euo pipefail
cd "$(dirname "$0")/../../.."
source backend/tests/support/programs.sh

# Most of these tests wait most of the time, and so two files run at a time. Those that load the
# machine run alone. So do those that fail next to others, once more, because many depend on deadlines.
alone='fairness|lists|plans|quick-streams'
all=(backend/tests/system/*.system.ts)

run() { # files; options of bun before them
  bun test --timeout 60000 --reporter=junit --reporter-outfile="$TMPDIR/results.xml" "$@" 2>&1 |
    tee "$TMPDIR/output" || return
  # A file without a test in it is no failure to bun.
  tail -n 6 "$TMPDIR/output" | grep -Eq '^ *[1-9][0-9]* pass$' || { echo 'No test ran' >&2; return 1; }
}

passed() { # file: whether all of its tests ran and none failed
  grep -q "<testsuite name=\"${1#./}\" .* failures=\"0\"" "$TMPDIR/results.xml"
}

mapfile -t beside < <(printf './%s\n' "${all[@]}" | grep -Ev "/($alone)\.system")
mapfile -t next < <(printf './%s\n' "${all[@]}" | grep -E "/($alone)\.system")
if ! run --parallel=2 "${beside[@]}"; then
  loading=${#next[@]}
  for file in "${beside[@]}"; do passed "$file" || next+=("$file"); done
  [ ${#next[@]} -gt "$loading" ] || { echo 'It failed, and no file did' >&2; exit 1; }
  printf '\nOnce more, by themselves, what did not pass beside others: %s\n\n' "${next[*]}"
fi
run "${next[@]}"
