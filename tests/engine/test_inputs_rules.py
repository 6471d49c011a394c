"""The rules on whole columns, held to the same rules on one row at a time; batches, threads and columns that drift."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sto_engine.ingest.sizes as sizes
from inputs import read, write
from sto_engine.config import load_config
from sto_engine.ingest import ingest
from sto_engine.ingest.source import Types, open_source, prepare
from sto_engine.progress import Silent
from sto_engine.tables import CAMPAIGN_TYPES, DEVICE_TYPES, EVENT_TYPES
from sto_engine.zones import is_zone
from support import REAL_DATA

SCHEMA = {
    "user_id": pl.Int64,
    "campaign_id": pl.String,
    "event_type": pl.String,
    "event_ts": pl.Datetime("ms", "UTC"),
    "tz_offset": pl.Int32,
    "device_type": pl.String,
    "campaign_type": pl.String,
}
YEARS = (1989, 1990, 2026, 2099, 2100)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "user_id": st.none() | st.integers(-2, 9),
            "campaign_id": st.sampled_from([None, "", " ", "a", "b"]),
            "event_type": st.sampled_from([None, "vanished", *EVENT_TYPES]),
            "event_ts": st.none() | st.sampled_from([datetime(y, 1, 1, tzinfo=UTC) for y in YEARS]),
            "tz_offset": st.none() | st.sampled_from([-735, -720, 0, 7, 60, 840, 855, 40_000]),
            "device_type": st.sampled_from([None, "fridge", *DEVICE_TYPES]),
            "campaign_type": st.sampled_from([None, "?", *CAMPAIGN_TYPES]),
        }
    ),
    min_size=1,
    max_size=40,
)


def naive_rule(row: dict[str, Any]) -> str | None:
    if row["user_id"] is None or row["user_id"] < 0:
        return "bad_user_id"
    if not (row["campaign_id"] or "").strip():
        return "bad_campaign"
    if row["event_type"] not in EVENT_TYPES:
        return "bad_event_type"
    if row["event_ts"] is None or not 1990 <= row["event_ts"].year < 2100:
        return "bad_ts"
    return None


def naive_nulled(row: dict[str, Any]) -> dict[str, bool]:
    offset = row["tz_offset"]
    return {
        "tz_offset": offset is not None and not (-720 <= offset <= 840 and offset % 15 == 0),
        "device_type": row["device_type"] not in (None, *DEVICE_TYPES),
        "campaign_type": row["campaign_type"] not in (None, *CAMPAIGN_TYPES),
    }


@given(rows)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rules_on_columns_are_the_rules_on_rows(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    found = read(write(pl.DataFrame(rows, schema=SCHEMA), tmp_path / "e.parquet"), types=Types("uint64", "string"))
    rules = [naive_rule(row) for row in rows]
    assert list(found.bad.select("row", "rule").iter_rows()) == [(at, r) for at, r in enumerate(rules) if r]
    kept = [row for row, rule in zip(rows, rules, strict=True) if rule is None]
    nulled = Counter(name for row in kept for name, is_nulled in naive_nulled(row).items() if is_nulled)
    assert found.nulled == nulled
    expected = [{name: None if naive_nulled(row).get(name) else value for name, value in row.items()} for row in kept]
    assert found.good.select(list(SCHEMA)).to_dicts() == expected


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "timezone": st.sampled_from([None, "UTC ", "Europe/Berlin", "europe/berlin", "Mars/Olympus"]),
                "churn_risk": st.none() | st.sampled_from([-0.1, 0.0, 0.5, 1.0, 1.5, float("nan")]),
                "clv": st.none() | st.sampled_from([1.0, float("inf"), float("nan")]),
            }
        ),
        min_size=1,
        max_size=20,
    )
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_values_of_recipients_that_break_a_rule_are_null_and_counted(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    kinds = {"user_id": pl.UInt64, "timezone": pl.String, "churn_risk": pl.Float64, "clv": pl.Float64}
    frame = pl.DataFrame([{"user_id": at, **row} for at, row in enumerate(rows)], schema=kinds)
    found = read(write(frame, tmp_path / "r.parquet"), table="recipients")
    fails = {
        "timezone": lambda zone: zone.strip().casefold() not in ("utc", "europe/berlin"),
        "churn_risk": lambda risk: not 0 <= risk <= 1,
        "clv": lambda clv: not abs(clv) < float("inf"),
    }
    for name, test in fails.items():
        expected = [row[name] is not None and test(row[name]) for row in rows]
        assert found.nulled[name] == sum(expected)
        values = found.good[name].to_list()
        assert [value is None for value in values] == [
            bad or row[name] is None for bad, row in zip(expected, rows, strict=True)
        ]
        assert name != "timezone" or all(value is None or is_zone(value) for value in values)


def many(n: int = 5000) -> pl.DataFrame:
    at = pl.int_range(n, eager=True)
    return pl.DataFrame(
        {
            "user_id": at.cast(pl.UInt64),
            "campaign_id": ("c" + (at // 700).cast(pl.String)),
            "event_type": pl.Series([EVENT_TYPES[i // 90 % 8] if i % 101 else "?" for i in range(n)]),
            "event_ts": (at.cast(pl.Int64) * 1000 + 1_767_261_600_000).cast(pl.Datetime("ms", "UTC")),
            "device_type": pl.Series([DEVICE_TYPES[i // 300 % 3] if i % 7 else None for i in range(n)]),
        }
    )


@pytest.mark.parametrize("group", [100, 999, 5000])
def test_batches_over_row_groups_of_other_dictionaries_keep_every_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int
) -> None:
    monkeypatch.setattr(sizes, "BATCH_ROWS", 1000)
    pq.write_table(many().to_arrow(), tmp_path / "e.parquet", row_group_size=group)
    found = read(tmp_path / "e.parquet")
    good = many().filter(pl.col("event_type") != "?")
    assert found.good.select(good.columns).cast({"event_type": pl.String, "device_type": pl.String}).equals(good)
    assert found.bad["row"].to_list() == list(range(0, 5000, 101))


def test_batches_prepared_in_threads_are_those_prepared_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes, "BATCH_ROWS", 500)
    source = open_source(write(many(), tmp_path / "e.parquet"), "events", load_config())
    types = Types("uint64", "string")
    batches = list(source.raw(types))
    firsts = [500 * number for number in range(len(batches))]
    in_turn = [prepare(source, batch, first, types) for batch, first in zip(batches, firsts, strict=True)]
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda pair: prepare(source, pair[0], pair[1], types), zip(batches, firsts, strict=True)))
    for one, other in zip(in_turn, done, strict=True):
        assert one.good.equals(other.good)
        assert one.bad.equals(other.bad)


@pytest.mark.parametrize("name", ["outspot_opens", "gitact_dev", "rlists_dev"])
def test_real_events_are_stored_to_the_last_row(tmp_path: Path, name: str) -> None:
    path = REAL_DATA / name / "events.parquet"
    if not path.exists():
        pytest.skip(f"real events {name} are not on this machine ({path})")
    frame = pl.read_parquet(path)
    config = load_config(None, ["store.buckets=1"])
    report = ingest([str(path)], tmp_path / "s", path.with_name("users.parquet"), config, Silent())
    offsets = frame.filter((pl.col("tz_offset") % 15 != 0) | ~pl.col("tz_offset").is_between(-720, 840))
    assert (report.rows, report.events, report.quarantined) == (len(frame), len(frame), {})
    assert report.nulled.get("tz_offset", 0) == len(offsets) + (
        pl.read_parquet(path.with_name("users.parquet"))
        .filter((pl.col("tz_offset") % 15 != 0) | ~pl.col("tz_offset").is_between(-720, 840)).height
    )  # fmt: skip
