#!/usr/bin/env bash
# Sets up everything a build needs and builds the program: Debian packages, a .venv with the pinned torch wheel (it carries
# LibTorch), CMake. Safe to run again; needs no network once it has run.
#
#   scripts/setup.sh              what the program needs: build/tigon
#   scripts/setup.sh --tests      also the Python packages that the tests compare against, and the test programs
#   scripts/setup.sh --cuda       a GPU build in build-cuda/ (needs the CUDA toolkit; TIGON_CUDA_ARCHITECTURES=80;90a chooses architectures)
#   scripts/setup.sh --sanitize   an address and undefined-behaviour sanitizer build, with tests, in build-sanitize/
#   --no-build                    only packages and configuration
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TORCH_VERSION=2.11.0
TORCH_CPU_PACKAGES=("torch==$TORCH_VERSION" nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)
NVCC_PACKAGES=(nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-cccl==13.0.85)
DEBIAN_PACKAGES=(g++ cmake ninja-build ccache mold pkg-config git python3-venv xz-utils
  libsentencepiece-dev libyaml-cpp-dev libspdlog-dev libfmt-dev nlohmann-json3-dev libcli11-dev liblzma-dev libzstd-dev zlib1g-dev libxxhash-dev libpcre2-dev libicu-dev libjs-chart.js catch2)

with_tests=0 preset=cpu build=1
for argument in "$@"; do
  case "$argument" in
    --tests) with_tests=1 ;;
    --cuda) preset=cuda ;;
    --sanitize) preset=sanitize with_tests=1 ;;
    --no-build) build=0 ;;
    *) echo "setup.sh: unknown option $argument (see the head of this file)" >&2; exit 2 ;;
  esac
done

say() { echo "[setup] $*" >&2; }

# Sets as_root to what a command that installs begins with; fails where nothing may be installed.
may_install() {
  as_root=()
  [ "$(id -u)" -eq 0 ] && return
  as_root=(sudo)
  command -v sudo >/dev/null && sudo -n true 2>/dev/null
}

apt_install() { DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "$@" >&2; }

is_installed() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q "install ok installed"; }

install_debian_packages() {
  command -v dpkg-query >/dev/null || { say "not a Debian system: install the equivalents of ${DEBIAN_PACKAGES[*]}"; return; }
  local missing=()
  for package in "${DEBIAN_PACKAGES[@]}"; do is_installed "$package" || missing+=("$package"); done
  [ ${#missing[@]} -eq 0 ] && return
  if ! may_install; then
    say "these Debian packages are missing and may not be installed from here:"
    echo "  apt-get install ${missing[*]}" >&2
    exit 1
  fi
  say "installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  apt_install "${missing[@]}"
}

# Tests look at pages in it; without it they are skipped. Debian has the package, Ubuntu does not.
install_browser() {
  if is_installed chromium || [ -z "$(apt-cache show chromium 2>/dev/null)" ] || ! may_install; then return; fi
  say "installing chromium, in which tests look at pages"
  apt_install chromium || say "chromium could not be installed: tests of pages will be skipped"
}

install_torch() {
  [ -x .venv/bin/python ] || python3 -m venv .venv
  local found
  found=$(.venv/bin/python -c 'import importlib.metadata as m; print(m.version("torch"))' 2>/dev/null || true)
  if [ "$found" != "$TORCH_VERSION" ]; then
    say "installing torch $TORCH_VERSION into .venv (about 1.3 GB)"
    .venv/bin/pip install -q --disable-pip-version-check --no-deps "${TORCH_CPU_PACKAGES[@]}"
  fi
}

# The whole wheel with its CUDA libraries: importing torch in Python, and linking the GPU half, need it (about 4.6 GB).
install_whole_torch() {
  .venv/bin/python -c 'import torch' 2>/dev/null && return
  say "installing torch's CUDA libraries into .venv (about 3 GB)"
  .venv/bin/pip install -q --disable-pip-version-check "torch==$TORCH_VERSION"
}

install_test_packages() {
  install_browser
  local stamp=.venv/tests-installed
  cmp -s tests/python/requirements.txt "$stamp" && return
  say "installing the Python packages that tests compare against"
  .venv/bin/pip install -q --disable-pip-version-check -r tests/python/requirements.txt
  cp tests/python/requirements.txt "$stamp"
}

# For scripts/check_kernels.sh, on machines without the CUDA toolkit.
install_nvcc() {
  scripts/find_nvcc.sh >/dev/null && return
  say "installing the CUDA compiler into .venv (about 0.3 GB), to check that the kernels compile"
  .venv/bin/pip install -q --disable-pip-version-check --no-deps "${NVCC_PACKAGES[@]}"
}

install_debian_packages
install_torch
if [ "$preset" = cuda ] || [ $with_tests -eq 1 ]; then install_whole_torch; fi
if [ $with_tests -eq 1 ]; then install_test_packages; fi
if [ $with_tests -eq 1 ] && [ "$preset" = cpu ]; then install_nvcc; fi

options=(-DTIGON_BUILD_TESTS=$([ $with_tests -eq 1 ] && echo ON || echo OFF))
if [ "$preset" = cuda ]; then
  options=(-DTIGON_BUILD_TESTS=ON)
  if [ -n "${TIGON_CUDA_ARCHITECTURES:-}" ]; then options+=("-DTIGON_CUDA_ARCHITECTURES=$TIGON_CUDA_ARCHITECTURES"); fi
elif [ "$preset" = cpu ]; then
  say "CPU-only build (scripts/setup.sh --cuda makes one for the GPU)"
  # A tree that already builds its tests goes on doing so.
  grep -qs '^TIGON_BUILD_TESTS:BOOL=ON' build/CMakeCache.txt && options=(-DTIGON_BUILD_TESTS=ON)
fi
cmake --preset "$preset" "${options[@]}" >&2

if [ $build -eq 1 ]; then
  targets=()
  [ $with_tests -eq 1 ] || targets=(--target tigon_program)
  cmake --build --preset "$preset" "${targets[@]}" >&2
fi
