#!/usr/bin/env bash
# Prints the path of the CUDA compiler: $TIGON_NVCC, or that of /usr/local/cuda, of PATH or of .venv. Exit 1 if there is none.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for candidate in "${TIGON_NVCC:-}" /usr/local/cuda/bin/nvcc "$(command -v nvcc || true)" .venv/lib/python3*/site-packages/nvidia/cu13/bin/nvcc; do
  if [ -x "$candidate" ]; then
    echo "$candidate"
    exit 0
  fi
done
exit 1
