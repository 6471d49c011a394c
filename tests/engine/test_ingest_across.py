"""An ingest by workers that are other processes, lose work and come too late: the same store as in threads."""

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import polars as pl
import pytest

from executors import Travelling
from sto_engine.config import load_config
from sto_engine.errors import BadData, OutputFailed, TryLater
from sto_engine.executor import Executor, Threads
from sto_engine.ingest import IngestReport, across, segments, stream
from sto_engine.ingest import ingest as run_ingest
from sto_engine.ingest.compact import compact
from sto_engine.ingest.inputs import Input, State
from sto_engine.ingest.store import Store
from sto_engine.progress import Silent
from support import files_of

CHILD = Path(__file__).with_name("ingest_child.py")
T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEYS = ("store.buckets=4", "ingest.max_bad_share=0.5", "ingest.quarantine_payload=true")
CLUSTERS = [Travelling(0), Travelling(1), replace(Travelling(2), workers=7)]


def events(n: int, seed: int, ids: str = "uint64") -> pl.DataFrame:
    """Rows of which every 20th lacks its campaign, and every 50th is of a kind that nobody knows."""
    rng, row = np.random.default_rng(seed), pl.int_range(n)
    user = rng.integers(1, 500, n)
    kinds = rng.choice(["send", "open", "click", "delivered"], n).tolist()
    return pl.DataFrame(
        {
            "user_id": pl.Series([f"u-{u}" for u in user]) if ids == "string" else pl.Series(user, dtype=pl.UInt64),
            "campaign_id": pl.Series([f"c{c}" for c in rng.integers(1, 5, n)], dtype=pl.String),
            "event_type": pl.Series(kinds, dtype=pl.String),
            "event_ts": pl.Series([T0 + timedelta(minutes=int(m)) for m in rng.integers(0, 500, n)]),
            "value": rng.random(n),
            "device_type": pl.Series(rng.choice(["mobile", "fridge"], n).tolist(), dtype=pl.String),
        },
        schema_overrides={"event_ts": pl.Datetime("us", "UTC")},
    ).with_columns(
        campaign_id=pl.when(row % 20 != 3).then("campaign_id"),
        event_type=pl.when(row % 50 != 9).then("event_type").otherwise(pl.lit(f"word {seed % 2}")),
    )


