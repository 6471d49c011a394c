"""A sender who goes on: the same luck for whoever decides, a truth that moves where habits do, a step's own events."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sto_engine.errors import ConfigError, UsageError
from sto_engine.evaluate.truth import read_truth
from sto_engine.progress import Silent
from sto_engine.simulate import WORLDS, simulate
from sto_engine.simulate.living import LivingWorld

HOUR_MS = 3_600_000


def rows_at(living: LivingWorld, campaign: int, hour: int, users: slice = slice(None)) -> pl.DataFrame:
    """Everybody at one hour of the day, UTC."""
    at = pl.lit(living.date_of(campaign)).cast(pl.Datetime("ms")).dt.epoch("ms") + hour * HOUR_MS
    return living.users[users].select("user_id", send_at_ms=at)


@pytest.mark.parametrize("world", sorted(WORLDS))
def test_two_deciders_meet_the_same_luck(world: str) -> None:
    living, again = LivingWorld(world, 400, 3), LivingWorld(world, 400, 3)
    whole, part = living.step(2, rows_at(living, 2, 12)), again.step(2, rows_at(again, 2, 12, slice(50, 250))[::-1])
    np.testing.assert_array_equal(whole.age_N[50:250], part.age_N)
    assert part.user_N.tolist() == list(range(50, 250))
    assert living.step(2, rows_at(living, 2, 12)).events.equals(whole.events)
    other = living.step(3, rows_at(living, 3, 12))
    assert (np.isfinite(other.age_N) != np.isfinite(whole.age_N)).any()


def test_an_hour_later_changes_few_fates() -> None:
    """Independent luck would part 2 p (1 - p) of them, some 40 %."""
    living = LivingWorld("attention", 3000, 0)
    early, late = (np.isfinite(living.step(0, rows_at(living, 0, hour)).age_N) for hour in (12, 13))
    assert 0 < (early != late).mean() < 0.12


def test_the_events_of_a_step_are_its_sends_and_what_their_owners_did() -> None:
    living = LivingWorld("attention", 300, 1)
    rows = rows_at(living, 4, 9, slice(0, 200))
    happened = living.step(4, rows)
    events = pl.from_arrow(happened.events)
    assert isinstance(events, pl.DataFrame)
    assert set(events["campaign_id"]) == {living.campaign_id(4)}
    assert set(events["campaign_type"]) == {"promo"}
    sends = events.filter(pl.col("event_type") == "send")
    sent = sends.select("user_id", send_at_ms=pl.col("event_ts").dt.epoch("ms"))
    assert sent.sort("user_id").equals(rows.sort("user_id"))
    opens = events.filter(pl.col("event_type") == "open")
    assert len(opens) == np.isfinite(happened.age_N).sum() > 20
    assert set(opens["user_id"]) <= set(rows["user_id"])
    assert events["event_ts"].is_sorted()
    assert (opens["event_ts"] > sends["event_ts"].min()).all()


@pytest.mark.parametrize("world", sorted(WORLDS))
def test_the_truth_moves_where_habits_do_and_nowhere_else(world: str) -> None:
    living = LivingWorld(world, 300, 0, history_days=28, campaigns=28)
    first, last = living.truth(0), living.truth(27)
    moved_U = (first.p2_UH != last.p2_UH).any(axis=1)
    if world == "drift":
        assert 0.25 < moved_U.mean() < 0.9
        assert 0.01 < (first.zone_U != last.zone_U).mean() < 0.3
    else:
        assert moved_U.any() == (world == "blend")
    day = living.date_of(0).weekday()
    assert (first.first_hour, living.truth(1).first_hour) == (24 * day, 24 * ((day + 1) % 7))


@pytest.mark.parametrize("world", ["drift", "sparse", "send_hour"])
def test_the_truth_of_a_day_is_the_frequency_of_its_opens(world: str) -> None:
    """Over people: the sum of the chances, as appealing as each campaign is, is the number who open."""
    living = LivingWorld(world, 4000, 5, history_days=28, campaigns=28)
    for campaign in (0, 13, 27):
        happened = living.step(campaign, rows_at(living, campaign, 8))
        hour_N = happened.week_hour_N.astype(np.int64)
        p_N = living.truth(campaign).p24_UH[happened.user_N, hour_N] * living.appeal_C[campaign]
        opened = (happened.age_N < 24).sum()
        assert abs(opened - p_N.sum()) < 4 * np.sqrt((p_N * (1 - p_N)).sum()) + 0.02 * p_N.sum()


def test_a_history_is_one_of_simulate_where_nothing_follows_it(tmp_path: Path) -> None:
    """The same people, mail and truth; opens after the last day are in the history of a sender who goes on."""
    simulate(tmp_path / "old", "attention", 2000, 30, 7, Silent())
    living = LivingWorld("attention", 2000, 7, history_days=30)
    for _ in range(2):  # as often as one likes
        living.write(tmp_path / "new")
    old, new = (pl.read_parquet(tmp_path / name / "events" / "*.parquet") for name in ("old", "new"))
    end = old["event_ts"].max()
    assert new.filter(pl.col("event_ts") <= end).equals(old)
    assert len(new) > len(old)
    people = [pl.read_parquet(tmp_path / name / "recipients.parquet") for name in ("old", "new")]
    assert people[0].equals(people[1])
    truth, now = read_truth(tmp_path / "old"), living.truth(0)
    np.testing.assert_allclose(truth.chances("24h", True, np.arange(2000)), now.p24_UH, rtol=1e-6)
    assert truth.users["eligible"].equals(living.users["eligible"])


def test_those_who_join_have_no_history(tmp_path: Path) -> None:
    living = LivingWorld("attention", 500, 0, joining=0.4)
    living.write(tmp_path / "some")
    joins = living.users.filter("joins")["user_id"]
    assert 150 < len(joins) < 260
    assert not set(pl.read_parquet(tmp_path / "some" / "events")["user_id"]) & set(joins)
    nobody = LivingWorld("attention", 50, 0, joining=1.0)
    nobody.write(tmp_path / "none")
    assert not list((tmp_path / "none" / "events").iterdir())
    assert nobody.step(0, rows_at(nobody, 0, 9)).events.num_rows > 50


def test_campaigns_may_come_more_or_less_often_than_once_a_day() -> None:
    days = [[LivingWorld("attention", 5, 0, 7, 4, rate).date_of(c).day for c in range(4)] for rate in (1, 2, 0.5)]
    assert days == [[20, 21, 22, 23], [20, 20, 21, 21], [20, 22, 24, 26]]


def test_what_is_no_sender_is_refused() -> None:
    with pytest.raises(ConfigError, match="nearest"):
        LivingWorld("drif", 10, 0)
    with pytest.raises(UsageError, match="1 to 10000 users"):
        LivingWorld("drift", 0, 0)
    living = LivingWorld("drift", 5, 0)
    rows = rows_at(living, 0, 9)
    with pytest.raises(UsageError, match="2 that share a recipient"):
        living.step(0, pl.concat([rows, rows[:1]]))
    with pytest.raises(UsageError, match="1 of nobody"):
        living.step(0, rows.with_columns(user_id=pl.lit(1, pl.UInt64))[:1])
