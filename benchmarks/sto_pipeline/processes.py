"""A contestant in a process of its own, so that its peak memory, start and threads are its own."""

import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.02
ERROR_CHARS = 300


@dataclass(frozen=True)
class Ended:
    """A process that ended well: wall and CPU seconds from start to end, peak memory with children, what it said.

    `own_mib` is the peak of the process without its children.
    """

    seconds: float
    core_s: float
    peak_mib: float
    out: str
    err: str = ""
    own_mib: float = 0.0


class ChildFailed(Exception):
    """A process that did not end well; the text is the end of what it said."""


def run(command: Sequence[str], environment: Mapping[str, str], timeout_s: float = 1800) -> Ended:
    """Run `command` to its end; ChildFailed unless its exit code is 0.

    Memory is the resident set of the process and its children together, sampled every 20 ms, or where that is larger
    the peak that the kernel kept of one of them. The peak of rusage will not do: it holds that of the process which
    started the child, from the moment between fork and exec.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began = time.perf_counter()
        child = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, **environment})
        watch = _Watch(child.pid)
        watch.start()
        timer = threading.Timer(timeout_s, child.kill)
        timer.start()
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - began
        timer.cancel()
        watch.stop()
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if child.returncode:
            said = " ".join((err.read() or out.read()).split())[-ERROR_CHARS:]
            raise ChildFailed(f"{Path(command[0]).name} ended with {child.returncode}: {said}")
        core_s = usage.ru_utime + usage.ru_stime
        return Ended(seconds, core_s, watch.peak_mib, out.read(), err.read(), watch.own_mib)


class _Watch(threading.Thread):
    """Samples the memory of a process and its children until it is stopped."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._done, self.peak_mib, self.own_mib = pid, threading.Event(), 0.0, 0.0

    def run(self) -> None:
        while not self._done.wait(POLL_S):
            now, peaks = zip(*(_memory_mib(pid) for pid in _family(self._pid)), strict=True)
            self.peak_mib = max(self.peak_mib, sum(now), *peaks)
            self.own_mib = max(self.own_mib, now[0], peaks[0])

    def stop(self) -> None:
        self._done.set()
        self.join()


def _family(pid: int) -> list[int]:
    """The process and all that descends from it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in task.read_text().split()]
        except OSError:
            continue
        found += [one for child in children for one in _family(child)]
    return found


def _memory_mib(pid: int) -> tuple[float, float]:
    """Resident now, and the most so far; 0 for a process that has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0, 0.0
    found = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", status, re.MULTILINE))
    return int(found.get("VmRSS", 0)) / 1024, int(found.get("VmHWM", 0)) / 1024
