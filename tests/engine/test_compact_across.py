"""A compaction writes the same bytes whoever does it: any number of threads, pieces of any size, work that is lost."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from erasures import fill
from executors import Travelling
from sto_engine.errors import BadData, OutputFailed
from sto_engine.executor import Executor, Threads
from sto_engine.ingest import attempts, ranges
from sto_engine.ingest.compact import CompactReport, _bounded, compact
from sto_engine.ingest.sorted_file import _weights
from sto_engine.ingest.store import Store, remove_leftovers
from sto_engine.progress import Silent
from support import files_of

EXECUTORS = [Threads(1), Threads(5), Travelling(0), Travelling(1)]


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three generations and a snapshot of recipients, with bad rows in quarantine."""
    return fill(tmp_path_factory.mktemp("grown") / "s", "string")


def copied(grown: Path, folder: Path) -> Path:
    return shutil.copytree(grown, folder)


def run(store: Path, executor: Executor | None = None, buckets: int | None = None) -> CompactReport:
    return compact(store, 2, Silent(), buckets=buckets, executor=executor)


@pytest.mark.parametrize("buckets", [2, 4, pytest.param(16, marks=pytest.mark.long)])
def test_any_executor_writes_the_same_bytes_and_leaves_nothing_else(grown: Path, tmp_path: Path, buckets: int) -> None:
    stores = [copied(grown, tmp_path / str(place)) for place in range(len(EXECUTORS))]
    reports = [run(store, executor, buckets) for store, executor in zip(stores, EXECUTORS, strict=True)]
    digests = [files_of(store) for store in stores]
    assert all(report == reports[0] for report in reports)
    assert all(digest == digests[0] for digest in digests)
    assert not [path for path in stores[-1].rglob("*") if "try-" in path.name or "spill" in path.name]


@pytest.mark.parametrize("limits", [(80, 1 << 20), (10_000, 5_000)])
@pytest.mark.parametrize("buckets", [4, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 32))])
def test_the_bytes_do_not_depend_on_the_memory_of_a_worker(
    grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buckets: int, limits: tuple[int, int]
) -> None:
    for name, value in zip(("MOST_ROWS", "MOST_BYTES"), limits, strict=True):
        monkeypatch.setattr(f"sto_engine.ingest.sorted_file.{name}", value)
    whole = copied(grown, tmp_path / "whole")
    run(whole, buckets=buckets)
    for budget in (3_000, 20_000):
        monkeypatch.setattr("sto_engine.ingest.compact.WORK_BYTES", budget)
        store = copied(grown, tmp_path / str(budget))
        run(store, buckets=buckets)
        assert files_of(store) == files_of(whole)


def groups(path: Path) -> list[int]:
    """Rows of each row group."""
    footer = pq.read_metadata(path)
    return [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]


def test_row_groups_of_a_compacted_bucket_are_even(
    grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sto_engine.ingest.sorted_file.ROW_GROUP", 40)
    monkeypatch.setattr("sto_engine.ingest.sorted_file.MOST_ROWS", 80)
    store = copied(grown, tmp_path / "s")
    run(store)
    for path in store.glob("gen-*/*.parquet"):
        sizes = groups(path)
        last = 1 + (sum(sizes) % 80 > 40)
        assert sizes[:-last] == [40] * (len(sizes) - last)
        assert max(sizes[-last:]) - min(sizes[-last:]) <= 1


def test_threads_are_bounded_as_their_memory_is_and_workers_of_a_cluster_are_not() -> None:
    assert [_bounded(Threads(n)).workers for n in (1, 8, 64)] == [1, 8, 8]
    cluster = Travelling(0, workers=64)
    assert _bounded(cluster) is cluster


def test_a_row_weighs_its_texts_and_eight_bytes_a_column() -> None:
    frame = pl.DataFrame({"a": ["xyz", None, "\u00e9"], "b": [1, 2, 3], "c": ["", "12345", "1"]})
    np.testing.assert_array_equal(_weights(frame), [27, 29, 27])
    np.testing.assert_array_equal(_weights(frame.select("b")), [8, 8, 8])


def test_work_travels_small_and_says_little(grown: Path) -> None:
    store = Store.open(grown)
    before = len(pickle.dumps(store))
    assert store.files("events", 0)
    assert len(pickle.dumps(store)) == before
    assert pickle.loads(pickle.dumps(store)).files("events", 3) == store.files("events", 3)


@pytest.mark.parametrize("place", [0, 3])
def test_an_error_of_a_worker_names_the_file_and_leaves_the_old_store(grown: Path, tmp_path: Path, place: int) -> None:
    store = copied(grown, tmp_path / "s")
    victim = sorted(store.glob("gen-000002/*.parquet"))[place]
    victim.write_bytes(victim.read_bytes()[:-1])
    before = files_of(store)
    with pytest.raises(BadData, match=victim.name):
        run(store, Travelling(1))
    assert files_of(store) == before


def test_a_worker_that_does_not_share_the_folder_is_told_apart(
    grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = copied(grown, tmp_path / "s")
    write = ranges.Ranges.write

    def elsewhere(self: ranges.Ranges, index: int) -> Any:
        written = write(self, index)
        shutil.rmtree(written.folder)
        return written

    monkeypatch.setattr(ranges.Ranges, "write", elsewhere)
    with pytest.raises(OutputFailed, match="all machines of a cluster must share"):
        run(store)
    assert json.loads((store / "manifest.json").read_text())["generations"][-1]["name"] == "gen-000003"


def test_what_a_late_try_leaves_in_a_committed_generation_is_removed(grown: Path, tmp_path: Path) -> None:
    store = copied(grown, tmp_path / "s")
    before = files_of(store)
    with attempts.attempt(store / "gen-000002") as late:
        (late / "gen-000002").mkdir()
        (late / "gen-000002" / "bucket-0001-0000.parquet").write_bytes(b"late")
    with attempts.attempt(store / "gen-000009") as later:
        (later / "rows").write_bytes(b"of a generation that never was")
    assert files_of(store) != before
    remove_leftovers(store)
    assert files_of(store) == before
    assert not (store / "gen-000009").exists()
    assert not late.exists()
