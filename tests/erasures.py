"""A small store with a user who is to go, whose every row is marked, and what is left of him."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from sto_engine.config import load_config
from sto_engine.ingest import ingest as run_ingest
from sto_engine.ingest.compact import compact
from sto_engine.ingest.erase import EraseReport
from sto_engine.ingest.erase import erase as run_erase
from sto_engine.ingest.store import Store
from sto_engine.progress import Silent

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
USERS = 60
MARK = "canary"  # stands in a column of every row of the user who goes
KEYS = ("store.buckets=4", "ingest.max_bad_share=0.5", "ingest.quarantine_payload=true")


def ident(number: int, ids: str) -> int | str:
    return f'u "{number}" é' if ids == "string" else -number if ids == "int64" else number


def events(seed: int, ids: str, gone: int = 7) -> pl.DataFrame:
    """300 rows, of which the last 6 break a rule; the newest event of all is of the user who goes."""
    rng = np.random.default_rng(seed)
    user = np.concatenate([rng.integers(1, USERS, 290), np.full(10, gone)])
    times = [T0 + timedelta(minutes=int(m)) for m in (*rng.integers(0, 500, 290), *([900 + seed] * 10))]
    kinds = {"uint64": pl.UInt64, "int64": pl.Int64, "string": pl.String}
    row = pl.int_range(pl.len())
    return pl.DataFrame(
        {
            "user_id": pl.Series([ident(int(u), ids) for u in user], dtype=kinds[ids]),
            "campaign_id": pl.Series(rng.integers(1, 5, 300), dtype=pl.UInt64),
            "event_type": pl.Series(rng.choice(["send", "open", "click"], 300).tolist()),
            "event_ts": pl.Series(times).cast(pl.Datetime("us", "UTC")),
            "user_agent": pl.Series([MARK if u == gone else None for u in user], dtype=pl.String),
        }
    ).with_columns(event_type=pl.when(row < 294).then("event_type").otherwise(pl.lit("?")))


def people(ids: str, gone: int = 7) -> pl.DataFrame:
    numbers = list(range(1, USERS))
    kinds = {"uint64": pl.UInt64, "int64": pl.Int64, "string": pl.String}
    named = pl.Series("user_id", [ident(n, ids) for n in numbers], dtype=kinds[ids])
    return pl.DataFrame([named, pl.Series("country", [MARK if n == gone else "DE" for n in numbers])])


def fill(store: Path, ids: str, without: int | None = None, compacted: bool = False) -> Path:
    """Three ingests, the last with recipients; `without` leaves a user out of every source."""
    for seed in range(3):
        frame, snapshot = events(seed, ids), people(ids)
        if without is not None:
            keep = pl.col("user_id") != ident(without, ids)
            frame, snapshot = frame.filter(keep), snapshot.filter(keep)
        source = store.with_name(f"{store.name}-{seed}.parquet")
        frame.write_parquet(source)
        snapshot.write_parquet(store.with_name(f"{store.name}-people.parquet"))
        recipients = store.with_name(f"{store.name}-people.parquet") if seed == 2 else None
        run_ingest([str(source)], store, recipients, load_config(None, KEYS), Silent())
        if compacted and seed == 1:
            compact(store, 1, Silent())
    return store


def erase(store: Path, *ids: object, **options: Any) -> EraseReport:
    return run_erase(store, [str(each) for each in ids], None, load_config(None), Silent(), **options)


def content(store: Path) -> list[pl.DataFrame]:
    """Everything that readers see, positions in source files left out."""
    opened = Store.open(store)
    events = [opened.read_events(bucket) for bucket in range(opened.buckets)]
    people = [frame.drop("row") for b in range(opened.buckets) if (frame := opened.read_recipients(b)) is not None]
    return [pl.concat(events), pl.concat(people)]


def same(one: list[pl.DataFrame], other: list[pl.DataFrame]) -> bool:
    return all(a.equals(b) for a, b in zip(one, other, strict=True))


def files(store: Path) -> dict[str, tuple[int, int]]:
    return {
        str(p.relative_to(store)): (p.stat().st_ino, p.stat().st_mtime_ns)
        for p in store.rglob("*")
        if p.is_file() and p.name != "LOCK"
    }


def holds_mark(store: Path) -> bool:
    """Whether any file of the folder, committed or not, holds a row of the user who goes."""
    tables = [pl.from_arrow(pq.read_table(path)) for path in store.rglob("*.parquet")]
    frames = [frame for frame in tables if isinstance(frame, pl.DataFrame)]
    return any(frame.select(pl.any_horizontal(pl.col(pl.String).str.contains(MARK).any())).item() for frame in frames)
