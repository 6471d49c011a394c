"""What `export-user` tells of a person is every row of his that was ingested, and no row of anyone else."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sto_engine.cli import run_command
from sto_engine.config import load_config
from sto_engine.errors import InputMissing, UsageError
from sto_engine.ingest import ingest
from sto_engine.ingest.compact import compact
from sto_engine.ingest.export import export_user
from sto_engine.progress import Silent
from sto_engine.tables import hash_ids
from sto_kernels.hashing import bucket_of

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
KINDS = {"uint64": pl.UInt64, "int64": pl.Int64, "string": pl.String}


def ident(number: int, ids: str) -> int | str:
    return {"uint64": 2**64 - number, "int64": -number, "string": f'us"er é {number}'}[ids]


def events(seed: int, ids: str) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    times = [T0 + timedelta(milliseconds=int(ms)) for ms in rng.integers(0, 10**9, 400)]
    frame = pl.DataFrame(
        {
            "user_id": pl.Series([ident(int(u), ids) for u in rng.integers(1, 30, 400)], dtype=KINDS[ids]),
            "campaign_id": pl.Series([f"c{c}" for c in rng.integers(1, 5, 400)]),
            "event_type": pl.Series(rng.choice(["send", "open"], 400).tolist()),
            "event_ts": pl.Series(times).cast(pl.Datetime("ms", "UTC")),
            "value": pl.Series([float("nan"), 1.5] * 200),
            "tz_offset": pl.Series([60, None] * 200, dtype=pl.Int16),
        }
    )
    return frame.with_columns(event_type=pl.when(pl.int_range(400) < 395).then("event_type").otherwise(pl.lit("?")))


@pytest.fixture(params=["uint64", "int64", "string"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str, pl.DataFrame]:
    """A store of two generations, its id type, and all rows that went in, good and bad."""
    ids = request.param
    frames = [events(seed, ids) for seed in range(2)]
    people = pl.DataFrame({"user_id": frames[0]["user_id"].unique(), "timezone": "Asia/Kathmandu"})
    people = people.with_columns(tier=pl.lit("gold"), clv=pl.lit(2.5))
    people.write_parquet(tmp_path / "people.parquet")
    config = [
        "store.buckets=4",
        "ingest.max_bad_share=0.5",
        "ingest.quarantine_payload=true",
        'recipients.keep=["tier"]',
    ]
    for seed, frame in enumerate(frames):
        frame.write_parquet(tmp_path / f"{seed}.parquet")
        snapshot = tmp_path / "people.parquet" if seed else None
        ingest([str(tmp_path / f"{seed}.parquet")], tmp_path / "s", snapshot, load_config(None, config), Silent())
    return tmp_path / "s", ids, pl.concat(frames)


@pytest.mark.parametrize("compacted", [False, True])
def test_it_is_all_of_him_and_nothing_of_others(stored: tuple[Path, str, pl.DataFrame], compacted: bool) -> None:
    store, _, rows = stored
    if compacted:
        compact(store, 1, Silent())
    people = set(rows["user_id"])
    for user in sorted(people, key=str)[:6]:
        mine = rows.filter(user_id=user)
        good = mine.filter(pl.col("event_type") != "?").sort("event_ts")
        found = export_user(store, str(user), load_config(None))
        assert (found["found"], found["stored_as"]) == (True, user)
        assert [row["user_id"] for row in found["events"]] == [user] * len(good)
        told = [datetime.fromisoformat(row["event_ts"]) for row in found["events"]]
        assert told == good["event_ts"].to_list()
        assert sorted(map(str, (row["value"] for row in found["events"]))) == sorted(
            str(None if np.isnan(value) else value) for value in good["value"]
        )
        (person,) = found["recipients"]
        assert (person["timezone"], person["tier"], person["clv"]) == ("Asia/Kathmandu", "gold", 2.5)
        assert [row["payload"]["user_id"] for row in found["quarantine"]] == [user] * (len(mine) - len(good))
        text = json.dumps(found, ensure_ascii=False, allow_nan=False)
        others = {json.dumps(other, ensure_ascii=False) for other in people - {user}}
        assert not any(f'"user_id": {other},' in text or f'"user_id": {other}}}' in text for other in others)


def test_every_event_names_its_generation(stored: tuple[Path, str, pl.DataFrame]) -> None:
    store, _, rows = stored
    user = rows["user_id"].mode()[0]
    found = export_user(store, str(user), load_config(None))
    assert {row["generation"] for row in found["events"]} == {"gen-000001", "gen-000002"}
    assert found["recipients"][0]["generation"] == "recipients-000001"


def test_the_command_writes_the_document_to_a_file_or_to_stdout(
    stored: tuple[Path, str, pl.DataFrame], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, ids, _ = stored
    arguments = ["export-user", "--store", str(store), "--user-id", str(ident(3, ids)), "--quiet"]
    assert run_command(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["found"]
    assert run_command([*arguments, "--out", str(tmp_path / "u.json")]) == 0
    assert json.loads((tmp_path / "u.json").read_text()) == document
    assert json.loads(capsys.readouterr().out)["events"] == len(document["events"])
    assert run_command([*arguments, "--out", str(tmp_path / "no" / "u.json")]) == 73


def test_someone_who_is_not_stored_is_not_found_and_that_is_no_error(
    stored: tuple[Path, str, pl.DataFrame], capsys: pytest.CaptureFixture[str]
) -> None:
    store, ids, _ = stored
    assert run_command(["export-user", "--store", str(store), "--user-id", str(ident(999, ids)), "--quiet"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["found"] is False
    assert [document[name] for name in ("events", "recipients", "quarantine")] == [[], [], []]


def test_other_buckets_are_not_opened(stored: tuple[Path, str, pl.DataFrame]) -> None:
    store, ids, _ = stored
    user = ident(3, ids)
    before = export_user(store, str(user), load_config(None))
    bucket = int(bucket_of(hash_ids(pl.Series([user], dtype=KINDS[ids])), 4)[0])
    for path in store.glob("*/bucket-*.parquet"):
        if not path.name.startswith(f"bucket-{bucket:04d}"):
            path.write_bytes(b"")
    assert export_user(store, str(user), load_config(None)) == before


def test_no_store_and_no_id_are_told(stored: tuple[Path, str, pl.DataFrame], tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match="sto-engine ingest"):
        export_user(tmp_path / "nowhere", "7", load_config(None))
    if stored[1] != "string":
        with pytest.raises(UsageError, match="whole number"):
            export_user(stored[0], "seven", load_config(None))
