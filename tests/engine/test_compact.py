"""A compacted store holds the same events in the same order, and is never anything between before and after."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from sto_engine.config import load_config
from sto_engine.errors import BadData, InputMissing, TryLater, UsageError
from sto_engine.files import folder_lock
from sto_engine.ingest import ingest as run_ingest
from sto_engine.ingest.compact import CompactReport, compact
from sto_engine.ingest.pieces import sorted_pieces
from sto_engine.ingest.store import Store
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Silent
from sto_kernels.hashing import bucket_of
from support import table

CHILD = Path(__file__).with_name("compact_child.py")
T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)


def events(n: int, seed: int, ids: str = "uint64") -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    user = rng.integers(1, 60, n)
    times = [T0 + timedelta(minutes=int(m)) for m in rng.integers(0, 50, n)]
    return pl.DataFrame(
        {
            "user_id": pl.Series([f"u-{u}" for u in user]) if ids == "string" else pl.Series(user, dtype=pl.UInt64),
            "campaign_id": pl.Series([f"c{c}" for c in rng.integers(1, 4, n)]),
            "event_type": pl.Series(rng.choice(["send", "open", "click", "delivered"], n).tolist()),
            "event_ts": pl.Series(times).cast(pl.Datetime("us", "UTC")),
            "value": rng.random(n),
            "device_type": pl.Series(rng.choice(["mobile", "tablet", None], n).tolist(), dtype=pl.String),
        }
    )


def add(store: Path, frame: pl.DataFrame, name: str, buckets: int = 4) -> None:
    path = store.with_name(f"{store.name}-{name}.parquet")
    frame.write_parquet(path)
    config = load_config(None, [f"store.buckets={buckets}", "ingest.max_bad_share=0.5"])
    run_ingest([str(path)], store, None, config, Silent())


def everything(store: Path) -> pl.DataFrame:
    opened = Store.open(store)
    return pl.concat([opened.read_events(bucket) for bucket in range(opened.buckets)])


def run(store: Path) -> CompactReport:
    return compact(store, 2, Silent())


@pytest.fixture(params=["uint64", "string"])
def grown(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A store of three generations, with duplicates within and across them."""
    for number in range(3):
        frame = events(300, number, request.param)
        bad = frame.head(5).with_columns(campaign_id=pl.lit(None, pl.String))
        add(tmp_path / "s", pl.concat([frame, events(50, 0, request.param), bad]), str(number))
    return tmp_path / "s"


def test_events_and_their_order_stay_and_duplicates_are_counted(grown: Path) -> None:
    before, rows = everything(grown), sum(g["rows"] for g in Store.open(grown).manifest["generations"])
    report = run(grown)
    assert everything(grown).equals(before)
    assert (report.rows_before, report.rows, report.duplicates) == (rows, len(before), rows - len(before))
    assert report.duplicates > 0
    assert report.merged == ["gen-000001", "gen-000002", "gen-000003"]


def test_the_file_of_a_bucket_lies_in_the_order_of_the_store(grown: Path) -> None:
    run(grown)
    store = Store.open(grown)
    for file in store.manifest["generations"][0]["files"]:
        lying = pl.Series(pq.read_table(grown / file["path"])["value"])
        assert lying.equals(store.read_events(file["bucket"])["value"], check_names=False)
        store.verify(file["bucket"])


def test_a_compacted_store_is_left_as_it_is(grown: Path) -> None:
    run(grown)
    before = (grown / "manifest.json").read_bytes()
    report = run(grown)
    assert (report.already_compact, report.duplicates) == (True, 0)
    assert (grown / "manifest.json").read_bytes() == before


def test_later_ingests_append_and_the_registry_of_sources_survives(grown: Path) -> None:
    run(grown)
    again = run_ingest([str(grown.with_name("s-1.parquet"))], grown, None, load_config(None), Silent())
    assert again.skipped_files == ["s-1.parquet"]
    add(grown, events(200, 9, "string" if Store.open(grown).id_type == "string" else "uint64"), "9")
    names = [g["name"] for g in Store.open(grown).manifest["generations"]]
    assert names == ["gen-000004", "gen-000005"]
    before = everything(grown)
    report = run(grown)
    assert report.generation == "gen-000006"
    assert everything(grown).equals(before)
    assert len(Store.open(grown).manifest["generations"][0]["sources"]) == 4


