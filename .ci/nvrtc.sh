#!/bin/sh
# Installs the pinned NVRTC, ptxas and nvdisasm wheels into ./.nvrtc (no GPU, driver or CUDA toolkit needed). Safe to run again.
# Called by `make nvrtc`. PYTHON names the interpreter; EARLYBIRD_NVRTC (a library, or "off") means there is nothing to install.
set -u
cd "$(dirname "$0")/.." || exit 1

# 12.4 writes PTX 8.4, which drivers from 550 on run; 12.0 to 12.2 lack __dp4a. nvdisasm exists from 13.2 on only and reads older cubins.
NVRTC=nvidia-cuda-nvrtc-cu12==12.4.127
PTXAS=nvidia-cuda-nvcc-cu12==12.4.131
NVDISASM=nvidia-cuda-nvdisasm==13.2.51
WANT="$NVRTC $PTXAS $NVDISASM"

if [ -n "${EARLYBIRD_NVRTC:-}" ]; then
    echo "make nvrtc: EARLYBIRD_NVRTC=$EARLYBIRD_NVRTC is set, nothing to install"
    exit 0
fi
if [ "$(cat .nvrtc/installed 2>/dev/null)" = "$WANT" ]; then
    echo "make nvrtc: .nvrtc is up to date"
    exit 0
fi
case "$(uname -s)-$(uname -m)" in
Linux-x86_64 | Linux-aarch64) ;;
*)
    echo "make nvrtc: NVIDIA ships no NVRTC wheel for $(uname -s)-$(uname -m); the CPU backend works without it" >&2
    exit 1
    ;;
esac

PY=${PYTHON:-python3}
if ! command -v "$PY" >/dev/null 2>&1; then
    echo "make nvrtc: no $PY here. Install Python 3 with pip (Debian: apt install python3-pip), or name another one: make nvrtc PYTHON=/path/python3," >&2
    echo "            or point EARLYBIRD_NVRTC at a libnvrtc.so you already have" >&2
    exit 1
fi

new=.nvrtc.new.$$
trap 'rm -rf "$new"' EXIT
mkdir -p "$new" || exit 1
pip_args="--disable-pip-version-check --no-input --no-deps --no-compile --quiet --root-user-action=ignore"

# pip of this Python, else pip of a throw-away venv (needs ensurepip), else pip or uv from PATH, else a pinned pip that is run out of its wheel.
if "$PY" -m pip --version >/dev/null 2>&1; then
    pip="$PY -m pip"
elif "$PY" -m venv "$new/venv" >/dev/null 2>&1 && "$new/venv/bin/python" -m pip --version >/dev/null 2>&1; then
    pip="$new/venv/bin/python -m pip"
elif pip3 --version >/dev/null 2>&1; then
    pip=pip3
elif command -v uv >/dev/null 2>&1; then
    pip="uv pip"
    pip_args="--no-deps --quiet"
elif "$PY" .ci/fetch_pip.py "$new/pip.whl"; then # Debian's python3 comes without either
    pip="env PYTHONPATH=$PWD/$new/pip.whl $PY -m pip"
else
    echo "make nvrtc: $PY has neither pip nor venv. Debian and Ubuntu: apt install python3-pip (or python3-venv); others: $PY -m ensurepip." >&2
    echo "            With pip elsewhere: pip install --target .nvrtc $NVRTC && touch build.rs" >&2
    exit 1
fi

echo "make nvrtc: installing $WANT into .nvrtc"
# shellcheck disable=SC2086
if ! $pip install $pip_args --target "$new/site" "$NVRTC"; then
    echo "make nvrtc: pip could not install $NVRTC (see above: no network, or no wheel for this machine)" >&2
    exit 1
fi
# The two tools only serve `kernels budget` and its tests: without them the kernels still build and run. Of their wheels only the programs are kept
# (libnvvm and the headers are 27 MB); pip does not merge into a folder that is there, hence the second target.
# shellcheck disable=SC2086
if $pip install $pip_args --target "$new/tools" "$PTXAS" "$NVDISASM"; then
    mkdir -p "$new/site/bin"
    mv "$new/tools/nvidia/cuda_nvcc/bin/ptxas" "$new/tools/nvidia/cu13/bin/nvdisasm" "$new/site/bin/" || exit 1
    mv "$new"/tools/*.dist-info "$new/site/" # their licences
else
    echo "make nvrtc: ptxas and nvdisasm could not be installed; kernel budgets cannot be checked here" >&2
    WANT=$NVRTC
fi
ls "$new"/site/nvidia/cuda_nvrtc/lib/libnvrtc.so.* >/dev/null 2>&1 || {
    echo "make nvrtc: the wheel holds no libnvrtc.so; please report this" >&2
    exit 1
}
echo "$WANT" >"$new/site/installed"
rm -rf .nvrtc && mv "$new/site" .nvrtc || exit 1
touch build.rs # the next cargo build looks for NVRTC again
echo "make nvrtc: done, $(du -sh .nvrtc | cut -f1)"
