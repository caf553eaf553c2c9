#!/usr/bin/env bash
# Makes the OpenAPI document without a server, and holds it to the rules of Redocly and Spectral.
set -euo pipefail
cd "$(dirname "$0")/../.."

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
document=$directory/openapi.json
bun backend/programs/document.ts >"$document"

# Both run on Bun: Node need not be there. Components are used by `x-unrouted-answers`, too.
export REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true
bun --bun node_modules/.bin/redocly lint --extends recommended --max-problems 20 \
  --skip-rule no-unused-components --skip-rule operation-4xx-response "$document"
bun --bun node_modules/.bin/spectral lint --fail-severity warn "$document"
