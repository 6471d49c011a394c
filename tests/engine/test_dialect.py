"""Names and words of the field's exports; tables of ClickHouse, BigQuery and Mode as they are."""

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inputs import KEYS, csv, event, packed, read, write
from sto_engine.config import load_config
from sto_engine.errors import BadData, ConfigError
from sto_engine.ingest.dialect import recognise
from sto_engine.ingest.names import EVENT_NAMES, RECIPIENT_NAMES, WIDE_NAMES
from sto_engine.ingest.words import campaign_code, device_code, event_code
from sto_engine.tables import EVENT_TYPES

AT = datetime(2026, 1, 1, 10, tzinfo=UTC)
SECONDS = int(AT.timestamp())
OURS = list(KEYS)


def columns_of(*found: str, **mapped: str) -> dict[str, str]:
    return recognise(Path("e.csv"), "events", found, mapped).columns


@pytest.mark.parametrize(
    ("ours", "name"),
    [
        *(("user_id", n) for n in ("recipient_id", "Subscriber ID", "contactId", "customer-id", "SubscriberKey")),
        *(("campaign_id", n) for n in ("campaign", "message_id", "Email ID", "newsletterId", "template_id")),
        *(("event_type", n) for n in ("event", "Type", "action", "event_name", "eventType")),
        *(("event_ts", n) for n in ("event_time", "timestamp", "ts", "occurred_at", "created_at", "time")),
        *(("tz_offset", n) for n in ("timezone_offset", "utc offset")),
        *(("device_type", n) for n in ("device", "deviceType")),
        *(("user_agent", n) for n in ("ua", "useragent", "User-Agent")),
    ],
)  # fmt: skip
def test_well_known_names_are_recognised(ours: str, name: str) -> None:
    found = [key for key in OURS if key != ours]
    dialect = recognise(Path("e.csv"), "events", [*found, name], {})
    assert dialect.columns[ours] == name
    assert f"{ours} is read from {name}" in dialect.notes


def test_our_own_name_wins_and_the_map_wins_over_it() -> None:
    assert columns_of(*OURS, "recipient_id")["user_id"] == "user_id"
    assert columns_of(*OURS, "recipient_id", user_id="recipient_id")["user_id"] == "recipient_id"
    assert recognise(Path("e"), "events", OURS, {}).notes == ()


def test_of_two_candidates_the_better_is_read_and_both_are_named() -> None:
    dialect = recognise(Path("e.csv"), "events", ["user_id", "campaign", "type", "event", "ts", "created_at"], {})
    assert (dialect.columns["event_type"], dialect.columns["event_ts"]) == ("event", "ts")
    assert "event_type is read from event (not from type)" in dialect.notes
    assert "event_ts is read from ts (not from created_at)" in dialect.notes


def test_two_names_of_one_rank_are_ambiguous() -> None:
    with pytest.raises(BadData, match=r"user_id must be one column; found User ID and userId"):
        columns_of("User ID", "userId", "campaign_id", "event_type", "event_ts")


def test_a_map_of_a_name_that_is_none_of_ours_is_refused() -> None:
    with pytest.raises(ConfigError, match="user_idd is none of ours"):
        columns_of(*OURS, user_idd="x")


@pytest.mark.parametrize("names", [EVENT_NAMES, WIDE_NAMES, RECIPIENT_NAMES, {**EVENT_NAMES, **WIDE_NAMES}])
def test_no_name_is_known_for_two_columns(names: dict[str, tuple[str, ...]]) -> None:
    all_names = [name for known in names.values() for name in known]
    assert len(all_names) == len(set(all_names))


