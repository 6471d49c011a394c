"""Arms and propensities against draws over many names, by enumeration and by hand."""

from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sto_engine.assign import arms
from sto_engine.config import Experiment
from sto_engine.errors import ConfigError
from sto_kernels.hashing import hash_integers

N = 200_000
NAMES = ("control", "random", "explore", "model")
CODES = (arms.CONTROL, arms.RANDOM, arms.EXPLORE, arms.MODEL)


def users(n: int = N) -> pl.DataFrame:
    ids = np.arange(n, dtype=np.uint64)
    return pl.DataFrame({"h": hash_integers(ids), "user_id": ids})


def experiment(control: float = 0.0, random: float = 0.0, explore: float = 0.0, **more: Any) -> Experiment:
    return Experiment(control_share=control, random_share=random, explore_share=explore, **more)


def drawn(it: Experiment, n: int = N) -> np.ndarray:
    return arms.draw_arms(users(n), it, np.ones(n, np.bool_))


def test_shares_are_those_of_the_configuration() -> None:
    arm_U = drawn(experiment(0.1, 0.2, 0.3))
    for code, share in zip(CODES, (0.1, 0.2, 0.3, 0.4), strict=True):
        assert abs((arm_U == code).mean() - share) < 4 * np.sqrt(share * (1 - share) / N)


def test_a_larger_share_keeps_whom_it_had() -> None:
    before, after = drawn(experiment(0.1)), drawn(experiment(0.1, 0.2, 0.3))
    np.testing.assert_array_equal(before == arms.CONTROL, after == arms.CONTROL)
    wider = drawn(experiment(0.1, 0.2, 0.5))
    assert (wider[after == arms.EXPLORE] == arms.EXPLORE).all()
    assert (drawn(experiment(0.1, 0.2, 0.3, name="other")) != after).mean() > 0.5


def test_whoever_is_outside_has_no_arm() -> None:
    inside_U = np.arange(100) % 3 > 0
    arm_U = arms.draw_arms(users(100), experiment(0.3, 0.3, 0.4), inside_U)
    np.testing.assert_array_equal(arm_U == arms.OUTSIDE, ~inside_U)
    assert [arms.ARM_NAMES[code] for code in CODES] == list(NAMES)
    assert arms.ARM_NAMES[arms.OUTSIDE] is None


@pytest.mark.parametrize("shares", [(0.1, 0.2, 0.7), (0.7, 0.2, 0.1), (0.3, 0.3, 0.4), (0.0, 0.0, 1.0)])
@pytest.mark.parametrize("bucket", ["hash", "modulo"])
def test_shares_that_add_up_to_all_leave_nobody_to_the_model(shares: tuple[float, ...], bucket: str) -> None:
    assert not (drawn(experiment(*shares, bucket=bucket)) == arms.MODEL).any()


def test_modulo_goes_by_the_hundreds_of_the_id() -> None:
    arm_U = drawn(experiment(0.07, 0.13, 0.3, bucket="modulo"), 300)
    expected = [arms.CONTROL] * 7 + [arms.RANDOM] * 13 + [arms.EXPLORE] * 30 + [arms.MODEL] * 50
    assert arm_U.tolist() == expected * 3
    negative = pl.DataFrame({"h": np.zeros(2, np.uint64), "user_id": [-1, -100]})
    it = experiment(0.07, bucket="modulo")
    assert arms.draw_arms(negative, it, np.ones(2, np.bool_)).tolist() == [arms.MODEL, arms.CONTROL]


