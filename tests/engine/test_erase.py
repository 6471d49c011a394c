"""An erased store is the store of a sender who never had these people, on disk too."""

import json
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from sto_engine.cli import run_command
from sto_engine.config import load_config
from sto_engine.errors import BadData, InputMissing, TryLater, UsageError
from sto_engine.files import folder_lock
from sto_engine.ingest import IngestReport
from sto_engine.ingest import ingest as run_ingest
from sto_engine.ingest.compact import compact
from sto_engine.ingest.erase import EraseReport
from sto_engine.ingest.erase import erase as run_erase
from sto_engine.ingest.store import Store
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Silent
from support import table

CHILD = Path(__file__).with_name("erase_child.py")
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
    ).with_columns(event_type=pl.when(row < 294).then("event_type").otherwise(pl.lit("Opened")))


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


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize("ids", ["uint64", "int64", "string"])
def test_an_erased_store_is_the_store_of_a_sender_who_never_had_him(tmp_path: Path, ids: str, compacted: bool) -> None:
    store = fill(tmp_path / "s", ids, compacted=compacted)
    assert holds_mark(store)
    rows = sum(len(events(seed, ids).head(294).filter(user_agent=MARK)) for seed in range(3))
    if compacted:  # of equal rows one is left by the compaction of the first two generations
        merged = pl.concat([events(seed, ids).head(294).filter(user_agent=MARK) for seed in range(2)])
        rows -= len(merged) - merged.n_unique(["campaign_id", "event_type", "event_ts"])
    report = erase(store, ident(7, ids))
    never = fill(tmp_path / "never", ids, without=7, compacted=compacted)
    assert same(content(store), content(never))
    assert (report.asked, report.found, report.buckets) == (1, 1, 1)
    assert report.removed == {"events": rows, "recipients": 1, "quarantine": 18}
    for name in ("newest_event_ms", "buckets", "id_type"):
        assert Store.open(store).manifest[name] == Store.open(never).manifest[name]
    assert not holds_mark(store)
    for bucket in range(4):
        Store.open(store).verify(bucket)


def test_later_compactions_and_ingests_go_on_as_if_he_had_never_been(tmp_path: Path) -> None:
    store, never = fill(tmp_path / "s", "uint64"), fill(tmp_path / "n", "uint64", without=7)
    erase(store, 7)
    for each in (store, never):
        compact(each, 1, Silent())
    assert same(content(store), content(never))
    again = run_ingest([str(tmp_path / "s-0.parquet")], store, None, load_config(None), Silent())
    assert again.skipped_files == ["s-0.parquet"]
    assert Store.open(store).manifest["erasure"]["number"] == 1


def test_files_of_other_buckets_are_the_same_files_with_the_same_times(tmp_path: Path) -> None:
    source = tmp_path / "e.parquet"
    user = pl.Series("user_id", np.arange(20_000) % 10_000, dtype=pl.UInt64)
    frame = pl.DataFrame([user, pl.Series("campaign_id", [1] * 20_000), pl.Series("event_type", ["open"] * 20_000)])
    frame.with_columns(event_ts=pl.lit(T0)).write_parquet(source)
    run_ingest([str(source)], tmp_path / "s", None, load_config(None, ["store.buckets=8192"]), Silent())
    before = files(tmp_path / "s")
    report = erase(tmp_path / "s", 4321)
    after = files(tmp_path / "s")
    assert (report.removed["events"], report.buckets) == (2, 1)
    changed = {name for name in before if after.get(name) != before[name]}
    assert len(changed) == 2
    assert "manifest.json" in changed
    assert len(before) > 5000