def test_what_is_missing_is_said_with_what_to_do(tmp_path: Path) -> None:
    path = csv(tmp_path / "e.csv", "email,action,occurred_at", ["a@b.c,open,2026-01-01T10:00:00Z"])
    with pytest.raises(BadData) as caught:
        read(path)
    for part in ("lacks the column user_id, campaign_id", 'user_id = "email"', "ingest.default_campaign"):
        assert part in str(caught.value)
    found = read(path, "ingest.columns.user_id=email", "ingest.default_campaign=all")
    assert found.good["user_id"].to_list() == ["a@b.c"]
    assert found.good["campaign_id"].to_list() == ["all"]
    assert found.good["recipient_domain"].to_list() == ["b.c"]


WORDS = {
    "send": ["sent", "Send", "email_sent", "sent_weekly_digest", "processed", "Email Sent"],
    "delivered": ["delivered", "DELIVERY", "email.delivered"],
    "open": ["open", "opened", "email_open", "UniqueOpen", "Email Opened"],
    "click": ["click", "clicked", "email_clickthrough", "link_click"],
    "bounce": ["bounce", "bounced", "hard_bounce", "Soft Bounce", "dropped"],
    "unsubscribe": ["unsubscribe", "unsubscribed", "unsub", "optout", "group_unsubscribe"],
    "complaint": ["complaint", "complained", "spam", "spamreport", "abuse"],
    "conversion": ["conversion", "purchase", "converted", "order"],
}


@pytest.mark.parametrize(("kind", "word"), [(kind, word) for kind, words in WORDS.items() for word in words])
def test_words_for_events(kind: str, word: str) -> None:
    code = event_code(word, {})
    assert code is not None
    assert EVENT_TYPES[code] == kind


def test_words_for_devices_and_campaigns() -> None:
    assert [device_code(word) for word in ("Desktop", "PHONE", "iPad", "fridge")] == [0, 1, 2, None]
    assert [campaign_code(word) for word in ("Newsletter", "transactional", "Triggered", "?")] == [0, 1, 2, None]


def test_the_word_for_a_bounce_tells_its_kind_where_no_column_does(tmp_path: Path) -> None:
    kinds = ["hard_bounce", "Soft Bounce", "bounce", "dropped", "open"]
    path = write(pl.DataFrame([event(event_type=kind) for kind in kinds]), tmp_path / "e.csv")
    assert read(path).good["bounce_type"].to_list() == ["hard", "soft", None, "dropped", None]
    path = write(pl.DataFrame([event(event_type="hard_bounce", bounce_type="blocked")]), tmp_path / "f.csv")
    assert read(path).good["bounce_type"].to_list() == ["blocked"]


def test_unknown_words_are_counted_and_can_be_mapped(tmp_path: Path) -> None:
    kinds = ["Geöffnet", "geöffnet", "deferred", "open", None]
    path = write(pl.DataFrame([event(event_type=kind) for kind in kinds]), tmp_path / "e.parquet")
    found = read(path)
    assert (found.rules, dict(found.words)) == ({"bad_event_type": 4}, {"Geöffnet": 1, "geöffnet": 1, "deferred": 1})
    mapped = read(path, 'ingest.event_types={"geöffnet" = "open"}')
    assert (mapped.rules, dict(mapped.words)) == ({"bad_event_type": 2}, {"deferred": 1})


def test_an_event_type_that_is_none_cannot_be_mapped_to() -> None:
    with pytest.raises(ConfigError, match="event_types"):
        load_config(None, ["ingest.event_types.x=opened"])


def clickhouse(path: Path) -> Path:
    """As `SELECT * FROM email_events INTO OUTFILE 'e.parquet'` writes it."""
    table = pa.table(
        {
            "user_id": pa.array([2**64 - 1, 7], pa.uint64()),
            "campaign_id": pa.array([b"winter", b"summer"], pa.binary()),
            "event_type": pa.array([b"open", b"click"], pa.binary()).dictionary_encode(),
            "event_time": pa.array([SECONDS, SECONDS + 60], pa.uint32()),
            "tz_offset": pa.array([60, -300], pa.int32()),
            "is_machine_open": pa.array([1, 0], pa.uint8()),
            "device_type": pa.array([b"mobile", b""], pa.binary()).dictionary_encode(),
        }
    )
    pq.write_table(table, path)
    return path


