"""Earlier runs: whose rows a bucket gets against a plain read of all shards, which runs count, and what is refused."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from sto_engine.config import Config
from sto_engine.errors import BadData, InputMissing
from sto_engine.ingest.store import Store
from sto_engine.job import ScoreRequest, run_score
from sto_engine.open_previous import open_previous
from sto_engine.output.shards import write_shard
from sto_engine.previous import Previous, told_until
from sto_engine.progress import Silent
from sto_engine.tables import assignments_schema, hash_ids, id_polars, suppressed_schema
from sto_kernels.hashing import HASH_NAME, HASH_VERSION, bucket_of
from support import table

DAY = date(2026, 4, 20)
DAY_MS = 86_400_000
COLUMNS = ["h", "user_id", "send_at_ms", "provider", "channel", "slot", "run"]


def ms_of(day: date, hours: float = 0.0) -> int:
    return int((datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=hours)).timestamp() * 1000)


def a_store(newest_ms: int | None = ms_of(DAY) - 1, id_type: str = "uint64", buckets: int = 4) -> Store:
    """A store as far as these functions look at one."""
    return Store(Path("store"), {"id_type": id_type, "buckets": buckets, "newest_event_ms": newest_ms})


def plan_of(ids: Sequence[Any], day: date, seed: int, id_type: str = "uint64") -> pl.DataFrame:
    """A send of each user at a random second of the day."""
    rng = np.random.default_rng(seed)
    second = rng.integers(0, 86_400, len(ids))
    return pl.DataFrame(
        {
            "user_id": pl.Series(ids, dtype=id_polars(id_type)),
            "send_at_ms": pl.Series(ms_of(day) + second * 1000, dtype=pl.Int64),
            "provider": pl.Series(rng.choice(["gmail", "other"], len(ids)), dtype=pl.String),
            "channel": pl.Series(["email"] * len(ids), dtype=pl.String),
            "slot": pl.Series(second // 3600, dtype=pl.UInt8),
        }
    )


def in_order(rows: pl.DataFrame, *further: str) -> pl.DataFrame:
    h = pl.Series("h", hash_ids(rows["user_id"]) if len(rows) else [], dtype=pl.UInt64)
    return rows.with_columns(h).sort("h", "user_id", *further)


def write_run(
    folder: Path,
    run_id: str,
    day: date,
    rows: pl.DataFrame,
    buckets: int = 4,
    gone: Mapping[Any, str] | None = None,
    id_type: str = "uint64",
    row_group: int = 1024,
    **facts: object,
) -> Path:
    """A committed run of those rows, as `score` writes them; `gone` are the suppressed and why."""
    run, files = folder / f"run={run_id}", {}
    people = pl.DataFrame({"user_id": pl.Series(list(gone or {}), dtype=id_polars(id_type))})
    people = people.with_columns(reason=pl.Series(list((gone or {}).values()), dtype=pl.String))
    for kind, frame, schema in (
        ("assignments", rows, assignments_schema(id_type)),
        ("suppressed", people, suppressed_schema(id_type)),
    ):
        (run / kind).mkdir(parents=True)
        frame = in_order(frame)
        if kind == "assignments":
            frame = frame.with_columns(send_at=pl.col("send_at_ms").cast(pl.Datetime("ms", "UTC")))
        absent = [name for name in schema.names if name not in frame.columns]
        frame = frame.with_columns(pl.lit(None).alias(name) for name in absent)
        mine_N = bucket_of(frame["h"].to_numpy(), buckets)
        for bucket in range(buckets):
            name = f"{kind}/part-{bucket:04d}.parquet"
            part = frame.filter(pl.Series(mine_N == bucket)).select(schema.names).to_arrow().cast(schema)
            files[name] = write_shard(run / name, part, row_group)
    body = {
        "run_id": run_id,
        "date": day.isoformat(),
        "channel": "email",
        "store": {"id_type": id_type, "buckets": buckets},
        "schema": {"hash": f"{HASH_NAME}/{HASH_VERSION}"},
        "config": {"slots": {"grid": 24}},
        "files": files,
        **facts,
    }
    (run / "manifest.json").write_text(json.dumps(body))
    return run


def opened(
    *paths: Path, store: Store | None = None, day: date = DAY, channels: tuple[str, ...] | None = None
) -> Previous:
    previous = open_previous(paths, store or a_store(), day, channels)
    assert previous is not None
    return previous


def ids_of(id_type: str, n: int, seed: int) -> list[Any]:
    numbers = np.random.default_rng(seed).choice(2**40, n, replace=False)
    if id_type == "string":
        return [f"user-{number}" for number in numbers]
    return [int(number) - (2**39 if id_type == "int64" else 0) for number in numbers]


@pytest.mark.parametrize("id_type", ["uint64", "int64", "string"])
@pytest.mark.parametrize("buckets", [1, 2, 8, 64])
def test_a_bucket_gets_its_rows_of_all_runs_whatever_their_buckets(tmp_path: Path, id_type: str, buckets: int) -> None:
    ids = ids_of(id_type, 3000, seed=1)
    parts = []
    for number, (own, day) in enumerate(((8, 19), (1, 18), (4, 17))):
        rows = plan_of(ids[number * 300 : number * 300 + 2000], date(2026, 4, day), number, id_type)
        write_run(tmp_path, f"{number}", date(2026, 4, day), rows, own, id_type=id_type)
        parts.append(rows.with_columns(run=pl.lit(2 - number, pl.UInt32)))
    everything = in_order(pl.concat(parts), "run").select(COLUMNS)
    mine_N = bucket_of(everything["h"].to_numpy(), buckets)
    previous = opened(tmp_path, store=a_store(id_type=id_type, newest_ms=None))
    assert previous.run_ids == ["2", "1", "0"]
    for bucket in range(buckets):
        expected = everything.filter(pl.Series(mine_N == bucket))
        assert previous.sends(bucket, buckets, id_type).equals(expected)


def test_sends_before_a_time_are_left_out_and_runs_that_end_before_it_not_read(tmp_path: Path) -> None:
    ids = ids_of("uint64", 200, seed=2)
    write_run(tmp_path, "new", DAY - timedelta(days=1), plan_of(ids, DAY - timedelta(days=1), 0))
    old = write_run(tmp_path, "old", DAY - timedelta(days=3), plan_of(ids, DAY - timedelta(days=3), 1))
    previous = opened(tmp_path, store=a_store(newest_ms=None))
    limit = ms_of(DAY, hours=-12)
    whole = previous.sends(0, 1, "uint64")
    for shard in old.glob("assignments/*.parquet"):
        shard.unlink()
    found = previous.sends(0, 1, "uint64", limit)
    assert found.equals(whole.filter(pl.col("send_at_ms") >= limit))
    assert 0 < len(found) < 200


def test_a_run_ends_with_its_last_local_day_in_the_westernmost_zone(tmp_path: Path) -> None:
    rows = plan_of([1], DAY, 0)
    day, week = (
        opened(write_run(tmp_path, name, DAY, rows, config={"slots": {"grid": grid}})).runs[0]
        for name, grid in (("a", 48), ("b", 168))
    )
    assert day.end_ms == ms_of(DAY, hours=36)
    assert week.end_ms == ms_of(DAY, hours=7 * 24 + 12)


def test_a_run_of_the_engine_is_read_as_it_was_written(store: Path, small_config: Config, tmp_path: Path) -> None:
    request = ScoreRequest(store, tmp_path, date=DAY)
    run = run_score(request, small_config, Silent()).run_dir
    assert run is not None
    previous = opened(tmp_path, store=Store.open(store), day=DAY + timedelta(days=1), channels=("email",))
    rows = table(run, "assignments")
    expected = in_order(rows.with_columns(send_at_ms=pl.col("send_at").dt.epoch("ms")))
    found = previous.sends(0, 1, "uint64")
    assert found.drop("run").equals(expected.select(COLUMNS[:-1]))
    assert found["send_at_ms"].max() < previous.runs[0].end_ms  # type: ignore[operator]
    assert previous.last_slots(0, 1, "uint64", 24).equals(expected.select("h", "user_id", "slot", "channel"))
    assert previous.deferred(0, 1, "uint64").is_empty()
    assert (previous.run_ids, previous.runs[0].date) == ([run.name.removeprefix("run=")], DAY)


def test_the_latest_run_has_the_slots_and_the_deferred(tmp_path: Path) -> None:
    ids = ids_of("uint64", 400, seed=3)
    day = DAY - timedelta(days=1)
    gone = {ids[300]: "deferred", ids[301]: "complaint", ids[302]: "deferred"}
    last = plan_of(ids[:300], day, 1)
    write_run(tmp_path, "b", day, last, gone=gone)
    write_run(tmp_path, "a", day, plan_of(ids[:300], day, 2), gone={ids[300]: "deferred", ids[303]: "deferred"})
    write_run(tmp_path, "c", day - timedelta(days=1), plan_of(ids, day, 3))
    previous = opened(tmp_path)
    slots = pl.concat([previous.last_slots(bucket, 8, "uint64", 24) for bucket in range(8)])
    assert slots.equals(in_order(last).select("h", "user_id", "slot", "channel"))
    deferred = pl.concat([previous.deferred(bucket, 2, "uint64") for bucket in range(2)])
    assert set(deferred["user_id"]) == {ids[300], ids[302]}
    assert deferred["h"].is_sorted()


def test_slots_of_another_grid_are_no_slots_to_keep(tmp_path: Path) -> None:
    write_run(tmp_path, "a", DAY - timedelta(days=1), plan_of([1, 2], DAY, 1), config={"slots": {"grid": 48}})
    previous = opened(tmp_path)
    assert previous.last_slots(0, 1, "uint64", 24).is_empty()
    assert len(previous.last_slots(0, 1, "uint64", 48)) == 2


def test_no_runs_have_no_rows() -> None:
    none = Previous(())
    assert none.sends(0, 4, "string").columns == COLUMNS
    assert none.last_slots(0, 4, "string", 24).columns == ["h", "user_id", "slot", "channel"]
    assert none.deferred(0, 4, "string").columns == ["h", "user_id"]


def test_a_folder_counts_earlier_days_only_and_a_named_run_always(tmp_path: Path) -> None:
    for name, day in (("a", DAY - timedelta(days=1)), ("b", DAY), ("c", DAY + timedelta(days=1))):
        write_run(tmp_path, name, day, plan_of([1], day, 0))
    assert opened(tmp_path).run_ids == ["a"]
    assert opened(tmp_path, tmp_path / "run=b").run_ids == ["a", "b"]
    assert opened(tmp_path / "run=c", tmp_path, tmp_path, tmp_path / "run=a").run_ids == ["a", "c"]


def test_a_folder_leaves_out_runs_that_can_no_longer_matter(tmp_path: Path) -> None:
    days = [DAY - timedelta(days=back) for back in (9, 4, 3, 2, 1)]
    for name, day in zip("abcde", days, strict=True):
        write_run(tmp_path, name, day, plan_of([1], day, 0))
    # the run of four days ago may send until noon of the third, after which no event tells of sends
    told = ms_of(DAY - timedelta(days=3), hours=12)
    assert opened(tmp_path, store=a_store(newest_ms=told - 2)).run_ids == ["b", "c", "d", "e"]
    assert opened(tmp_path, store=a_store(newest_ms=told - 1)).run_ids == ["c", "d", "e"]
    assert opened(tmp_path, store=a_store(newest_ms=None)).run_ids == ["a", "b", "c", "d", "e"]
    # that of two days ago may send at hours that are of this day in the east
    assert opened(tmp_path).run_ids == ["d", "e"]
    assert opened(tmp_path, day=DAY + timedelta(days=30), store=a_store(ms_of(DAY, 720))).run_ids == ["e"]
    assert opened(tmp_path / "run=a", store=a_store()).run_ids == ["a"]


def test_runs_of_another_channel_do_not_count(tmp_path: Path) -> None:
    for name, channel in (("a", "email"), ("b", "push")):
        write_run(tmp_path, name, DAY - timedelta(days=1), plan_of([1], DAY, 0), channel=channel)
    assert opened(tmp_path, channels=("push",)).run_ids == ["b"]
    assert opened(tmp_path).run_ids == ["a", "b"]
    assert open_previous([tmp_path], a_store(), DAY, "sms") is None


def test_unfinished_runs_of_a_folder_are_ignored_and_a_named_one_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path, "a", DAY - timedelta(days=1), plan_of([1], DAY, 0))
    (run / "manifest.json").unlink()
    assert open_previous([tmp_path], a_store(), DAY) is None
    with pytest.raises(InputMissing, match="not committed"):
        open_previous([run], a_store(), DAY)
    moved = run.rename(tmp_path / "yesterday")
    with pytest.raises(InputMissing, match="not committed"):
        open_previous([moved], a_store(), DAY)


def test_an_empty_folder_has_no_runs_yet_and_a_foreign_one_is_refused(tmp_path: Path) -> None:
    assert open_previous([], a_store(), DAY) is None
    assert open_previous([tmp_path], a_store(), DAY) is None
    (tmp_path / "events.parquet").touch()
    for path in (tmp_path, tmp_path / "none", tmp_path / "events.parquet"):
        with pytest.raises(InputMissing, match="must be a run or a folder of runs"):
            open_previous([path], a_store(), DAY)


@pytest.mark.parametrize(
    "change",
    [
        {"files": {}},
        {"date": "yesterday"},
        {"store": None},
        {"store": {"buckets": 3, "id_type": "uint64"}},
        {"store": {"buckets": 2**40, "id_type": "uint64"}},
        {"config": {"slots": {"grid": 25}}},
        {"schema": {}},
        {"channel": None, "files": ["a"]},
    ],
)
def test_a_manifest_that_is_no_runs_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    run = write_run(tmp_path, "a", DAY - timedelta(days=1), plan_of([1], DAY, 0), **change)
    for path in (run, tmp_path):
        with pytest.raises(BadData, match=r"run=a/manifest\.json must be the manifest of a run"):
            open_previous([path], a_store(), DAY)


def test_a_torn_manifest_is_damage_and_not_an_unfinished_run(tmp_path: Path) -> None:
    run = write_run(tmp_path, "a", DAY - timedelta(days=1), plan_of([1], DAY, 0))
    (run / "manifest.json").write_bytes((run / "manifest.json").read_bytes()[:40])
    with pytest.raises(BadData, match=r"run=a/manifest\.json"):
        open_previous([tmp_path], a_store(), DAY)


def test_the_manifest_of_a_store_is_no_run(store: Path) -> None:
    with pytest.raises(BadData, match="must be the manifest of a run"):
        open_previous([store], a_store(), DAY)


def test_ids_of_another_type_and_other_hashes_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path, "a", DAY - timedelta(days=1), plan_of(["1"], DAY, 0, "string"), id_type="string")
    with pytest.raises(BadData, match=r"ids of type uint64.*found string"):
        open_previous([tmp_path], a_store(), DAY)
    other = write_run(tmp_path / "o", "b", DAY, plan_of([1], DAY, 0), schema={"hash": "md5/1"})
    with pytest.raises(BadData, match="must be hashed by"):
        open_previous([other], a_store(), DAY)


@pytest.mark.parametrize("kind", ["assignments", "suppressed"])
def test_a_damaged_or_missing_shard_is_named(tmp_path: Path, kind: str) -> None:
    run = write_run(tmp_path, "a", DAY - timedelta(days=1), plan_of(range(1, 400), DAY, 0), gone={7: "deferred"})
    shard = run / kind / "part-0002.parquet"
    whole = shard.read_bytes()

    def read(bucket: int) -> pl.DataFrame:
        previous = opened(run)
        return previous.sends(bucket, 4, "uint64") if kind == "assignments" else previous.deferred(bucket, 4, "uint64")

    for damaged in (whole[:-1], whole[:60] + bytes([whole[60] ^ 4]) + whole[61:]):
        shard.write_bytes(damaged)
        with pytest.raises(BadData, match=f"{kind}/part-0002.parquet .* must have sha256"):
            read(2)
    shard.unlink()
    with pytest.raises(BadData, match=f"{kind}/part-0002.parquet .* gone"):
        read(2)
    read(1)


def test_a_page_damaged_after_the_first_read_is_found_by_its_checksum(tmp_path: Path) -> None:
    rows = plan_of(ids_of("uint64", 3999, seed=4), DAY, 0)
    run = write_run(tmp_path, "a", DAY - timedelta(days=1), rows, buckets=1)
    previous = opened(run)
    shard = run / "assignments" / "part-0000.parquet"
    assert len(previous.sends(0, 1, "uint64")) == 3999
    whole = bytearray(shard.read_bytes())
    column = pq.read_metadata(shard).row_group(3).column(0)
    whole[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    shard.write_bytes(whole)
    with pytest.raises(BadData, match=r"part-0000\.parquet of an earlier run must hold"):
        previous.sends(0, 1, "uint64")


def test_a_shard_of_other_columns_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path, "a", DAY - timedelta(days=1), plan_of([1, 2], DAY, 0), gone={7: "deferred"}, buckets=1)
    previous = opened(run)
    (past,) = previous.runs
    swapped = Previous((replace(past, assignments=past.suppressed),))
    with pytest.raises(BadData, match="must hold user_id, send_at, provider, channel, slot"):
        swapped.sends(0, 1, "uint64")


def test_events_tell_until_the_newest_of_them_or_the_day() -> None:
    assert told_until(100, 50) == 51
    assert told_until(100, 99) == told_until(100, 1000) == 100
    assert told_until(100, None) < -(10**15)


def test_the_prices_of_a_plan_are_carried(tmp_path: Path) -> None:
    run = write_run(tmp_path, "a", DAY - timedelta(days=1), plan_of([1], DAY, 0), plan={"prices": [1.5]})
    assert opened(run).runs[0].prices == {"prices": [1.5]}
