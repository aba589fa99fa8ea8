#!/bin/sh
# Visits real MCP servers (server-everything over stdio and HTTP, server-filesystem, server-memory) with clients of the
# TypeScript SDKs 1.x and 2.x, the Python SDKs 1.x and 2.x, fastmcp and rmcp, directly and through a gateway; fails if a
# client sees something else through it. Installs them below the target folder and tests/servers/node_modules, from pinned
# versions. Needs Node 20 and Python 3.10 or later. LAKH names a built gateway; without it, one is built.
# Usage: tests/servers.sh [client, as the table has it]...
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
venv1=$target/clients
venv2=$target/conformance
modules=tests/servers/node_modules

[ -x "$venv1/bin/pip" ] || python3 -m venv "$venv1"
"$venv1/bin/pip" install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
[ -x "$venv2/bin/pip" ] || python3 -m venv "$venv2"
"$venv2/bin/pip" install --quiet --disable-pip-version-check -r tests/conformance/requirements.txt
if [ ! "$modules/.package-lock.json" -nt tests/servers/package-lock.json ]; then
    npm ci --prefix tests/servers --loglevel=error
fi
if [ -z "${LAKH-}" ]; then
    cargo build --quiet --release --bin lakh
    LAKH=$target/release/lakh
fi
export LAKH
cargo build --quiet --example rmcp-visit
exec python3 tests/servers/run.py "$venv1/bin/python" "$venv2/bin/python" "$target/debug/examples/rmcp-visit" "$target/servers" "$@"
