"""`store.retention_days`: the newest event decides what compaction drops, and who must not be mailed stays known."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from sto_engine.config import load_config
from sto_engine.errors import BadData
from sto_engine.ingest import ingest
from sto_engine.ingest.compact import CompactReport, compact
from sto_engine.ingest.store import Store
from sto_engine.progress import Silent
from sto_engine.suppress import suppressions
from sto_engine.tables import EVENT_TYPES

NEWEST = datetime(2026, 3, 1, 12, tzinfo=UTC)
Row = tuple[int, str, float, str | None]


def store_of(root: Path, rows: list[Row]) -> Path:
    """A store of (user, event type, age in days, kind of bounce), by way of a file."""
    frame = pl.DataFrame(
        {
            "user_id": pl.Series([row[0] for row in rows], dtype=pl.UInt64),
            "campaign_id": pl.Series(range(len(rows)), dtype=pl.UInt64),
            "event_type": [row[1] for row in rows],
            "event_ts": [NEWEST - timedelta(days=row[2]) for row in rows],
            "bounce_type": pl.Series([row[3] for row in rows], dtype=pl.String),
        }
    )
    path = root.with_name(f"{root.name}-{len(list(root.parent.iterdir()))}.parquet")
    frame.write_parquet(path)
    ingest([str(path)], root, None, load_config(None, ["store.buckets=4"]), Silent())
    return root


def run(store: Path, days: int | None) -> CompactReport:
    return compact(store, 2, Silent(), retention_days=days)


def kept(store: Path) -> list[tuple[int, str]]:
    opened = Store.open(store)
    frame = pl.concat([opened.read_events(bucket) for bucket in range(opened.buckets)])
    return sorted(frame.select("user_id", pl.col("event_type").cast(pl.String)).iter_rows())


def test_events_older_than_the_days_before_the_newest_are_dropped_and_counted(tmp_path: Path) -> None:
    rows: list[Row] = [(1, "send", 0, None), (2, "open", 29.9, None), (3, "open", 30, None), (4, "open", 30.1, None)]
    report = run(store_of(tmp_path / "s", rows), 30)
    assert kept(tmp_path / "s") == [(1, "send"), (2, "open"), (3, "open")]
    assert (report.rows_before, report.rows, report.duplicates, report.expired) == (4, 3, 0, 1)


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_only_what_suppresses_people_survives_any_age(tmp_path: Path, kind: str) -> None:
    old: list[Row] = [(user, kind, 4000, bounce) for user, bounce in enumerate((None, "hard", " HARD", "soft"), 10)]
    run(store_of(tmp_path / "s", [(1, "send", 0, None), *old]), 30)
    survivors = {"unsubscribe": [10, 11, 12, 13], "complaint": [10, 11, 12, 13], "bounce": [11, 12]}
    assert kept(tmp_path / "s") == [(1, "send"), *((user, kind) for user in survivors.get(kind, []))]


def test_people_are_suppressed_after_retention_as_before(tmp_path: Path) -> None:
    stops: list[Row] = [(2, "complaint", 400, None), (3, "bounce", 500, "hard"), (4, "unsubscribe", 99, None)]
    store = store_of(tmp_path / "s", [(1, "send", 0, None), (1, "open", 300, None), *stops])

    def suppressed() -> list[str | None]:
        opened = Store.open(store)
        events = pl.concat([opened.read_events(bucket) for bucket in range(4)])
        users = pl.DataFrame({"user_id": pl.Series([1, 2, 3, 4], dtype=pl.UInt64)}).with_columns(
            consent=pl.lit(None, pl.Boolean),
            address_status=pl.lit(None, pl.String),
            signup_ts=pl.lit(None, pl.Datetime("ms", "UTC")),
        )
        return suppressions(users, users, events).to_list()

    before = suppressed()
    assert before == [None, "complaint", "hard_bounce", "unsubscribed"]
    assert run(store, 30).expired == 1
    assert suppressed() == before


def test_nothing_is_done_again_until_newer_events_or_fewer_days(tmp_path: Path) -> None:
    old: list[Row] = [(user, "complaint", 100, None) for user in range(2, 9)]
    store = store_of(tmp_path / "s", [(1, "send", 0, None), (9, "open", 20, None), (9, "open", 50, None), *old])
    assert run(store, 30).expired == 1
    manifest = (store / "manifest.json").read_bytes()
    for days in (None, 30, 60):
        assert run(store, days).already_compact
    assert (store / "manifest.json").read_bytes() == manifest
    assert run(store, 10).expired == 1
    store_of(store, [(1, "send", -5, None), (5, "click", 4, None)])
    report = run(store, 7)
    assert (report.expired, report.already_compact) == (1, False)
    assert Store.open(store).newest_event_ms == int((NEWEST + timedelta(days=5)).timestamp()) * 1000


def test_without_the_setting_nothing_ages(tmp_path: Path) -> None:
    store = store_of(tmp_path / "s", [(1, "send", 0, None), (2, "open", 9000, None)])
    assert run(store, None).expired == 0
    assert len(kept(store)) == 2


def test_ingest_drops_nothing(tmp_path: Path) -> None:
    rows: list[Row] = [(1, "send", 0, None), (2, "open", 900, None)]
    store = store_of(tmp_path / "s", rows)
    config = load_config(None, ["store.retention_days=30"])
    path = next(tmp_path.glob("*.parquet"))
    assert ingest([str(path)], tmp_path / "t", None, config, Silent()).events == len(kept(store)) == 2


def test_one_wrong_date_does_not_empty_a_store(tmp_path: Path) -> None:
    rows: list[Row] = [(user, "open", 1 + user / 1000, None) for user in range(300)]
    store = store_of(tmp_path / "s", [*rows, (1, "open", -20_000, None)])
    before = (store / "manifest.json").read_bytes()
    with pytest.raises(BadData, match="is it dated right"):
        run(store, 30)
    assert (store / "manifest.json").read_bytes() == before
    assert len(kept(store)) == 301
