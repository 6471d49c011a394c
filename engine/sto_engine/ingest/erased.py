"""What an erasure leaves to be finished once its manifest stands: dead files go, the audit line is written.

The manifest is the commit point of an erasure; all that is done here follows from it and may be done again. So whoever
takes the store next finishes the erasure of a process that was killed behind the commit.

Files that an erasure wrote carry its number: `STEP` times the number of the erasure is added to that of the file.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sto_engine.errors import BadData
from sto_engine.files import canonical_json, write_atomic

STEP = 1_000_000
AUDIT = "erasures.jsonl"


def renumbered(stem: str, erasure: int) -> str:
    """The name without suffix of what replaces the file `stem` ("...-0007") in the erasure of that number."""
    name, _, number = stem.rpartition("-")
    return f"{name}-{erasure * STEP + int(number) % STEP:04d}"


def finish_erasure(root: Path, manifest: Mapping[str, Any]) -> None:
    """Remove the files that the committed `manifest` of the store at `root` no longer names; tell the last erasure."""
    for path in [*_dead_files(root, manifest), *_dead_quarantine(root, _number(manifest))]:
        path.unlink(missing_ok=True)
    record = manifest.get("erasure")
    if record is not None and record["number"] > _told(root):
        before = (root / AUDIT).read_bytes() if (root / AUDIT).exists() else b""
        write_atomic(root / AUDIT, before + canonical_json(record))


def _number(manifest: Mapping[str, Any]) -> int:
    return int(manifest["erasure"]["number"]) if "erasure" in manifest else 0


def _dead_files(root: Path, manifest: Mapping[str, Any]) -> list[Path]:
    snapshot = manifest["recipients"]
    tables = [*manifest["generations"], *([snapshot] if snapshot else [])]
    named = {root / file["path"] for table in tables for file in table["files"]}
    return [path for table in tables for path in (root / table["name"]).glob("*.parquet") if path not in named]


def _dead_quarantine(root: Path, erasure: int) -> list[Path]:
    """Of the versions of a quarantine file the newest that is committed lives."""
    versions: dict[str, list[tuple[int, Path]]] = {}
    for path in root.glob("quarantine/*.parquet"):
        number = path.stem.rpartition("-")[2]
        if number.isdigit():
            versions.setdefault(renumbered(path.stem, 0), []).append((int(number) // STEP, path))
    return [path for paths in versions.values() for version, path in paths if version != _newest(paths, erasure)]


def _newest(versions: list[tuple[int, Path]], erasure: int) -> int:
    return max((version for version, _ in versions if version <= erasure), default=0)


def _told(root: Path) -> int:
    """Number of the last erasure in the audit file."""
    path = root / AUDIT
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
        return int(json.loads(lines[-1])["number"]) if lines else 0
    except (ValueError, KeyError, TypeError) as error:
        raise BadData(f"{path} must end with the JSON line of an erasure ({error}); mend it or move it away") from error