def test_the_audit_line_counts_and_names_nobody(tmp_path: Path) -> None:
    store = fill(tmp_path / "s", "uint64")
    erase(store, 987654321, 7, 8)
    erase(store, 987654321)
    first, second = [json.loads(line) for line in (store / "erasures.jsonl").read_text().splitlines()]
    assert (first["number"], first["asked"], first["found"]) == (1, 3, 2)
    assert (second["number"], second["asked"], second["found"]) == (2, 1, 0)
    assert first["generations"] == ["gen-000001", "gen-000002", "gen-000003", "recipients-000001"]
    assert datetime.fromisoformat(first["time"]).tzinfo is not None
    assert set(first) == {"number", "time", "asked", "found", "removed", "buckets", "generations", "blocked"}
    assert "987654321" not in (store / "erasures.jsonl").read_text() + (store / "manifest.json").read_text()


def test_a_dry_run_says_what_would_go_and_changes_nothing(tmp_path: Path) -> None:
    store = fill(tmp_path / "s", "string")
    before = files(store)
    said = erase(store, ident(7, "string"), dry_run=True)
    assert files(store) == before
    done = erase(store, ident(7, "string"))
    assert (said.dry_run, done.dry_run) == (True, False)
    assert (said.found, said.removed, said.generations) == (done.found, done.removed, done.generations)


def test_many_ids_from_a_file_and_by_threads_go_at_once(tmp_path: Path) -> None:
    store = fill(tmp_path / "s", "uint64")
    (tmp_path / "ids.txt").write_text("7\n\n 8 \n7\n")
    pl.DataFrame({"user_id": [9, 10]}).write_parquet(tmp_path / "ids.parquet")
    config = load_config(None)
    assert run_erase(store, ["11"], tmp_path / "ids.txt", config, Silent(), threads=3).found == 3
    assert run_erase(store, [], tmp_path / "ids.parquet", config, Silent()).found == 2
    left = set(content(store)[0]["user_id"]) | set(content(store)[1]["user_id"])
    assert left == set(range(1, USERS)) - {7, 8, 9, 10, 11}


@pytest.mark.parametrize("text", ["7\nx\n", "7\n-12321\n"])
def test_a_list_with_a_line_that_is_no_id_is_refused_whole(tmp_path: Path, text: str) -> None:
    store = fill(tmp_path / "s", "uint64")
    (tmp_path / "ids.txt").write_text(text)
    before = files(store)
    with pytest.raises(BadData, match=r"ids\.txt line 2") as caught:
        run_erase(store, [], tmp_path / "ids.txt", load_config(None), Silent())
    assert "12321" not in str(caught.value)
    assert files(store) == before


def test_a_bucket_of_nobody_else_loses_its_file(tmp_path: Path) -> None:
    frame = events(1, "uint64").filter(user_agent=MARK)
    frame.head(4).write_parquet(tmp_path / "e.parquet")
    run_ingest([str(tmp_path / "e.parquet")], tmp_path / "s", None, load_config(None, KEYS), Silent())
    erase(tmp_path / "s", 7)
    assert not list((tmp_path / "s").glob("gen-*/*.parquet"))
    assert Store.open(tmp_path / "s").manifest["newest_event_ms"] is None
    assert compact(tmp_path / "s", 1, Silent()).rows == 0


