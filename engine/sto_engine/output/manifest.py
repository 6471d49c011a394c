"""Records and the manifest of a run folder: what is done, by hash, so that a killed run goes on where it stopped.

run=<id>/_staging/attempts/<attempt>/        what one try of some work writes, wherever it runs
run=<id>/_staging/<phase>/bucket-0007.json   one record a bucket and phase, written after its files
run=<id>/manifest.json                       written last: the run is whole if and only if it is there

Only the process that holds the run gives files their names (`adopt`), so a try that ends late changes nothing.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sto_engine.errors import CannotCreate, OutputFailed
from sto_engine.files import canonical_json, sha256_file, sync, write_atomic

STAGING, MANIFEST = "_staging", "manifest.json"
ATTEMPTS = f"{STAGING}/attempts"
Record = dict[str, Any]


@dataclass(frozen=True)
class Attempt:
    """One try of some work: what it writes lies in a folder of its own until it is adopted.

    `files` are those that it wrote, by the names that they will have, with their sha256.
    """

    folder: Path
    files: dict[str, str] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """Where to write what will be called `name`."""
        return _lies(self.folder, name)

    def record(self, **body: Any) -> Record:
        return {"attempt": self.folder.name, "files": self.files, **body}


@contextmanager
def attempt(run: Path) -> Iterator[Attempt]:
    """A try that leaves nothing behind where it fails; CannotCreate (73) where the folder of the run is not seen."""
    made = Attempt(run / ATTEMPTS / uuid.uuid4().hex)
    try:
        made.folder.mkdir()
    except OSError as error:
        raise CannotCreate(
            f"{made.folder} cannot be created: {error.strerror}; check the output folder, which every machine must "
            "see under this path"
        ) from error
    try:
        yield made
    except BaseException:
        shutil.rmtree(made.folder, ignore_errors=True)
        raise


def adopt(run: Path, record: Record) -> Record:
    """Give the files of an attempt their names; its record without the attempt.

    OutputFailed (74) where they are not here or cannot be renamed. Names reach the disk in `sync_names`.
    """
    record = dict(record)
    folder = run / ATTEMPTS / record.pop("attempt", "")
    places = {name: run / name for name in record.get("files", {})}
    try:
        for name, place in places.items():
            make_folder(place.parent)
            os.replace(_lies(folder, name), place)
        if places:
            folder.rmdir()
    except OSError as error:
        raise OutputFailed(
            f"what was written to {folder} cannot be taken from there: {error.strerror}; free space or check the disk, "
            f"and that every machine sees {run} under this path"
        ) from error
    return record


def _lies(folder: Path, name: str) -> Path:
    return folder / name.replace("/", "~")


def begin(run: Path) -> None:
    """Make room for attempts and drop what those of an earlier start left."""
    shutil.rmtree(run / ATTEMPTS, ignore_errors=True)
    make_folder(run / ATTEMPTS)


def make_folder(path: Path) -> Path:
    """Create a folder and its parents; CannotCreate (73) where that is impossible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotCreate(f"output folder {path} cannot be created: {error.strerror}; check --out") from error
    return path


def record_path(run: Path, phase: str, bucket: int) -> Path:
    return run / STAGING / phase / f"bucket-{bucket:04d}.json"


def write_record(run: Path, phase: str, bucket: int, body: Record) -> None:
    """Commit a bucket of a phase: its body names every file it wrote under `files` as {relative path: sha256}.

    Not synced: one that a machine took with it is a bucket to be done again.
    """
    path = record_path(run, phase, bucket)
    make_folder(path.parent)
    write_atomic(path, canonical_json({"bucket": bucket, **body}), synced=False)


def read_record(run: Path, phase: str, bucket: int) -> Record:
    """A record that is known to be whole."""
    body: Record = json.loads(record_path(run, phase, bucket).read_bytes())
    return body


def is_recorded(run: Path, phase: str, bucket: int) -> bool:
    """Whether the record is there, whole, and every file it names still has its hash; else it is to be done again."""
    try:
        return files_match(run, read_record(run, phase, bucket).get("files", {}))
    except (OSError, ValueError):
        return False


def files_match(run: Path, files: dict[str, str]) -> bool:
    """Whether every file of {relative path: sha256} is there with that hash (never judged by size)."""
    try:
        return all(sha256_file(run / name) == sha for name, sha in files.items())
    except OSError:
        return False


def sync_names(run: Path) -> None:
    """The names of everything but staging reach the disk, before a manifest tells of them."""
    for folder in (run, *run.iterdir()):
        if folder.is_dir() and folder.name != STAGING:
            sync(folder)


def read_manifest(run: Path) -> dict[str, Any] | None:
    """The committed manifest, or None where the run is not complete or its manifest is torn."""
    try:
        body: dict[str, Any] = json.loads((run / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    return body


def clean_up(run: Path) -> None:
    """Remove what a committed run no longer needs: staging and files a killed attempt left behind."""
    shutil.rmtree(run / STAGING, ignore_errors=True)
    for leftover in run.rglob("*.tmp"):
        leftover.unlink(missing_ok=True)
