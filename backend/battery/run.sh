#!/usr/bin/env bash
# Runs the battery: see main.ts.
set -euo pipefail
cd "$(dirname "$0")/../.."
source backend/tests/support/programs.sh

bun backend/battery/main.ts "$@"
