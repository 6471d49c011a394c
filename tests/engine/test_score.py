from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sto_engine.config import Config, load_config
from sto_engine.errors import ConfigError, TryLater, UsageError
from sto_engine.files import folder_lock
from sto_engine.ingest import ingest
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Silent
from sto_engine.zones import load_zone
from support import digest, table

DAY = date(2026, 4, 20)


def score(store: Path, out: Path, config: Config, **fields: object) -> Path:
    run = run_score(replace(ScoreRequest(store, out, date=DAY), **fields), config, Silent()).run_dir
    assert run is not None
    return run


@pytest.fixture(scope="module", params=["histogram", "attention", "boosted"])
def run(request: pytest.FixtureRequest, store: Path, bundle: Path, tmp_path_factory):
    config = load_config(None, [f"model.policy={request.param}"])
    out = tmp_path_factory.mktemp("out")
    return score(store, out, config, bundle=bundle if request.param == "boosted" else None)


def test_every_recipient_is_in_exactly_one_table(run: Path, world: Path) -> None:
    everyone = pl.read_parquet(world / "recipients.parquet")["user_id"].to_list()
    written = table(run, "assignments")["user_id"].to_list() + table(run, "suppressed")["user_id"].to_list()
    assert Counter(written) == Counter(everyone)


def test_send_at_lies_in_the_spread_window_of_its_local_slot(run: Path, world: Path) -> None:
    zones = dict(pl.read_parquet(world / "recipients.parquet").select("user_id", "timezone").iter_rows())
    for row in table(run, "assignments").iter_rows(named=True):
        if zones[row["user_id"]] is None:
            continue
        local = row["send_at"].astimezone(load_zone(zones[row["user_id"]]))
        assert local.date() == DAY
        assert local.hour == row["slot"]
        assert local.minute < 15
        assert row["slot_local"] == datetime(2026, 4, 20, row["slot"])


def test_control_share_is_drawn_and_sits_at_the_control_time(run: Path) -> None:
    rows = table(run, "assignments")
    control = rows.filter(pl.col("arm") == "control")
    assert 0.05 < len(control) / len(rows) < 0.16
    assert control["slot"].unique().to_list() == [10]
    assert control["reason"].unique().to_list() == ["control"]


def test_propensity_is_the_chance_of_the_slot_over_the_draw_of_arms(run: Path) -> None:
    rows = table(run, "assignments")
    expected = 0.9 * (rows["slot"] == rows["preferred_slot"]) + 0.1 * (rows["slot"] == 10)
    np.testing.assert_allclose(rows["propensity"].to_numpy(), expected.to_numpy(), rtol=1e-6)


def test_a_second_run_is_already_complete(store: Path, small_config: Config, tmp_path: Path) -> None:
    first = run_score(ScoreRequest(store, tmp_path, date=DAY), small_config, Silent())
    second = run_score(ScoreRequest(store, tmp_path, date=DAY), small_config, Silent())
    assert (first.complete_before, second.complete_before) == (False, True)
    assert first.run_dir == second.run_dir


def test_thread_count_and_folder_do_not_change_a_byte(
    store: Path, bundle: Path, small_config: Config, tmp_path: Path
) -> None:
    runs = [score(store, tmp_path / str(n), small_config, bundle=bundle, threads=n) for n in (1, 2, 5)]
    assert digest(runs[0]) == digest(runs[1]) == digest(runs[2])


def test_bucket_count_does_not_change_a_choice(world: Path, store: Path, small_config: Config, tmp_path: Path) -> None:
    other = tmp_path / "store"
    ingest(
        [str(world / "events")], other, world / "recipients.parquet", load_config(None, ["store.buckets=1"]), Silent()
    )
    a, b = (table(score(s, tmp_path / n, small_config), "assignments") for s, n in ((store, "a"), (other, "b")))
    keep = [c for c in a.columns if c not in ("send_at",)]
    assert a.select(keep).equals(b.select(keep))


def test_dry_run_writes_nothing_and_counts_what_the_run_counts(
    store: Path, small_config: Config, tmp_path: Path
) -> None:
    dry = run_score(ScoreRequest(store, tmp_path, date=DAY, dry_run=True), small_config, Silent())
    assert dry.run_dir is None
    assert list(tmp_path.iterdir()) == []
    real = run_score(ScoreRequest(store, tmp_path, date=DAY), small_config, Silent())
    for key in ("run_id", "counts", "by_reason", "by_slot", "by_arm"):
        assert dry.summary[key] == real.summary[key]


def test_a_window_masks_and_never_clamps(store: Path, tmp_path: Path) -> None:
    config = load_config(None, ["window.start=09:00", "window.end=18:00", 'window.quiet=["12:00-13:00"]'])
    rows = table(score(store, tmp_path, config), "assignments")
    assert set(rows["slot"].to_list()) <= {9, 10, 11, 13, 14, 15, 16, 17}


