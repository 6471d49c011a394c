"""Bad input files: each ends with its exit code and a sentence that names the file, and the store is what it was."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from badness import Shop, content, events, write
from sto_engine.ingest.source import Source


@pytest.fixture
def shop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shop:
    return Shop(tmp_path, capsys)


def more(folder: Path, name: str = "more.parquet") -> Path:
    return write(events(200, 1), folder / name)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_parquet_file_is_named(shop: Shop, share: float) -> None:
    path = more(shop.folder)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    shop.refuses(65, "more.parquet", told=shop.ingest(path))


@pytest.mark.parametrize(
    "content", [b"PAR1", b"PAR1" * 30, b"\x1f\x8b\x08 gzip?", b"user_id,campaign_id\n1,2\n", bytes(5000)]
)
@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_a_file_that_is_not_what_its_name_says_is_named(shop: Shop, content: bytes, suffix: str) -> None:
    path = shop.folder / f"more{suffix}"
    path.write_bytes(content)
    shop.refuses(65, f"more{suffix}", told=shop.ingest(path))


@pytest.mark.slow
@pytest.mark.parametrize("checksums", [False, True])
def test_a_flipped_bit_is_told_or_loses_no_row(shop: Shop, checksums: bool) -> None:
    """Without page checksums in the source a flipped value cannot be told from a value; with them data cannot flip."""
    table, path = events(500, 1).to_arrow(), shop.folder / "flip.parquet"
    pq.write_table(table, path, compression="none", write_page_checksum=checksums, store_schema=False)
    whole = path.read_bytes()
    assert shop.ingest(path, store=shop.folder / "unflipped").code == 0
    unflipped, footer = content(shop.folder / "unflipped"), len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    codes = []
    for place in range(0, len(whole), max(1, len(whole) // 120)):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        store = shop.folder / f"flipped-{place}"
        told = shop.ingest(path, store=store)
        codes.append(told.code)
        assert told.code in (0, 65), told
        if told.code == 65:
            assert "flip.parquet" in told.error
        elif checksums and place < footer:
            assert content(store).equals(unflipped), place
        else:
            assert told.result["rows"] == 500
    assert 65 in codes
    shop.is_whole()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda f: f.drop("event_ts"), "event_ts"),
        (lambda f: f.with_columns(user_id=pl.lit(True)), "user_id"),
        (lambda f: f.with_columns(user_id=pl.col("user_id") + 0.5), "user_id"),
        (lambda f: f.with_columns(event_ts=pl.lit(True)), "event_ts"),
        (lambda f: f.with_columns(tz_offset=pl.lit([1])), "tz_offset"),
        (lambda f: f.with_columns(user_id=pl.format("u{}", "user_id")), "user_id"),
        (lambda f: f.with_columns(pl.col("event_ts").dt.replace_time_zone(None)), "naive_timestamps"),
    ],
)
def test_a_file_whose_schema_drifted_stops_the_good_ones_beside_it(
    shop: Shop, change: Callable[[pl.DataFrame], pl.DataFrame], word: str
) -> None:
    paths = [more(shop.folder, "a.parquet"), write(change(events(100, 2)), shop.folder / "b.parquet")]
    shop.refuses(65, "b.parquet", word, told=shop.ingest(*paths))


def test_columns_in_other_orders_units_and_widths_are_the_same_events(shop: Shop) -> None:
    frame = events(200, 1)
    drifts: list[pl.DataFrame] = [
        frame.select(reversed(frame.columns)),
        frame.with_columns(pl.col("event_ts").cast(pl.Datetime("ns", "UTC"))),
        frame.with_columns(pl.col("event_ts").cast(pl.Datetime("us", "UTC")).dt.convert_time_zone("Asia/Kathmandu")),
        frame.with_columns(pl.col("user_id").cast(pl.Int32), pl.col("tz_offset").cast(pl.Int64)),
        frame.with_columns(pl.col("event_type").cast(pl.Categorical)).with_columns(extra=pl.lit("unknown column")),
    ]
    for number, drift in enumerate(drifts):
        told = shop.ingest(write(drift, shop.folder / f"{number}.parquet"), store=shop.folder / f"s{number}")
        assert (told.code, told.result["events"]) == (0, 200)
        assert content(shop.folder / f"s{number}").equals(content(shop.folder / "s0"))


def test_nulls_in_keys_and_times_beyond_belief_are_quarantined_one_by_one(shop: Shop) -> None:
    row = pl.int_range(pl.len())
    times = {10: -1, 11: 0, 12: 9_223_372_036_854, 13: 2**62 // 10**6, 14: -(2**62) // 10**6, 15: 631_151_999_999}
    spoilt = pl.col("event_ts").to_physical()
    for place, ms in times.items():
        spoilt = pl.when(row == place).then(pl.lit(ms, pl.Int64)).otherwise(spoilt)
    frame = events(200, 1).with_columns(event_ts=spoilt.cast(pl.Datetime("ms", "UTC")))
    for place, name in enumerate(("user_id", "campaign_id", "event_type", "event_ts")):
        frame = frame.with_columns(pl.when(row != place).then(name))
    told = shop.ingest(write(frame, shop.folder / "e.parquet"))
    rules = {"bad_user_id": 1, "bad_campaign": 1, "bad_event_type": 1, "bad_ts": 1 + len(times)}
    assert told.result["quarantined"] == rules
    assert told.result["events"] == 200 - sum(rules.values())


def test_files_of_no_row_and_of_one_row_are_files(shop: Shop) -> None:
    told = shop.ingest(
        write(events(1, 1).clear(), shop.folder / "none.parquet"),
        write(events(1, 2), shop.folder / "one.parquet"),
        write(events(1, 3), shop.folder / "one.csv"),
        write(events(1, 4).clear(), shop.folder / "none.csv"),
    )
    assert (told.code, told.result["rows"], told.result["files"]) == (0, 2, 4)
    assert sorted(told.result["empty_files"]) == ["none.csv", "none.parquet"]


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.ndjson", "a.arrow"])
def test_a_file_of_no_bytes_is_named(shop: Shop, name: str) -> None:
    (shop.folder / name).touch()
    shop.refuses(65, name, "0 bytes", told=shop.ingest(shop.folder / name))


@pytest.mark.slow
def test_two_thousand_files_of_a_row_are_two_thousand_rows(shop: Shop) -> None:
    folder = shop.folder / "many"
    folder.mkdir()
    table = events(2000, 1).to_arrow()
    for row in range(2000):
        pq.write_table(table.slice(row, 1), folder / f"{row}.parquet", compression="none")
    told = shop.ingest(folder)
    # files of equal rows are the same content, which is stored once
    assert told.result["events"] + len(told.result["skipped_files"]) == 2000


def test_text_that_is_not_utf_8_reaches_neither_the_store_nor_the_terminal_as_such(shop: Shop) -> None:
    table = events(50, 1).to_arrow()
    raw = pa.array([b"\xff\xfe bad"] + [b"Mail/1"] * 49, pa.binary())
    agents = pa.StringArray.from_buffers(50, raw.buffers()[1], raw.buffers()[2])
    table = table.set_column(table.schema.get_field_index("user_agent"), "user_agent", agents)
    pq.write_table(table, shop.folder / "e.parquet")
    told = shop.ingest(shop.folder / "e.parquet")
    assert told.code in (0, 65)
    if told.code == 0:
        assert told.result["rows"] == 50
        assert content(shop.store)["user_agent"].null_count() == 1


def test_a_cell_of_64_mib_is_a_cell_or_a_named_refusal(shop: Shop) -> None:
    frame = events(20, 1).with_columns(
        user_agent=pl.when(pl.int_range(20) == 5).then(pl.lit("x" * (64 << 20))).otherwise("user_agent")
    )
    told = shop.ingest(write(frame, shop.folder / "e.parquet"), store=shop.folder / "huge")
    assert (told.code, told.result["events"]) == (0, 20)
    assert content(shop.folder / "huge")["user_agent"].str.len_bytes().max() == 64 << 20
    shop.refuses(65, "e.csv", "MiB", told=shop.ingest(write(frame, shop.folder / "e.csv")))


def test_the_same_content_counts_once_under_whatever_names(shop: Shop) -> None:
    path = more(shop.folder)
    copy = shop.folder / "copy.parquet"
    copy.write_bytes(path.read_bytes())
    told = shop.ingest(path, path, shop.folder / "." / "more.parquet", copy, shop.folder / "good.parquet")
    assert (told.result["files"], told.result["events"]) == (1, 200)
    assert sorted(told.result["skipped_files"]) in (["copy.parquet", "good.parquet"], ["good.parquet", "more.parquet"])


def test_a_file_that_changes_while_it_is_read_is_not_ingested(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = more(shop.folder), Source.raw

    def raw(*arguments: Any) -> Iterator[pa.Table]:
        for batch in real(*arguments):
            write(events(200, 3), path)
            yield batch

    monkeypatch.setattr(Source, "raw", raw)
    shop.refuses(75, "more.parquet", told=shop.ingest(path))


def link_loop(folder: Path) -> None:
    (folder / "loop.parquet").symlink_to(folder / "loop.parquet")


def link_out(folder: Path) -> None:
    (folder / "out.parquet").symlink_to(folder.parent / "good.parquet")


def link_to_nothing(folder: Path) -> None:
    (folder / "gone.parquet").symlink_to(folder / "nowhere.parquet")


def link_to_folder(folder: Path) -> None:
    """A folder that holds itself is not walked for ever, nor twice."""
    (folder / "self").symlink_to(folder, target_is_directory=True)


def fifo(folder: Path) -> None:
    os.mkfifo(folder / "pipe.parquet")


def device(folder: Path) -> None:
    (folder / "zero.parquet").symlink_to("/dev/zero")


def unix_socket(folder: Path) -> None:
    cwd = Path.cwd()
    os.chdir(folder)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as each:
        each.bind("sock.parquet")
    os.chdir(cwd)


@pytest.mark.parametrize(
    ("make", "codes", "word"),
    [
        (link_loop, (65, 66), "loop.parquet"),
        (link_out, (65,), "out.parquet"),
        (link_to_nothing, (65, 66), "parquet"),
        (link_to_folder, (0,), ""),
        (fifo, (65, 66), "pipe.parquet"),
        (device, (65,), "zero.parquet"),
        (unix_socket, (65, 66), "sock.parquet"),
    ],
)
def test_what_is_no_file_in_a_folder_is_named_and_nothing_hangs(
    shop: Shop, make: Callable[[Path], None], codes: tuple[int, ...], word: str
) -> None:
    folder = shop.folder / "in"
    folder.mkdir()
    more(folder)
    make(folder)
    told: list[object] = []
    thread = threading.Thread(target=lambda: told.append(shop.ingest(folder)), daemon=True)
    thread.start()
    thread.join(60)
    assert told, "it hangs"
    (found,) = told
    assert found.code in codes, found  # type: ignore[attr-defined]
    if found.code:  # type: ignore[attr-defined]
        assert word in found.error  # type: ignore[attr-defined]
        shop.is_whole()


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/stdin", "/proc/self/mem"])
def test_a_device_named_itself_is_refused_and_nothing_hangs(shop: Shop, name: str) -> None:
    command = [sys.executable, "-m", "sto_engine.cli", "ingest", name, "--store", str(shop.store), "--quiet"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (65, 66)
    assert done.stderr.startswith("error: ")
    shop.is_whole()


def test_a_folder_named_like_a_file_is_a_folder(shop: Shop) -> None:
    (shop.folder / "x.parquet").mkdir()
    shop.refuses(66, "x.parquet", told=shop.ingest(shop.folder / "x.parquet"))
    more(shop.folder / "x.parquet")
    assert shop.ingest(shop.folder / "x.parquet").result["events"] == 200


@pytest.mark.parametrize("field", ["user_id", "campaign_id", "event_type", "event_ts"])
def test_a_file_of_nothing_but_nulls_in_a_key_ingests_no_row(shop: Shop, field: str) -> None:
    frame = events(30, 1).with_columns(pl.lit(None).alias(field))
    told = shop.ingest(write(frame, shop.folder / "e.parquet"))
    assert (told.code, told.result.get("events"), told.result.get("rows")) == (0, 0, 30)


def test_years_that_are_believed_are_1990_to_2099(shop: Shop) -> None:
    times = [datetime(y, m, d, tzinfo=UTC) for y, m, d in ((1989, 12, 31), (1990, 1, 1), (2099, 12, 31), (2100, 1, 1))]
    frame = events(4, 1).with_columns(event_ts=pl.Series(times).cast(pl.Datetime("ms", "UTC")))
    assert shop.ingest(write(frame, shop.folder / "e.parquet")).result["quarantined"] == {"bad_ts": 2}
