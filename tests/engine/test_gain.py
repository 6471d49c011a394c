"""Worths keep the order of every policy; what a window costs, against loops over single users."""

import json
import math
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from histories import known
from sto_engine.assign.gain import UNIT, Gain, edges, gain_of, summary, warning
from sto_engine.assign.worth import worth_US
from sto_engine.config import load_config
from sto_engine.ingest.store import Store
from sto_engine.models.bundle import load_bundle
from sto_engine.models.policy import Utilities
from sto_engine.models.registry import make_policy

AT = datetime(2026, 4, 20, tzinfo=UTC)
MARGINS = st.floats(-30, 30, width=32) | st.sampled_from([-3.4e38, 3.4e38, np.nan, np.inf, -np.inf])
AMOUNTS = st.floats(0, 100, width=32) | st.sampled_from([0.0, 1e-40, np.nan, np.inf])


def said(utility_US: Any, measure: Any, p_open_US: Any = None) -> Utilities:
    utility_US = np.asarray(utility_US, np.float32)
    p_US = None if p_open_US is None else np.asarray(p_open_US, np.float32)
    users = len(utility_US)
    return Utilities(utility_US, p_US, np.zeros(users, np.uint8), np.zeros(users, np.float32), measure)


def in_steps(margin_US: np.ndarray) -> np.ndarray:
    """Probabilities with plateaus, as isotonic calibration gives them."""
    return np.asarray(np.floor(np.clip(margin_US, -9, 9)) / 20 + 0.5, np.float32)


def assert_order_kept(utility_US: np.ndarray, worth: np.ndarray) -> None:
    for utility, value in zip(utility_US, worth, strict=True):
        finite = np.isfinite(utility)
        np.testing.assert_array_equal(np.isnan(value), ~finite)
        order = np.argsort(utility[finite], kind="stable")
        assert (np.diff(value[finite][order]) >= 0).all()
        assert (value[finite] >= 0).all()


@given(utility_US=arrays.arrays(np.float32, (2, 6), elements=MARGINS), calibrated=st.booleans())
def test_worth_keeps_the_order_of_margins(utility_US: np.ndarray, calibrated: bool) -> None:
    p_US = in_steps(utility_US) if calibrated else None
    assert_order_kept(utility_US, worth_US(said(utility_US, "logit", p_US)))


@pytest.mark.parametrize("measure", ["chance", "share"])
@given(utility_US=arrays.arrays(np.float32, (2, 6), elements=AMOUNTS), rate=st.none() | st.floats(0, 1, width=32))
def test_worth_keeps_the_order_of_chances_and_shares(measure: str, utility_US: np.ndarray, rate: float | None) -> None:
    p_US = None if rate is None else np.full(utility_US.shape, rate, np.float32)
    assert_order_kept(utility_US, worth_US(said(utility_US, measure, p_US)))


def test_margins_order_the_slots_of_a_plateau_and_move_nothing_by_more_than_a_ten_thousandth() -> None:
    margin_US = np.array([[-2.0, -1.9, 0.5, 0.4, 3.0]], np.float32)
    p_US = np.array([[0.1, 0.1, 0.2, 0.2, 0.2]], np.float32)
    worth = worth_US(said(margin_US, "logit", p_US))
    assert np.argsort(worth[0]).tolist() == [0, 1, 3, 2, 4]
    np.testing.assert_allclose(worth, p_US + 1e-4 / (1 + np.exp(-margin_US)), rtol=1e-6)


def test_margins_without_probabilities_are_chances() -> None:
    np.testing.assert_allclose(worth_US(said([[0.0, math.log(3)]], "logit")), [[0.5, 0.75]], rtol=1e-6)


def test_shares_are_shared_out_over_the_mean_chance() -> None:
    worth = worth_US(said([[1, 3, 0, 0], [0, 0, 0, 0]], "share", [[0.1, 0.2, 0.3, 0.2], [0.1, 0.1, 0.1, 0.3]]))
    np.testing.assert_allclose(worth, [[0.2, 0.6, 0, 0], [0.15] * 4], rtol=1e-6)
    np.testing.assert_allclose(worth_US(said([[1, 3, 0, 0]], "share")), [[1, 3, 0, 0]], rtol=1e-6)


def test_slots_that_are_no_number_do_not_move_the_others() -> None:
    worth = worth_US(said([[1, 3, np.nan]], "share", [[0.1, 0.3, np.nan]]))
    np.testing.assert_allclose(worth, [[0.1, 0.3, np.nan]], rtol=1e-6)


