#!/usr/bin/env bash
# Runs every fuzz target (tests/fuzz) for some time under the address and undefined-behaviour sanitizers, starting from its
# committed seeds, and prints executions and findings. Needs clang and its runtime (Debian: clang libclang-rt-14-dev).
#
#   scripts/fuzz.sh [SECONDS [TARGET...]]    60 seconds a target by default, two targets at a time
# What a run discovers stays in build-fuzz/corpus/; an input that crashes in build-fuzz/findings/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${1:-60}
shift || true
command -v clang++ >/dev/null || { echo "fuzz.sh: clang++ is missing: apt-get install clang libclang-rt-14-dev" >&2; exit 1; }
cmake -S . -B build-fuzz -G Ninja -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=Debug -DTIGON_FUZZ=ON >&2
cmake --build build-fuzz >&2

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for program in build-fuzz/fuzz_*; do
    [ -x "$program" ] && [ ! -d "$program" ] && targets+=("${program#build-fuzz/fuzz_}")
  done
fi
mkdir -p build-fuzz/findings build-fuzz/logs

run_target() {
  local name=$1
  mkdir -p "build-fuzz/corpus/$name"
  "build-fuzz/fuzz_$name" "build-fuzz/corpus/$name" "tests/fuzz/seeds/$name" -max_total_time="$seconds" -timeout=20 \
    -rss_limit_mb=3000 -max_len=65536 -print_final_stats=1 -artifact_prefix="build-fuzz/findings/$name-" \
    >"build-fuzz/logs/$name.log" 2>&1
}

status=0
for ((i = 0; i < ${#targets[@]}; i += 2)); do
  processes=()
  for name in "${targets[@]:i:2}"; do
    run_target "$name" &
    processes+=($!)
  done
  for process in "${processes[@]}"; do wait "$process" || status=1; done
done

printf '%-20s %14s %10s  %s\n' target executions seconds result
for name in "${targets[@]}"; do
  log="build-fuzz/logs/$name.log"
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  result=$(grep -m1 -E 'ERROR: |SUMMARY: |runtime error' "$log" || echo "no findings")
  printf '%-20s %14s %10s  %s\n' "$name" "${executions:-none}" "$seconds" "$result"
done
exit $status
