"""Shares of wins of Beta draws are the chances that closed forms and integrals give."""

import math

import numpy as np
import pytest
from scipy import stats

from sto_kernels import beta_wins, naive_beta
from sto_kernels.beta import draw_betas
from sto_kernels.beta_wins import win_chance_of, win_shares
from sto_kernels.hashing import derive

KEYS = derive(np.arange(3000, dtype=np.uint64), "wins")


def beats(a: int, b: int, c: int, d: int) -> float:
    """P(X > Y) of X ~ Beta(a, b), Y ~ Beta(c, d), whole a: E[1 - F_X(Y)] is a sum of binomial terms."""
    log_beta = lambda p, q: math.lgamma(p) + math.lgamma(q) - math.lgamma(p + q)  # noqa: E731
    return sum(
        math.exp(log_beta(c + i, d + b) - math.log(b + i) - log_beta(1 + i, b) - log_beta(c, d)) for i in range(a)
    )


@pytest.mark.parametrize("shapes", [(1, 1, 1, 1), (3, 7, 2, 9), (40, 160, 30, 160), (2, 300, 5, 400)])
def test_two_slots_win_as_the_closed_form_says(shapes: tuple[int, int, int, int]) -> None:
    a, b, c, d = shapes
    a_US = np.tile(np.array([[a, c]], np.float32), (len(KEYS), 1))
    b_US = np.tile(np.array([[b, d]], np.float32), (len(KEYS), 1))
    shares_US = win_shares(KEYS, a_US, b_US, 50)
    known = beats(a, b, c, d)
    assert abs(shares_US[:, 0].mean() - known) < 5 * math.sqrt(known * (1 - known) / (len(KEYS) * 50))
    np.testing.assert_allclose(shares_US.sum(axis=1), 1, atol=1e-6)
    chance_U = win_chance_of(KEYS, a_US, b_US, np.zeros(len(KEYS), np.uint8), 50)
    np.testing.assert_allclose(chance_U, (shares_US[:, 0] * 50 + 1) / 51, rtol=1e-5)


def test_three_slots_with_weights_and_costs_win_as_the_integral_says() -> None:
    a_S, b_S = np.array([0.4, 2.0, 5.0]), np.array([1.5, 6.0, 30.0])
    less_S, weight = np.array([0.0, -0.05, 0.2]), 2.0
    at = (np.arange(200_000) + 0.5) / 200_000
    chance_S = []
    for s in range(3):
        worth = weight * stats.beta.ppf(at, a_S[s], b_S[s]) - less_S[s]
        others = [stats.beta.cdf((worth + less_S[r]) / weight, a_S[r], b_S[r]) for r in range(3) if r != s]
        chance_S.append(np.mean(others[0] * others[1]))
    assert abs(sum(chance_S) - 1) < 1e-4
    tiled = [np.tile(x.astype(np.float32), (len(KEYS), 1)) for x in (a_S, b_S)]
    shares_US = win_shares(KEYS, *tiled, 60, None, np.tile(less_S, (len(KEYS), 1)), np.full(len(KEYS), weight))
    for s in range(3):
        error = 5 * math.sqrt(chance_S[s] * (1 - chance_S[s]) / (len(KEYS) * 60))
        assert abs(shares_US[:, s].mean() - chance_S[s]) < error + 1e-4


def worlds(users: int, slots: int) -> tuple[np.ndarray, ...]:
    """Some users known so well that most of their slots cannot win; some without a slot, some with one."""
    rng = np.random.default_rng(5)
    a_US, b_US = (rng.uniform(0.1, top, (users, slots)).astype(np.float32) for top in (3, 20))
    a_US[::3] *= 300
    b_US[::3] *= 300
    allowed_US = rng.random((users, slots)) < 0.7
    allowed_US[1], allowed_US[2] = False, np.arange(slots) == 1
    return a_US, b_US, allowed_US, rng.uniform(0, 0.2, (users, slots)), rng.uniform(0, 3, users)


