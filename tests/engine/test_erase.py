"""An erased store is the store of a sender who never had these people, on disk too."""

import json
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from erasures import KEYS, MARK, T0, USERS, content, erase, events, files, fill, holds_mark, ident, same
from sto_engine.cli import run_command
from sto_engine.config import load_config
from sto_engine.errors import BadData, TryLater
from sto_engine.ingest import ingest as run_ingest
from sto_engine.ingest.compact import compact
from sto_engine.ingest.erase import erase as run_erase
from sto_engine.ingest.store import Store
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Silent
from support import table


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize("ids", ["uint64", "int64", "string"])
def test_an_erased_store_is_the_store_of_a_sender_who_never_had_him(tmp_path: Path, ids: str, compacted: bool) -> None:
    store = fill(tmp_path / "s", ids, compacted=compacted)
    assert holds_mark(store)
    rows = sum(len(events(seed, ids).head(294).filter(user_agent=MARK)) for seed in range(3))
    if compacted:  # of equal rows one is left by the compaction of the first two generations
        merged = pl.concat([events(seed, ids).head(294).filter(user_agent=MARK) for seed in range(2)])
        rows -= len(merged) - merged.n_unique(["campaign_id", "event_type", "event_ts"])
    report = erase(store, ident(7, ids))
    never = fill(tmp_path / "never", ids, without=7, compacted=compacted)
    assert same(content(store), content(never))
    assert (report.asked, report.found, report.buckets) == (1, 1, 1)
    assert report.removed == {"events": rows, "recipients": 1, "quarantine": 18}
    for name in ("newest_event_ms", "buckets", "id_type"):
        assert Store.open(store).manifest[name] == Store.open(never).manifest[name]
    assert not holds_mark(store)
    for bucket in range(4):
        Store.open(store).verify(bucket)


def test_later_compactions_and_ingests_go_on_as_if_he_had_never_been(tmp_path: Path) -> None:
    store, never = fill(tmp_path / "s", "uint64"), fill(tmp_path / "n", "uint64", without=7)
    erase(store, 7)
    for each in (store, never):
        compact(each, 1, Silent())
    assert same(content(store), content(never))
    again = run_ingest([str(tmp_path / "s-0.parquet")], store, None, load_config(None), Silent())
    assert again.skipped_files == ["s-0.parquet"]
    assert Store.open(store).manifest["erasure"]["number"] == 1


def test_files_of_other_buckets_are_the_same_files_with_the_same_times(tmp_path: Path) -> None:
    source = tmp_path / "e.parquet"
    user = pl.Series("user_id", np.arange(20_000) % 10_000, dtype=pl.UInt64)
    frame = pl.DataFrame([user, pl.Series("campaign_id", [1] * 20_000), pl.Series("event_type", ["open"] * 20_000)])
    frame.with_columns(event_ts=pl.lit(T0)).write_parquet(source)
    run_ingest([str(source)], tmp_path / "s", None, load_config(None, ["store.buckets=8192"]), Silent())
    before = files(tmp_path / "s")
    report = erase(tmp_path / "s", 4321)
    after = files(tmp_path / "s")
    assert (report.removed["events"], report.buckets) == (2, 1)
    changed = {name for name in before if after.get(name) != before[name]}
    assert len(changed) == 2
    assert "manifest.json" in changed
    assert len(before) > 5000


def test_the_audit_line_counts_and_names_nobody(tmp_path: Path) -> None:
    store = fill(tmp_path / "s", "uint64")
    erase(store, 987654321, 7, 8)
    erase(store, 987654321)
    first, second = [json.loads(line) for line in (store / "erasures.jsonl").read_text().splitlines()]
    assert (first["number"], first["asked"], first["found"]) == (1, 3, 2)
    assert (second["number"], second["asked"], second["found"]) == (2, 1, 0)
    assert first["generations"] == ["gen-000001", "gen-000002", "gen-000003", "recipients-000001"]
    assert datetime.fromisoformat(first["time"]).tzinfo is not None
    assert set(first) == {"number", "time", "asked", "found", "removed", "buckets", "generations", "blocked"}
    assert "987654321" not in (store / "erasures.jsonl").read_text() + (store / "manifest.json").read_text()


