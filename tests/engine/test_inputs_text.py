"""CSV, TSV and NDJSON as people export them; every row is stored or in quarantine."""

import csv as naive_csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import sto_engine.ingest.csv_text as csv_text
import sto_engine.ingest.ndjson as ndjson
from inputs import csv, event, packed, read
from sto_engine.errors import BadData
from sto_engine.ingest.csv_text import BAD, read_csv
from sto_engine.ingest.ndjson import fast_lines, read_ndjson, slow_lines

HEADER = "user_id,campaign_id,event_type,event_ts,user_agent"
ROW = "1,c,open,2026-03-01T10:00:00Z,{}"
AT = datetime(2026, 3, 1, 10, tzinfo=UTC)


def lines(*texts: str) -> bytes:
    return "".join(text + "\n" for text in texts).encode()


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_delimiter_line_end_and_byte_order_mark_are_told_by_the_header(
    tmp_path: Path, mark: str, end: str, bom: str
) -> None:
    rows = [HEADER.replace(",", mark), ROW.replace(",", mark).format('"a' + mark + 'b"')]
    found = read(packed(tmp_path / "e.csv", (bom + end.join([*rows, ""])).encode()))
    assert found.good["user_agent"].to_list() == [f"a{mark}b"]
    assert found.good["user_id"].to_list() == [1]


def test_quotes_newlines_and_spaces_in_values_stay(tmp_path: Path) -> None:
    values = ['"a ""b"" c"', '"two\nlines"', "  spaces  ", '"x\r\ny"', 'an inch" mark']
    found = read(csv(tmp_path / "e.csv", HEADER, [ROW.format(value) for value in values]))
    assert found.good["user_agent"].to_list() == ['a "b" c', "two\nlines", "spaces", "x\r\ny", 'an inch" mark']


@pytest.mark.parametrize("word", ["", '""', "\\N", "null", "None", "NaN", "  "])
def test_words_for_nothing_are_null(tmp_path: Path, word: str) -> None:
    found = read(csv(tmp_path / "e.csv", HEADER, [ROW.format(word), f"{word},c,open,2026-03-01T10:00:00Z,x"]))
    assert found.good["user_agent"].to_list() == [None]
    assert (found.rules, found.nulled) == ({"bad_user_id": 1}, {})


def test_ragged_rows_go_to_quarantine_at_their_place(tmp_path: Path) -> None:
    rows = [ROW.format("x"), "1,2", ROW.format("y") + ",z,z", ROW.format("z"), "", "3"]
    found = read(csv(tmp_path / "e.csv", HEADER, rows))
    assert found.good["user_agent"].to_list() == ["x", "z"]
    assert list(found.bad.select("rule", "row").iter_rows()) == [("bad_row", 1), ("bad_row", 2), ("bad_row", 4)]


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(60, 400))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_places_of_ragged_rows_do_not_depend_on_the_blocks(tmp_path: Path, widths: list[int], block: int) -> None:
    rows = [",".join([str(at)] * (width + 1)) for at, width in enumerate(widths)]
    path = packed(tmp_path / "e.csv", lines("a,b,c", *rows))
    expected = [(None, True) if width != 2 else (str(at).encode(), False) for at, width in enumerate(widths)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_text, "_BLOCK", block)
        found = []
        for table in read_csv(path, ["a"], []):
            marks = table[BAD].to_pylist() if BAD in table.column_names else [False] * len(table)
            found += list(zip(table["a"].to_pylist(), marks, strict=True))
    assert found == expected


@given(st.lists(st.lists(st.text(st.sampled_from('ab ,"\n;é'), max_size=6), min_size=3, max_size=3), max_size=15))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_values_are_those_that_pythons_own_reader_finds(tmp_path: Path, rows: list[list[str]]) -> None:
    text = io.StringIO()
    naive_csv.writer(text, quoting=naive_csv.QUOTE_ALL, lineterminator="\n").writerows([["a", "b", "c"], *rows])
    path = packed(tmp_path / "e.csv", text.getvalue().encode())
    found = [row for table in read_csv(path, ["a", "b", "c"], ["b"]) for row in table.to_pylist()]
    assert [[(value or b"").decode() for value in row.values()] for row in found] == rows


@pytest.mark.parametrize("tail", ['1,c,open,2026-03-01T10:00:00Z,"open\n', '"1,c\n'])
def test_a_quote_that_is_never_closed_is_an_error_and_no_row(tmp_path: Path, tail: str) -> None:
    path = packed(tmp_path / "e.csv", lines(HEADER, ROW.format("x")) + tail.encode() + lines(ROW.format("y")))
    with pytest.raises(BadData, match="never closed"):
        read(path)


