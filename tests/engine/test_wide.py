"""One row a send with a time for each event, held to a walk over its rows in plain Python."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inputs import csv, read, write
from sto_engine.config import load_config
from sto_engine.errors import BadData
from sto_engine.ingest import ingest
from sto_engine.ingest.wide import TIME_OF
from sto_engine.progress import Silent
from support import REAL_DATA

TIMES = {"sent_at": "send", "delivered_at": "delivered", "opened_at": "open", "clicked_at": "click"}
UTC_TIMES = "ingest.naive_timestamps=utc"

moments = st.none() | st.datetimes(datetime(1990, 1, 2), datetime(2099, 1, 1)).map(
    lambda at: at.replace(microsecond=0, tzinfo=UTC)
)
strange = st.just(datetime(1970, 1, 1, tzinfo=UTC)) | st.just(datetime(1980, 1, 1, tzinfo=UTC))
sends = st.lists(
    st.fixed_dictionaries(
        {
            "user_id": st.none() | st.integers(1, 5),
            "campaign_id": st.none() | st.integers(1, 3),
            **dict.fromkeys(TIMES, moments | strange),
        }
    ),
    min_size=1,
    max_size=30,
)


def walked(rows: list[dict[str, Any]]) -> tuple[list[tuple[int, int, str, datetime]], Counter[str]]:
    """Events and rules of rows, one row at a time."""
    events, rules = [], Counter[str]()
    for row in rows:
        times = {kind: row[name] for name, kind in TIMES.items()}
        there = {kind: at for kind, at in times.items() if at is not None and at.timestamp() != 0}
        if row["user_id"] is None:
            rules["bad_user_id"] += 1
        elif row["campaign_id"] is None:
            rules["bad_campaign"] += 1
        elif any(not 1990 <= at.year < 2100 for at in there.values()):
            rules["bad_ts"] += 1
        elif not there:
            rules["no_event"] += 1
        else:
            events += [(row["user_id"], row["campaign_id"], kind, at) for kind, at in there.items()]
    return events, rules


@given(sends)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_row_becomes_the_events_of_its_times_or_goes_to_quarantine(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    kinds = {"user_id": pl.UInt64, "campaign_id": pl.UInt64, **dict.fromkeys(TIMES, pl.Datetime("ms", "UTC"))}
    events, rules = walked(rows)
    for suffix in (".parquet", ".ndjson"):
        found = read(write(pl.DataFrame(rows, schema=kinds), tmp_path / f"e{suffix}"))
        if suffix == ".ndjson" and found.source.infer_id_type("user_id") == "string":
            continue  # no id at all in the file
        keys = found.good.select("user_id", "campaign_id", "event_type", "event_ts").rows()
        assert sorted(keys, key=str) == sorted(events, key=str)
        assert found.rules == rules
        assert (found.rows, found.read_rows) == (len(events) + rules.total(), len(rows))


def test_what_a_row_says_goes_to_the_events_it_can_be_about(tmp_path: Path) -> None:
    names = "user_id,campaign_id,sent_at,opened_at,clicked_at,bounced_at,device_type,bounce_type,user_agent,tz_offset"
    row = "1,2,2026-01-01 10:00:00,2026-01-01 11:00:00,,2026-01-01 10:01:00,mobile,hard,Mozilla,60"
    found = read(csv(tmp_path / "e.csv", names, [row]), UTC_TIMES)
    about = found.good.select("event_type", "device_type", "bounce_type", "user_agent", "tz_offset").rows()
    assert about == [
        ("send", None, None, None, 60),
        ("open", "mobile", None, "Mozilla", 60),
        ("bounce", None, "hard", None, 60),
    ]


def test_the_offset_is_that_of_the_zone_at_each_event(tmp_path: Path) -> None:
    row = "1,2,2026-03-29 00:30:00,2026-03-29 01:30:00,Europe/Stockholm "
    found = read(csv(tmp_path / "e.csv", "user_id,campaign_id,sent_at,opened_at,timezone", [row]), UTC_TIMES)
    assert found.good["tz_offset"].to_list() == [60, 120]


@pytest.mark.parametrize("zero", ["0", "0000-00-00 00:00:00", "1970-01-01 00:00:00", "", "\\N", "NULL"])
def test_zero_means_that_it_did_not_happen(tmp_path: Path, zero: str) -> None:
    rows = [f"1,2,2026-01-01 10:00:00,{zero}", f"1,3,{zero},2026-01-01 10:00:00", f"1,4,{zero},{zero}"]
    found = read(csv(tmp_path / "e.csv", "user_id,campaign_id,sent_at,opened_at", rows), UTC_TIMES)
    assert found.good.select("campaign_id", "event_type").rows() == [(2, "send"), (3, "open")]
    assert found.rules == {"no_event": 1}


def test_a_time_that_cannot_be_read_sends_its_row_to_quarantine_by_its_name(tmp_path: Path) -> None:
    path = csv(tmp_path / "e.csv", "user_id,campaign_id,sent_at,Opened At", ["1,2,2026-01-01 10:00:00,soon"])
    found = read(path, UTC_TIMES)
    assert found.bad.select("rule", "column").rows() == [("bad_ts", "open_ts")]
    with pytest.raises(BadData, match=r"e\.csv row 0: bad_ts in column open_ts"):
        read(path, UTC_TIMES, "ingest.on_bad_row=fail")


def test_each_time_column_has_a_unit_of_its_own(tmp_path: Path) -> None:
    path = csv(tmp_path / "e.csv", "user_id,campaign_id,sent_at,opened_at", ["1,2,1767261600,1767261660000"])
    assert [at.timestamp() for at in read(path).good["event_ts"]] == [1767261600, 1767261660]


@pytest.mark.parametrize(
    ("names", "keys", "wide"),
    [
        ("user_id,campaign_id,sent_at,opened_at", (), True),
        ("user_id,campaign_id,send_timestamp,open_timestamp", (), True),
        ("user_id,campaign_id,sent_at,opened_at,type", (), True),
        ("user_id,campaign_id,event_type,event_ts,sent_at", (), False),
        ("user_id,campaign_id,action,ts,sent_at", (), False),
        ("user_id,campaign_id,abgeschickt,opened_at", ("ingest.columns.send_ts=abgeschickt",), True),
    ],
)
def test_the_layout_is_told_by_the_columns(tmp_path: Path, names: str, keys: tuple[str, ...], wide: bool) -> None:
    values = {"type": "promo", "event_type": "open", "action": "open", "user_id": "1", "campaign_id": "2"}
    row = ",".join(values.get(name, "2026-01-01 10:00:00") for name in names.split(","))
    found = read(csv(tmp_path / "e.csv", names, [row]), UTC_TIMES, *keys)
    assert found.source.dialect.wide == wide
    assert len(found.good) == (2 if wide else 1)
    assert any("one row a send" in note for note in found.source.notes) == wide


def test_opens_without_the_time_of_a_send_are_no_wide_table_unless_mapped(tmp_path: Path) -> None:
    path = csv(tmp_path / "e.csv", "user_id,campaign_id,opened_at", ["1,2,2026-01-01 10:00:00"])
    with pytest.raises(BadData, match="lacks the column event_type, event_ts"):
        read(path, UTC_TIMES)
    assert read(path, UTC_TIMES, "ingest.columns.open_ts=opened_at").good["event_type"].to_list() == ["open"]


def test_every_kind_of_event_has_its_time() -> None:
    row = {"user_id": 1, "campaign_id": 2, **{name: datetime(2026, 1, 1, tzinfo=UTC) for name in TIME_OF}}
    assert set(TIME_OF.values()) == set(load_config().ingest.event_types or TIME_OF.values())
    assert len(row) == 10


def test_the_messy_table_of_a_hiring_exercise_is_ingested_with_every_row_counted(tmp_path: Path) -> None:
    path = REAL_DATA / "electrolux_messy" / "email_events_1000.csv"
    if not path.exists():
        pytest.skip(f"the messy table is not on this machine ({path})")
    keys = ["ingest.naive_timestamps=utc", "ingest.max_bad_share=0.5", "ingest.fold_ids=true", "store.buckets=1"]
    rows = pl.read_csv(path, infer_schema=False).with_columns(pl.all().str.strip_chars().replace("", None))
    no_user = rows["user_id"].is_null()
    no_campaign = ~no_user & rows["campaign_id"].is_null()
    kept = rows.filter(~no_user & ~no_campaign)
    report = ingest([str(path)], tmp_path / "s", None, load_config(None, keys), Silent())
    assert report.quarantined == {"bad_campaign": no_campaign.sum(), "bad_user_id": no_user.sum()}
    assert (no_user.sum(), no_campaign.sum()) == (348, 105)
    times = kept.select("send_timestamp", "open_timestamp", "click_timestamp")
    assert report.events == sum(len(kept) - times[name].null_count() for name in times.columns) == 1048
    assert report.nulled == {}
    found = read(path, *keys).good
    assert set(found["user_id"]) == set(kept["user_id"].str.to_lowercase())
    assert found["tz_offset"].null_count() > 0
    assert set(found["tz_offset"].drop_nulls()) == {0, 60, -300, 540}
