#!/usr/bin/env bash
# Sets up if needed, builds and runs the tests, and says how many were skipped and why. The CPU tests also compile every CUDA kernel
# (scripts/check_kernels.sh), which needs no GPU.
#
#   scripts/test.sh                 the CPU tests
#   scripts/test.sh --sanitize      the same under the address and undefined-behaviour sanitizers
#   scripts/test.sh --gpu           the GPU build; on a machine with a GPU also its tests (ctest label gpu)
#   scripts/test.sh --extended      the CPU tests, then a minute of fuzzing for every reader of outside files (needs clang)
# Anything after -- goes to ctest, e.g. scripts/test.sh -- -R gated_scan
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset=cpu setup=(--tests) extended=0
while [ $# -gt 0 ]; do
  case "$1" in
    --sanitize) preset=sanitize setup=(--sanitize) ;;
    --extended) extended=1 ;;
    --gpu) preset=cuda setup=(--cuda --tests) ;;
    --) shift; break ;;
    *) echo "test.sh: unknown option $1 (see the head of this file)" >&2; exit 2 ;;
  esac
  shift
done

scripts/setup.sh "${setup[@]}"
case $preset in cpu) folder=build ;; cuda) folder=build-cuda ;; sanitize) folder=build-sanitize ;; esac

# Leaks that LibTorch and OpenMP keep until the process ends are not ours to report.
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=0:protect_shadow_gap=0:detect_odr_violation=0}"
# As many tests as processors run side by side, each with as many threads: those that wait shall sleep, not spin.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
status=0
if [ $preset = cpu ]; then scripts/check_kernels.sh || status=1; fi
ctest --test-dir "$folder" --output-on-failure --no-tests=error -j "$(nproc)" "$@" || status=1

log="$folder/Testing/Temporary/LastTest.log"
skipped=$(grep -c '^SKIPPED: ' "$log" || true)
echo "skipped: $skipped"
grep '^SKIPPED: ' "$log" | sort | uniq -c | sort -rn || true
if [ $extended -eq 1 ]; then scripts/fuzz.sh 60 || status=1; fi
exit $status