def clickhouse_csv(path: Path) -> Path:
    """FORMAT CSVWithNames: strings quoted, times without a zone."""
    rows = [
        f'{2**64 - 1},"winter","open","2026-01-01 10:00:00",60,1,"mobile"',
        '7,"summer","click","2026-01-01 10:01:00",-300,0,""',
    ]
    names = ("user_id", "campaign_id", "event_type", "event_time", "tz_offset", "is_machine_open", "device_type")
    return csv(path, ",".join(f'"{name}"' for name in names), rows)


def clickhouse_tsv(path: Path) -> Path:
    """FORMAT TSVWithNames: \\N for null."""
    names = ("user_id", "campaign_id", "event_type", "event_time", "tz_offset", "is_machine_open", "device_type")
    rows = [
        (str(2**64 - 1), "winter", "open", "2026-01-01 10:00:00", "60", "1", "mobile"),
        ("7", "summer", "click", "2026-01-01 10:01:00", "-300", "0", "\\N"),
    ]
    return csv(path, "\t".join(names), ["\t".join(row) for row in rows])


def clickhouse_json(path: Path) -> Path:
    """FORMAT JSONEachRow: UInt64 quoted or not, as output_format_json_quote_64bit_integers says."""
    rows = [
        {"user_id": str(2**64 - 1), "campaign_id": "winter", "event_type": "open", "event_time": "2026-01-01 10:00:00",
         "tz_offset": 60, "is_machine_open": 1, "device_type": "mobile"},
        {"user_id": 7, "campaign_id": "summer", "event_type": "click", "event_time": "2026-01-01 10:01:00",
         "tz_offset": -300, "is_machine_open": 0, "device_type": ""},
    ]  # fmt: skip
    return packed(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def bigquery(path: Path) -> Path:
    """EXPORT DATA as Parquet: INT64, TIMESTAMP in microseconds."""
    table = pa.table(
        {
            "user_id": pa.array([2**62, 7], pa.int64()),
            "campaign_id": ["winter", "summer"],
            "event_type": ["open", "click"],
            "event_timestamp": pa.array([SECONDS * 10**6, (SECONDS + 60) * 10**6], pa.timestamp("us", "UTC")),
            "tz_offset": pa.array([60, -300], pa.int64()),
            "is_machine_open": [True, False],
            "device_type": ["mobile", None],
        }
    )
    pq.write_table(table, path)
    return path


def bigquery_csv(path: Path) -> Path:
    names = "user_id,campaign_id,event_type,event_timestamp,tz_offset,is_machine_open,device_type"
    first = f"{2**62},winter,open,2026-01-01 10:00:00 UTC,60,true,mobile"
    return csv(path, names, [first, "7,summer,click,2026-01-01 10:01:00.000000 UTC,-300,false,"])


def bigquery_json(path: Path) -> Path:
    """Newline-delimited JSON: INT64 as strings."""
    rows = [
        {"user_id": str(2**62), "campaign_id": "winter", "event_type": "open", "tz_offset": "60",
         "event_timestamp": "2026-01-01 10:00:00 UTC", "is_machine_open": True, "device_type": "mobile"},
        {"user_id": "7", "campaign_id": "summer", "event_type": "click",
         "event_timestamp": "2026-01-01 10:01:00.000001 UTC", "tz_offset": "-300", "is_machine_open": False},
    ]  # fmt: skip
    return packed(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


@pytest.mark.parametrize(
    ("make", "name", "zoned"),
    [
        (clickhouse, "e.parquet", True),
        (clickhouse_csv, "e.csv", False),
        (clickhouse_tsv, "e.tsv", False),
        (clickhouse_json, "e.jsonl", False),
        (bigquery, "e.parquet", True),
        (bigquery_csv, "e.csv", True),
        (bigquery_json, "e.json", True),
    ],
)
def test_tables_of_databases_are_read_as_they_are(tmp_path: Path, make: object, name: str, zoned: bool) -> None:
    path = make(tmp_path / name)  # type: ignore[operator]
    if not zoned:
        with pytest.raises(BadData, match=r'set ingest\.naive_timestamps = "utc"'):
            read(path)
    good = read(path, *([] if zoned else ["ingest.naive_timestamps=utc"])).good
    assert good["user_id"].to_list() in ([2**64 - 1, 7], [2**62, 7])
    assert good["campaign_id"].to_list() == ["winter", "summer"]
    assert good["event_type"].to_list() == ["open", "click"]
    assert [at.timestamp() for at in good["event_ts"]] == [SECONDS, SECONDS + 60]
    assert good["tz_offset"].to_list() == [60, -300]
    assert good["is_machine_open"].to_list() == [True, False]
    assert good["device_type"].to_list() == ["mobile", None]


def test_events_without_campaigns_need_a_default_one(tmp_path: Path) -> None:
    header, rows = "user_id,occurred_at,action,user_type", ["4,2026-01-01 10:00:00,sent_weekly_digest,1"]
    path = csv(tmp_path / "yammer_emails.csv", header, rows)
    with pytest.raises(BadData, match=r"lacks the column campaign_id.*ingest\.default_campaign"):
        read(path)
    found = read(path, "ingest.default_campaign=all", "ingest.naive_timestamps=utc")
    assert found.good["campaign_id"].to_list() == ["all"]
    assert found.good["event_type"].to_list() == ["send"]
    assert found.source.infer_id_type("campaign_id") == "string"


def test_the_zone_of_a_row_gives_its_offset_at_its_time(tmp_path: Path) -> None:
    winter, summer = "2026-01-01T10:00:00Z", "2026-07-01T10:00:00Z"
    zones = ["Europe/Stockholm", " europe/stockholm ", "UTC ", "Asia/Kathmandu", "Mars/Olympus", "", None]
    frame = pl.DataFrame([event(timezone=zone, event_ts=at) for zone in zones for at in (winter, summer)])
    found = read(write(frame, tmp_path / "e.csv"))
    assert found.good["tz_offset"].to_list() == [60, 120, 60, 120, 0, 0, 345, 345] + [None] * 6
    assert found.nulled == {"timezone": 2}


def test_offsets_of_clocks_are_minutes(tmp_path: Path) -> None:
    texts = ["+02:00", "-03:30", "5:45", "90", " 60 ", "900", "7", "noon", ""]
    found = read(write(pl.DataFrame([event(tz_offset=text) for text in texts]), tmp_path / "e.csv"))
    assert found.good["tz_offset"].to_list() == [120, -210, 345, 90, 60, None, None, None, None]
    assert found.nulled == {"tz_offset": 3}


def test_ids_are_stripped_and_folded_where_asked(tmp_path: Path) -> None:
    frame = pl.DataFrame([event(user_id=user) for user in ("USER_15 ", "user_15", " None ", "a@B.c")])
    path = write(frame, tmp_path / "e.parquet")
    assert read(path).good["user_id"].to_list() == ["USER_15", "user_15", "a@B.c"]
    assert read(path).rules == {"bad_user_id": 1}
    assert read(path, "ingest.fold_ids=true").good["user_id"].to_list() == ["user_15", "user_15", "a@b.c"]


def test_quarantine_keeps_values_as_the_file_has_them_but_for_addresses(tmp_path: Path) -> None:
    frame = pl.DataFrame([event(event_type="vanished", email="a@b.c", user_agent="x")])
    found = read(write(frame, tmp_path / "e.csv"), "ingest.quarantine_payload=true")
    (row,) = found.bad.to_dicts()
    assert (row["event_type"], row["user_agent"], row["user_id"]) == ("vanished", "x", 1)
    assert "email" not in row
