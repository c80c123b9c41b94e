#!/usr/bin/env bash
# Compiles every CUDA kernel of src/ops for one architecture, without a GPU and without a GPU build: finds what does not compile.
# The list of files is that of src/ops/CMakeLists.txt. Optimized only as far as saves time (a third of a full compile), and kept by ccache.
#
#   scripts/check_kernels.sh        for sm_90a
#   scripts/check_kernels.sh 80     for another one
#   TIGON_NVCC=/path/to/nvcc chooses a compiler; otherwise that of /usr/local/cuda, of PATH or of .venv (scripts/setup.sh --tests)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

architecture="${1:-90a}"
out=build/kernels
flags="-std=c++17 --expt-relaxed-constexpr -gencode arch=compute_$architecture,code=sm_$architecture -Isrc -O1 -Xcicc -O1 -Xptxas -O0"

nvcc=$(scripts/find_nvcc.sh) || {
  echo "kernels: NOT compiled, no nvcc found. scripts/setup.sh --tests puts one into .venv; or install the CUDA toolkit" >&2
  exit 0
}
list() { sed -n "/^set($1\$/,/)\$/p" src/ops/CMakeLists.txt | grep -o '[a-z_0-9/]*\.cu'; }
listed=$( (list kernels; list hopper_kernels) | sort)
present=$(cd src/ops && find . -name '*.cu' | sed 's|^\./||' | sort)
if [ -z "$listed" ] || [ "$listed" != "$present" ]; then
  echo "kernels: the .cu files of src/ops are not those that set(kernels …) and set(hopper_kernels …) in src/ops/CMakeLists.txt lists:" >&2
  diff <(echo "$listed") <(echo "$present") >&2 || true
  exit 1
fi

compile() {  # FILE: its messages come out together
  local messages
  # shellcheck disable=SC2086  # flags and launcher are lists of words
  if messages=$($launcher "$nvcc" $flags -c "src/ops/$1" -o "$out/${1//\//-}.o" 2>&1); then return 0; fi
  printf 'kernels: src/ops/%s does not compile\n%s\n' "$1" "$messages" >&2
  return 1
}
launcher=$(command -v ccache || true)
export CCACHE_BASEDIR="$PWD" CCACHE_NOHASHDIR=1 launcher nvcc flags out
export -f compile

# Hopper's own instructions exist there alone.
if [ "$architecture" != 90a ]; then listed=$(list kernels | sort); fi
mkdir -p "$out"
started=$SECONDS
xargs -P "$(nproc)" -I{} bash -c 'compile {}' <<<"$listed" || exit 1
echo "kernels: $(wc -l <<<"$listed") files compiled for sm_$architecture in $((SECONDS - started)) s ($nvcc)"