@pytest.mark.parametrize(("users", "slots"), [(90, 24), (9, 700), (70, 3)])
def test_wins_are_those_of_every_round_played_by_hand(users: int, slots: int) -> None:
    a_US, b_US, allowed_US, less_US, weight_U = worlds(users, slots)
    key_U, draws = KEYS[:users], 40
    wins_US = np.zeros((users, slots))
    for number in range(1, draws + 1):
        x_US = draw_betas(key_U, a_US, b_US, number).astype(np.float64)
        worth_US = np.where(allowed_US, weight_U[:, None] * x_US - less_US, -np.inf)
        for u in np.flatnonzero(allowed_US.any(axis=1)):
            wins_US[u, worth_US[u].argmax()] += 1
    shares_US = win_shares(key_U, a_US, b_US, draws, allowed_US, less_US, weight_U)
    np.testing.assert_allclose(shares_US, wins_US / draws, atol=1e-7)
    slot_U = np.where(allowed_US.any(axis=1), wins_US.argmax(axis=1), slots)
    chance_U = win_chance_of(key_U, a_US, b_US, slot_U, draws, allowed_US, less_US, weight_U)
    known_U = np.where(slot_U < slots, (wins_US.max(axis=1) + 1) / (draws + 1), 0)
    np.testing.assert_allclose(chance_U, known_U, atol=1e-7)


def test_what_is_no_contest_is_refused() -> None:
    ones = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="at least 1 draw"):
        win_shares(KEYS[:2], ones, ones, 0)
    with pytest.raises(ValueError, match="must fit"):
        win_shares(KEYS[:2], ones, ones, 9, np.ones((2, 2), np.bool_))
    with pytest.raises(ValueError, match="must be finite"):
        win_shares(KEYS[:2], ones, ones, 9, None, None, np.array([1, -1.0]))
    with pytest.raises(ValueError, match="that are allowed"):
        win_chance_of(KEYS[:2], ones, ones, np.array([0, 1]), 9, np.array([[True] * 3, [True, False, True]]))
    with pytest.raises(ValueError, match="0 or above"):
        win_chance_of(KEYS[:2], ones, ones, np.array([0, -1]), 9)


def test_no_law_reaches_beyond_the_values_that_slots_are_judged_by() -> None:
    sizes = np.array([1e-3, 0.05, 0.5, 1, 3, 20, 400, 1e5], np.float32)
    a_US, b_US = (x.astype(np.float32) for x in np.meshgrid(sizes, sizes))
    field = beta_wins._Field(KEYS[:8], a_US, b_US, 1, None, None, None)
    allowed = beta_wins.MISSED / (2 * 8) * 1.001
    assert (stats.beta.sf(field.high_US, a_US, b_US) <= allowed).all()
    assert (stats.beta.cdf(field.low_US, a_US, b_US) <= allowed).all()
    # and they are no wider than they must be where many have been counted
    assert (field.high_US - field.low_US)[-1, -1] < 20 * stats.beta.std(1e5, 1e5)


def test_wins_are_those_of_the_naive_twin() -> None:
    a_US, b_US, allowed_US, _, _ = worlds(8, 5)
    known = naive_beta.win_shares(KEYS[:8], a_US, b_US, 12, allowed_US)
    np.testing.assert_allclose(win_shares(KEYS[:8], a_US, b_US, 12, allowed_US), known, atol=1e-6)
    assert known.any()


def test_the_inverse_of_a_chance_is_right_on_average_for_the_slot_that_won() -> None:
    """Thompson's choice weighed by 1 / chance counts every slot once: the sum over slots of p E[1 / chance]."""
    a_US, b_US = (np.tile(np.array(x, np.float32), (len(KEYS), 1)) for x in ([2, 1, 3], [9, 9, 9]))
    slot_U = draw_betas(KEYS, a_US, b_US).argmax(axis=1)
    chance_U = win_chance_of(KEYS, a_US, b_US, slot_U, 100)
    assert chance_U.min() > 0
    assert chance_U.max() <= 1
    for slot in range(3):
        weight_U = np.where(slot_U == slot, 1 / chance_U, 0)
        assert abs(weight_U.mean() - 1) < 5 * weight_U.std() / math.sqrt(len(KEYS))
