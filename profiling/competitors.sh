#!/bin/sh
# Installs the gateways that `proxied.rs --http` measures beside lakh into target/competitors; they are never dependencies.
set -eu
cd "$(dirname "$0")/.."
# Their own build folder: nothing of theirs is built into ours, and a second run has nothing to do.
export CARGO_TARGET_DIR="$PWD/target/competitors/build"
for crate in mcp-proxy@0.6.0 mcpstead@0.1.13; do
    nice -n 19 cargo install --locked --root target/competitors "$crate"
done