def test_a_user_is_worth_the_same_whoever_stands_beside_him() -> None:
    utility_US = np.random.default_rng(0).random((900, 24)).astype(np.float32)
    p_US = np.asfortranarray(utility_US / 7)
    together = worth_US(said(utility_US, "share", p_US))
    alone = [worth_US(said(utility_US[[at]], "share", p_US[[at]]))[0] for at in (0, 450, 899)]
    np.testing.assert_array_equal(together[[0, 450, 899]], alone)


def test_measures_stay_with_some_of_the_users() -> None:
    some = said([[1, 2], [3, 4]], "share", [[0.1, 0.2], [0.3, 0.4]]).of(np.array([False, True]))
    assert (some.measure, some.utility_US.tolist(), len(some.reason_U)) == ("share", [[3, 4]], 1)


SLOTS = 8
WORTHS = arrays.arrays(np.float32, (5, SLOTS), elements=st.floats(0, 1, width=32) | st.just(np.nan))
MASKS = arrays.arrays(np.bool_, (5, SLOTS))


@given(WORTHS, MASKS, MASKS, st.integers(0, SLOTS - 1), st.lists(st.booleans(), min_size=5, max_size=5))
def test_gains_are_those_of_a_loop_over_users(
    worth: np.ndarray, exists: np.ndarray, allowed: np.ndarray, control: int, follows: list[bool]
) -> None:
    slot_U = np.array([int(np.argmax(row)) for row in exists & allowed], np.uint8)
    found = gain_of(worth, exists, allowed, control, slot_U, np.array(follows), has_chances=True)
    users = base = free = inside = edge = 0.0
    for u in range(5):
        there = [s for s in range(SLOTS) if exists[u, s]]
        may = [s for s in there if allowed[u, s]]
        if not follows[u] or not may or any(math.isnan(worth[u, s]) for s in [*there, control]):
            continue
        users += 1
        base += float(worth[u, control])
        free += max(float(worth[u, s]) for s in there) - float(worth[u, control])
        inside += max(float(worth[u, s]) for s in may) - float(worth[u, control])
        near = [(int(slot_U[u]) + step) % SLOTS for step in (-1, 1)]
        edge += any(s in there and s not in may for s in near)
    assert (found.users, found.rated, found.edge) == (users, users, edge)
    for name, expected in (("base", base), ("free", free), ("inside", inside)):
        assert getattr(found, name) * UNIT == pytest.approx(expected, abs=1e-8)