def test_quarantined_rows_of_merged_generations_stay(grown: Path) -> None:
    before = sorted((grown / "quarantine").iterdir())
    assert before
    run(grown)
    run(grown)
    assert sorted((grown / "quarantine").iterdir()) == before


def test_only_asked_columns_are_read_and_time_limits_hold(grown: Path) -> None:
    limits = [int((T0 + timedelta(minutes=m)).timestamp()) * 1000 for m in (10, 30)]

    def read() -> pl.DataFrame:
        store = Store.open(grown)
        parts = [store.read_events(b, limits[1], limits[0], ["user_id", "event_type"]) for b in range(4)]
        return pl.concat(parts)

    before = read()
    assert before.columns == ["user_id", "event_type", "h"]
    assert 0 < len(before) < len(everything(grown))
    run(grown)
    assert read().equals(before)


def test_a_changed_file_is_noticed_and_nothing_is_replaced(grown: Path) -> None:
    victim = sorted(grown.glob("gen-*/*.parquet"))[-1]
    data = bytearray(victim.read_bytes())
    data[-20] ^= 1
    victim.write_bytes(data)
    before = (grown / "manifest.json").read_bytes()
    with pytest.raises(BadData, match="sha256"):
        run(grown)
    assert (grown / "manifest.json").read_bytes() == before
    assert sorted(p.name for p in grown.glob("gen-*")) == ["gen-000001", "gen-000002", "gen-000003"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("n", [1, 5, 8, 9])
def test_a_killed_compaction_leaves_a_good_store(grown: Path, n: int, when: str) -> None:
    """4 buckets: renames 1-8 are the files, first of a try and then final, 9 the manifest."""
    before = everything(grown)
    command = [sys.executable, str(CHILD), str(grown), str(n), when]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
    assert everything(grown).equals(before)
    done = (n, when) == (9, "after")
    assert run(grown).already_compact == done
    assert everything(grown).equals(before)
    assert len(list(grown.glob("gen-*"))) == 1
    assert not list(grown.rglob("*.tmp"))


def test_the_kill_points_cover_the_whole_compaction(grown: Path) -> None:
    command = [sys.executable, str(CHILD), str(grown), "10", "before"]
    assert subprocess.run(command, check=False).returncode == 0


def test_a_store_in_use_and_no_store_are_left_alone(grown: Path, tmp_path: Path) -> None:
    with folder_lock(grown, "store"), pytest.raises(TryLater, match="in use by pid"):
        run(grown)
    with pytest.raises(InputMissing, match="sto-engine ingest"):
        run(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_reader_of_the_old_state_is_told_to_run_again(grown: Path) -> None:
    old = Store.open(grown)
    run(grown)
    with pytest.raises(TryLater, match="changed while it was read"):
        old.read_events(0)


def test_a_store_without_events_compacts_to_nothing(tmp_path: Path) -> None:
    add(tmp_path / "s", events(20, 1).clear(), "none")
    report = run(tmp_path / "s")
    assert report.rows == 0
    assert len(everything(tmp_path / "s")) == 0
    assert json.loads((tmp_path / "s" / "manifest.json").read_text())["newest_event_ms"] is None


def people(store: Path) -> pl.DataFrame:
    opened = Store.open(store)
    frames = [opened.read_recipients(bucket) for bucket in range(opened.buckets)]
    return pl.concat([frame for frame in frames if frame is not None])


def with_recipients(store: Path) -> None:
    text = Store.open(store).id_type == "string"
    user = [*range(1, 60), 7, 7]
    frame = pl.DataFrame(
        {
            "user_id": pl.Series([f"u-{u}" for u in user]) if text else pl.Series(user, dtype=pl.UInt64),
            "country": [f"c{u % 3}" if u % 5 else None for u in range(len(user))],
        }
    )
    path = store.with_name("people.parquet")
    pl.concat([frame, frame.head(1).with_columns(user_id=pl.lit(None, frame["user_id"].dtype))]).write_parquet(path)
    run_ingest([], store, path, load_config(None, ["ingest.max_bad_share=0.5"]), Silent())


@pytest.mark.parametrize("buckets", [1, 2, 16, *(pytest.param(many, marks=pytest.mark.long) for many in (4, 512))])
def test_other_buckets_hold_the_same_events_and_recipients_in_the_same_order(grown: Path, buckets: int) -> None:
    with_recipients(grown)
    before, recipients = everything(grown), people(grown)
    report = compact(grown, 2, Silent(), buckets=buckets)
    store = Store.open(grown)
    assert (report.buckets, report.buckets_before, store.buckets, report.rows) == (buckets, 4, buckets, len(before))
    assert everything(grown).equals(before)
    assert people(grown).equals(recipients)
    for file in [file for g in store.manifest["generations"] for file in g["files"]]:
        h_N = store.read_events(file["bucket"])["h"].to_numpy()
        assert set(bucket_of(h_N, buckets)) == {file["bucket"]}
        store.verify(file["bucket"])
    assert compact(grown, 2, Silent(), buckets=buckets).already_compact
    assert len(list(grown.glob("gen-*"))) == len(list(grown.glob("recipients-*"))) == 1
    assert len(list(grown.glob("quarantine/recipients-*"))) == 1
    add(grown, events(20, 33, store.id_type), "later", buckets)
    compact(grown, 2, Silent(), buckets=4)
    assert len(everything(grown)) >= len(before)


@pytest.mark.parametrize("buckets", [0, 3, 16384])
def test_a_number_of_buckets_that_cannot_be_is_refused(grown: Path, buckets: int) -> None:
    with pytest.raises(UsageError, match="power of two"):
        compact(grown, 2, Silent(), buckets=buckets)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("n", [2, 15, 16, 24, 33])
def test_a_killed_change_of_buckets_leaves_a_good_store(grown: Path, n: int, when: str) -> None:
    """4 buckets become 8: renames 1-16 are events, 17-32 recipients, 33 the manifest."""
    with_recipients(grown)
    before, recipients = everything(grown), people(grown)
    command = [sys.executable, str(CHILD), str(grown), str(n), when, "8"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
    assert Store.open(grown).buckets == (8 if (n, when) == (33, "after") else 4)
    for _ in range(2):
        assert everything(grown).equals(before)
        assert people(grown).equals(recipients)
        compact(grown, 2, Silent(), buckets=8)
    assert len(list(grown.glob("gen-*"))) == len(list(grown.glob("recipients-*"))) == 1


@pytest.mark.parametrize("buckets", [1, 4, 32])
def test_a_bucket_too_large_for_memory_is_sorted_in_pieces(
    grown: Path, monkeypatch: pytest.MonkeyPatch, buckets: int
) -> None:
    with_recipients(grown)
    before, recipients, seen = everything(grown), people(grown), []
    monkeypatch.setattr("sto_engine.ingest.compact.WORK_BYTES", 20_000)

    def pieces(*arguments: Any) -> Iterator[pl.DataFrame]:
        for piece in sorted_pieces(*arguments):
            seen.append(len(piece))
            yield piece

    monkeypatch.setattr("sto_engine.ingest.ranges.sorted_pieces", pieces)
    compact(grown, 2, Silent(), buckets=buckets)
    assert len(seen) > 16
    assert everything(grown).equals(before)
    assert people(grown).equals(recipients)
    assert not list(grown.rglob("spill*"))


def test_a_compacted_store_gets_the_same_slots(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "s")
    config, tables = load_config(None), []
    for name in ("a", "b"):
        done = run_score(ScoreRequest(tmp_path / "s", tmp_path / name), config, Silent()).run_dir
        assert done is not None
        tables.append(table(done, "assignments").drop("send_at"))
        run(tmp_path / "s")
    assert tables[0].equals(tables[1])
