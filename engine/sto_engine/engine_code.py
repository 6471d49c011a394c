"""Which code runs: what two processes must have in common to make the same bytes."""

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

import sto_engine
import sto_kernels

_DECIDE = ("llvmlite", "numba", "numpy", "polars", "pyarrow", "scipy", "tzdata", "xxhash")


@cache
def code_sha256() -> str:
    """Hash of the source of both packages, so that a changed engine never passes for the run of another."""
    digest = hashlib.sha256()
    for package in (sto_engine, sto_kernels):
        root = Path(next(iter(package.__path__)))
        for path in sorted(root.rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@cache
def code_facts() -> dict[str, str]:
    """The engine's code, Python, and the libraries whose versions may change a decision."""
    found = {"sto-engine": code_sha256()[:16], "python": platform.python_version()}
    return {**found, **{name: version_of(name) or "none" for name in _DECIDE}}


def version_of(name: str) -> str | None:
    """The version of a distribution that is installed; None where it is not."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
