#!/usr/bin/env python3
"""Compiles the .cu files of this folder to the .ptx files beside them. Run it after a change: python3 tests/vgpu_san/make_ptx.py

The PTX is committed so that the self-test runs where there is no NVRTC; a test compares the checksum in its first line with the sources.
NVRTC comes from ./.nvrtc (make nvrtc) or $NVRTC.
"""
import ctypes, os, sys, zlib
from pathlib import Path

here = Path(__file__).resolve().parent
root = here.parent.parent
library = os.environ.get("NVRTC") or next(iter(sorted(root.glob(".nvrtc/nvidia/cuda_nvrtc/lib/libnvrtc.so.*"))), None)
if library is None:
    sys.exit("no NVRTC: run `make nvrtc` or set NVRTC to the library")
# The builtins lie beside it and are opened by name.
for builtins in Path(library).resolve().parent.glob("libnvrtc-builtins.so*"):
    ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
nvrtc = ctypes.CDLL(str(library))
FLAGS = ["--fmad=false", "-lineinfo", "--std=c++17", "--gpu-architecture=compute_80"]  # as in build.rs


def text(program, size, get):
    n = ctypes.c_size_t()
    size(program, ctypes.byref(n))
    buffer = ctypes.create_string_buffer(n.value + 1)
    get(program, buffer)
    return buffer.value.decode()


header = (here / "common.cuh").read_bytes()
for source in sorted(here.glob("*.cu")):
    body = source.read_bytes()
    program = ctypes.c_void_p()
    names, texts = (ctypes.c_char_p * 1)(b"common.cuh"), (ctypes.c_char_p * 1)(header)
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), body, source.name.encode(), 1, texts, names)
    flags = (ctypes.c_char_p * len(FLAGS))(*[f.encode() for f in FLAGS])
    code = nvrtc.nvrtcCompileProgram(program, len(FLAGS), flags)
    log = text(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog)
    if code != 0:
        sys.exit(f"{source.name}: {log}")
    if log.strip():
        print(log)
    ptx = text(program, nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX)
    ptx = ptx.replace(str(Path.cwd()) + "/", "").replace(str(here) + "/", "")
    checksum = zlib.crc32(header + body)
    source.with_suffix(".ptx").write_text(f"// crc32 {checksum:08x} of common.cuh and {source.name}\n{ptx}")
    print(f"{source.with_suffix('.ptx').name}: {ptx.count('.entry')} kernels")
