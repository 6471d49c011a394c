"""Who is blocked stays out of the store, whatever later exports say."""

import json
from pathlib import Path

import polars as pl
import pytest

from erasures import KEYS, content, erase, events, fill, holds_mark, ident, people, same
from sto_engine.config import load_config
from sto_engine.ingest import IngestReport
from sto_engine.ingest import ingest as run_ingest
from sto_engine.ingest.compact import compact
from sto_engine.ingest.store import Store
from sto_engine.progress import Silent


def add(store: Path, frame: pl.DataFrame, snapshot: pl.DataFrame | None = None) -> IngestReport:
    """Ingest an export that comes later."""
    frame.write_parquet(store.with_name(f"{store.name}-later.parquet"))
    recipients = store.with_name(f"{store.name}-later-people.parquet") if snapshot is not None else None
    if snapshot is not None:
        snapshot.write_parquet(recipients)
    return run_ingest(
        [str(store.with_name(f"{store.name}-later.parquet"))], store, recipients, load_config(None, KEYS[1:]), Silent()
    )


@pytest.mark.parametrize("ids", ["uint64", "int64", "string"])
def test_who_is_blocked_is_not_stored_again_and_his_rows_are_counted(tmp_path: Path, ids: str) -> None:
    store, never = fill(tmp_path / "s", ids), fill(tmp_path / "never", ids, without=7)
    assert erase(store, ident(7, ids), ident(999, ids), block=True).blocked == 2
    compact(store, 1, Silent())
    compact(never, 1, Silent())
    frame, snapshot = events(9, ids), people(ids)
    mine = pl.col("user_id") == ident(7, ids)
    report = add(store, frame, snapshot)
    add(never, frame.filter(~mine), snapshot.filter(~mine))
    assert (report.blocked, report.recipients_blocked) == (len(frame.filter(mine)), 1)
    assert report.rows == report.events + sum(report.quarantined.values()) + report.blocked == 300
    assert same(content(store), content(never))
    assert not holds_mark(store)


def test_an_erasure_without_block_lets_a_later_export_store_him_again(tmp_path: Path) -> None:
    store = fill(tmp_path / "s", "uint64")
    erase(store, 7)
    report = add(store, events(9, "uint64"))
    assert report.blocked == 0
    assert holds_mark(store)


def test_who_is_blocked_stays_so_and_is_not_named_by_the_manifest(tmp_path: Path) -> None:
    store = fill(tmp_path / "s", "string")
    erase(store, ident(7, "string"), block=True)
    first = Store.open(store).manifest["blocked"]
    erase(store, ident(8, "string"), block=True)
    erase(store, ident(9, "string"))
    second = Store.open(store).manifest["blocked"]
    assert first["key"] == second["key"]
    assert set(first["entries"]) < set(second["entries"])
    assert len(second["entries"]) == 2
    assert "u \\" not in (store / "manifest.json").read_text()


def test_erasures_go_on_after_a_store_got_other_buckets(tmp_path: Path) -> None:
    store, never = fill(tmp_path / "s", "uint64"), fill(tmp_path / "never", "uint64", without=7)
    erase(store, 8, block=True)
    erase(never, 8)
    for each in (store, never):
        compact(each, 1, Silent(), buckets=16)
    assert erase(store, 7, block=True).buckets == 1
    frame = events(9, "uint64")
    report = add(store, frame)
    add(never, frame.filter(~pl.col("user_id").is_in([7, 8])))
    assert report.blocked == len(frame.filter(pl.col("user_id").is_in([7, 8])))
    assert same(content(store), content(never))
    assert not holds_mark(store)
    lines = (store / "erasures.jsonl").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == [1, 2]
