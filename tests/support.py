"""What several test files need: reading a run as its consumers do, and hashing a folder."""

import hashlib
import json
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def table(run: Path, kind: str) -> pl.DataFrame:
    """Every row of a kind of shard, through the manifest and with page checksums verified."""
    names = [n for n in json.loads((run / "manifest.json").read_text())["files"] if n.startswith(kind + "/")]
    parts = [pq.read_table(run / name, page_checksum_verification=True) for name in sorted(names)]
    frames = [pl.from_arrow(part) for part in parts]
    assert all(isinstance(frame, pl.DataFrame) for frame in frames)
    return pl.concat(frames)


def digest(run: Path) -> dict[str, str]:
    """sha256 of what a run promises to repeat byte for byte: shards, load and manifest."""
    paths = [*sorted(run.glob("*/part-*.parquet")), run / "load.csv", run / "manifest.json"]
    return {str(p.relative_to(run)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def files_of(folder: Path) -> dict[str, str]:
    """sha256 of every file in a folder but a lock."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "LOCK"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def assert_whole(run: Path) -> None:
    """Nobody twice, and nothing but what the manifest names and what describes the run."""
    everybody = [*table(run, "assignments")["user_id"], *table(run, "suppressed")["user_id"]]
    assert len(everybody) == len(set(everybody))
    named = set(json.loads((run / "manifest.json").read_text())["files"])
    found = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert found - named <= {"manifest.json", "summary.json", "metrics.prom", "LOCK"}
