"""The same rows in every format are the same events, and what cannot be read says where and what to do."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inputs import FORMATS, TEXT, TYPED, event, events, packed, read, write
from sto_engine.config import load_config
from sto_engine.errors import BadData, InputMissing
from sto_engine.ingest import ingest
from sto_engine.ingest.readers import enumerate_files
from sto_engine.ingest.source import Types
from sto_engine.ingest.store import Store
from sto_engine.progress import Silent
from sto_engine.tables import CAMPAIGN_ENUM, DEVICE_ENUM, EVENT_ENUM, EVENT_TYPES

words = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Z")) | st.sampled_from(' ,;"\n\t'), max_size=12
)


def is_plain(text: str) -> bool:
    """Whether text stays what it is: no space around it, and no word for null."""
    return text == text.strip() and text.casefold() not in ("", "null", "none", "nan", "\\n")


texts = st.none() | words.filter(is_plain)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "user_id": st.integers(1, 2**64 - 1),
            "campaign_id": words.filter(is_plain),
            "event_type": st.sampled_from(EVENT_TYPES),
            "event_ts": st.datetimes(datetime(1990, 1, 2), datetime(2099, 12, 30)).map(
                lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000, tzinfo=UTC)
            ),
            "tz_offset": st.none() | st.integers(-48, 56).map(lambda quarter: quarter * 15),
            "device_type": st.sampled_from(["desktop", "mobile", None]),
            "value": st.none() | st.floats(-1e9, 1e9),
            "is_machine_open": st.none() | st.booleans(),
            "user_agent": texts,
        }
    ),
    min_size=1,
    max_size=20,
)
SCHEMA = {
    "user_id": pl.UInt64,
    "campaign_id": pl.String,
    "event_type": pl.String,
    "event_ts": pl.Datetime("ms", "UTC"),
    "tz_offset": pl.Int16,
    "device_type": pl.String,
    "value": pl.Float64,
    "is_machine_open": pl.Boolean,
    "user_agent": pl.String,
}
PINNED = Types("uint64", "string")


@given(rows=rows)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_rows_in_every_format_are_the_same_events(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    frame = pl.DataFrame(rows, schema=SCHEMA)
    for suffix in FORMATS:
        found = read(write(frame, tmp_path / f"e{suffix}"), types=PINNED)
        assert (found.rows, found.nulled, len(found.bad)) == (len(frame), {}, 0), suffix
        plain = found.good.select(list(SCHEMA)).cast({"event_type": pl.String, "device_type": pl.String})
        assert plain.equals(frame), suffix


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_makes_the_same_store(tmp_path: Path, suffix: str) -> None:
    config = load_config(None, ["store.buckets=2"])
    stores = []
    for name in ("a.parquet", f"b{suffix}"):
        folder = tmp_path / name
        report = ingest([str(write(events(), tmp_path / f"x{name}"))], folder, None, config, Silent())
        assert (report.rows, report.events) == (300, 300)
        stores.append(pl.concat([Store.open(folder).read_events(bucket) for bucket in range(2)]))
    assert stores[0].equals(stores[1])


@pytest.mark.parametrize("suffix", TEXT)
def test_ids_above_two_to_the_53_are_exact_as_numbers_and_as_text(tmp_path: Path, suffix: str) -> None:
    ids = [2**53 + 1, 2**63 + 1, 2**64 - 1]
    for quoted in (False, True):
        frame = pl.DataFrame(
            [event(user_id=str(i) if quoted else i) for i in ids], infer_schema_length=None, strict=False
        )
        frame = frame if quoted else frame.with_columns(user_id=pl.Series(ids, dtype=pl.UInt64))
        found = read(write(frame, tmp_path / f"e{suffix}"))
        assert found.good["user_id"].to_list() == ids


def test_what_the_frame_says_of_types(tmp_path: Path) -> None:
    good = read(write(events(), tmp_path / "e.parquet")).good
    kinds = (good["event_type"].dtype, good["device_type"].dtype, good["campaign_type"].dtype)
    assert kinds == (EVENT_ENUM, DEVICE_ENUM, CAMPAIGN_ENUM)
    assert good["tz_offset"].dtype == pl.Int16
    for name in ("device_type", "value", "channel", "is_machine_open"):
        assert good[name].null_count() == len(good)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_cut_short_is_bad_data(tmp_path: Path, suffix: str) -> None:
    if suffix in (".csv", ".tsv", ".ndjson"):
        pytest.skip("plain text has no end that could be missed")
    whole = write(events(), tmp_path / f"e{suffix}").read_bytes()
    for size in (len(whole) // 2, len(whole) - 9, 3):
        (tmp_path / f"e{suffix}").write_bytes(whole[:size])
        with pytest.raises(BadData, match=rf"e\{suffix}"):
            read(tmp_path / f"e{suffix}")


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".arrows"])
def test_flipped_bytes_never_end_in_a_traceback(tmp_path: Path, suffix: str) -> None:
    path = write(events(30), tmp_path / f"e{suffix}")
    whole = path.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            found = read(path)
        except BadData:
            continue
        assert found.rows == len(found.good) + len(found.bad)


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_without_a_row_or_a_byte(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"e{suffix}"
    packed(path, b"")
    with pytest.raises(BadData, match=r"0 bytes|holds nothing"):
        read(path)
    if suffix in TYPED or ".csv" in suffix or ".tsv" in suffix:
        assert read(write(events().clear(), path), types=PINNED).rows == 0


def test_a_name_that_promises_no_format_is_refused(tmp_path: Path) -> None:
    for name in ("e.xlsx", "e", "e.parquet.gz", "e.gz"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(BadData, match=r"expected a file ending in \.parquet"):
            read(tmp_path / name)


def test_keys_of_folders_that_are_columns_of_ours_are_columns(tmp_path: Path) -> None:
    folder = tmp_path / "date=2026-03-01" / "event_type=Opened" / "kampagne=winter%20sale"
    folder.mkdir(parents=True)
    write(events(4).drop("event_type", "campaign_id"), folder / "e.parquet")
    found = read(folder / "e.parquet", "ingest.columns.campaign_id=kampagne")
    assert found.good["event_type"].to_list() == ["open"] * 4
    assert found.good["campaign_id"].to_list() == ["winter sale"] * 4
    assert found.source.infer_id_type("campaign_id") == "string"
    write(events(4), folder / "f.parquet")
    assert read(folder / "f.parquet").good["event_type"].to_list() == list(EVENT_TYPES[:4])


def test_the_null_of_a_partition_is_null(tmp_path: Path) -> None:
    folder = tmp_path / "event_type=__HIVE_DEFAULT_PARTITION__"
    folder.mkdir()
    write(events(2).drop("event_type"), folder / "e.csv")
    assert read(folder / "e.csv").rules == {"bad_event_type": 2}


def test_folders_are_read_whatever_the_formats_in_them(tmp_path: Path) -> None:
    for index, suffix in enumerate(FORMATS):
        write(events().slice(index * 20, 20), tmp_path / f"part{suffix}")
    report = ingest([str(tmp_path)], tmp_path.parent / "s", None, load_config(None, ["store.buckets=1"]), Silent())
    assert (report.files, report.events) == (len(FORMATS), 20 * len(FORMATS))


@pytest.mark.parametrize("suffix", FORMATS)
def test_recipients_come_in_every_format(tmp_path: Path, suffix: str) -> None:
    frame = pl.DataFrame(
        {
            "Subscriber ID": ["7", "8", "9"],
            "Consent": ["YES", "withdrawn", "perhaps"],
            "timezone": [" europe/berlin ", "Mars/Olympus", None],
            "address_status": ["Valid", "TRAP", "odd"],
            "email": ["a@Example.ORG", None, "Bob <b@x.de>"],
            "tier": ["gold", "null", " tin "],
            "signup_date": ["2025-01-02", None, "2025-01-03T04:05:06Z"],
        }
    )
    found = read(write(frame, tmp_path / f"r{suffix}"), 'recipients.keep=["tier"]', table="recipients")
    good = found.good
    assert good["row"].to_list() == [0, 1, 2]
    assert good["consent"].to_list() == [True, False, False]
    assert good["timezone"].to_list() == ["Europe/Berlin", None, None]
    assert good["address_status"].to_list() == ["valid", "trap", None]
    assert good["recipient_domain"].to_list() == ["example.org", None, "x.de"]
    assert good["tier"].to_list() == ["gold", None, "tin"]
    assert good["signup_ts"].to_list() == [
        datetime(2025, 1, 2, tzinfo=UTC), None, datetime(2025, 1, 3, 4, 5, 6, tzinfo=UTC),
    ]  # fmt: skip
    assert found.nulled == {"consent": 1, "timezone": 1, "address_status": 1}


def test_a_url_of_the_disk_reads_the_same_files(tmp_path: Path) -> None:
    (tmp_path / "in" / "event_type=open").mkdir(parents=True)
    write(events(5).drop("event_type"), tmp_path / "in" / "event_type=open" / "a.parquet")
    write(events(5), tmp_path / "in" / "b.csv.gz")
    (tmp_path / "in" / "_SUCCESS").touch()
    config = load_config(None, ["store.buckets=1"])
    url = f"file://{tmp_path}/in"
    assert [path.name for path in enumerate_files([url])] == ["b.csv.gz", "a.parquet"]
    assert [str(path) for path in enumerate_files([f"{url}/*.gz"])] == [f"file://{tmp_path}/in/b.csv.gz"]
    report = ingest([url], tmp_path / "s", None, config, Silent())
    assert (report.files, report.events) == (2, 10)
    assert ingest([url], tmp_path / "s", None, config, Silent()).files == 0


@pytest.mark.parametrize("url", ["file:///nowhere/at/all", "file:///nowhere/*.parquet"])
def test_a_url_of_nothing_is_missing(url: str) -> None:
    with pytest.raises(InputMissing, match="no file matches"):
        enumerate_files([url])
