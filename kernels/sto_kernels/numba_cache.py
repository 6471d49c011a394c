"""The home of numba: compiling a kernel at its first call, and keeping its machine code between processes.

Numba keeps a compiled function with its own file's contents only, so a change in a helper of another file would go
unseen. Here the folder's name carries the digest of every file that uses `jit`: a changed kernel has a new folder.
As in `codegen`, a cache that cannot be written costs time, not the run, and code is only taken from a folder that
nobody but root and this user can write to. No fast maths and no threads inside: same bits for any split of the users;
callers run buckets in threads (the kernels let other threads run).
"""

import hashlib
import logging
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core import caching

from sto_kernels.codegen import cache_dir

_log = logging.getLogger("sto_kernels")
_numba: Any = caching  # typed in some releases only


def compile_lazily(function: Callable[..., Any]) -> Any:
    """Compile at the first call for the types of its arguments; kept in the cache folder."""
    compiled: Any = numba.njit(nogil=True, error_model="numpy")(function)
    if kept_in() is not None:
        compiled._cache = _Cache(function)
    return compiled


@cache
def kept_in() -> Path | None:
    """The folder of this version's compiled kernels; None without a home folder."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        source = path.read_bytes()
        if b"sto_kernels.compiled import" in source or path.name in ("compiled.py", "numba_cache.py"):
            digest.update(path.name.encode() + b"\0" + source)
    try:
        return cache_dir() / f"numba-{digest.hexdigest()[:32]}"
    except RuntimeError:
        return None


def is_ours(folder: Path) -> bool:
    """Whether code may be taken from the folder: it exists and nobody but root and this user can write to it."""
    try:
        status = folder.stat()
    except OSError:
        return False
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@cache
def _tell_once() -> None:
    _log.info("compiling the history kernels; this takes seconds, once a machine")


class _Folder(_numba.UserProvidedCacheLocator):  # type: ignore[misc]
    """Where numba keeps a function: our folder, written or not."""

    def __init__(self, function: Any, file: str) -> None:
        self._py_file, self._lineno = file, function.__code__.co_firstlineno
        self._cache_path = str(kept_in())

    def ensure_cache_path(self) -> None:
        Path(self._cache_path).mkdir(parents=True, exist_ok=True, mode=0o700)

    @classmethod
    def from_function(cls, function: Any, file: str) -> "_Folder":
        return cls(function, file)


class _Form(_numba.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (_Folder,)


class _Cache(_numba.FunctionCache):  # type: ignore[misc]
    """Numba's cache of one function that never fails a run and never runs code that others may have written."""

    _impl_class = _Form

    def load_overload(self, signature: Any, target: Any) -> Any:
        found = None
        if is_ours(Path(self.cache_path)):
            try:
                found = super().load_overload(signature, target)
            except Exception as error:  # a damaged file may fail in any way: compile again
                _log.warning("kernel cache %s is damaged (%r); compiled again", self.cache_path, error)
                with suppress(OSError):
                    self.flush()
        if found is None:
            _tell_once()
            _log.debug("compiling %s", self._name)
        return found

    def save_overload(self, signature: Any, data: Any) -> None:
        try:
            super().save_overload(signature, data)
        except OSError as error:
            _log.warning(
                "kernel cache %s cannot be written (%r); the next process compiles again", self.cache_path, error
            )
