#!/bin/sh
# Builds the fuzz targets with the stable compiler and runs each for some seconds (default 20); fails on a crash.
# Usage: tests/fuzz.sh [SECONDS] [TARGET...]
# What was found lies in tests/fuzz/artifacts; to see it again: tests/fuzz/target/<triple>/release/TARGET FILE
set -eu
cd "$(dirname "$0")/fuzz"
seconds=${1:-20}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- envelope ws http request line

# A target is named, so that build scripts and macros are built without the counters of coverage.
triple=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1 --cfg fuzzing" \
    cargo build --release --quiet --target "$triple"

for target in "$@"; do
    mkdir -p "corpus/$target" "artifacts/$target"
    log="artifacts/$target/log"
    # A hang of ten seconds or 512 MiB are crashes too.
    if ! "target/$triple/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=512 -max_len=2048 \
        -dict="dictionaries/$target" -artifact_prefix="artifacts/$target/" -print_final_stats=1 \
        "corpus/$target" "seeds/$target" >"$log" 2>&1; then
        cat "$log"
        echo "fuzz: $target crashed" >&2
        exit 1
    fi
    echo "fuzz: $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs in $seconds s, no crash"
done
