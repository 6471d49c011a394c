"""Columns whose types drift from file to file: the same values where nothing is lost, else an error that says which."""

from datetime import datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inputs import BIG, TEXT, event, events, read, write
from sto_engine.config import load_config
from sto_engine.errors import BadData
from sto_engine.ingest.source import Types, open_source

PINNED = Types("uint64", "string")


DRIFTS: dict[str, pa.Array] = {
    "int32": pa.array([1, 2], pa.int32()),
    "int64": pa.array([1, 2], pa.int64()),
    "decimal": pa.array([Decimal(1), Decimal(2)], pa.decimal128(20, 0)),
    "decimal with a scale": pa.array([Decimal(1), Decimal(2)], pa.decimal128(38, 9)),
    "dictionary of integers": pa.array([1, 2]).dictionary_encode(),
    "text": pa.array(["1", "2"]),
}


@pytest.mark.parametrize("kind", DRIFTS)
def test_ids_of_another_type_are_the_same_ids(tmp_path: Path, kind: str) -> None:
    table = events(2).to_arrow()
    at = table.schema.get_field_index("user_id")
    pq.write_table(table.set_column(at, "user_id", DRIFTS[kind]), tmp_path / "e.parquet")
    assert read(tmp_path / "e.parquet", types=PINNED).good["user_id"].to_list() == [1, 2]


TEXTS = (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view())


@pytest.mark.parametrize("kind", TEXTS, ids=str)
@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_text_of_any_arrow_type_is_text(tmp_path: Path, kind: pa.DataType, encoded: bool, suffix: str) -> None:
    table = events(9).to_arrow()
    for name in ("campaign_id", "event_type"):
        column = table[name].cast(pa.large_string()).cast(kind) if kind != pa.string() else table[name].cast(kind)
        if encoded:
            if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
                pytest.skip("pyarrow does not encode views")
            column = column.dictionary_encode()
        table = table.set_column(table.schema.get_field_index(name), name, column)
    path = tmp_path / f"e{suffix}"
    if suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as sink:
            sink.write_table(table)
    expected = read(write(events(9), tmp_path / "x.parquet"))
    assert read(path).good.equals(expected.good)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", None])
def test_timestamps_of_every_unit_and_zone_are_one_moment(tmp_path: Path, unit: str, zone: str | None) -> None:
    table = events(5).to_arrow()
    at = table.schema.get_field_index("event_ts")
    table = table.set_column(
        at, "event_ts", table["event_ts"].cast(pa.timestamp(unit, "UTC")).cast(pa.timestamp(unit, zone))
    )
    pq.write_table(table, tmp_path / "e.parquet")
    keys = [] if zone else ["ingest.naive_timestamps=utc"]
    assert read(tmp_path / "e.parquet", *keys).good["event_ts"].to_list() == events(5)["event_ts"].to_list()


@pytest.mark.parametrize(
    ("column", "values", "text"),
    [
        ("user_id", pa.array([1.0, 2.0]), r"user_id must be an integer or text; found double"),
        ("user_id", pa.array(["x", "2"]), r"user_id must be uint64; found text"),
        ("user_id", pa.array(["007", "2"]), r"user_id must be uint64; found text in 1 rows"),
        ("user_id", pa.array([Decimal("1.5"), Decimal(1)]), r"user_id must be whole numbers; found decimal"),
        ("user_id", pa.array([[1], [2]]), r"user_id must be an integer or text; found list"),
        ("event_ts", pa.array([datetime(2026, 1, 1).date()] * 2), r"event_ts must be a timestamp; found date32"),
        ("event_ts", pa.array([True, False]), r"event_ts must be a timestamp; found bool"),
        ("event_ts", pa.array([1.7e9 + 0.5, 1.7e9]), r"event_ts must be a timestamp or whole seconds; found double"),
        ("event_ts", pa.array([1.7e18, 1.7e18]), r"event_ts must be a timestamp; found double beyond 2\^53"),
        ("tz_offset", pa.array([True, False]), r"tz_offset must be a number; found bool"),
        ("user_agent", pa.array([[1], [2]]), r"user_agent must be text; found list"),
        ("is_machine_open", pa.array([[1], [2]]), r"is_machine_open must be true or false; found list"),
    ],
)
def test_a_type_that_cannot_be_cast_names_file_column_expected_and_found(
    tmp_path: Path, column: str, values: pa.Array, text: str
) -> None:
    table = events(2).to_arrow()
    at = table.schema.get_field_index(column)
    table = table.append_column(column, values) if at < 0 else table.set_column(at, column, values)
    pq.write_table(table, tmp_path / "e.parquet")
    with pytest.raises(BadData, match=rf"e\.parquet: {text}"):
        read(tmp_path / "e.parquet", types=PINNED)


def test_integers_in_a_store_of_text_are_their_digits(tmp_path: Path) -> None:
    found = read(write(events(3), tmp_path / "e.parquet"), types=Types("string", "string"))
    assert found.good["user_id"].to_list() == [str(BIG - i) for i in range(3)]


@pytest.mark.parametrize("suffix", TEXT)
def test_leading_zeros_make_ids_text(tmp_path: Path, suffix: str) -> None:
    frame = pl.DataFrame([event(user_id="007"), event(user_id="12")])
    path = write(frame, tmp_path / f"e{suffix}")
    assert open_source(path, "events", load_config()).infer_id_type("user_id") == "string"
    assert read(path).good["user_id"].to_list() == ["007", "12"]
    assert read(path, types=Types("uint64", "uint64")).rules == {"bad_user_id": 1}


def test_ids_exported_as_floats_are_refused(tmp_path: Path) -> None:
    path = write(pl.DataFrame([event(user_id="12.0"), event(user_id="13.0")]), tmp_path / "e.csv")
    with pytest.raises(BadData, match="exported as floats"):
        read(path)


def test_uuids_are_their_canonical_text(tmp_path: Path) -> None:
    raw = bytes(range(16))
    column = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([raw, None], pa.binary(16)))
    table = events(2).to_arrow()
    table = table.set_column(0, "user_id", column)
    with pa.ipc.new_file(tmp_path / "e.arrow", table.schema) as sink:
        sink.write_table(table)
    found = read(tmp_path / "e.arrow")
    assert found.good["user_id"].to_list() == ["00010203-0405-0607-0809-0a0b0c0d0e0f"]
    assert found.rules == {"bad_user_id": 1}
