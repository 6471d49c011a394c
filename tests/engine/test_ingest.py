import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from sto_engine.config import load_config
from sto_engine.errors import BadData, InputMissing, StoError, TryLater
from sto_engine.files import folder_lock
from sto_engine.ingest import IngestReport
from sto_engine.ingest import ingest as run_ingest
from sto_engine.ingest.store import Store
from sto_engine.progress import Silent
from sto_engine.tables import hash_ids

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEYS = ["user_id", "campaign_id", "event_type", "event_ts"]


def events(n: int = 200, seed: int = 0, ids: str = "uint64") -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    user = rng.integers(1, 40, n)
    kinds = {"uint64": pl.UInt64, "int64": pl.Int64}
    user_id = pl.Series([f"user-{u}" for u in user]) if ids == "string" else pl.Series(user, dtype=kinds[ids])
    return pl.DataFrame(
        {
            "user_id": user_id,
            "campaign_id": pl.Series(rng.integers(1, 5, n), dtype=pl.UInt64),
            "event_type": pl.Series(rng.choice(["send", "open", "click", "delivered"], n).tolist()),
            "event_ts": pl.Series([T0 + timedelta(minutes=int(m)) for m in rng.integers(0, 500, n)]).cast(
                pl.Datetime("us", "UTC")
            ),
            "tz_offset": pl.Series(rng.choice([60, -300, 345], n), dtype=pl.Int16),
        }
    )


def ingest(paths: list[Path], store: Path, *keys: str, recipients: Path | None = None) -> IngestReport:
    config = load_config(None, ["store.buckets=4", *keys])
    return run_ingest([str(p) for p in paths], store, recipients, config, Silent())


def everything(store: Path) -> pl.DataFrame:
    opened = Store.open(store)
    return pl.concat([opened.read_events(bucket) for bucket in range(opened.buckets)])


def write(frame: pl.DataFrame, path: Path) -> Path:
    frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
    return path


@pytest.mark.parametrize("ids", ["uint64", "int64", "string"])
def test_events_come_back_once_each_in_hash_order(tmp_path: Path, ids: str) -> None:
    frame = pl.concat([events(300, 1, ids), events(100, 1, ids)])
    report = ingest([write(frame, tmp_path / "e.parquet")], tmp_path / "s")
    assert (report.rows, report.events) == (400, 400)
    found = everything(tmp_path / "s")
    expected = frame.select(KEYS).unique().with_columns(pl.col("event_ts").dt.cast_time_unit("ms"))
    assert found["user_id"].dtype == expected["user_id"].dtype
    assert set(found.select(KEYS).cast({"event_type": pl.String}).iter_rows()) == set(expected.iter_rows())
    assert len(found) == len(expected)
    order = list(
        zip(
            found["h"],
            found["user_id"],
            found["campaign_id"],
            found["event_ts"],
            found["event_type"].to_physical(),
            strict=True,
        )
    )
    assert order == sorted(order)
    np.testing.assert_array_equal(found["h"].to_numpy(), hash_ids(found["user_id"]))


def test_csv_and_parquet_make_the_same_store(tmp_path: Path) -> None:
    frame = events()
    ingest([write(frame, tmp_path / "e.parquet")], tmp_path / "a")
    ingest([write(frame, tmp_path / "e.csv")], tmp_path / "b")
    assert everything(tmp_path / "a").equals(everything(tmp_path / "b"))


def test_big_ids_in_csv_never_pass_through_floats(tmp_path: Path) -> None:
    big = 2**64 - 3
    (tmp_path / "e.csv").write_text(f"user_id,campaign_id,event_type,event_ts\n{big},1,open,2026-03-01T10:00:00Z\n")
    ingest([tmp_path / "e.csv"], tmp_path / "s")
    assert everything(tmp_path / "s")["user_id"].to_list() == [big]


