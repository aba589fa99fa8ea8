#!/bin/sh
# Talks to a gateway with the TypeScript and Python SDKs of MCP over WebSocket, Streamable HTTP and HTTP+SSE; fails if
# one of their tests does.
# Installs them below the target folder and tests/clients/node_modules, from pinned versions. Needs Node 20 and Python
# 3.10 or later. LAKH names a built gateway; without it, one is built. Usage: tests/clients.sh
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
venv=$target/clients
modules=tests/clients/node_modules
# Longest for one SDK's tests, in seconds.
limit=120

[ -x "$venv/bin/pip" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
if [ ! "$modules/.package-lock.json" -nt tests/clients/package-lock.json ]; then
    npm ci --prefix tests/clients --loglevel=error
fi
lakh=${LAKH-}
if [ -z "$lakh" ]; then
    cargo build --quiet --bin lakh
    lakh=$target/debug/lakh
fi

log=$venv/lakh.log
"$lakh" serve --listen 127.0.0.1:0 --admin 127.0.0.1:0 --connections-max 1000 >"$log" &
gateway=$!
trap 'kill "$gateway" 2>/dev/null || true' EXIT
until grep -q '^clients  ' "$log"; do
    kill -0 "$gateway"
    sleep 0.1
done
address=$(sed -n 's/^clients  \([^ ]*\).*/\1/p' "$log")

failed=
for url in "ws://$address/mcp" "http://$address/mcp" "http://$address/sse"; do
    echo "TypeScript SDK, $url"
    GATEWAY=$url timeout "$limit" node --test --test-reporter=spec tests/clients/typescript.test.js ||
        failed="$failed typescript:$url"
    echo "Python SDK, $url"
    timeout "$limit" "$venv/bin/python" tests/clients/python_client.py "$url" || failed="$failed python:$url"
done
kill -0 "$gateway"
if [ -n "$failed" ]; then
    echo "clients: failed:$failed" >&2
    exit 1
fi
echo "clients: all passed"
