"""Facts of the machine and the code that every measurement carries, and the peak memory of this process."""

import importlib.metadata
import os
import platform
import re
import resource
import subprocess
import time
from pathlib import Path

_PACKAGES = (
    *("sto-engine", "numpy", "numba", "polars", "pyarrow", "torch", "llvmlite", "triton", "xgboost", "xgboost-cpu"),
    *("duckdb", "chdb", "ortools", "scipy"),
    *("lightgbm", "onnx", "onnxmltools", "onnxruntime", "ydf", "nvforest-cu12", "nvforest-cu13"),
)
_HERE = Path(__file__).resolve()


def cpu_name() -> str:
    """Model name of the CPU; with family and model number, since virtual machines call many CPUs by one name."""
    facts = _cpuinfo()
    name = facts.get("model name") or platform.processor() or platform.machine()
    if {"cpu family", "model"} <= facts.keys():
        name += f" (family {facts['cpu family']}, model {facts['model']})"
    return name


def cpu_slug(cpu: str) -> str:
    """A file name for a CPU."""
    return re.sub(r"[^a-z0-9]+", "-", cpu.lower()).strip("-")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a figure; what is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_revision() -> str | None:
    """Commit of the checkout that this file is part of, "+dirty" when it has changes; None outside a checkout."""
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top) != _HERE.parents[2]:
        return None
    commit = _git("rev-parse", "--short=12", "HEAD")
    # results files change by being written: they do not make the code another one
    is_dirty = bool(_git("status", "--porcelain", "--", ".", ":(exclude)benchmarks/results"))
    return commit and commit + ("+dirty" if is_dirty else "")


def reset_peak() -> None:
    """Begin a new peak for `peak_mib`; where the kernel does not allow it, the peak stays that of the whole process."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_mib() -> float:
    """Largest resident memory of this process since `reset_peak`, MiB: inputs, libraries and other models included."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class OthersMeter:
    """How many cores other processes (and the host of a virtual machine) took while something ran.

    A figure from a busy machine looks like any other; this tells them apart. None where /proc/stat is not there.
    """

    def __init__(self) -> None:
        self._began = self._now()

    def cores(self) -> float | None:
        """Cores taken by others since this meter was made; the clock ticks are 10 ms, so short spans are coarse."""
        now = self._now()
        if now is None or self._began is None:
            return None
        wall_s, busy_s, own_s = (b - a for a, b in zip(self._began, now, strict=True))
        return max(0.0, busy_s - own_s) / max(wall_s, 1e-3)

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """Wall seconds, busy seconds of all CPUs together, CPU seconds of this process and its ended children."""
        try:
            ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        except (OSError, ValueError):
            return None
        user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
        busy_s = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        return time.monotonic(), busy_s, sum(os.times()[:4])


def _cpuinfo() -> dict[str, str]:
    """The first CPU of /proc/cpuinfo; empty elsewhere than on Linux."""
    try:
        block = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in block.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(_HERE.parents[2]), *arguments]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
