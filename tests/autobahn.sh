#!/bin/sh
# Runs the Autobahn cases, all but compression, against an echo on the gateway's own connection code; fails on a failed
# case. NON-STRICT passes, and is listed: 6.4.3 and 6.4.4 are, because a frame's UTF-8 is checked when its last byte is
# there. Needs Python 3.10 or later. Usage: tests/autobahn.sh [--release]
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
profile=debug
[ "${1-}" != --release ] || profile=release

[ -x "$target/autobahn/bin/pip" ] || python3 -m venv "$target/autobahn"
"$target/autobahn/bin/pip" install --quiet --disable-pip-version-check -r tests/autobahn/requirements.txt
cargo build --quiet --example echo "$@"

log="$target/autobahn/echo.log"
rm -f "$log"
"$target/$profile/examples/echo" >"$log" &
echo=$!
trap 'kill "$echo" 2>/dev/null || true' EXIT
until [ -s "$log" ]; do
    kill -0 "$echo"
    sleep 0.1
done
"$target/autobahn/bin/python" tests/autobahn/run.py "$(cat "$log")"