def fill(folder: Path, ids: str = "uint64") -> Path:
    """Files of many sizes, one empty, and one that is another over again."""
    folder.mkdir()
    for number, size in enumerate([700, 0, 1, 333, 900, 40]):
        events(size, number, ids).write_parquet(folder / f"{number:04d}.parquet", row_group_size=100)
    shutil.copy(folder / "0003.parquet", folder / "0007.parquet")
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little is held and grouped, so that few rows make many of everything."""
    monkeypatch.setattr(across, "GROUP_FILES", 2)
    monkeypatch.setattr(segments, "HELD_BYTES", 10_000)
    monkeypatch.setattr("sto_engine.ingest.load.BLOCK_ROWS", 50)


def ingest(
    path: Path | str, store: Path, executor: Executor | None = None, people: Path | None = None, *keys: str
) -> IngestReport:
    return run_ingest([str(path)], store, people, load_config(None, [*KEYS, *keys]), Silent(), 2, executor)


def rows_of(store: Path) -> list[pl.DataFrame]:
    """What the files of each bucket hold, in the order in which they lie."""
    opened = Store.open(store)
    named = [[opened.path / file["path"] for file in opened.files("events", b)] for b in range(opened.buckets)]
    return [pl.concat([pl.read_parquet(path) for path in paths]) for paths in named if paths]


@pytest.mark.parametrize(
    ("buckets", "ranges", "ids"),
    [
        (4, 128, "uint64"),
        (8, 2, "string"),
        pytest.param(1, 128, "string", marks=pytest.mark.long),
        pytest.param(256, 128, "string", marks=pytest.mark.long),
        pytest.param(256, 128, "uint64", marks=pytest.mark.long),
    ],
)
def test_a_cluster_makes_the_same_store_as_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buckets: int, ranges: int, ids: str
) -> None:
    monkeypatch.setattr(across, "SPILLS", ranges)
    key, files = f"store.buckets={buckets}", fill(tmp_path / "in", ids)
    first = tmp_path / "first.parquet"
    shutil.copy(files / "0004.parquet", first)
    stores, reports = [], []
    for place, executor in enumerate([None, Threads(2), *CLUSTERS]):
        store = tmp_path / f"s{place}"
        ingest(first, store, executor, None, key)
        reports.append(ingest(files, store, executor, None, key))
        stores.append(store)
    assert reports[0].skipped_files == ["0004.parquet", "0007.parquet"]
    assert reports[0].empty_files == ["0001.parquet"]
    assert reports[0].quarantined["bad_campaign"] > 0
    assert all(list(report.as_dict().items()) == list(reports[0].as_dict().items()) for report in reports)
    for store in stores[1:]:
        pairs = zip(rows_of(store), rows_of(stores[0]), strict=True)
        assert all(mine.equals(theirs) for mine, theirs in pairs)
    assert files_of(stores[1]) == files_of(stores[0])
    assert files_of(stores[2]) == files_of(stores[3]) == files_of(stores[4])
    for store in stores:
        assert not [path for path in store.rglob("*") if "try-" in path.name or path.name.startswith(".")]
        compact(store, 2, Silent())
    buckets_of = [{name: sha for name, sha in files_of(store).items() if "bucket" in name} for store in stores]
    assert all(each == buckets_of[0] for each in buckets_of)


def test_bad_rows_are_those_of_threads_in_a_file_for_each_group(tmp_path: Path) -> None:
    files = fill(tmp_path / "in")
    found = []
    for name, executor in (("a", None), ("b", Travelling(1))):
        ingest(files, tmp_path / name, executor)
        paths = sorted((tmp_path / name / "quarantine").iterdir())
        found.append(pl.concat([pl.read_parquet(path) for path in paths]))
        assert [path.name for path in paths] == [f"gen-000001-{n:04d}.parquet" for n in range(len(paths))]
    assert found[0].equals(found[1])
    assert len(paths) == 3


def test_recipients_of_several_files_keep_their_rows(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    for number in range(5):
        ids = [number, None, *range(10, 40)]
        frame = pl.DataFrame({"user_id": pl.Series(ids, dtype=pl.UInt64), "country": [f"{number}"] * len(ids)})
        frame.write_parquet(tmp_path / "r" / f"{number}.parquet")
    files, reports, frames = fill(tmp_path / "in"), [], []
    for name, executor in (("a", None), ("b", Travelling(0))):
        reports.append(ingest(files, tmp_path / name, executor, tmp_path / "r"))
        store = Store.open(tmp_path / name)
        parts = [part for bucket in range(4) if (part := store.read_recipients(bucket)) is not None]
        frames.append(pl.concat(parts))
    assert reports[0] == reports[1]
    assert (reports[1].recipients, reports[1].recipients_quarantined) == (155, {"bad_user_id": 5})
    assert frames[0].equals(frames[1])
    assert frames[1]["row"].max() == 159


def test_words_that_nobody_knows_and_values_that_are_lost_are_counted_alike(tmp_path: Path) -> None:
    files = fill(tmp_path / "in")
    reports = [ingest(files, tmp_path / str(n), each) for n, each in enumerate([None, *CLUSTERS])]
    assert list(reports[1].unknown_event_types.items()) == list(reports[0].unknown_event_types.items())
    assert len(reports[1].unknown_event_types) == 2
    assert reports[1].nulled == reports[0].nulled
    assert reports[1].nulled["device_type"] > 0


def inputs(sizes: list[int]) -> list[Any]:
    return [Input(None, State(size, number, 0, 0)) for number, size in enumerate(sizes)]  # type: ignore[arg-type]


def test_small_files_are_worked_on_together_and_large_ones_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(across, "GROUP_FILES", 64)
    assert [len(group) for group in across.grouped(inputs([10] * 10_000))] == [64] * 156 + [16]
    big = across.GROUP_BYTES
    assert [len(group) for group in across.grouped(inputs([big, big, 1, 1, big, 1]))] == [1, 1, 3, 1]
    assert across.grouped([]) == []


def test_only_files_of_one_size_are_hashed_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, before = [], across.hashes

    def counted(place: int, files: tuple[Input, ...]) -> list[str]:
        asked.extend(file.source.path.name for file in files)
        return before(place, files)

    monkeypatch.setattr(across, "hashes", counted)
    ingest(fill(tmp_path / "in"), tmp_path / "s", Threads(1))
    assert asked == []
    ingest(tmp_path / "in", tmp_path / "t", replace(Threads(2), in_process=False))
    assert asked == ["0003.parquet", "0007.parquet"]


@pytest.mark.parametrize("keys", [("ingest.on_bad_row=fail",), ("ingest.max_bad_share=0.001",)])
def test_a_bad_export_keeps_nothing(tmp_path: Path, keys: tuple[str, ...]) -> None:
    ingest(fill(tmp_path / "old"), tmp_path / "s")
    before = files_of(tmp_path / "s")
    events(300, 8).write_parquet(tmp_path / "bad.parquet")
    name = "bad.parquet row 3: bad_campaign" if "fail" in keys[0] else "max_bad_share"
    with pytest.raises(BadData, match=name):
        ingest(tmp_path / "bad.parquet", tmp_path / "s", Travelling(0), None, *keys)
    assert files_of(tmp_path / "s") == before


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_file_that_changes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    victim = fill(tmp_path / "in") / "0004.parquet"
    read, prepare = across.Reading.read, stream.prepare

    def meddle(step: Any) -> Any:
        def meddled(*arguments: Any) -> Any:
            victim.write_bytes(victim.read_bytes() + b"x")
            return step(*arguments)

        return meddled

    if when == "before":
        monkeypatch.setattr(across.Reading, "read", meddle(read))
    else:
        monkeypatch.setattr(stream, "prepare", meddle(prepare))
    with pytest.raises(TryLater, match=r"0004\.parquet must stay as it is"):
        ingest(victim, tmp_path / "s", Travelling(1))
    assert not (tmp_path / "s" / "manifest.json").exists()
    assert not list((tmp_path / "s").glob("gen-*"))


def test_a_file_that_becomes_another_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(across, "_doubles", lambda files, executor: {})
    with pytest.raises(TryLater, match=r"0007\.parquet has become the same as 0003\.parquet"):
        ingest(fill(tmp_path / "in"), tmp_path / "s", Travelling(0))
    assert not list((tmp_path / "s").glob("gen-*"))


def test_other_inodes_on_another_machine_are_no_change(tmp_path: Path) -> None:
    (tmp_path / "e.parquet").write_bytes(b"x" * 9)
    state = State.of(tmp_path / "e.parquet")

    class Source:
        path = tmp_path / "e.parquet"

    elsewhere = Input(Source(), replace(state, inode=state.inode + 1))  # type: ignore[arg-type]
    assert elsewhere.seen_here().state == state


def test_the_key_of_pseudonyms_does_not_travel(tmp_path: Path) -> None:
    key = b"secret of a cluster, 32 bytes it is, and some more"
    (tmp_path / "key").write_bytes(key)
    keys = (f"ingest.pseudonym_key_file={tmp_path / 'key'}",)
    pickled: list[bytes] = []

    class Watched(Travelling):
        def run(self, work: Any, *arguments: Any, **named: Any) -> Any:
            pickled.append(cloudpickle.dumps(work))
            return super().run(work, *arguments, **named)

    files = fill(tmp_path / "in", "string")
    ingest(files, tmp_path / "a", None, None, *keys)
    ingest(files, tmp_path / "b", Watched(0), None, *keys)
    assert len(pickled) == 3
    assert not [data for data in pickled if key in data]
    pairs = zip(rows_of(tmp_path / "a"), rows_of(tmp_path / "b"), strict=True)
    assert all(mine.equals(theirs) for mine, theirs in pairs)


def test_urls_travel(tmp_path: Path) -> None:
    files = fill(tmp_path / "in")
    reports = [
        ingest(f"file://{files}", tmp_path / "a"),
        ingest(f"file://{files}", tmp_path / "b", Travelling(2)),
    ]
    assert reports[0] == reports[1]
    pairs = zip(rows_of(tmp_path / "a"), rows_of(tmp_path / "b"), strict=True)
    assert all(mine.equals(theirs) for mine, theirs in pairs)


class Heard(Silent):
    """What was told: totals and steps of phases, and events."""

    def __init__(self) -> None:
        self.totals, self.steps, self.events = {}, Counter(), []  # type: ignore[var-annotated]

    def start(self, phase: str, total: int) -> None:
        self.totals[phase] = total

    def advance(self, phase: str, steps: int = 1) -> None:
        self.steps[phase] += steps

    def info(self, event: str, **fields: object) -> None:
        self.events.append((event, fields.get("file")))

    warn = info


def test_progress_comes_to_its_end_and_tells_what_threads_tell(tmp_path: Path) -> None:
    files, heard = fill(tmp_path / "in"), [Heard(), Heard()]
    for progress, executor in zip(heard, (None, Travelling(0)), strict=True):
        run_ingest([str(files)], tmp_path / f"{executor}", None, load_config(None, KEYS), progress, 2, executor)
        assert dict(progress.steps) == progress.totals
    assert heard[1].totals == {**heard[0].totals, "ingest buckets": 4}
    assert sorted(heard[1].events) == sorted(heard[0].events)


def test_temporary_files_that_are_gone_or_cut_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.segments"
    with pytest.raises(OutputFailed, match="all machines of a cluster must share"):
        list(segments.read_segments(path, 0))
    path.write_bytes(b"\x07" * 64)
    with pytest.raises(OutputFailed, match="number of its segments"):
        list(segments.read_segments(path, 0))


def test_a_worker_that_does_not_share_the_folder_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = across.Reading.read

    def elsewhere(*arguments: Any) -> across.Read:
        found = read(*arguments)
        shutil.rmtree(found.folder)
        return found

    monkeypatch.setattr(across.Reading, "read", elsewhere)
    with pytest.raises(OutputFailed, match="all machines of a cluster must share"):
        ingest(fill(tmp_path / "in"), tmp_path / "s", Travelling(0))
    assert not list((tmp_path / "s").glob("gen-*"))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "n", [1, pytest.param(3, marks=pytest.mark.long), 6, pytest.param(12, marks=pytest.mark.long), 13]
)
def test_a_killed_ingest_leaves_a_good_store(tmp_path: Path, n: int, when: str) -> None:
    """4 buckets in tries of which two are lost: 2 renames of the quarantine, 8 of tries, 4 of files; the manifest."""
    ingest(fill(tmp_path / "old"), tmp_path / "s")
    before = files_of(tmp_path / "s")
    events(400, 7).write_parquet(tmp_path / "new.parquet")
    command = [sys.executable, str(CHILD), str(tmp_path / "s"), str(tmp_path / "new.parquet"), str(n), when, "2"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
    committed = files_of(tmp_path / "s")["manifest.json"] != before["manifest.json"]
    assert committed == ((n, when) == (13, "after"))
    report = ingest(tmp_path / "new.parquet", tmp_path / "s", Travelling(0))
    assert report.skipped_files == (["new.parquet"] if committed else [])
    assert len(Store.open(tmp_path / "s").manifest["generations"]) == 2
    assert not [path for path in (tmp_path / "s").rglob("*") if "try-" in path.name or ".tmp" in path.name]
    assert os.path.exists(tmp_path / "s" / "quarantine" / "gen-000002-0000.parquet")
