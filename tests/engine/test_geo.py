"""Offsets by address: what Python's zoneinfo says of the place at the event's time, and no address anywhere."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from mmdb import write_mmdb
from sto_engine.cli import run_command
from sto_engine.config import load_config
from sto_engine.errors import BadData, InputMissing, Unavailable
from sto_engine.ingest import IngestReport
from sto_engine.ingest import ingest as run_ingest
from sto_engine.ingest.geo import Places, load_places
from sto_engine.ingest.store import Store
from sto_engine.progress import Silent

maxminddb = pytest.importorskip("maxminddb")
T0 = datetime(2026, 1, 1, tzinfo=UTC)


def place(zone: str) -> dict[str, object]:
    return {"country": {"iso_code": "XX"}, "location": {"latitude": 1, "time_zone": zone}}


NETWORKS = {
    "192.0.2.0/25": place("Europe/Berlin"),
    "192.0.2.128/25": place("Asia/Kathmandu"),
    "198.51.100.7/32": place("America/New_York"),
    "203.0.113.0/24": {"location": {"latitude": 3}},
    "203.0.112.0/24": place("Mars/Olympus"),
    "2001:db8::/33": place("Australia/Lord_Howe"),
}
ZONE_OF = {
    "192.0.2.1": "Europe/Berlin",
    "192.0.2.200": "Asia/Kathmandu",
    " 198.51.100.7 ": "America/New_York",
    "2001:db8::1": "Australia/Lord_Howe",
    "::ffff:192.0.2.9": "Europe/Berlin",
    "198.51.100.8": None,
    "203.0.113.1": None,
    "203.0.112.1": None,
    "2001:db9::1": None,
    "not an address": None,
    "192.0.2": None,
    "192.0.2.1/24": None,
    "192.0.2.256": None,
    "3221225985": None,
}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return write_mmdb(tmp_path / "City.mmdb", NETWORKS)


def ingest(paths: list[Path], store: Path, *keys: str) -> IngestReport:
    config = load_config(None, ["store.buckets=2", "ingest.max_bad_share=0.5", *keys])
    return run_ingest([str(path) for path in paths], store, None, config, Silent())


def everything(store: Path) -> pl.DataFrame:
    opened = Store.open(store)
    return pl.concat([opened.read_events(bucket) for bucket in range(opened.buckets)])


def events() -> pl.DataFrame:
    """An event a fortnight for each address, over a year; every seventh states an offset of its own."""
    rows = [(a, T0 + timedelta(days=14 * d, hours=d)) for a in ZONE_OF for d in range(26)]
    count = pl.int_range(len(rows), eager=True)
    return pl.DataFrame(
        {
            "user_id": count.cast(pl.UInt64),
            "campaign_id": ["c"] * len(rows),
            "event_type": ["open"] * len(rows),
            "event_ts": pl.Series([at for _, at in rows], dtype=pl.Datetime("ms", "UTC")),
            "tz_offset": pl.Series([-300 if n % 7 == 0 else None for n in range(len(rows))], dtype=pl.Int16),
            "ip": [address for address, _ in rows],
        }
    )


def test_the_written_database_is_one_for_the_library_itself(database: Path) -> None:
    with maxminddb.open_database(database, maxminddb.MODE_FILE) as reader:
        assert reader.get("192.0.2.77") == place("Europe/Berlin")
        assert reader.get("2001:db8:7fff::1") == place("Australia/Lord_Howe")
        assert reader.get("2001:db8:8000::1") is None
        assert reader.metadata().ip_version == 6


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_offsets_are_those_of_the_place_at_the_time_where_the_row_states_none(
    tmp_path: Path, database: Path, suffix: str
) -> None:
    frame = events()
    path = tmp_path / f"e{suffix}"
    frame.write_csv(path) if suffix == ".csv" else frame.write_parquet(path)
    report = ingest([path], tmp_path / "s", f"timezone.mmdb={database}")
    expected, unknown = [], 0
    for address, at, stated in frame.select("ip", "event_ts", "tz_offset").iter_rows():
        zone = ZONE_OF[address]
        unknown += zone is None and stated is None
        offset = at.astimezone(ZoneInfo(zone)).utcoffset() if zone else None
        expected.append(stated if stated is not None else int(offset.total_seconds() // 60) if offset else None)
    found = everything(tmp_path / "s").sort("user_id")
    assert found["tz_offset"].to_list() == expected
    assert report.nulled == {"ip": unknown}
    assert "ip" not in found.columns


def test_the_address_is_nowhere_in_the_store_not_even_of_bad_rows(tmp_path: Path, database: Path) -> None:
    frame = events().with_columns(
        event_type=pl.when(pl.col("user_id") % 5 == 0).then(pl.lit("?")).otherwise("event_type")
    )
    frame.write_parquet(tmp_path / "e.parquet")
    keys = ["ingest.quarantine_payload=true", f"timezone.mmdb={database}"]
    assert ingest([tmp_path / "e.parquet"], tmp_path / "s", *keys).quarantined["bad_event_type"] > 0
    for path in (tmp_path / "s").rglob("*.parquet"):
        table = pl.read_parquet(path)
        texts = table.select(pl.col(pl.String)).unpivot()["value"].drop_nulls()
        assert not texts.str.contains("192.0.2|198.51|2001:db8").any()
        assert not texts.str.contains('"ip"', literal=True).any()


def test_without_a_database_the_address_is_not_read(tmp_path: Path, database: Path) -> None:
    events().with_columns(ip=1.5).write_parquet(tmp_path / "e.parquet")
    assert ingest([tmp_path / "e.parquet"], tmp_path / "s").nulled == {}
    with pytest.raises(BadData, match=r"e\.parquet: ip must be text"):
        ingest([tmp_path / "e.parquet"], tmp_path / "t", f"timezone.mmdb={database}")


def test_a_mapped_name_of_the_column_is_found_and_a_file_without_it_is_fine(tmp_path: Path, database: Path) -> None:
    frame = events().filter(ip="192.0.2.1")
    frame.rename({"ip": "client"}).write_parquet(tmp_path / "a.parquet")
    frame.drop("ip").with_columns(campaign_id=pl.lit("d")).write_parquet(tmp_path / "b.parquet")
    keys = [f"timezone.mmdb={database}", "ingest.columns.ip=client"]
    ingest([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "s", *keys)
    found = everything(tmp_path / "s")
    assert found.filter(campaign_id="c")["tz_offset"].null_count() == 0
    assert found.filter(campaign_id="d")["tz_offset"].null_count() > 0


def test_a_database_of_ipv4_alone_knows_no_ipv6(tmp_path: Path) -> None:
    path = write_mmdb(tmp_path / "v4.mmdb", {"192.0.2.0/24": place("Asia/Tokyo")}, version=4)
    places = load_places(load_config(None, [f"timezone.mmdb={path}"]))
    assert isinstance(places, Places)
    assert [places.zone(a) for a in ("192.0.2.1", "2001:db8::1", "::ffff:192.0.2.3")] == [
        "Asia/Tokyo",
        None,
        "Asia/Tokyo",
    ]


@pytest.mark.parametrize(("kind", "code"), [("absent", 66), ("folder", 66), ("text", 65), ("empty", 65), ("cut", 65)])
def test_a_database_that_is_none_is_told(
    tmp_path: Path, database: Path, kind: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    events().write_parquet(tmp_path / "e.parquet")
    path = tmp_path / f"{kind}.mmdb"
    whole = database.read_bytes()
    if kind == "folder":
        path.mkdir()
    elif kind != "absent":
        path.write_bytes({"text": b"hello" * 99, "empty": b"", "cut": whole[: len(whole) // 2]}[kind])
    arguments = ["ingest", str(tmp_path / "e.parquet"), "--store", str(tmp_path / "s"), "--quiet"]
    assert run_command([*arguments, "--set", f"timezone.mmdb={path}"]) == code
    assert path.name in capsys.readouterr().err
    assert not (tmp_path / "s" / "manifest.json").exists()


def test_a_tree_that_leads_nowhere_is_a_damaged_database(tmp_path: Path, database: Path) -> None:
    data = bytearray(database.read_bytes())
    for place_of in range(0, data.index(b"\xab\xcd\xefMaxMind.com") - 200):
        data[place_of] = 0xFE
    (tmp_path / "bad.mmdb").write_bytes(data)
    events().write_parquet(tmp_path / "e.parquet")
    with pytest.raises(BadData, match=r"bad\.mmdb is damaged"):
        ingest([tmp_path / "e.parquet"], tmp_path / "s", f"timezone.mmdb={tmp_path / 'bad.mmdb'}")


def test_without_the_library_the_setting_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "maxminddb", None)
    with pytest.raises(Unavailable, match=r"sto-engine\[geo\]"):
        load_places(load_config(None, [f"timezone.mmdb={tmp_path / 'none.mmdb'}"]))


def test_no_database_that_is_there_is_missing_input(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match=r"timezone\.mmdb"):
        load_places(load_config(None, [f"timezone.mmdb={tmp_path / 'none.mmdb'}"]))
    assert load_places(load_config(None)) is None