@pytest.mark.parametrize("key", ["control_share", "random_share", "explore_share"])
def test_modulo_takes_whole_percents_and_whole_numbers_only(key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        arms.check_experiment(Experiment(**{key: 0.005}, bucket="modulo"), "uint64")
    arms.check_experiment(Experiment(**{key: 0.07}, bucket="modulo"), "int64")
    arms.check_experiment(Experiment(**{key: 0.005}), "string")
    with pytest.raises(ConfigError, match="hash"):
        arms.check_experiment(experiment(0.07, bucket="modulo"), "string")


WORTH = np.array([[0.3, 0.1, 0.6, 0.2, 0.0]], np.float32)
ALLOWED = np.array([[True, True, False, True, True]])


def draws(kind: str, occasion: str, seed: int = 0) -> np.ndarray:
    """Slots of many users who all have the same worths and the same allowed slots."""
    h_U = users()["h"].to_numpy()
    if kind == "random":
        return arms.random_slots(h_U, np.repeat(ALLOWED, N, axis=0), seed, occasion)
    chance_US = np.repeat(arms.explore_chances(WORTH, ALLOWED), N, axis=0)
    return arms.explore_slots(h_U, chance_US, seed, occasion)


@pytest.mark.parametrize(("kind", "chance"), [("random", [3, 3, 0, 3, 3]), ("explore", [6, 2, 0, 4, 0])])
def test_slots_are_drawn_by_their_chances(kind: str, chance: list[int]) -> None:
    expected = np.array(chance) / 12
    found = np.bincount(draws(kind, arms.occasion_of(date(2026, 4, 1), "c")), minlength=5) / N
    np.testing.assert_allclose(found, expected, atol=4 * np.sqrt(0.25 / N), rtol=0)
    assert (found[expected == 0] == 0).all()


@pytest.mark.parametrize("kind", ["random", "explore"])
def test_every_date_campaign_and_seed_draws_anew_and_the_same_ones_draw_the_same(kind: str) -> None:
    days = (date(2026, 4, 1), date(2026, 4, 2))
    occasions = [arms.occasion_of(day, campaign) for day in days for campaign in (None, "a", "b")]
    assert len(set(occasions)) == 6
    rows = [draws(kind, occasion) for occasion in occasions] + [draws(kind, occasions[0], seed=1)]
    chance = np.bincount(rows[0], minlength=5) / N
    same = float((chance**2).sum())
    for at, row in enumerate(rows):
        for other in rows[:at]:
            assert abs((row == other).mean() - same) < 0.01
    np.testing.assert_array_equal(draws(kind, occasions[0]), rows[0])
    np.testing.assert_array_equal(draws(kind, occasions[0])[:10], rows[0][:10])


def test_random_and_explore_do_not_share_their_draws() -> None:
    flat = np.repeat(arms.explore_chances(np.ones_like(WORTH), ALLOWED), N, axis=0)
    explored = arms.explore_slots(users()["h"].to_numpy(), flat, 0, "x")
    assert abs((explored == draws("random", "x")).mean() - 0.25) < 0.01


@given(
    worth_US=arrays.arrays(
        np.float32, (3, 5), elements=st.floats(width=32) | st.sampled_from([0.0, -1.0, np.nan, np.inf, 1e-45, 1e30])
    ),
    allowed_US=arrays.arrays(np.bool_, (3, 5)),
)
def test_chances_are_a_distribution_on_allowed_slots_in_proportion_to_worth(
    worth_US: np.ndarray, allowed_US: np.ndarray
) -> None:
    chance_US = arms.explore_chances(worth_US, allowed_US)
    for worth, allowed, chance in zip(worth_US.tolist(), allowed_US, chance_US, strict=True):
        usable = [w if a and np.isfinite(w) and w > 0 else 0.0 for w, a in zip(worth, allowed, strict=True)]
        weights = usable if any(usable) else allowed.astype(float).tolist()
        expected = [w / max(sum(weights), 1e-300) for w in weights]
        np.testing.assert_allclose(chance, expected, rtol=1e-12)
    slot_U = arms.explore_slots(np.arange(3, dtype=np.uint64), chance_US, 0, "x")
    some_U = allowed_US.any(axis=1)
    assert (chance_US[np.arange(3), slot_U][some_U] > 0).all()
    assert (slot_U[~some_U] == 0).all()


def test_the_last_draw_stays_on_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arms, "unit_interval", lambda h_U: np.full(len(h_U), 1 - 2.0**-53))
    weights = np.random.default_rng(0).random((500, 24)).astype(np.float32)
    weights[:, 20:] = 0
    chance_US = arms.explore_chances(weights, np.ones_like(weights, np.bool_))
    assert set(arms.explore_slots(np.zeros(500, np.uint64), chance_US, 0, "x").tolist()) == {19}