def test_a_row_longer_than_a_block_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = csv(tmp_path / "e.csv", HEADER, [ROW.format('"' + "x" * 10_000 + '"')])
    assert len(read(path).good["user_agent"][0]) == 10_000
    monkeypatch.setattr(csv_text, "_BLOCK", 1000)
    with pytest.raises(BadData, match=r"e\.csv has a row of more than"):
        read(path)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xff\xfea\0,\0b\0", "UTF-16"),
        (b"\n\n\n", "no header"),
        (lines("user_id,user_id,campaign_id,event_type,event_ts", "1,1,1,open,x"), "column user_id twice"),
    ],
)
def test_a_csv_without_a_usable_header_is_refused(tmp_path: Path, data: bytes, text: str) -> None:
    with pytest.raises(BadData, match=text):
        read(packed(tmp_path / "e.csv", data))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_bytes_that_are_no_utf8_are_null_and_counted_and_no_id(tmp_path: Path, suffix: str) -> None:
    agents, ids = [b"caf\xe9", b"ok", b"x"], [b"1", b"2", b"\xff"]
    path = tmp_path / f"e{suffix}"
    if suffix == ".csv":
        rows = [b"%b,c,open,2026-03-01T10:00:00Z,%b\n" % pair for pair in zip(ids, agents, strict=True)]
        packed(path, HEADER.encode() + b"\n" + b"".join(rows))
    else:
        frame = pl.DataFrame({**event(campaign_id="c"), "user_id": ids, "user_agent": agents})
        frame.with_columns(event_ts=pl.lit(AT)).write_parquet(path)
    found = read(path)
    assert found.good["user_agent"].to_list() == [None, "ok"]
    assert (found.rules, found.nulled) == ({"bad_user_id": 1}, {"user_agent": 1})


def test_lines_that_are_no_objects_go_to_quarantine_at_their_place(tmp_path: Path) -> None:
    good = json.dumps(event())
    path = packed(tmp_path / "e.ndjson", lines(good, "[1]", good, "{", "", "null", good + good, '"x"', good))
    found = read(path)
    assert (len(found.good), found.rows) == (3, 8)
    assert list(found.bad.select("rule", "row").iter_rows()) == [("bad_row", row) for row in (1, 3, 4, 5, 6)]


def test_a_field_may_first_stand_far_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndjson, "_BLOCK", 300)
    rows = [json.dumps(event(user_id=at)) for at in range(50)] + [json.dumps(event(user_id=99, tz_offset=60))]
    found = read(packed(tmp_path / "e.ndjson", lines(*rows)))
    assert found.good["tz_offset"].to_list() == [None] * 50 + [60]


@pytest.mark.parametrize(
    "data", [b'[{"user_id": 1},\n{"user_id": 2}]', b'{\n"user_id":\n1}\n', b"hello\nworld\n", b"\n\n"]
)
def test_json_that_is_not_one_object_a_line_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BadData, match="one JSON object a line"):
        read(packed(tmp_path / "e.json", data))


def test_a_line_without_an_end_is_not_held_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndjson, "_BLOCK", 1000)
    monkeypatch.setattr(ndjson, "_MAX_LINE", 5000)
    path = packed(tmp_path / "e.ndjson", lines(json.dumps(event())) + b"x" * 20_000)
    with pytest.raises(BadData, match="has a line of more than"):
        read(path)


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**130)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=2), st.integers(), max_size=2)
)


@given(st.lists(st.dictionaries(st.sampled_from("abz"), VALUES) | VALUES, max_size=12), st.booleans())
@example([{"a": 18446744073709551613}, {"a": "18446744073709551613"}, {"a": 1.0}], False)
@settings(max_examples=300, deadline=None)
def test_the_fast_reader_of_lines_is_the_slow_one(values: list[object], ascii_only: bool) -> None:
    block = "\n".join(json.dumps(value, ensure_ascii=ascii_only) for value in values).encode("utf-8", "replace")
    fast, slow = fast_lines(block, ["a", "b"]), slow_lines(block, ["a", "b"])
    assert len(slow) == len(values)
    assert fast is None or (BAD not in slow.columns and fast.equals(slow))


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=30), st.integers(20, 200))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lines_come_back_whole_whatever_the_blocks(tmp_path: Path, ids: list[int], block: int) -> None:
    path = packed(tmp_path / "e.ndjson.gz", lines(*(json.dumps({"a": each}) for each in ids)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ndjson, "_BLOCK", block)
        assert [text for table in read_ndjson(path, ["a"]) for text in table["a"].to_pylist()] == [str(i) for i in ids]
