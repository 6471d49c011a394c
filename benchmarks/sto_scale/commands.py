"""The shipped commands as processes of their own: what they said, how long each phase took, what they wrote."""

import json
import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sto_pipeline import processes

POLL_S, TIMEOUT_S = 0.2, 3600.0


@dataclass(frozen=True)
class Ran:
    """A command that ended well; `stages` are the seconds of its phases by its own log, in their order.

    `disk` is the most that the watched folder held while it ran, bytes.
    """

    ended: processes.Ended
    result: dict[str, Any]
    stages: dict[str, float]
    disk: int = 0


def command(*arguments: str, watched: Path | None = None, environment: Mapping[str, str] | None = None) -> Ran:
    """Run `sto-engine ARGUMENTS`; ChildFailed unless it ends with 0."""
    meter = _DiskMeter(watched)
    meter.start()
    try:
        words = [sys.executable, "-m", "sto_engine.cli", *arguments, "--log-json"]
        ended = processes.run(words, environment or {}, TIMEOUT_S)
    finally:
        meter.stop()
    return Ran(ended, json.loads(ended.out), phases(ended.err), meter.most)


def phases(log: str) -> dict[str, float]:
    """Seconds of each phase of a command's JSON lines, begun once or several times."""
    found: dict[str, float] = {}
    for line in log.splitlines():
        event = _event(line)
        if event.get("event") == "phase_ended":
            found[event["phase"]] = found.get(event["phase"], 0.0) + event["seconds"]
    return found


def worked_s(log: str) -> float:
    """Seconds from the start of the first phase to the last word: start-up and the end of the process are no work."""
    events = [event for line in log.splitlines() if "ts" in (event := _event(line))]
    began = next(event["ts"] for event in events if event["event"] == "phase_started")
    return (datetime.fromisoformat(events[-1]["ts"]) - datetime.fromisoformat(began)).total_seconds()


def _event(line: str) -> dict[str, Any]:
    """One line of the log; empty for what others print between them."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


@dataclass
class _DiskMeter:
    """Samples the size of a folder until it is stopped."""

    folder: Path | None
    most: int = 0
    _done: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        if self.folder is not None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(POLL_S):
            self.most = max(self.most, folder_bytes(self.folder))


def folder_bytes(folder: Path | None) -> int:
    """Bytes of all files under a folder; files that go meanwhile are not counted."""
    total = 0
    for base, _, names in os.walk(folder) if folder is not None else ():  # which passes over folders that go
        for name in names:
            with suppress(OSError):
                total += os.stat(os.path.join(base, name)).st_size
    return total
