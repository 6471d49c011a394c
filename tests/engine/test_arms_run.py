"""Arms over whole runs: who explores, where, and how likely that was, against the chances of --dump-scores."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from sto_engine.config import load_config
from sto_engine.ingest import ingest
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Silent
from support import table

DAY = date(2026, 4, 20)
CONTROL = 10
SHARES = {"control": 0.1, "random": 0.15, "explore": 0.45}
KEYS = [f"experiment.{arm}_share={share}" for arm, share in SHARES.items()]


def score(store: Path, out: Path, *keys: str, **asked: object) -> Path:
    request = replace(ScoreRequest(store, out, date=DAY, dump_scores=True), **asked)
    run = run_score(request, load_config(None, keys), Silent()).run_dir
    assert run is not None
    return run


def scored(run: Path) -> tuple[pl.DataFrame, np.ndarray]:
    """The rows of a run and, beside each, its chance at every slot, float64 [U, S]."""
    rows, scores = table(run, "assignments"), table(run, "scores")
    assert rows["user_id"].equals(scores["user_id"])
    return rows, np.array(scores["p_open"].to_list(), np.float64)


@pytest.fixture(scope="module", params=[("attention", 0, 24), ("boosted", 9, 21)], ids=["all day", "window"])
def night(
    request: pytest.FixtureRequest, store: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, np.ndarray]:
    """A run of all arms and the slots of its window."""
    policy, start, end = request.param
    keys = [*KEYS, f"model.policy={policy}", f"window.start={start:02d}:00", f"window.end={end:02d}:00"]
    trained = bundle if policy == "boosted" else None
    open_S = (np.arange(24) >= start) & (np.arange(24) < end)
    return score(store, tmp_path_factory.mktemp("night"), *keys, bundle=trained), open_S


def test_every_arm_has_its_share_and_its_reason(night: tuple[Path, np.ndarray]) -> None:
    rows = table(night[0], "assignments")
    assert rows["arm"].null_count() == 0
    for arm, share in {**SHARES, "model": 0.3}.items():
        mine = rows.filter(arm=arm)
        assert stats.binomtest(len(mine), len(rows), share).pvalue > 1e-3
        assert arm == "model" or mine["reason"].unique().to_list() == [arm]


def test_propensities_are_exact(night: tuple[Path, np.ndarray]) -> None:
    run, open_S = night
    rows, p_US = scored(run)
    slot_U, best_U = rows["slot"].to_numpy(), rows["preferred_slot"].to_numpy()
    assert open_S[slot_U].all()
    expected_U = SHARES["control"] * (slot_U == CONTROL) + SHARES["random"] / open_S.sum() + 0.3 * (slot_U == best_U)
    weight_US = p_US * open_S
    expected_U += SHARES["explore"] * weight_US[np.arange(len(rows)), slot_U] / weight_US.sum(axis=1)
    np.testing.assert_allclose(rows["propensity"].to_numpy(), expected_U, rtol=1e-5)


def test_propensities_of_explorers_stay_exact_under_limits_weights_and_gains(store: Path, tmp_path: Path) -> None:
    limits = "capacity.total=1M/h", "assign.min_gain=0.05", "capacity.weight=clv"
    rows, p_US = scored(score(store, tmp_path, *KEYS, *limits))
    slot_U = rows["slot"].to_numpy()
    # elsewhere nobody but an explorer, or one whose slot is random, is sent
    drawn_U = (slot_U != CONTROL) & (slot_U != rows["preferred_slot"].to_numpy()) & (rows["arm"] != "model").to_numpy()
    assert drawn_U.sum() > 200
    expected_U = SHARES["random"] / 24 + SHARES["explore"] * p_US[np.arange(len(rows)), slot_U] / p_US.sum(axis=1)
    np.testing.assert_allclose(rows["propensity"].to_numpy()[drawn_U], expected_U[drawn_U], rtol=1e-5)


def test_explorers_are_spread_in_proportion_to_their_chances(store: Path, tmp_path: Path) -> None:
    counts_S, expected_S = np.zeros(24), np.zeros(24)
    for seed in range(3):
        run = score(store, tmp_path, "experiment.control_share=0", "experiment.explore_share=1", seed=seed)
        rows, p_US = scored(run)
        assert rows["arm"].unique().to_list() == ["explore"]
        counts_S += np.bincount(rows["slot"].to_numpy(), minlength=24)
        expected_S += (p_US / p_US.sum(axis=1, keepdims=True)).sum(axis=0)
    assert stats.chisquare(counts_S, expected_S).pvalue > 1e-3
    # the test has the power to tell the two apart
    assert stats.chisquare(counts_S, np.full(24, counts_S.mean())).pvalue < 1e-6


def test_random_slots_are_uniform_in_the_window(store: Path, tmp_path: Path) -> None:
    keys = "experiment.control_share=0", "experiment.random_share=1", "window.start=08:00", "window.end=20:00"
    rows = table(score(store, tmp_path, *keys), "assignments")
    # without the control time no one leaves the experiment: 10:00 lies inside
    assert rows["arm"].unique().to_list() == ["random"]
    assert stats.chisquare(np.bincount(rows["slot"].to_numpy(), minlength=24)[8:20]).pvalue > 1e-3
    np.testing.assert_allclose(rows["propensity"].to_numpy(), 1 / 12, rtol=1e-6)


def test_slots_are_drawn_anew_for_every_date_campaign_and_seed_but_arms_never(store: Path, tmp_path: Path) -> None:
    asked = [{}, {"date": DAY + timedelta(days=1)}, {"campaign": "spring"}, {"seed": 1}]
    first, *others = [table(score(store, tmp_path, *KEYS, **each), "assignments") for each in asked]
    drawn = pl.col("arm").is_in(["random", "explore"])
    for other in others:
        assert other.select("user_id", "arm").equals(first.select("user_id", "arm"))
        assert (other.filter(drawn)["slot"] == first.filter(drawn)["slot"]).mean() < 0.25
        assert other.filter(arm="control")["slot"].unique().to_list() == [CONTROL]
    again = table(score(store, tmp_path / "again", *KEYS), "assignments")
    assert again.select("user_id", "slot", "send_at").equals(first.select("user_id", "slot", "send_at"))


def test_another_experiment_draws_other_arms(store: Path, tmp_path: Path) -> None:
    arms = [
        table(score(store, tmp_path, *KEYS, f"experiment.name={name}"), "assignments")["arm"] for name in ("a", "b")
    ]
    same = sum(share**2 for share in (*SHARES.values(), 0.3))
    assert stats.binomtest(int((arms[0] == arms[1]).sum()), len(arms[0]), same).pvalue > 1e-3


def test_modulo_buckets_go_by_the_last_two_digits(tmp_path: Path) -> None:
    ids = pl.Series("user_id", range(1_000, 1_400), dtype=pl.UInt64)
    events = pl.DataFrame([ids, pl.Series("campaign_id", [1] * len(ids), dtype=pl.UInt64)]).with_columns(
        event_type=pl.lit("send"), event_ts=pl.lit("2026-04-18T08:00:00Z").str.to_datetime(time_zone="UTC")
    )
    events.write_parquet(tmp_path / "e.parquet")
    config = load_config(None, ["store.buckets=2"])
    ingest([str(tmp_path / "e.parquet")], tmp_path / "s", None, config, Silent())
    keys = "experiment.bucket=modulo", "experiment.control_share=0.07", "experiment.random_share=0.29"
    rows = table(
        score(tmp_path / "s", tmp_path / "out", *keys, "experiment.explore_share=0.14", dump_scores=False),
        "assignments",
    )
    for user, arm in rows.select("user_id", "arm").iter_rows():
        digits = user % 100
        edges = {"control": digits < 7, "random": 7 <= digits < 36, "explore": 36 <= digits < 50}
        assert arm == next((name for name, inside in edges.items() if inside), "model")
