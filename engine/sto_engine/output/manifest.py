"""Records and the manifest of a run folder: what is done, by hash, so that a killed run goes on where it stopped.

run=<id>/_staging/<phase>/bucket-0007.json   one record a bucket and phase, written after its files
run=<id>/manifest.json                       written last: the run is whole if and only if it is there
"""

import json
import shutil
from pathlib import Path
from typing import Any

from sto_engine.errors import CannotCreate
from sto_engine.files import canonical_json, sha256_file, write_atomic

STAGING, MANIFEST = "_staging", "manifest.json"


def make_folder(path: Path) -> Path:
    """Create a folder and its parents; CannotCreate (73) where that is impossible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotCreate(f"output folder {path} cannot be created: {error.strerror}; check --out") from error
    return path


def record_path(run: Path, phase: str, bucket: int) -> Path:
    return run / STAGING / phase / f"bucket-{bucket:04d}.json"


def write_record(run: Path, phase: str, bucket: int, body: dict[str, Any]) -> None:
    """Commit a bucket of a phase: its body names every file it wrote under `files` as {relative path: sha256}."""
    path = record_path(run, phase, bucket)
    make_folder(path.parent)
    write_atomic(path, canonical_json({"bucket": bucket, **body}))


def read_record(run: Path, phase: str, bucket: int) -> dict[str, Any] | None:
    """The record, if it is there, whole, and every file it names still has its hash; else None (to be done again)."""
    try:
        body: dict[str, Any] = json.loads(record_path(run, phase, bucket).read_bytes())
    except (OSError, ValueError):
        return None
    return body if files_match(run, body.get("files", {})) else None


def files_match(run: Path, files: dict[str, str]) -> bool:
    """Whether every file of {relative path: sha256} is there with that hash (never judged by size)."""
    try:
        return all(sha256_file(run / name) == sha for name, sha in files.items())
    except OSError:
        return False


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