def enumerated(it: Experiment, model: int, control: int, allowed: np.ndarray, explore: np.ndarray) -> list[float]:
    """P(slot) of one user by going through the arms and what each of them may draw."""
    p = [0.0] * len(allowed)
    p[control] += it.control_share
    p[model] += 1 - it.control_share - it.random_share - it.explore_share
    for slot, is_open in enumerate(allowed):
        p[slot] += it.random_share * is_open / allowed.sum() + it.explore_share * float(explore[slot])
    return p


@given(
    shares=st.tuples(st.integers(0, 33), st.integers(0, 33), st.integers(0, 34)),
    allowed=st.lists(st.booleans(), min_size=6, max_size=6).filter(any),
    worth=st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6),
    picks=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
def test_propensities_are_those_of_enumeration_and_add_up_to_one(
    shares: tuple[int, int, int], allowed: list[bool], worth: list[float], picks: tuple[int, int]
) -> None:
    it = experiment(*(share / 100 for share in shares))
    allowed_US = np.array([allowed])
    usable = np.flatnonzero(allowed_US[0])
    model, control = (int(usable[pick % len(usable)]) for pick in picks)
    chance_US = arms.explore_chances(np.array([worth], np.float32), allowed_US)
    slot_U = np.arange(6, dtype=np.uint8)
    found = arms.propensities(
        slot_U,
        slot_U == model,
        control,
        np.full(6, len(usable)),
        np.zeros(6, np.uint8),
        it,
        np.repeat(chance_US, 6, axis=0),
    )
    expected = enumerated(it, model, control, allowed_US[0], chance_US[0])
    np.testing.assert_allclose(found[usable], np.array(expected)[usable], rtol=1e-6, atol=1e-9)
    assert found[usable].sum() == pytest.approx(1, abs=1e-5)


def test_propensities_of_two_slots_by_hand() -> None:
    """Slot 0 is the control time, slot 1 the model's; chances of an open 0.1 and 0.3."""
    chance_US = arms.explore_chances(np.array([[0.1, 0.3]] * 2, np.float32), np.ones((2, 2), np.bool_))
    slot_U, model_U, n_U = np.array([0, 1], np.uint8), np.array([1, 1], np.uint8), np.array([2, 2])
    found = arms.propensities(
        slot_U, slot_U == model_U, 0, n_U, np.zeros(2, np.uint8), experiment(0.1, 0.2, 0.3), chance_US
    )
    np.testing.assert_allclose(found, [0.1 + 0.2 / 2 + 0.3 / 4, 0.4 + 0.2 / 2 + 0.3 * 3 / 4], rtol=1e-6)


def test_slots_over_many_experiments_come_as_often_as_their_propensity() -> None:
    """One user, his arm drawn anew by the name of the experiment and his slot by the campaign."""
    user, names, counts = users(1), 20_000, np.zeros(5)
    it, h_U, model, control = experiment(0.2, 0.3, 0.3), users(1)["h"].to_numpy(), 1, 3
    chance_US, inside_U = arms.explore_chances(WORTH, ALLOWED), np.ones(1, np.bool_)
    for number in range(names):
        arm = arms.draw_arms(user, it.model_copy(update={"name": f"n{number}"}), inside_U)[0]
        occasion = arms.occasion_of(date(2026, 4, 1), str(number))
        if arm == arms.RANDOM:
            counts[arms.random_slots(h_U, ALLOWED, 0, occasion)[0]] += 1
        elif arm == arms.EXPLORE:
            counts[arms.explore_slots(h_U, chance_US, 0, occasion)[0]] += 1
        else:
            counts[control if arm == arms.CONTROL else model] += 1
    expected = arms.propensities(
        np.arange(5, dtype=np.uint8),
        np.arange(5) == model,
        control,
        np.full(5, 4),
        np.zeros(5, np.uint8),
        it,
        np.repeat(chance_US, 5, axis=0),
    )
    usable = ALLOWED[0]
    np.testing.assert_allclose(counts[usable] / names, expected[usable], atol=4 * np.sqrt(0.25 / names), rtol=0)
    assert counts[~usable].sum() == 0


def test_outside_the_experiment_a_slot_is_certain() -> None:
    one = np.zeros(1, np.uint8)
    arm_U = np.array([arms.OUTSIDE], np.uint8)
    assert arms.propensities(one, one == one, 1, np.ones(1, np.int64), arm_U, experiment(0.5)).tolist() == [1.0]
