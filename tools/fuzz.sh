#!/usr/bin/env bash
# Builds the targets of tests/fuzz for libFuzzer and runs each for a while. The loaders and the graph code are
# instrumented, libfluxion.so is the release build's. What is found goes to build/fuzz/.
# usage: tools/fuzz.sh [SECONDS] [TARGET ...]
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- header graphs model graph_text
clang=$(command -v clang++-19 || true)
[ -n "$clang" ] || { echo "fuzz: needs clang++-19 with its runtime (clang-19, libclang-rt-19-dev)" >&2; exit 1; }

out=build/fuzz
mkdir -p $out
flags=(-std=c++20 -O1 -g1 -march=x86-64-v3 -ffp-contract=off -fsanitize=address,undefined
       -fno-sanitize=null -fno-sanitize-recover=all -DFMT_HEADER_ONLY -DFLUXION_VERSION='"fuzz"'
       -I. -Iinclude -isystem build/release/generated/schema)
objects=()
for source in io/*.cpp graph/*.cpp; do
  object=$out/$(basename "$(dirname "$source")")_$(basename "$source" .cpp).o
  [ "$object" -nt "$source" ] || "$clang" "${flags[@]}" -fsanitize=fuzzer-no-link -c "$source" -o "$object"
  objects+=("$object")
done
for target in "$@"; do
  "$clang" "${flags[@]}" -fsanitize=fuzzer "tests/fuzz/$target.cpp" "${objects[@]}" \
    -Lpython/fluxion -lfluxion -Wl,-rpath,"$PWD/python/fluxion" -o "$out/$target"
  mkdir -p "$out/$target.found"
  "$out/$target" "$out/$target.found" "tests/fuzz/corpus/$target" -max_total_time="$seconds" \
    -artifact_prefix="$out/$target-" -print_final_stats=1 -verbosity=0
done
