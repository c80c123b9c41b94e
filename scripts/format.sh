#!/usr/bin/env bash
# Formats every C++ and CUDA file with clang-format; with --check only says which would change.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mapfile -t files < <(git ls-files '*.h' '*.cpp' '*.cu' '*.cuh')
case "${1:-}" in
  --check) clang-format --dry-run --Werror "${files[@]}" ;;
  "") clang-format -i "${files[@]}" ;;
  *) echo "format.sh: unknown option $1 (see the head of this file)" >&2; exit 2 ;;
esac
