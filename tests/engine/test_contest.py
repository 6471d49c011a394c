"""Stated propensities of drawn slots against how often they are drawn, closed forms and prices."""

import numpy as np
import pytest
from scipy import integrate, stats

from sto_engine.contest import Contest
from sto_engine.models.policy import Belief
from sto_kernels.beta import draw_betas
from sto_kernels.hashing import derive, hash_integers

SEEDS, ROUNDS = 3_000, 200


def beliefs(a_S: np.ndarray, b_S: np.ndarray, seeds: int = SEEDS) -> Belief:
    """One user again and again, with the keys of so many runs."""
    key_U = np.array([int(derive(hash_integers(np.array([7])), "run", seed)[0]) for seed in range(seeds)], np.uint64)
    a_US, b_US = (np.tile(x_S.astype(np.float32), (seeds, 1)) for x_S in (a_S, b_S))
    return Belief(key_U, a_US, b_US)


def winners(belief: Belief, suits_S: np.ndarray, less_S: np.ndarray | float = 0.0) -> np.ndarray:
    """The slot of each run, as a policy takes it."""
    net_US = draw_betas(belief.key_U, belief.a_US, belief.b_US) - less_S
    return np.where(suits_S, net_US, -np.inf).argmax(axis=1).astype(np.uint8)


def stated(contest: Contest, slot: int, cost_S: np.ndarray | None = None) -> np.ndarray:
    """What is told of a slot that others gave."""
    slot_U, nobody_U = np.full(len(contest.draws_U), slot, np.uint8), np.full(len(contest.draws_U), 255, np.uint8)
    cost_US = None if cost_S is None else np.tile(cost_S, (len(slot_U), 1))
    return contest.chances(slot_U, nobody_U, ROUNDS, cost_US)


def assert_frequencies(contest: Contest, slot_U: np.ndarray, suits_S: np.ndarray, cost_S: np.ndarray | None) -> None:
    """Within five binomial errors, both those of the draws and those of the rounds."""
    for slot in np.flatnonzero(suits_S):
        told, drawn = stated(contest, int(slot), cost_S).mean(), (slot_U == slot).mean()
        error = np.sqrt(max(told * (1 - told), 1e-4) / SEEDS * (1 + 1 / ROUNDS))
        assert abs(told - drawn) < 5 * error


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("priced", [False, True])
def test_slots_are_drawn_as_often_as_is_told(masked: bool, priced: bool) -> None:
    a_S, b_S = np.array([2.0, 5.0, 1.5, 8.0, 0.7]), np.array([20.0, 40.0, 9.0, 60.0, 11.0])
    belief, suits_S = beliefs(a_S, b_S), np.array([True, not masked, True, True, True])
    cost_S = np.array([0.0, 0.02, 0.05, 0.01, 0.0]) if priced else None
    contest = Contest(belief, np.tile(suits_S, (SEEDS, 1)), np.ones(SEEDS, np.bool_))
    slot_U = winners(belief, suits_S, 0.0 if cost_S is None else cost_S)
    assert_frequencies(contest, slot_U, suits_S, cost_S)


def test_what_holds_a_slot_and_weights_count_as_they_do_in_the_choice() -> None:
    a_S, b_S, gain_S, weight = np.array([3.0, 4.0, 2.0]), np.array([30.0, 30.0, 10.0]), np.array([0.05, 0.0, 0.0]), 2.5
    belief, cost_S, all_S = beliefs(a_S, b_S), np.array([0.0, 0.0, 0.2]), np.ones(3, np.bool_)
    weight_U, gain_US = np.full(SEEDS, weight), np.tile(weight * gain_S, (SEEDS, 1))
    contest = Contest(belief, np.ones((SEEDS, 3), np.bool_), np.ones(SEEDS, np.bool_), gain_US, weight_U)
    assert_frequencies(contest, winners(belief, all_S, cost_S / weight - gain_S), all_S, cost_S)


def test_two_slots_have_the_chance_of_the_closed_form() -> None:
    """P(X > Y) of Beta(3, 20) and Beta(5, 25)."""
    first, second = stats.beta(3, 20), stats.beta(5, 25)
    exact, _ = integrate.quad(lambda x: first.pdf(x) * second.cdf(x), 0, 1)
    belief = beliefs(np.array([3.0, 5.0]), np.array([20.0, 25.0]), 400)
    contest = Contest(belief, np.ones((400, 2), np.bool_), np.ones(400, np.bool_))
    told = stated(contest, 0)
    assert told.mean() == pytest.approx(exact, abs=5 * np.sqrt(exact * (1 - exact) / (400 * ROUNDS)))
    assert told.std() == pytest.approx(np.sqrt(exact * (1 - exact) / ROUNDS), rel=0.15)


def test_a_slot_that_was_drawn_has_a_chance_however_rare() -> None:
    belief = beliefs(np.array([1.0, 90.0]), np.array([99.0, 10.0]), 50)
    contest = Contest(belief, np.ones((50, 2), np.bool_), np.ones(50, np.bool_))
    rare_U, sure_U = np.zeros(50, np.uint8), np.ones(50, np.uint8)
    assert contest.chances(rare_U, rare_U, ROUNDS) == pytest.approx(1 / (ROUNDS + 1))
    assert contest.chances(rare_U, sure_U, ROUNDS) == pytest.approx(0.0)
    assert contest.chances(sure_U, sure_U, ROUNDS) == pytest.approx(1.0)


def test_who_has_no_data_has_a_certain_slot() -> None:
    belief = beliefs(np.array([1.0, 1.0]), np.array([1.0, 1.0]), 4)
    contest = Contest(belief, np.ones((4, 2), np.bool_), np.array([False, True, False, True]))
    found = contest.chances(np.array([0, 0, 1, 1], np.uint8), np.array([0, 1, 0, 1], np.uint8), ROUNDS)
    assert (found[0], found[2]) == (1.0, 0.0)
    assert 0.3 < found[1] < 0.7
