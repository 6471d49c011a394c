"""A store of a version that knew no `allowed_hours` is read, compacted, erased and told as one where nobody has any."""

import json
import shutil
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from erasures import content, erase, fill, ident, same
from histories import opens, people, store_of
from sto_engine.config import load_config
from sto_engine.errors import BadData
from sto_engine.files import footer_crc, sha256_file
from sto_engine.ingest.compact import compact
from sto_engine.ingest.decode import read_files
from sto_engine.ingest.export import export_user
from sto_engine.ingest.pieces import bytes_needed, sorted_pieces
from sto_engine.ingest.store import Store
from sto_engine.progress import Silent
from sto_engine.tables import recipients_schema


def aged(store: Path, column: str = "allowed_hours") -> Path:
    """The store as if its recipients had been written before the column was known."""
    manifest = json.loads((store / "manifest.json").read_text())
    for file in manifest["recipients"]["files"]:
        path = store / file["path"]
        rows = pq.read_table(path).drop_columns(column)
        pq.write_table(rows, path, write_page_checksum=True)
        file |= {"sha256": sha256_file(path), "footer_crc": footer_crc(path)}
    (store / "manifest.json").write_text(json.dumps(manifest))
    return store


@pytest.fixture(scope="module", params=["uint64", "string"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return request.param, fill(tmp_path_factory.mktemp("filled") / "s", request.param)


@pytest.fixture
def both(filled: tuple[str, Path], tmp_path: Path) -> tuple[str, Path, Path]:
    """The type of ids, a store of today without own hours, and the same of yesterday."""
    new, old = (shutil.copytree(filled[1], tmp_path / name) for name in ("new", "old"))
    return filled[0], new, aged(old)


def test_files_with_and_without_the_hours_are_read_side_by_side(tmp_path: Path) -> None:
    snapshot = people([1, 2], allowed_hours=["08:00-12:00", None], provider=["a", "b"])
    store = store_of(opens(1, 10, 5), tmp_path, snapshot)
    new = store.path / store.files("recipients", 0)[0]["path"]
    old = tmp_path / "old.parquet"
    pq.write_table(pq.read_table(new).drop_columns("allowed_hours"), old, write_page_checksum=True)
    found = read_files([(old, 2), (new, 2), (old, 2)], recipients_schema("uint64", {}))
    hours = dict(read_files([(new, 2)], recipients_schema("uint64", {})).select("user_id", "allowed_hours").iter_rows())
    assert hours == {1: "08:00-12:00", 2: None}
    assert found["allowed_hours"].to_list() == [None, None, *hours.values(), None, None]
    assert found["provider"].to_list() == found["provider"].to_list()[:2] * 3
    assert set(found["provider"]) == {"a", "b"}


def test_another_column_that_is_gone_is_damage(tmp_path: Path) -> None:
    store = store_of(opens(1, 10, 5), tmp_path, people([1], provider="a"))
    with pytest.raises(BadData, match="provider"):
        Store.open(aged(store.path, "provider")).read_recipients(0)


def test_it_reads_as_a_store_in_which_nobody_has_hours(both: tuple[str, Path, Path]) -> None:
    _, new, old = both
    assert same(content(old), content(new))
    assert content(old)[1]["allowed_hours"].dtype == pl.String


@pytest.mark.parametrize("buckets", [2, 4, 16])
def test_compaction_makes_it_a_store_of_today(both: tuple[str, Path, Path], buckets: int) -> None:
    _, new, old = both
    for store in (new, old):
        compact(store, 1, Silent(), buckets=buckets)
    assert same(content(old), content(new))
    columns = set(pq.read_schema(old / Store.open(old).manifest["recipients"]["files"][0]["path"]).names)
    assert ("allowed_hours" in columns) == (buckets != 4)  # the same number of buckets leaves the recipients alone


def test_pieces_that_are_spilled_to_disk_have_the_column(both: tuple[str, Path, Path], tmp_path: Path) -> None:
    _, new, old = both
    for bucket in range(4):
        need = bytes_needed(Store.open(old), "recipients", bucket)
        pieces = list(sorted_pieces(Store.open(old), "recipients", bucket, need // 3, tmp_path / "spill"))
        assert len(pieces) > 1
        assert pl.concat(pieces).drop("row").equals(content_of(new, bucket))


def content_of(store: Path, bucket: int) -> pl.DataFrame:
    frame = Store.open(store).read_recipients(bucket)
    assert frame is not None
    return frame.drop("row")


def test_erasure_takes_the_same_people_from_it(both: tuple[str, Path, Path]) -> None:
    ids, new, old = both
    reports = [erase(store, ident(7, ids)) for store in (new, old)]
    assert reports[0] == reports[1]
    assert reports[0].removed["recipients"] == 1
    assert same(content(old), content(new))
    for bucket in range(4):
        Store.open(old).verify(bucket)


def test_a_person_is_told_the_same_of_himself(both: tuple[str, Path, Path]) -> None:
    ids, new, old = both
    config = load_config(None)
    told = [export_user(store, str(ident(7, ids)), config) | {"store": ""} for store in (new, old)]
    assert json.dumps(told[0]) == json.dumps(told[1])  # the order of the keys too
    assert told[1]["recipients"][0]["allowed_hours"] is None
