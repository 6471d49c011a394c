"""Chains of moves, against every plan there is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limited import Int64s, Problem, everything, flow_optimum, hashes, per_slot, small_problem
from sto_kernels import naive_prices
from sto_kernels.chain import Pool
from sto_kernels.naive_prices import Slots, best_plan
from sto_kernels.offers import offers_of
from sto_kernels.prices import NO_SLOT

SEEDS = st.integers(0, 1_000_000)


def some_plan(problem: Problem, seed: int) -> Slots:
    """Allowed slots at random, whatever the limits."""
    rng = np.random.default_rng(seed)
    slots = [np.flatnonzero(row) for row in problem.offers.allowed_US()]
    return np.array([rng.choice(row) if len(row) else NO_SLOT for row in slots], np.uint8)


def pool_of(problem: Problem, slot_U: Slots, none: float = -np.inf) -> Pool:
    load_R = np.array(naive_prices.loads(problem.offers.group_U, slot_U, problem.limits), np.int64)
    return Pool(problem.offers, slot_U.copy(), problem.limits, load_R, problem.limits.capacity_R, none)


def assert_consistent(pool: Pool, problem: Problem, load_R: Int64s) -> None:
    """Loads are those of the slots, which are allowed, and no limit that held is broken."""
    assert pool.load_R.tolist() == naive_prices.loads(problem.offers.group_U, pool.slot_U, problem.limits)
    assert not [f for f in naive_prices.faults(problem.offers, pool.slot_U, problem.limits) if "allowed" in f]
    assert (pool.load_R <= np.maximum(load_R, problem.limits.capacity_R)).all()


def worth(problem: Problem, slot_U: Slots, none: float = 0.0) -> float:
    return naive_prices.value(problem.offers, slot_U, problem.limits, none)


@given(SEEDS, st.integers(1, 6), st.sampled_from([0.0, 0.7]))
@settings(max_examples=120, deadline=None)
def test_with_one_resource_a_slot_limits_are_restored_and_the_plan_ends_the_best(
    seed: int, users: int, slack: float
) -> None:
    problem = small_problem(seed, users, 4, 1, slack, one_resource=True)
    slot_U = some_plan(problem, seed)
    pool = pool_of(problem, slot_U)
    before_R = pool.load_R.copy()
    pool.relieve()
    assert_consistent(pool, problem, before_R)
    best = best_plan(problem.offers, problem.limits, -np.inf)
    assert (best.slot_U is not None) == (pool.load_R <= problem.limits.capacity_R).all()
    if best.slot_U is not None:
        pool.improve(1e-7)
        assert_consistent(pool, problem, problem.limits.capacity_R)
        assert worth(problem, pool.slot_U) == pytest.approx(best.value, abs=4e-7)


@given(SEEDS, st.integers(1, 6))
@settings(max_examples=120, deadline=None)
def test_users_without_a_slot_are_placed_as_long_as_others_can_make_room(seed: int, users: int) -> None:
    problem = small_problem(seed, users, 4, 1, 0.0, one_resource=True)
    fixed_U = problem.offers.fixed_U()
    slot_U = np.where(fixed_U, some_plan(problem, seed), NO_SLOT).astype(np.uint8)
    best = best_plan(problem.offers, problem.limits, -10.0)
    if best.slot_U is None:
        return
    pool = pool_of(problem, slot_U, -10.0)
    placed = pool.place()
    assert_consistent(pool, problem, problem.limits.capacity_R)
    without = (pool.slot_U == NO_SLOT) & problem.offers.choice_U()
    assert without.sum() == best.fewest_without
    assert placed == problem.offers.choice_U().sum() - without.sum()
    pool.improve(1e-7)
    assert ((pool.slot_U == NO_SLOT) & problem.offers.choice_U()).sum() == best.fewest_without
    assert worth(problem, pool.slot_U, -10.0) == pytest.approx(best.value, abs=4e-7)


@given(SEEDS, st.sampled_from([6, 20]), st.integers(1, 4), st.sampled_from([-np.inf, -1.0]))
@settings(max_examples=100, deadline=None)
def test_with_several_resources_chains_break_nothing_and_never_lose(
    seed: int, users: int, width: int, none: float
) -> None:
    problem = small_problem(seed, users, 5, width, users / 10)
    pool = pool_of(problem, some_plan(problem, seed), none)
    before_R, excess = pool.load_R.copy(), np.maximum(pool.load_R - problem.limits.capacity_R, 0).sum()
    done = pool.relieve()
    assert_consistent(pool, problem, before_R)
    assert np.maximum(pool.load_R - problem.limits.capacity_R, 0).sum() <= excess - done
    slot_U, load_R = pool.slot_U.copy(), pool.load_R.copy()
    was = worth(problem, slot_U, none if np.isfinite(none) else 0.0)
    done = pool.improve(1e-6)
    assert_consistent(pool, problem, load_R)
    assert worth(problem, pool.slot_U, none if np.isfinite(none) else 0.0) >= was + done * 4e-7 - 1e-9
    assert (pool.slot_U == NO_SLOT).sum() <= (slot_U == NO_SLOT).sum()


def test_a_chain_of_three_opens_what_no_single_move_could() -> None:
    allowed_US = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 0]], bool)
    offers = offers_of(np.ones((4, 4), np.float32), allowed_US, np.zeros(4, np.int32), hashes(4))
    problem = Problem(offers, per_slot([1, 1, 1, 1]))
    pool = pool_of(problem, np.array([0, 1, 2, 0], np.uint8))
    assert pool.relieve() == 1
    assert pool.slot_U.tolist() == [1, 2, 3, 0]


def test_a_circle_of_three_gains_though_no_pair_can_swap() -> None:
    worth_US = np.array([[0, 5, 0], [0, 0, 5], [5, 0, 0]], np.float32)
    allowed_US = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]], bool)
    offers = offers_of(worth_US, allowed_US, np.zeros(3, np.int32), hashes(3))
    pool = pool_of(Problem(offers, per_slot([1, 1, 1])), np.array([0, 1, 2], np.uint8))
    assert pool.improve(1e-6) == 1
    assert pool.slot_U.tolist() == [1, 2, 0]


def test_of_two_for_one_place_the_one_who_is_worth_less_goes_without() -> None:
    problem = Problem(everything(np.array([[0.2, 0.1], [0.9, 0.8], [0.7, 0.9]], np.float32)), per_slot([1, 1]))
    pool = pool_of(problem, np.array([0, NO_SLOT, 1], np.uint8), -1.0)
    assert pool.place() == 0
    pool.improve(1e-6)
    assert pool.slot_U.tolist() == [NO_SLOT, 0, 1]


def test_out_of_over_full_resources_users_with_a_choice_may_go_without_a_slot_and_others_may_not() -> None:
    allowed_US = np.array([[1, 1], [1, 0], [1, 1]], bool)
    worth_US = np.array([[0.5, 0.4], [0.1, 0.0], [0.3, 0.2]], np.float32)
    offers = offers_of(worth_US, allowed_US, np.zeros(3, np.int32), hashes(3))
    pool = pool_of(Problem(offers, per_slot([1, 0])), np.zeros(3, np.uint8), -1.0)
    assert pool.relieve() == 2
    assert pool.slot_U.tolist() == [NO_SLOT, 0, NO_SLOT]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_from_any_plan_gains_lead_to_the_optimum_of_the_exact_flow(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = Problem(everything(rng.random((240, 12)).astype(np.float32)), per_slot([20] * 12))
    pool = pool_of(problem, rng.permutation(np.repeat(np.arange(12), 20)).astype(np.uint8))
    pool.improve(1e-9)
    optimum = flow_optimum(problem.offers, problem.limits.capacity_R)
    assert worth(problem, pool.slot_U) == pytest.approx(optimum, abs=1e-6)
