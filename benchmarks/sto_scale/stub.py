"""The driver of `score` alone: bucket work is done once for real, then replaced at thousands of buckets by its records.

`Capturing` runs a store of one bucket and keeps what each phase's work returned. `Stub` then hands that out for every
bucket of a large store, under its own number, with files of a few bytes: all that the driver does (renames, records,
ranks, sums, manifest) is real, and nothing else is there to be measured.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from sto_engine.executor import Group, Place, Told
from sto_engine.output import manifest as runs

T = TypeVar("T")
Templates = dict[str, Any]
FIRST = "-0000."


@dataclass
class Capturing:
    """An executor of one bucket that keeps results by the name of the work; files of `call` with their content."""

    templates: Templates = field(default_factory=dict)
    workers: int = 1
    in_process: bool = True
    group: Group | None = None
    on_gpu: bool = False

    def run(
        self, work: Callable[..., T], buckets: Iterable[int], told: Told | None = None, on: Place = "cpu"
    ) -> Iterator[tuple[int, T]]:
        for bucket in buckets:
            result = work(bucket) if told is None else work(bucket, told(bucket))
            self.templates[_name(work)] = result
            yield bucket, result

    def call(self, work: Callable[[], T]) -> T:
        result: Any = work()
        attempt = runs.Attempt(_run_of(work) / runs.ATTEMPTS / result["attempt"])
        contents = {name: attempt.path(name).read_bytes().hex() for name in result["files"]}
        self.templates[_name(work)] = {**result, "contents": contents}
        found: T = result
        return found


@dataclass
class Stub:
    """An executor whose work has been done: `seconds` is what pretending took, `bytes` what all records come to."""

    templates: Templates
    seconds: float = 0.0
    records: int = 0
    bytes: int = 0
    files: int = 0
    workers: int = 1
    in_process: bool = False
    group: Group | None = None
    on_gpu: bool = False

    def run(
        self, work: Callable[..., Any], buckets: Iterable[int], told: Told | None = None, on: Place = "cpu"
    ) -> Iterator[tuple[int, Any]]:
        text = json.dumps(self.templates[_name(work)])
        for bucket in buckets:
            if told is not None:
                told(bucket)
            began = time.perf_counter()
            record = self._pretend(work, json.loads(text.replace(FIRST, f"-{bucket:04d}.")), {})
            self.seconds += time.perf_counter() - began
            self.records, self.bytes = self.records + 1, self.bytes + len(text)
            yield bucket, record

    def call(self, work: Callable[[], Any]) -> Any:
        record = dict(self.templates[_name(work)])
        return self._pretend(work, record, record.pop("contents"))

    def _pretend(self, work: Callable[..., Any], record: dict[str, Any], contents: dict[str, str]) -> dict[str, Any]:
        """The record of a try that has written its files, each with its content or a few bytes."""
        attempt = runs.Attempt(_run_of(work) / runs.ATTEMPTS / uuid4().hex)
        attempt.folder.mkdir()
        for name in record["files"]:
            attempt.path(name).write_bytes(bytes.fromhex(contents.get(name, "00")))
        self.files += len(record["files"])
        return {**record, "attempt": attempt.folder.name}


def _method(work: Callable[..., Any]) -> Any:
    while isinstance(work, partial):
        work = work.func
    return work


def _name(work: Callable[..., Any]) -> str:
    return str(_method(work).__name__)


def _run_of(work: Callable[..., Any]) -> Path:
    run: Path = _method(work).__self__.run
    return run


def stretch(store: Path, out: Path, buckets: int, generations: int) -> None:
    """A store of one bucket as one of `buckets` in `generations`, by its manifest: only bucket 0 has files."""
    manifest = json.loads((store / "manifest.json").read_text())
    (generation,), recipients = manifest["generations"], manifest["recipients"]
    made = [_stretched(generation, f"gen-{number + 1:06d}", buckets) for number in range(generations)]
    people = _stretched(recipients, recipients["name"], buckets)
    body = {**manifest, "buckets": buckets, "generations": made, "recipients": people}
    for table, source in ((made[0], generation["name"]), (people, recipients["name"])):
        (out / table["name"]).mkdir(parents=True)
        for path in (store / source).iterdir():
            (out / table["name"] / path.name).hardlink_to(path)
    (out / "manifest.json").write_text(json.dumps(body, separators=(",", ":")))


def _stretched(table: dict[str, Any], name: str, buckets: int) -> dict[str, Any]:
    """A table of one bucket whose files stand for each of `buckets`."""
    files = [
        {**file, "bucket": bucket, "path": f"{name}/" + file["path"].split("/")[1].replace("-0000-", f"-{bucket:04d}-")}
        for bucket in range(buckets)
        for file in table["files"]
    ]
    return {**table, "name": name, "files": files, "rows": table["rows"] * buckets}