def test_a_dry_run_says_what_would_go_and_changes_nothing(tmp_path: Path) -> None:
    store = fill(tmp_path / "s", "string")
    before = files(store)
    said = erase(store, ident(7, "string"), dry_run=True)
    assert files(store) == before
    done = erase(store, ident(7, "string"))
    assert (said.dry_run, done.dry_run) == (True, False)
    assert (said.found, said.removed, said.generations) == (done.found, done.removed, done.generations)


def test_many_ids_from_a_file_and_by_threads_go_at_once(tmp_path: Path) -> None:
    store = fill(tmp_path / "s", "uint64")
    (tmp_path / "ids.txt").write_text("7\n\n 8 \n7\n")
    pl.DataFrame({"user_id": [9, 10]}).write_parquet(tmp_path / "ids.parquet")
    config = load_config(None)
    assert run_erase(store, ["11"], tmp_path / "ids.txt", config, Silent(), threads=3).found == 3
    assert run_erase(store, [], tmp_path / "ids.parquet", config, Silent()).found == 2
    left = set(content(store)[0]["user_id"]) | set(content(store)[1]["user_id"])
    assert left == set(range(1, USERS)) - {7, 8, 9, 10, 11}


@pytest.mark.parametrize("text", ["7\nx\n", "7\n-12321\n"])
def test_a_list_with_a_line_that_is_no_id_is_refused_whole(tmp_path: Path, text: str) -> None:
    store = fill(tmp_path / "s", "uint64")
    (tmp_path / "ids.txt").write_text(text)
    before = files(store)
    with pytest.raises(BadData, match=r"ids\.txt line 2") as caught:
        run_erase(store, [], tmp_path / "ids.txt", load_config(None), Silent())
    assert "12321" not in str(caught.value)
    assert files(store) == before


def test_a_bucket_of_nobody_else_loses_its_file(tmp_path: Path) -> None:
    frame = events(1, "uint64").filter(user_agent=MARK)
    frame.head(4).write_parquet(tmp_path / "e.parquet")
    run_ingest([str(tmp_path / "e.parquet")], tmp_path / "s", None, load_config(None, KEYS), Silent())
    erase(tmp_path / "s", 7)
    assert not list((tmp_path / "s").glob("gen-*/*.parquet"))
    assert Store.open(tmp_path / "s").manifest["newest_event_ms"] is None
    assert compact(tmp_path / "s", 1, Silent()).rows == 0


def test_an_open_reader_of_the_old_state_is_told_to_run_again(tmp_path: Path) -> None:
    store = fill(tmp_path / "s", "uint64")
    old = Store.open(store)
    erase(store, *range(1, USERS))
    with pytest.raises(TryLater, match="changed while it was read"):
        old.read_events(0)


def test_an_erased_user_is_new_if_an_audience_names_him_and_else_nowhere(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "s")
    run = run_score(ScoreRequest(store, tmp_path / "a"), load_config(None), Silent()).run_dir
    assert run is not None
    user = table(run, "assignments").filter(reason="model").sort("n_eff")["user_id"][-1]
    assert run_command(["erase", "--store", str(tmp_path / "s"), "--user-id", str(user), "--quiet"]) == 0
    run = run_score(ScoreRequest(tmp_path / "s", tmp_path / "b"), load_config(None), Silent()).run_dir
    assert run is not None
    assert user not in pl.concat([table(run, kind)["user_id"] for kind in ("assignments", "suppressed")])
    newcomer = 123_456_789_012
    pl.DataFrame({"user_id": pl.Series([user, newcomer], dtype=pl.UInt64)}).write_parquet(tmp_path / "two.parquet")
    config = load_config(None, ["experiment.control_share=0"])
    request = ScoreRequest(tmp_path / "s", tmp_path / "c", audience=tmp_path / "two.parquet")
    run = run_score(request, config, Silent()).run_dir
    assert run is not None
    rows = table(run, "assignments").sort("user_id")
    assert rows["reason"].n_unique() == 1
    assert rows["slot"].n_unique() == 1
    assert rows["n_eff"].to_list() == [0, 0]


def test_the_command_tells_counts_and_what_is_out_of_its_reach(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = fill(tmp_path / "s", "uint64")
    assert run_command(["erase", "--store", str(store), "--user-id", "7", "--user-id", "99", "--log-json"]) == 0
    told = capsys.readouterr()
    said = json.loads(told.out)
    assert (said["asked"], said["found"]) == (2, 1)
    assert any("run folders" in each for each in said["out_of_reach"])
    assert not any("erase" in line and '"7"' in line for line in told.err.splitlines())
