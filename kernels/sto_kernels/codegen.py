"""LLVM at work: a module of IR becomes machine code for a processor, kept on disk between processes.

A cached object file is found by the sha256 of everything it depends on (IR, processor, features, LLVM's version) and
carries the sha256 of its own bytes, so a stale or damaged file is compiled again and never run. Files appear by rename:
any number of processes may compile the same kernel at once. A cache that cannot be written costs time, not the run.
Code is only taken from a folder that nobody but root and this user can write to.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm

_log = logging.getLogger("sto_kernels")


@dataclass(frozen=True)
class Target:
    """What to compile for: LLVM's names of the triple, the processor and its features ("+avx2,-sse4a")."""

    triple: str
    cpu: str
    features: str


@dataclass(frozen=True)
class Compiled:
    """A kernel in memory; `cached` tells whether the disk had it."""

    call: Callable[[int], None]
    cached: bool


@cache
def host_features() -> dict[str, bool]:
    """LLVM's names of processor features -> present."""
    return dict(llvm.get_host_cpu_features())


@cache
def host_target() -> Target:
    return Target(llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())


def cache_dir() -> Path:
    """$STO_ENGINE_CACHE, else sto-engine in the user's cache folder."""
    if folder := os.environ.get("STO_ENGINE_CACHE"):
        return Path(folder)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "sto-engine"


def compile_function(text: str, function: str, target: Target) -> Compiled:
    """Machine code of `function(pointer)` in the IR `text`, from the cache or compiled; told in the log."""
    began = time.perf_counter()
    path = _cache_path(text, target)
    code = _read(path)
    cached = code is not None
    if code is None:
        _log.info("compiling the scoring kernel for %s; this takes seconds, once a machine", target.cpu)
        code = _object_code(text, target)
        _write(path, code)
    call = _load(code, function, target)
    seconds = time.perf_counter() - began
    _log.info("scoring kernel ready after %.2f s (%s)", seconds, "cached" if cached else "compiled")
    return Compiled(call, cached)


def assembly(text: str, target: Target) -> str:
    """The code as assembly language, for tests and the curious."""
    module, machine = _optimised(text, target)
    return str(machine.emit_assembly(module))


@cache
def _initialise() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def _optimised(text: str, target: Target) -> tuple[llvm.ModuleRef, llvm.TargetMachine]:
    _initialise()
    machine = llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, reloc="pic", codemodel="default"
    )
    module = llvm.parse_assembly(text)
    module.triple, module.data_layout = target.triple, str(machine.target_data)
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = False  # the vectors are written by hand
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    module.verify()
    return module, machine


def _object_code(text: str, target: Target) -> bytes:
    module, machine = _optimised(text, target)
    return bytes(machine.emit_object(module))


def _load(code: bytes, function: str, target: Target) -> Callable[[int], None]:
    _initialise()
    machine = llvm.Target.from_triple(target.triple).create_target_machine(cpu=target.cpu, features=target.features)
    # All sections in one piece of memory: code reaches its constants by 32 bits, and LLVM aborts the process where they
    # happen to lie more than 2 GiB apart.
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine, use_lmm=True)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    pointer = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(engine.get_function_address(function))

    def call(argument: int, _owner: object = engine) -> None:  # the engine owns the code: it must live as long
        pointer(argument)  # ctypes lets other threads run meanwhile

    return call


def _cache_path(text: str, target: Target) -> Path | None:
    parts = (text, target.triple, target.cpu, target.features, llvmlite.__version__, str(llvm.llvm_version_info))
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    with suppress(RuntimeError, OSError):  # no home folder
        return cache_dir() / f"kernel-{name[:32]}.o"
    return None


def _read(path: Path | None) -> bytes | None:
    """The object code in a cache file, None if there is none to be trusted."""
    if path is None:
        return None
    try:
        if not (_is_ours(path.parent) and _is_ours(path)):
            _log.warning("kernel cache %s can be written by others; not used", path.parent)
            return None
        digest, code = path.read_bytes().split(b"\n", 1)
    except (OSError, ValueError):
        return None
    return code if hashlib.sha256(code).hexdigest().encode() == digest else None


def _is_ours(path: Path) -> bool:
    status = path.stat()
    writable_by_others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid in (0, os.geteuid()) and not writable_by_others


def _write(path: Path | None, code: bytes) -> None:
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".kernel-")
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(code).hexdigest().encode() + b"\n" + code)
        os.replace(temporary, path)
    except OSError as error:
        _log.warning("kernel cache %s cannot be written (%s); the next process compiles again", path.parent, error)