@given(cuts=st.lists(st.integers(0, 300), max_size=4), seed=st.integers(0, 9))
def test_sums_do_not_depend_on_how_users_lie_in_buckets(cuts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    worth, allowed = rng.random((300, 24)).astype(np.float32), rng.random((300, 24)) < 0.7
    exists, slot_U = rng.random((300, 24)) < 0.97, rng.integers(0, 24, 300).astype(np.uint8)
    follows_U = rng.random(300) < 0.8

    def part(rows: slice) -> Gain:
        return gain_of(worth[rows], exists[rows], allowed[rows], 10, slot_U[rows], follows_U[rows], True)

    ends = [0, *sorted(cuts), 300]
    total = Gain()
    for a, b in reversed(list(pairwise(ends))):
        total = part(slice(a, b)) + total
    assert total == part(slice(0, 300))
    assert Gain.from_json(json.loads(json.dumps(total.to_json()))) == total


def test_the_day_is_a_circle_and_slots_that_never_happen_close_nothing() -> None:
    exists = np.ones((3, 24), np.bool_)
    exists[2, 2] = False
    night = np.isin(np.arange(24), [22, 23, 0, 1, 2, 3])
    allowed = np.array([night, np.ones(24, np.bool_), exists[2]])
    assert [np.flatnonzero(row).tolist() for row in edges(exists, allowed)] == [[3, 22], [], []]


def test_a_single_slot_between_closed_ones_is_an_edge() -> None:
    allowed = np.isin(np.arange(24), [8, 12, 13, 14])[None, :]
    assert np.flatnonzero(edges(np.ones((1, 24), np.bool_), allowed)[0]).tolist() == [8, 12, 14]


def everyone(n: int, base: float, free: float, inside: float, edge: int = 0, rated: bool = True) -> Gain:
    whole = [round(n * value / UNIT) for value in (base, free, inside)]
    return Gain(n, n if rated else 0, *whole, edge)


def test_the_summary_by_hand() -> None:
    told = summary(everyone(1000, 0.10, 0.02, 0.015, 250), 100, 900)
    assert told == pytest.approx(
        {
            "window_cost": 0.25,
            "edge_share": 0.25,
            "gain_per_recipient": 0.015,
            "least_measurable": 2.8 * math.sqrt(0.09 * (1 / 100 + 1 / 900)),
        }
    )


def test_the_least_measurable_difference_is_found_four_times_in_five() -> None:
    n_control, n_model, rate = 2_000, 18_000, 0.1
    least = summary(everyone(20_000, rate, 0.02, 0.02), n_control, n_model)["least_measurable"]
    assert least is not None
    rng = np.random.default_rng(1)
    a, b = rng.binomial(n_control, rate, 20_000) / n_control, rng.binomial(n_model, rate + least, 20_000) / n_model
    error = np.sqrt(a * (1 - a) / n_control + b * (1 - b) / n_model)
    assert abs((b - a > 1.96 * error).mean() - 0.8) < 0.03


@pytest.mark.parametrize("gain", [Gain(), everyone(10, 0.1, 0, 0)])
def test_without_a_gain_there_is_no_cost(gain: Gain) -> None:
    assert summary(gain, 1, 9)["window_cost"] == 0
    assert warning(gain, 1, 9) is None


def test_what_cannot_be_known_is_none() -> None:
    shares_only = everyone(1000, 0.9, 0.3, 0.2, rated=False)
    for told in (summary(shares_only, 100, 900), summary(Gain(), 0, 0)):
        assert (told["gain_per_recipient"], told["least_measurable"]) == (None, None)
    without_control = summary(everyone(1000, 0.1, 0.03, 0.02), 0, 1000)
    assert without_control["least_measurable"] is None
    assert without_control["gain_per_recipient"] == pytest.approx(0.02)


def test_a_window_that_hides_the_gain_from_the_arms_is_warned_of_with_figures() -> None:
    told = warning(everyone(20_000, 0.10, 0.03, 0.018), 2_000, 18_000)
    assert told is not None
    for part in ("1.80%", "3.00%", "1.98%", "18,000", "2,000", "window.start", "control_share"):
        assert part in told


def test_a_window_that_costs_more_than_half_of_the_gain_is_warned_of() -> None:
    for n_control in (0, 2_000):
        told = warning(everyone(20_000, 0.10, 0.10, 0.04, 9_000), n_control, 18_000)
        assert told is not None
        for part in ("60%", "45%", "quiet hours"):
            assert part in told


@pytest.mark.parametrize(
    ("gain", "n_control"),
    [
        (everyone(20_000, 0.10, 0.05, 0.04), 2_000),  # to be seen in spite of the window
        (everyone(20_000, 0.10, 0.012, 0.010), 2_000),  # not to be seen without it either
        (everyone(20_000, 0.10, 0.0005, 0.0001), 2_000),  # nothing to lose
        (everyone(20_000, 0.10, 0.03, 0.018), 0),  # no control arm
    ],
)
def test_of_other_windows_nothing_is_said(gain: Gain, n_control: int) -> None:
    assert warning(gain, n_control, 18_000) is None


POLICIES = [
    (["model.policy=histogram"], "share"),
    (["model.policy=attention"], "chance"),
    (["model.policy=attention", "model.w24=0.5"], "share"),
    (["model.policy=boosted"], "logit"),
    (["model.policy=boosted", "model.w24=0.5"], "share"),
    (["model.preset=seed_histogram"], "share"),
    (["model.preset=seed_thompson"], "chance"),
]


@pytest.mark.parametrize(("keys", "measure"), POLICIES)
def test_the_best_slot_of_every_policy_is_worth_most(store: Path, bundle: Path, keys: list[str], measure: str) -> None:
    config, opened = load_config(None, keys), Store.open(store)
    policy = make_policy(config, load_bundle(bundle) if "model.policy=boosted" in keys else None)
    buckets = [known(opened, bucket, config, at=AT) for bucket in range(opened.buckets)]
    priors = policy.reduce([policy.sums(bucket, len(buckets)) for bucket in buckets])
    found = policy.utilities(buckets[0], priors, AT.date())
    assert found.measure == measure
    worth = worth_US(found)
    assert worth.dtype == np.float32
    assert_order_kept(found.utility_US, worth)
    users = np.arange(len(worth))
    np.testing.assert_array_equal(worth[users, found.utility_US.argmax(axis=1)], worth.max(axis=1))
    if measure != "chance" and found.p_open_US is not None:
        np.testing.assert_allclose(worth.mean(axis=1), found.p_open_US.mean(axis=1), rtol=1e-4, atol=1e-4)
