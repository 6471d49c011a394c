"""Ingest of more than memory holds: the same bytes on any number of threads, all rows accounted for, or nothing."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sto_engine.config import load_config
from sto_engine.errors import BadData, OutputFailed, TryLater
from sto_engine.files import ParquetSink, sha256_file, writing
from sto_engine.ingest import IngestReport, stream, write
from sto_engine.ingest import ingest as run_ingest
from sto_engine.ingest.sizes import BATCH_BYTES, reading_plan
from sto_engine.ingest.store import Store
from sto_engine.progress import Silent
from sto_engine.tables import hash_ids
from sto_kernels.hashing import bucket_of

CHILD = Path(__file__).with_name("ingest_child.py")
T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEYS = ["user_id", "campaign_id", "event_type", "event_ts"]


def events(n: int, seed: int = 0, ids: str = "uint64") -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    user = rng.integers(1, 500, n)
    user_id = pl.Series([f"u-{u}" for u in user]) if ids == "string" else pl.Series(user, dtype=pl.UInt64)
    agents = [f"agent-{a}" for a in rng.integers(0, 9, n)]
    return pl.DataFrame(
        {
            "user_id": user_id,
            "campaign_id": pl.Series([f"c{c}" for c in rng.integers(1, 5, n)]),
            "event_type": pl.Series(rng.choice(["send", "open", "click", "delivered"], n).tolist()),
            "event_ts": pl.Series([T0 + timedelta(minutes=int(m)) for m in rng.integers(0, 500, n)]),
            "value": rng.random(n),
            "user_agent": pl.Series([a if seed else None for a in agents], dtype=pl.String),
        }
    )


def parts(folder: Path, sizes: list[int], ids: str = "uint64") -> Path:
    folder.mkdir()
    for number, size in enumerate(sizes):
        events(size, number, ids).write_parquet(folder / f"{number:04d}.parquet", row_group_size=100)
    return folder


def ingest(path: Path, store: Path, *keys: str, threads: int = 2, people: Path | None = None) -> IngestReport:
    config = load_config(None, ["store.buckets=4", "ingest.max_bad_share=0.5", *keys])
    return run_ingest([str(path)], store, people, config, Silent(), threads)


def digest(store: Path) -> dict[str, str]:
    """sha256 of every file of a store but its lock."""
    files = [path for path in store.rglob("*") if path.is_file() and path.name != "LOCK"]
    return {str(path.relative_to(store)): sha256_file(path) for path in files}


def small_groups(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(write, "ROW_GROUP", rows)
    monkeypatch.setattr(write, "MOST_ROWS", 2 * rows)
    monkeypatch.setattr("sto_engine.ingest.load.BLOCK_ROWS", rows)


def rows_of(store: Path, bucket: int) -> pl.DataFrame:
    """What the files of a bucket hold, as another reader sees it."""
    files = [file for g in Store.open(store).manifest["generations"] for file in g["files"] if file["bucket"] == bucket]
    return pl.concat([pl.read_parquet(store / file["path"]) for file in files]).sort(*KEYS, "value")


@pytest.mark.parametrize(
    ("buckets", "ids"),
    [(4, "uint64"), (4, "string"), (256, "uint64"), pytest.param(256, "string", marks=pytest.mark.long)],
)
def test_any_number_of_threads_writes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buckets: int, ids: str
) -> None:
    small_groups(monkeypatch, 50)
    files = parts(tmp_path / "in", [700, 0, 1, 333, 900], ids)
    digests = []
    for threads in (1, 2, 5):
        store = tmp_path / f"s{threads}"
        report = ingest(files, store, f"store.buckets={buckets}", threads=threads)
        assert (report.rows, report.events, report.files) == (1934, 1934, 5)
        digests.append(digest(store))
    assert digests[0] == digests[1] == digests[2]


@pytest.mark.parametrize("buckets", [1, 8, 128, 256, 1024])
def test_a_bucket_holds_the_users_whose_hash_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buckets: int
) -> None:
    small_groups(monkeypatch, 40)
    files = parts(tmp_path / "in", [800, 500])
    ingest(files, tmp_path / "s", f"store.buckets={buckets}")
    frame = pl.concat([pl.read_parquet(path) for path in sorted(files.iterdir())])
    bucket_N = bucket_of(hash_ids(frame["user_id"]), buckets)
    for bucket in np.unique(bucket_N):
        expected = frame.filter(pl.Series(bucket_N == bucket)).sort(*KEYS, "value")
        found = rows_of(tmp_path / "s", int(bucket))
        assert found.select(KEYS[:3], "value", "user_agent").equals(expected.select(KEYS[:3], "value", "user_agent"))
    assert not list((tmp_path / "s").rglob("spill"))
    assert sum(g["rows"] for g in Store.open(tmp_path / "s").manifest["generations"]) == 1300


def test_a_bucket_is_one_file_of_many_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_groups(monkeypatch, 100)
    ingest(parts(tmp_path / "in", [3000]), tmp_path / "s")
    files = sorted((tmp_path / "s" / "gen-000001").iterdir())
    assert len(files) == 4
    for file in files:
        footer = pq.read_metadata(file)
        sizes = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
        assert len(sizes) > 3
        assert max(sizes) <= 200


def test_held_bytes_are_bounded_whatever_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_groups(monkeypatch, 100)
    monkeypatch.setattr("sto_engine.ingest.write.BucketWriter.__init__.__defaults__", (None, 10_000))
    ingest(parts(tmp_path / "in", [2000, 2000]), tmp_path / "s")
    footer = pq.read_metadata(next((tmp_path / "s" / "gen-000001").iterdir()))
    assert footer.num_row_groups > 8


def test_many_small_files_come_in_few_row_groups(tmp_path: Path) -> None:
    report = ingest(parts(tmp_path / "in", [5] * 300), tmp_path / "s")
    assert (report.files, report.rows) == (300, 1500)
    assert [pq.read_metadata(file).num_row_groups for file in (tmp_path / "s" / "gen-000001").iterdir()] == [1] * 4


@pytest.mark.parametrize("how", ["longer", "same size", "time set back"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    victim = parts(tmp_path / "in", [500]) / "0000.parquet"
    ingest(parts(tmp_path / "other", [20]), tmp_path / "s")
    before = (tmp_path / "s" / "manifest.json").read_bytes()
    prepare, status = stream.prepare, victim.stat()

    def meddle(*args: object) -> object:
        data = victim.read_bytes()
        victim.write_bytes(data + b"x" if how == "longer" else data[:-9] + b"y" + data[-8:])
        if how == "time set back":
            os.utime(victim, ns=(status.st_atime_ns, status.st_mtime_ns))
        return prepare(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(stream, "prepare", meddle)
    with pytest.raises(TryLater, match=r"0000\.parquet must stay as it is"):
        ingest(victim, tmp_path / "s", threads=1)
    assert (tmp_path / "s" / "manifest.json").read_bytes() == before
    assert [path.name for path in (tmp_path / "s").glob("gen-*")] == ["gen-000001"]


def test_other_rights_of_a_file_are_no_change_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = parts(tmp_path / "in", [50]) / "0000.parquet"
    prepare = stream.prepare

    def touch(*args: object) -> object:
        victim.chmod(0o600)
        return prepare(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(stream, "prepare", touch)
    assert ingest(victim, tmp_path / "s").events == 50


def limited(limit: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def test_a_disk_that_takes_no_more_ends_with_74_and_the_old_store(tmp_path: Path) -> None:
    ingest(parts(tmp_path / "old", [50]), tmp_path / "s")
    before = digest(tmp_path / "s")
    wide = events(20_000, 1).with_columns(value=pl.Series(np.random.default_rng(1).random(20_000)))
    wide.write_parquet(tmp_path / "new.parquet")
    command = [sys.executable, "-m", "sto_engine.cli", "ingest", str(tmp_path / "new.parquet")]
    done = subprocess.run(
        [*command, "--store", str(tmp_path / "s"), "--quiet"],
        preexec_fn=lambda: limited(20_000),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 74, done.stderr
    assert "cannot be written" in done.stderr
    assert digest(tmp_path / "s") == before


@pytest.mark.parametrize("buckets", [4, 256])
def test_a_full_disk_in_any_pass_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buckets: int) -> None:
    def full(self: ParquetSink, *_: object) -> None:
        with writing(self.path):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ParquetSink, "write", full)
    with pytest.raises(OutputFailed, match="No space left"):
        ingest(parts(tmp_path / "in", [500]), tmp_path / "s", f"store.buckets={buckets}")
    assert not list((tmp_path / "s").glob("gen-*"))
    assert not (tmp_path / "s" / "manifest.json").exists()


def bad(n: int, every: int, seed: int) -> pl.DataFrame:
    return events(n, seed).with_columns(campaign_id=pl.when(pl.int_range(n) % every != 3).then("campaign_id"))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("n", [1, 4, 5, 6])
def test_a_killed_ingest_leaves_a_good_store(tmp_path: Path, n: int, when: str) -> None:
    """4 buckets: renames 1-4 are the files, 5 the quarantine, 6 the manifest."""
    ingest(parts(tmp_path / "old", [50]), tmp_path / "s")
    bad(400, 10, 7).write_parquet(tmp_path / "new.parquet")
    store = tmp_path / "s"
    before = [Store.open(store).read_events(bucket) for bucket in range(4)]
    command = [sys.executable, str(CHILD), str(store), str(tmp_path / "new.parquet"), str(n), when]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
    committed = (n, when) == (6, "after")
    opened = Store.open(store)
    unchanged = [opened.read_events(bucket).equals(old) for bucket, old in enumerate(before)]
    assert all(unchanged) != committed
    report = ingest(tmp_path / "new.parquet", store)
    assert report.skipped_files == (["new.parquet"] if committed else [])
    assert sum(g["rows"] for g in Store.open(store).manifest["generations"]) == 50 + 360
    assert not list(store.rglob("*.tmp"))
    assert len(list(store.glob("gen-*"))) == 2
    assert len(list((store / "quarantine").iterdir())) == 1


def test_the_kill_points_cover_the_whole_ingest(tmp_path: Path) -> None:
    ingest(parts(tmp_path / "old", [50]), tmp_path / "s")
    bad(400, 10, 7).write_parquet(tmp_path / "new.parquet")
    command = [sys.executable, str(CHILD), str(tmp_path / "s"), str(tmp_path / "new.parquet"), "7", "before"]
    assert subprocess.run(command, check=False).returncode == 0


def test_quarantine_says_the_row_within_its_file_and_is_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sto_engine.ingest.quarantine.ROW_GROUP", 7)
    monkeypatch.setattr("sto_engine.ingest.sizes.BATCH_BYTES", 2000)
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        bad(200, 20, ord(name)).write_parquet(tmp_path / "in" / f"{name}.parquet", row_group_size=64)
    report = ingest(tmp_path / "in", tmp_path / "s")
    assert (report.rows, report.events, report.quarantined) == (400, 380, {"bad_campaign": 20})
    (file,) = (tmp_path / "s" / "quarantine").iterdir()
    found = pl.read_parquet(file)
    for name in ("a", "b"):
        assert found.filter(pl.col("file") == f"{name}.parquet")["row"].to_list() == list(range(3, 200, 20))


def test_recipients_of_several_files_keep_one_order_and_their_own_rows(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    pl.DataFrame({"user_id": [5, None, 6], "country": ["A", "B", "C"]}).write_parquet(tmp_path / "r" / "1.parquet")
    pl.DataFrame({"user_id": [None, 5, 7], "country": ["D", "E", "F"]}).write_parquet(tmp_path / "r" / "2.parquet")
    events(20).write_parquet(tmp_path / "e.parquet")
    keys = ["ingest.id_type=uint64"]
    report = ingest(tmp_path / "e.parquet", tmp_path / "s", *keys, people=tmp_path / "r")
    assert (report.recipients, report.recipients_quarantined) == (4, {"bad_user_id": 2})
    store = Store.open(tmp_path / "s")
    frames = [frame for bucket in range(4) if (frame := store.read_recipients(bucket)) is not None]
    rows = pl.concat(frames).sort("row").select("user_id", "country", "row")
    assert rows.rows() == [(5, "A", 0), (6, "C", 2), (5, "E", 4), (7, "F", 5)]
    quarantined = pl.concat([pl.read_parquet(p) for p in (tmp_path / "s" / "quarantine").glob("recipients-*")])
    assert sorted(zip(quarantined["file"], quarantined["row"], strict=True)) == [("1.parquet", 1), ("2.parquet", 0)]


def test_the_manifest_says_what_a_file_spans_and_others_are_not_opened(tmp_path: Path) -> None:
    for number, day in enumerate((0, 10)):
        frame = events(100, number).with_columns(pl.col("event_ts") + timedelta(days=day))
        frame.write_parquet(tmp_path / f"{number}.parquet")
        ingest(tmp_path / f"{number}.parquet", tmp_path / "s")
    store = Store.open(tmp_path / "s")
    for generation in store.manifest["generations"]:
        for file in generation["files"]:
            times = pl.read_parquet(tmp_path / "s" / file["path"])["event_ts"].dt.epoch("ms")
            assert (file["min_ts"], file["max_ts"]) == (times.min(), times.max())
    limit = int((T0 + timedelta(days=5)).timestamp()) * 1000
    whole = [store.read_events(bucket, before_ms=limit) for bucket in range(4)]
    assert sum(map(len, whole)) > 0
    for path in (tmp_path / "s").glob("gen-000002/*"):
        path.unlink()
    for bucket, before in enumerate(whole):
        assert store.read_events(bucket, before_ms=limit).equals(before)


def test_a_store_of_before_such_fields_is_read_all_the_same(tmp_path: Path) -> None:
    ingest(parts(tmp_path / "in", [300]), tmp_path / "s")
    path = tmp_path / "s" / "manifest.json"
    limits = (int((T0 + timedelta(hours=3)).timestamp()) * 1000, int(T0.timestamp()) * 1000)
    expected = [Store.open(tmp_path / "s").read_events(bucket, *limits) for bucket in range(4)]
    manifest = json.loads(path.read_bytes())
    for file in manifest["generations"][0]["files"]:
        del file["min_ts"], file["max_ts"]
    path.write_text(json.dumps(manifest))
    for bucket, frame in enumerate(expected):
        assert Store.open(tmp_path / "s").read_events(bucket, *limits).equals(frame)


def test_a_damaged_footer_of_a_store_file_is_told_whatever_the_bit(tmp_path: Path) -> None:
    ingest(parts(tmp_path / "in", [60]), tmp_path / "s", "store.buckets=1")
    (path,) = (tmp_path / "s" / "gen-000001").iterdir()
    store, whole = Store.open(tmp_path / "s"), path.read_bytes()
    for place in range(len(whole) - 8 - int.from_bytes(whole[-8:-4], "little"), len(whole), 7):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        with pytest.raises(BadData, match="footer is not the one written"):
            store.read_events(0)


def test_rows_that_got_lost_on_the_way_stop_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = write.BucketWriter.finish
    monkeypatch.setattr(write.BucketWriter, "finish", lambda self: written(self)[:-1])
    with pytest.raises(OutputFailed, match="must hold 500 rows"):
        ingest(parts(tmp_path / "in", [500]), tmp_path / "s")
    assert not (tmp_path / "s" / "manifest.json").exists()


def plan(path: Path, columns: list[str], words: list[str]) -> tuple[int, list[str]]:
    with pq.ParquetFile(path, read_dictionary=words) as file:
        return reading_plan(file, columns, words)


@pytest.mark.parametrize("dictionary", [True, False])
def test_large_cells_make_small_batches(tmp_path: Path, dictionary: bool) -> None:
    texts = [f"{i if not dictionary else i % 2}" + "x" * 40_000 for i in range(1200)]
    table = pa.table({"id": pa.array(range(1200)), "text": pa.array(texts)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=600, use_dictionary=dictionary)
    assert plan(tmp_path / "a.parquet", ["id"], [])[0] > 1000
    rows, _ = plan(tmp_path / "a.parquet", ["id", "text"], [])
    assert 1 <= rows * 40_000 <= BATCH_BYTES
    rows, coded = plan(tmp_path / "a.parquet", ["id", "text"], ["text"])
    assert coded == (["text"] if dictionary else [])  # two words, if large ones, are held once
    assert dictionary or rows * 40_000 <= BATCH_BYTES


def test_few_words_are_read_as_a_dictionary_and_texts_of_their_own_are_not(tmp_path: Path) -> None:
    numbers = range(50_000)
    table = pa.table({"few": [f"word {i % 300}" for i in numbers], "own": [f"text {i}" for i in numbers]})
    for dictionary in (True, False):
        pq.write_table(table, tmp_path / "a.parquet", row_group_size=9_000, use_dictionary=dictionary)
        rows, coded = plan(tmp_path / "a.parquet", ["few", "own"], ["few", "own"])
        assert rows > 50_000
        assert coded == ["few"]