# 3 generations: renames 1-3 are the event files, 4 the recipients, 5-7 the quarantine, 8 the manifest; then the old
# files go (9-15) and the audit line gets its name (16)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("n", [1, 3, 4, 5, 7, 8, 9, 12, 15, 16])
def test_a_killed_erasure_leaves_the_old_or_the_new_store_and_is_finished_by_the_next(
    tmp_path: Path, n: int, when: str
) -> None:
    store = fill(tmp_path / "s", "uint64")
    before, never = content(store), content(fill(tmp_path / "never", "uint64", without=7))
    command = [sys.executable, str(CHILD), str(store), str(n), when, "7"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
    committed = n > 8 or (n, when) == (8, "after")
    assert same(content(store), never if committed else before)
    assert erase(store, 7).found == (0 if committed else 1)
    assert same(content(store), never)
    assert not holds_mark(store)
    assert not list(store.rglob("*.tmp"))
    lines = [json.loads(line) for line in (store / "erasures.jsonl").read_text().splitlines()]
    assert [(line["number"], line["found"]) for line in lines] == ([(1, 1), (2, 0)] if committed else [(1, 1)])


def test_the_kill_points_cover_the_whole_erasure(tmp_path: Path) -> None:
    store = fill(tmp_path / "s", "uint64")
    assert subprocess.run([sys.executable, str(CHILD), str(store), "17", "before", "7"], check=False).returncode == 0


def test_a_damaged_file_is_not_made_good_by_an_erasure(tmp_path: Path) -> None:
    store = fill(tmp_path / "s", "uint64")
    report = erase(store, 7, dry_run=True)
    assert report.found == 1
    for victim in store.glob("gen-000002/*.parquet"):
        data = bytearray(victim.read_bytes())
        data[-20] ^= 1
        victim.write_bytes(data)
    before = files(store)
    with pytest.raises(BadData, match=r"sha256|damaged"):
        erase(store, 7)
    assert files(store) == before


def test_a_store_in_use_no_store_and_no_id_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match="sto-engine ingest"):
        erase(tmp_path / "nowhere", 7)
    store = fill(tmp_path / "s", "uint64")
    with folder_lock(store, "store"), pytest.raises(TryLater, match="in use by pid"):
        erase(store, 7)
    with pytest.raises(UsageError, match="--user-id"):
        erase(store)
    with pytest.raises(UsageError, match="whole number"):
        erase(store, "seven")


def test_an_open_reader_of_the_old_state_is_told_to_run_again(tmp_path: Path) -> None:
    store = fill(tmp_path / "s", "uint64")
    old = Store.open(store)
    erase(store, *range(1, USERS))
    with pytest.raises(TryLater, match="changed while it was read"):
        old.read_events(0)


def test_an_erased_user_is_new_if_an_audience_names_him_and_else_nowhere(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "s")
    run = run_score(ScoreRequest(store, tmp_path / "a"), load_config(None), Silent()).run_dir
    assert run is not None
    user = table(run, "assignments").filter(reason="model").sort("n_eff")["user_id"][-1]
    assert run_command(["erase", "--store", str(tmp_path / "s"), "--user-id", str(user), "--quiet"]) == 0
    run = run_score(ScoreRequest(tmp_path / "s", tmp_path / "b"), load_config(None), Silent()).run_dir
    assert run is not None
    assert user not in pl.concat([table(run, kind)["user_id"] for kind in ("assignments", "suppressed")])
    newcomer = 123_456_789_012
    pl.DataFrame({"user_id": pl.Series([user, newcomer], dtype=pl.UInt64)}).write_parquet(tmp_path / "two.parquet")
    config = load_config(None, ["experiment.control_share=0"])
    request = ScoreRequest(tmp_path / "s", tmp_path / "c", audience=tmp_path / "two.parquet")
    run = run_score(request, config, Silent()).run_dir
    assert run is not None
    rows = table(run, "assignments").sort("user_id")
    assert rows["reason"].n_unique() == 1
    assert rows["slot"].n_unique() == 1
    assert rows["n_eff"].to_list() == [0, 0]


def test_the_command_tells_counts_and_what_is_out_of_its_reach(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = fill(tmp_path / "s", "uint64")
    assert run_command(["erase", "--store", str(store), "--user-id", "7", "--user-id", "99", "--log-json"]) == 0
    told = capsys.readouterr()
    said = json.loads(told.out)
    assert (said["asked"], said["found"]) == (2, 1)
    assert any("run folders" in each for each in said["out_of_reach"])
    assert not any("erase" in line and '"7"' in line for line in told.err.splitlines())


def ingest_again(store: Path, name: str) -> IngestReport:
    events(9, "uint64").write_parquet(store.with_name(name))
    return run_ingest([str(store.with_name(name))], store, None, load_config(None, KEYS), Silent())