def test_split_over_files_and_ingests_gives_the_same_events(tmp_path: Path) -> None:
    frame = events(400)
    ingest([write(frame, tmp_path / "all.parquet")], tmp_path / "a")
    (tmp_path / "parts").mkdir()
    for i in range(4):
        write(frame[i * 100 : (i + 1) * 100], tmp_path / "parts" / f"{i}.parquet")
    ingest([tmp_path / "parts" / "0.parquet", tmp_path / "parts" / "1.parquet"], tmp_path / "b")
    report = ingest([tmp_path / "parts"], tmp_path / "b")
    assert (report.files, sorted(report.skipped_files)) == (2, ["0.parquet", "1.parquet"])
    assert everything(tmp_path / "a").equals(everything(tmp_path / "b"))


def test_bad_rows_go_to_quarantine_with_rule_and_row(tmp_path: Path) -> None:
    frame = events(1000)
    spoil = pl.int_range(pl.len())
    frame = frame.with_columns(
        user_id=pl.when(spoil != 3).then("user_id"),
        campaign_id=pl.when(spoil != 5).then("campaign_id"),
        event_type=pl.when(spoil == 7).then(pl.lit("Vanished")).otherwise("event_type"),
        event_ts=pl.when(spoil == 9).then(pl.lit(datetime(1970, 1, 1, tzinfo=UTC))).otherwise("event_ts"),
        tz_offset=pl.when(spoil == 11).then(pl.lit(900, pl.Int16)).otherwise("tz_offset"),
        device_type=pl.when(spoil == 13).then(pl.lit("fridge")),
    )
    report = ingest([write(frame, tmp_path / "e.parquet")], tmp_path / "s")
    rules = {"bad_user_id": 1, "bad_campaign": 1, "bad_event_type": 1, "bad_ts": 1}
    assert report.quarantined == rules
    assert report.nulled == {"device_type": 1, "tz_offset": 1}
    assert report.events == 996
    bad = pl.concat([pl.from_arrow(pq.read_table(p)) for p in (tmp_path / "s" / "quarantine").glob("*.parquet")])
    assert sorted(zip(bad["rule"], bad["row"], strict=True)) == [
        ("bad_campaign", 5),
        ("bad_event_type", 7),
        ("bad_ts", 9),
        ("bad_user_id", 3),
    ]
    assert bad["payload"].null_count() == 4
    with pytest.raises(BadData, match=r"row 3: bad_user_id"):
        ingest([tmp_path / "e.parquet"], tmp_path / "t", "ingest.on_bad_row=fail")
    with pytest.raises(BadData, match="max_bad_share"):
        ingest([tmp_path / "e.parquet"], tmp_path / "t", "ingest.max_bad_share=0.001")
    assert not (tmp_path / "t" / "manifest.json").exists()
    assert not list((tmp_path / "t").glob("gen-*"))


def test_naive_times_are_refused_or_read_as_utc(tmp_path: Path) -> None:
    naive = events().with_columns(pl.col("event_ts").dt.replace_time_zone(None))
    for path in (write(naive, tmp_path / "e.parquet"), write(naive, tmp_path / "e.csv")):
        with pytest.raises(BadData, match="naive_timestamps"):
            ingest([path], tmp_path / "s")
        ingest([path], tmp_path / path.suffix[1:], "ingest.naive_timestamps=utc")
        assert everything(tmp_path / path.suffix[1:])["event_ts"].min() == events()["event_ts"].min()


def broken(folder: Path, kind: str) -> Path:
    path = folder / "bad.parquet"
    whole = write(events(), folder / "whole.parquet").read_bytes()
    (folder / "whole.parquet").unlink()
    frames = {
        "missing": events().drop("event_ts"),
        "float id": events().with_columns(pl.col("user_id").cast(pl.Float64)),
        "number time": events().with_columns(pl.col("event_ts").to_physical() + 0.5),
        "text offset": events().with_columns(tz_offset=pl.lit(True)),
    }
    if kind in frames:
        return write(frames[kind], path)
    path.write_bytes({"0 bytes": b"", "truncated": whole[:-100], "no parquet": b"hello" * 99}[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("missing", "lacks the column event_ts"),
        ("float id", "must be an integer or text; found double"),
        ("number time", "event_ts must be a timestamp"),
        ("text offset", "tz_offset must be a number; found bool"),
        ("0 bytes", "has 0 bytes"),
        ("truncated", "not a whole parquet file"),
        ("no parquet", "not a whole parquet file"),
    ],
)
def test_a_file_that_breaks_the_contract_is_named_and_nothing_is_kept(tmp_path: Path, kind: str, text: str) -> None:
    path = broken(tmp_path, kind)
    with pytest.raises(BadData, match=text) as caught:
        ingest([path], tmp_path / "s")
    assert "bad.parquet" in str(caught.value)
    assert caught.value.exit_code == 65
    assert not (tmp_path / "s" / "manifest.json").exists()


