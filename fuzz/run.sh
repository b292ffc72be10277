#!/usr/bin/env bash
# Fuzzes every target for an equal part of some seconds: run.sh SECONDS [none|address] [TARGET...]
# What is found lies in fuzz/artifacts/TARGET; new inputs of the corpus in fuzz/target/corpus/TARGET. The flags are those of
# `cargo fuzz`, which is needed only to make inputs or the corpus smaller (`cargo fuzz tmin`, `cargo fuzz cmin`).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

seconds=$1
sanitizer=${2:-none}
targets=("${@:3}")
[[ ${#targets[@]} -gt 0 ]] || targets=(collate arrow message sampler check)

host=$(rustc -vV | sed -n 's/^host: //p')
flags="-Cpasses=sancov-module"
for flag in level=4 inline-8bit-counters pc-table trace-compares; do
    flags+=" -Cllvm-args=-sanitizer-coverage-$flag"
done
flags+=" --cfg fuzzing -Ccodegen-units=1"
target=target/$sanitizer
if [[ $sanitizer != none ]]; then
    # Only nightly has the option; stable has the runtime as well. A folder of its own: cargo remembers what was refused.
    flags+=" -Zsanitizer=$sanitizer"
    export RUSTC_BOOTSTRAP=1 ASAN_OPTIONS=quarantine_size_mb=64
fi
RUSTFLAGS=$flags cargo build --quiet --release --locked --target "$host" --target-dir "$target"

status=0
each=$(((seconds + ${#targets[@]} - 1) / ${#targets[@]}))
for name in "${targets[@]}"; do
    mkdir -p "artifacts/$name" "target/corpus/$name"
    log=target/$name.log
    started=$SECONDS
    crashes=0
    # One input takes a millisecond; one that takes ten seconds is a hang.
    if ! "$target/$host/release/$name" -max_total_time="$each" -max_len=1024 -len_control=10 -timeout=10 \
        -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="artifacts/$name/" \
        "target/corpus/$name" "corpus/$name" >"$log" 2>&1; then
        status=1
        crashes=1
        grep -A1 'panicked at\|ERROR: ' "$log" || true
        echo "found: fuzz/$(sed -n 's/.*Test unit written to //p' "$log" | head -1)"
    fi
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -1)
    took=$((SECONDS - started))
    printf '%-8s %10d inputs, %5d edges, %d s\n' "$name" "${executions:-0}" "${edges:-0}" "$took"
    if [[ -n ${DPO_COLLATE_FIGURES:-} ]]; then
        printf '{"executions": %d, "seconds": %d, "crashes": %d, "most_edges_%s": %d}\n' "${executions:-0}" "$took" \
            "$crashes" "$name" "${edges:-0}" >>"$DPO_COLLATE_FIGURES/fuzz.jsonl"
    fi
done
exit "$status"
