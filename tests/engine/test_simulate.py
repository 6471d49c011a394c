"""The truth that a world states is the frequency that its events have."""

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sto_engine.errors import CannotCreate, ConfigError, UsageError
from sto_engine.progress import Silent
from sto_engine.simulate import simulate
from sto_engine.simulate.attention import Readers, draw_opens, draw_readers, open_probability


@pytest.mark.parametrize("window", [2, 24])
def test_stated_probabilities_are_the_frequency_of_drawn_opens(window: int) -> None:
    rng = np.random.default_rng(0)
    readers = draw_readers(rng, 4)
    truth_UH, repeats = open_probability(readers, window), 40_000
    for user, hour in ((0, 9), (1, 20), (2, 167), (3, 130)):
        user_N = np.full(repeats, user)
        age_N = draw_opens(rng, readers, user_N, np.full(repeats, float(hour)), np.ones(repeats))
        p, found = truth_UH[user, hour], (age_N <= window).mean()
        assert abs(found - p) < 5 * np.sqrt(p * (1 - p) / repeats) + 1e-9


def test_the_sum_over_hours_is_the_integral_of_the_process() -> None:
    rate = np.random.default_rng(1).uniform(0, 0.5, (1, 168))
    readers = Readers(rate, np.array([0.7]))
    step, hour = 1e-4, 100
    age = np.arange(step / 2, 2, step)
    look = rate[0, (hour + age).astype(int) % 168]
    integral = (look * np.exp(-np.cumsum(look) * step) * np.exp(-age / 16)).sum() * step * 0.7
    assert open_probability(readers, 2)[0, hour] == pytest.approx(integral, rel=1e-3)


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*.parquet"))}


def test_a_seed_fixes_every_byte(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate(tmp_path / name, "attention", 300, 20, seed, Silent())
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert digests(tmp_path / "a") != digests(tmp_path / "c")


def test_truth_has_its_fixed_format(world: Path) -> None:
    truth = pl.read_parquet(world / "truth.parquet")
    assert truth.schema == {
        "user_id": pl.UInt64,
        "true_timezone": pl.String,
        "true_offset": pl.Int16,
        "profile_offset": pl.Int16,
        "eligible": pl.Boolean,
        "p2h": pl.Array(pl.Float32, 24),
        "p24h": pl.Array(pl.Float32, 24),
        "p2h_week": pl.Array(pl.Float32, 168),
        "p24h_week": pl.Array(pl.Float32, 168),
    }
    assert truth["user_id"].n_unique() == 600
    assert truth["p2h"].to_numpy().max() <= 1
    assert (truth["p2h"].to_numpy() <= truth["p24h"].to_numpy()).all()
    np.testing.assert_array_equal(truth["p2h"].to_numpy(), truth["p2h_week"].to_numpy()[:, :24])


def test_events_stay_inside_the_history(world: Path) -> None:
    events = pl.read_parquet(world / "events")
    days = events["event_ts"].dt.date()
    assert str(days.max()) < "2026-04-20"
    assert set(events["event_type"]) == {"send", "open", "click"}
    local = events.with_columns(l=pl.col("event_ts") + pl.duration(minutes=pl.col("tz_offset").cast(pl.Int64)))
    hours = local.filter(pl.col("event_type") == "send")["l"].dt.hour().value_counts(sort=True)["l"].head(4)
    assert set(hours) == {8, 10, 13, 18}


def test_other_folders_and_wrong_counts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(CannotCreate, match="holds other files"):
        simulate(tmp_path, "attention", 10, 10, 0, Silent())
    with pytest.raises(UsageError, match="at least 1"):
        simulate(tmp_path / "x", "attention", 0, 10, 0, Silent())
    with pytest.raises(ConfigError, match="nearest"):
        simulate(tmp_path / "x", "atention", 10, 10, 0, Silent())