def test_a_window_that_never_opens_is_refused(store: Path, tmp_path: Path) -> None:
    config = load_config(None, ["window.start=09:00", "window.end=10:00", 'window.quiet=["08:00-11:00"]'])
    with pytest.raises(ConfigError, match=r"window\.quiet"):
        score(store, tmp_path, config)
    assert list(tmp_path.iterdir()) == []


def test_slots_that_are_over_before_the_earliest_send_suppress_with_a_reason(
    store: Path, small_config: Config, tmp_path: Path
) -> None:
    late = int(datetime(2026, 4, 22, tzinfo=UTC).timestamp() * 1000)
    run = score(store, tmp_path, small_config, not_before_ms=late)
    assert len(table(run, "assignments")) == 0
    assert "no_slot_left" in table(run, "suppressed")["reason"].to_list()


def test_not_before_closes_the_slots_that_start_earlier(store: Path, small_config: Config, tmp_path: Path) -> None:
    limit = datetime(2026, 4, 20, 12, tzinfo=UTC)
    run = score(store, tmp_path, small_config, not_before_ms=int(limit.timestamp() * 1000))
    assert table(run, "assignments")["send_at"].min() >= limit


def test_users_whose_control_time_is_masked_leave_the_experiment(store: Path, tmp_path: Path) -> None:
    rows = table(score(store, tmp_path, load_config(None, ["window.start=12:00"])), "assignments")
    assert rows["arm"].null_count() == len(rows)
    assert rows["propensity"].unique().to_list() == [1.0]


def test_an_audience_file_limits_the_run_and_keeps_its_count(
    store: Path, world: Path, small_config: Config, tmp_path: Path
) -> None:
    ids = pl.read_parquet(world / "recipients.parquet")["user_id"].head(50)
    frame = pl.DataFrame({"user_id": [*ids.to_list(), int(ids[0]), None, 12345]}, schema={"user_id": pl.UInt64})
    frame.write_parquet(tmp_path / "audience.parquet")
    request = ScoreRequest(store, tmp_path / "out", audience=tmp_path / "audience.parquet")
    result = run_score(request, small_config, Silent())
    assert result.summary["counts"]["audience"] == 53
    assert result.summary["counts"]["quarantined"] == 1
    assert result.run_dir is not None
    assert table(result.run_dir, "suppressed")["reason"].to_list().count("duplicate") == 1
    assert 12345 in table(result.run_dir, "assignments")["user_id"].to_list()


def test_seed_moves_random_slots_but_never_arms(store: Path, tmp_path: Path) -> None:
    config = load_config(None, ["experiment.random_share=0.5"])
    a, b = (table(score(store, tmp_path, config, seed=seed), "assignments") for seed in (0, 1))
    assert a["arm"].equals(b["arm"])
    random = a["arm"] == "random"
    assert not a.filter(random)["slot"].equals(b.filter(random)["slot"])
    assert a.filter(random)["slot"].n_unique() > 15


def test_dump_scores_writes_every_slot(store: Path, bundle: Path, small_config: Config, tmp_path: Path) -> None:
    run = score(store, tmp_path, small_config, bundle=bundle, dump_scores=True)
    scores = table(run, "scores").join(table(run, "assignments"), on="user_id")
    chosen = np.array([p[s] for p, s in zip(scores["p_open"].to_list(), scores["slot"].to_list(), strict=True)])
    np.testing.assert_array_equal(chosen.astype(np.float32), scores["p_open_right"].to_numpy())


def test_a_damaged_shard_of_a_committed_run_is_written_again(store: Path, small_config: Config, tmp_path: Path) -> None:
    run = score(store, tmp_path, small_config)
    before = digest(run)
    shard = next(run.glob("assignments/*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert not run_score(ScoreRequest(store, tmp_path, date=DAY), small_config, Silent()).complete_before
    assert digest(run) == before


def test_a_run_folder_in_use_is_left_alone(store: Path, small_config: Config, tmp_path: Path) -> None:
    run = score(store, tmp_path, small_config)
    with folder_lock(run, "run folder"), pytest.raises(TryLater, match="in use by pid"):
        run_score(ScoreRequest(store, tmp_path, date=DAY), small_config, Silent())


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("slots.grid=168", "hour_of_week for 168"),
        ("model.policy=histgram", "histogram"),
        ("experiment.control_time=10:30", "control_time"),
    ],
)
def test_what_this_version_cannot_run_is_refused(store: Path, tmp_path: Path, override: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        run_score(ScoreRequest(store, tmp_path), load_config(None, [override]), Silent())
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_campaign_type_is_a_usage_error(store: Path, small_config: Config, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="promo"):
        run_score(ScoreRequest(store, tmp_path, campaign_type="newsletter"), small_config, Silent())
