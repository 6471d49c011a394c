"""End to end on real events, where the folder beside the checkout holds them; nothing of it is kept."""

from pathlib import Path

import polars as pl
import pytest

from sto_engine.config import load_config
from sto_engine.ingest import ingest
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Silent
from sto_engine.train_job import train
from support import REAL_DATA, digest, table


def needs(name: str) -> Path:
    path = REAL_DATA / name / "events.parquet"
    if not path.exists():
        pytest.skip(f"real events {name} are not on this machine ({path})")
    return path


@pytest.mark.parametrize("days", [90, 5400])
def test_activity_without_sends_gives_one_row_a_person(tmp_path: Path, days: int) -> None:
    events = needs("gitact_dev")
    config = load_config(None, [f"model.history_days={days}", "store.buckets=4"])
    report = ingest([str(events)], tmp_path / "store", None, config, Silent())
    assert report.events == pl.scan_parquet(events).select(pl.len()).collect().item()
    result = run_score(ScoreRequest(tmp_path / "store", tmp_path / "out"), config, Silent())
    assert result.run_dir is not None
    people = pl.read_parquet(events, columns=["user_id"])["user_id"].unique().sort()
    assert table(result.run_dir, "assignments")["user_id"].sort().equals(people)
    assert result.summary["counts"] == {
        "audience": len(people),
        "assigned": len(people),
        "suppressed": 0,
        "quarantined": 0,
    }
    recent = pl.read_parquet(events).filter(
        pl.col("event_ts") >= pl.col("event_ts").max().dt.truncate("1d") - pl.duration(days=days - 1)
    )
    often = recent.unique(["user_id", "campaign_id", "event_ts"]).group_by("user_id").len().filter(pl.col("len") >= 5)
    personal = table(result.run_dir, "assignments").filter(pl.col("n_eff") >= 5)
    assert set(personal["user_id"]) == set(often["user_id"])


def test_mails_and_answers_train_and_score_to_one_row_a_person(tmp_path: Path) -> None:
    events = needs("rlists_dev")
    keys = ["model.history_days=7300", "train.label_days=3650", "train.trees=30", "train.depth=4", "store.buckets=4"]
    config = load_config(None, keys)
    ingest([str(events)], tmp_path / "store", None, config, Silent())
    train(
        tmp_path / "store", tmp_path / "b", None, config, threads=2, seed=0, if_older_than_days=None, progress=Silent()
    )
    people = pl.read_parquet(events, columns=["user_id"])["user_id"].unique().sort()
    digests = []
    for threads in (1, 2):
        request = ScoreRequest(tmp_path / "store", tmp_path / str(threads), bundle=tmp_path / "b", threads=threads)
        run = run_score(request, config, Silent()).run_dir
        assert run is not None
        assert table(run, "assignments")["user_id"].sort().equals(people)
        digests.append(digest(run))
    assert digests[0] == digests[1]