def test_a_bad_file_stops_good_ones_before_a_row_is_read(tmp_path: Path) -> None:
    good = write(events(), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").touch()
    with pytest.raises(BadData, match=r"b\.parquet has 0 bytes"):
        ingest([good, tmp_path / "b.parquet"], tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_file_without_rows_is_counted(tmp_path: Path) -> None:
    paths = [write(events().clear(), tmp_path / "a.parquet"), write(events(), tmp_path / "b.parquet")]
    assert ingest(paths, tmp_path / "s").empty_files == ["a.parquet"]


@pytest.mark.parametrize("what", ["nowhere.parquet", "empty", "*.parquet"])
def test_inputs_that_are_not_there_are_missing(tmp_path: Path, what: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputMissing):
        ingest([tmp_path / what], tmp_path / "s")


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.parquet").symlink_to(write(events(), tmp_path / "out.parquet"))
    with pytest.raises(BadData, match="link that leaves"):
        ingest([tmp_path / "in"], tmp_path / "s")


def test_hidden_and_marker_files_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "in" / "date=1").mkdir(parents=True)
    write(events(), tmp_path / "in" / "date=1" / "a.parquet")
    for name in ("_SUCCESS", ".hidden.parquet", "a.parquet.crc", "b.tmp"):
        (tmp_path / "in" / name).touch()
    assert ingest([tmp_path / "in"], tmp_path / "s").files == 1


@pytest.mark.skipif(os.getuid() != 0, reason="dropping privileges needs root; others are covered by the same check")
def test_an_unreadable_folder_is_missing_input(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    write(events(), locked / "a.parquet")
    locked.chmod(0o000)
    code = (
        "import os, sys\n"
        "from sto_engine.ingest.readers import enumerate_files, open_schema\n"
        "from sto_engine.errors import InputMissing\n"
        "os.setuid(65534)\n"
        "try:\n    enumerate_files([sys.argv[1]])\n"
        "except InputMissing as error:\n    print(error); sys.exit(error.exit_code)\n"
    )
    for parent in [tmp_path, *tmp_path.parents][:4]:
        parent.chmod(parent.stat().st_mode | 0o755)
    done = subprocess.run([sys.executable, "-c", code, str(locked)], capture_output=True, text=True, check=False)
    locked.chmod(0o755)
    assert done.returncode == 66, done.stderr
    assert "cannot be read: Permission denied" in done.stdout


def test_another_type_of_id_is_refused_by_a_store(tmp_path: Path) -> None:
    ingest([write(events(), tmp_path / "a.parquet")], tmp_path / "s")
    with pytest.raises(BadData, match="user_id must be uint64"):
        ingest(
            [write(events(ids="string"), tmp_path / "b.parquet")],
            tmp_path / "s",
        )


def test_negative_ids_of_a_uint64_store_are_quarantined(tmp_path: Path) -> None:
    ingest([write(events(), tmp_path / "a.parquet")], tmp_path / "s")
    signed = events(300, 5, "int64").with_columns(
        user_id=pl.when(pl.int_range(pl.len()) == 4).then(-1).otherwise("user_id")
    )
    assert ingest([write(signed, tmp_path / "b.parquet")], tmp_path / "s").quarantined == {"bad_user_id": 1}


def test_mapped_column_names_are_found(tmp_path: Path) -> None:
    path = write(events().rename({"user_id": "contact"}), tmp_path / "e.parquet")
    with pytest.raises(BadData, match=r"\[ingest.columns\]"):
        ingest([path], tmp_path / "s")
    assert ingest([path], tmp_path / "s", "ingest.columns.user_id=contact").events == 200


def test_recipients_need_only_an_id_and_replace_the_last_snapshot(tmp_path: Path) -> None:
    first = write(pl.DataFrame({"user_id": [1, 2, 2, None]}, schema={"user_id": pl.UInt64}), tmp_path / "r1.parquet")
    keys = ["ingest.max_bad_share=0.5"]
    report = ingest([write(events(), tmp_path / "e.parquet")], tmp_path / "s", *keys, recipients=first)
    assert (report.recipients, report.recipients_quarantined) == (3, {"bad_user_id": 1})
    second = pl.DataFrame(
        {
            "user_id": pl.Series([7, 8, 9], dtype=pl.UInt64),
            "timezone": ["Europe/Berlin", "Mars/Olympus", None],
            "churn_risk": ["low", "high", "sideways"],
            "b2b": [1, 0, None],
            "segment": ["a", "b", "c"],
        }
    )
    report = ingest(
        [], tmp_path / "s", 'recipients.keep=["segment"]', recipients=write(second, tmp_path / "r2.parquet")
    )
    store = Store.open(tmp_path / "s")
    frames = [store.read_recipients(bucket) for bucket in range(store.buckets)]
    rows = pl.concat([frame for frame in frames if frame is not None]).sort("user_id")
    assert rows["user_id"].to_list() == [7, 8, 9]
    assert rows["timezone"].to_list() == ["Europe/Berlin", None, None]
    assert rows["churn_risk"].to_list() == [0.1, 0.9, None]
    assert rows["b2b"].to_list() == [True, False, None]
    assert rows["segment"].to_list() == ["a", "b", "c"]
    assert report.nulled == {"churn_risk": 1, "timezone": 1}
    assert len(list((tmp_path / "s").glob("recipients-*"))) == 1


def test_a_killed_ingest_leaves_the_old_store_and_is_cleaned_up(tmp_path: Path) -> None:
    ingest([write(events(), tmp_path / "a.parquet")], tmp_path / "s")
    before = everything(tmp_path / "s")
    orphan = tmp_path / "s" / "gen-000002"
    orphan.mkdir()
    (orphan / "bucket-0000-0000.parquet").write_bytes(b"half")
    assert everything(tmp_path / "s").equals(before)
    ingest([write(events(50, 9), tmp_path / "b.parquet")], tmp_path / "s")
    assert len(everything(tmp_path / "s")) > len(before)


def test_a_store_in_use_is_left_alone(tmp_path: Path) -> None:
    ingest([write(events(), tmp_path / "a.parquet")], tmp_path / "s")
    with folder_lock(tmp_path / "s", "store"), pytest.raises(TryLater, match="in use by pid"):
        ingest([write(events(9, 2), tmp_path / "b.parquet")], tmp_path / "s")


@pytest.mark.parametrize("damage", ["flip", "gone", "manifest", "version"])
def test_a_damaged_store_is_noticed(tmp_path: Path, damage: str) -> None:
    ingest([write(events(2000), tmp_path / "a.parquet")], tmp_path / "s")
    victim, manifest = next((tmp_path / "s").glob("gen-*/*.parquet")), tmp_path / "s" / "manifest.json"
    if damage == "gone":
        victim.unlink()
    elif damage == "manifest":
        manifest.write_bytes(manifest.read_bytes()[:50])
    elif damage == "version":
        manifest.write_text(json.dumps({"store_version": 99}))
    else:
        data = bytearray(victim.read_bytes())
        data[len(data) // 3] ^= 4
        victim.write_bytes(data)
    with pytest.raises(StoError) as caught:
        everything(tmp_path / "s")
    assert caught.value.exit_code == 65


def test_no_store_is_missing_input(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match="sto-engine ingest"):
        Store.open(tmp_path / "nothing")
