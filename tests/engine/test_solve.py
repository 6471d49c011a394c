"""The whole solver on problems so small that every plan can be tried, and at its edges."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from limited import Problem, by_provider, everything, habit_curves, hashes, in_parts, per_slot, small_problem
from sto_engine.assign.book import Outcome
from sto_engine.assign.in_memory import solve_in_memory
from sto_kernels import naive_prices
from sto_kernels.limits import Limits, limits_of
from sto_kernels.naive_prices import Best, best_plan
from sto_kernels.offers import Offers, offers_of
from sto_kernels.prices import NO_SLOT

SEEDS = st.integers(0, 1_000_000)
Slots = NDArray[np.uint8]


def solved(problem: Problem, parts: int = 1, threads: int = 1, **terms: Any) -> tuple[Outcome, Slots]:
    stratum_G = np.zeros(problem.limits.groups, np.int32)
    plan, slots = solve_in_memory(in_parts(problem.offers, parts), problem.limits, stratum_G, threads, **terms)
    return plan, np.concatenate(slots)


def assert_honest(problem: Problem, plan: Outcome, slot_U: Slots, none: float = 0.0) -> None:
    """What the outcome says of a plan is so."""
    faults = naive_prices.faults(problem.offers, slot_U, problem.limits)
    assert not [fault for fault in faults if "allowed" in fault]
    assert (plan.violations > 0) == bool(faults)
    assert plan.load_R.tolist() == naive_prices.loads(problem.offers.group_U, slot_U, problem.limits)
    assert plan.value == pytest.approx(
        naive_prices.value(problem.offers, slot_U, problem.limits, none), rel=1e-6, abs=1e-6
    )
    assert plan.deferred == without_slot(problem.offers, slot_U)


def without_slot(offers: Offers, slot_U: Slots) -> int:
    return int(((slot_U == NO_SLOT) & offers.allowed_US().any(axis=1)).sum())


def is_best(value: float, best: Best) -> bool:
    return value >= best.value - 1e-6 * max(abs(best.value), 1.0)


@given(SEEDS, st.integers(1, 6), st.integers(2, 4), st.integers(1, 3), st.sampled_from([0.2, 1.0]))
@settings(max_examples=150, deadline=None)
def test_with_one_resource_a_slot_the_plan_is_the_best_of_all(
    seed: int, users: int, slots: int, parts: int, slack: float
) -> None:
    problem = small_problem(seed, users, slots, 1, slack, one_resource=True)
    plan, slot_U = solved(problem, parts)
    best = best_plan(problem.offers, problem.limits, -np.inf)
    assert_honest(problem, plan, slot_U)
    assert (plan.violations == 0) == (best.slot_U is not None)
    if best.slot_U is not None:
        assert plan.deferred == 0
        assert is_best(plan.value, best)
        assert plan.bound >= best.value - 1e-6


@given(SEEDS, st.integers(1, 6), st.integers(2, 4), st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_where_not_all_fit_as_few_as_can_be_go_without_and_the_rest_is_best(
    seed: int, users: int, slots: int, parts: int
) -> None:
    problem = small_problem(seed, users, slots, 1, -0.3, one_resource=True)
    plan, slot_U = solved(problem, parts, may_defer=True)
    best = best_plan(problem.offers, problem.limits, plan.none)
    assert plan.violations == 0
    assert naive_prices.faults(problem.offers, slot_U, problem.limits) == []
    if best.slot_U is not None:
        assert_honest(problem, plan, slot_U, plan.none)
        assert plan.deferred == best.fewest_without
        # to defer somebody may gain, but is not done where he could have a slot
        assert is_best(plan.value, best) or without_slot(problem.offers, best.slot_U) > best.fewest_without


@given(SEEDS, st.integers(4, 6))
@settings(max_examples=100, deadline=None)
def test_where_gains_are_not_sought_too_as_few_as_can_be_go_without(seed: int, users: int) -> None:
    problem = small_problem(seed, users, 4, 1, -0.3, one_resource=True)
    limits, unused_R = problem.limits, np.array([0])
    soft = replace(
        limits,
        capacity_R=np.append(limits.capacity_R, unused_R),
        softness_R=np.append(np.zeros(len(limits.capacity_R)), 1.0),
    )
    plan, slot_U = solved(Problem(problem.offers, soft), may_defer=True)
    best = best_plan(problem.offers, limits, plan.none)
    if best.slot_U is not None:
        assert without_slot(problem.offers, slot_U) == best.fewest_without


@pytest.mark.parametrize(("width", "may_defer"), [(1, False), (2, False), (3, False), (2, True), (4, True)])
def test_with_windows_and_providers_nearly_every_plan_is_the_best_and_none_claims_too_much(
    width: int, may_defer: bool
) -> None:
    feasible, best_found, most_wrong = 0, 0, 0
    for seed in range(80):
        problem = small_problem(seed, 5, 3 + seed % 2, width, (0.2, 1.0)[seed % 2])
        plan, slot_U = solved(problem, 1 + seed % 3, may_defer=may_defer)
        none = plan.none if may_defer else -np.inf
        best = best_plan(problem.offers, problem.limits, none)
        if best.slot_U is None:
            assert may_defer or plan.violations > 0
            continue
        assert_honest(problem, plan, slot_U, none if may_defer else 0.0)
        assert plan.bound >= best.value - 1e-6
        feasible += 1
        if plan.violations == 0:
            assert plan.value <= best.value + 1e-6 or plan.deferred < without_slot(problem.offers, best.slot_U)
            assert plan.gap * abs(plan.bound) >= best.value - plan.value - 1e-6
            best_found += is_best(plan.value, best)
            most_wrong = max(most_wrong, plan.deferred - best.fewest_without)
    assert feasible > 20
    assert best_found >= 0.93 * feasible
    assert most_wrong <= 2


@given(SEEDS, st.integers(1, 3))
@settings(max_examples=80, deadline=None)
def test_soft_resources_cost_what_they_say_and_the_bound_holds(seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    problem = small_problem(seed, 6, 4, width, -0.5)
    soft_R = rng.uniform(0.5, 4.0, len(problem.limits.capacity_R))
    problem = replace(problem, limits=replace(problem.limits, softness_R=soft_R))
    plan, slot_U = solved(problem)
    best = best_plan(problem.offers, problem.limits, -np.inf)
    assert_honest(problem, plan, slot_U)
    assert plan.violations == 0
    assert plan.value - 1e-6 <= best.value <= plan.bound + 1e-6


def test_many_users_of_soft_resources_are_near_the_bound() -> None:
    limits = replace(per_slot([300] * 12), softness_R=np.full(12, 400.0))
    problem = Problem(everything(habit_curves(np.random.default_rng(0), 6_000, 12)), limits)
    plan, slot_U = solved(problem, 4)
    assert_honest(problem, plan, slot_U)
    assert plan.load_R.max() > 300
    assert 0 <= plan.gap < 1e-3


@given(SEEDS, st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_more_room_never_lowers_the_worth_and_is_worth_its_price_at_most(seed: int, slot: int) -> None:
    problem = small_problem(seed, 8, 4, 1, 1.0, one_resource=True)
    plan, _ = solved(problem)
    capacity_R = problem.limits.capacity_R.copy()
    capacity_R[slot] += 1
    more, _ = solved(Problem(problem.offers, replace(problem.limits, capacity_R=capacity_R)))
    if plan.violations == 0:
        assert more.violations == 0
        assert more.value >= plan.value - 1e-6 * max(abs(plan.value), 1.0)
        assert more.value <= plan.bound + plan.price_R[slot] + 1e-6


@pytest.mark.parametrize("none", [False, True])
def test_threads_decide_nothing_and_recorded_prices_give_the_same_slots(none: bool) -> None:
    offers = everything(habit_curves(np.random.default_rng(1), 3_000))
    problem = Problem(offers, per_slot([115 if none else 131] * 24))
    plan, slot_U = solved(problem, 8, may_defer=none)
    for threads in (2, 4):
        again, same_U = solved(problem, 8, threads, may_defer=none)
        assert same_U.tobytes() == slot_U.tobytes()
        assert again.price_R.tobytes() == plan.price_R.tobytes()
        assert (again.value, again.bound) == (plan.value, plan.bound)
    replayed, replay_U = solved(problem, 8, may_defer=none, prices_R=plan.price_R)
    assert replay_U.tobytes() == slot_U.tobytes()
    assert (replayed.passes, replayed.value) == (0, plan.value)


def test_recorded_prices_of_a_night_without_limits_give_the_same_slots() -> None:
    problem = Problem(everything(habit_curves(np.random.default_rng(1), 500)), per_slot([500] * 24))
    plan, slot_U = solved(problem, 2)
    assert not plan.price_R.any()
    assert slot_U.tolist() == problem.offers.worth_US().argmax(axis=1).tolist()
    assert solved(problem, 2, prices_R=plan.price_R)[1].tolist() == slot_U.tolist()


def test_yesterdays_prices_need_fewer_passes_to_a_plan_as_good() -> None:
    problem = Problem(everything(habit_curves(np.random.default_rng(2), 4_000)), per_slot([175] * 24))
    cold, _ = solved(problem, 4)
    yesterday = everything(habit_curves(np.random.default_rng(3), 4_000), seed=1)
    before, _ = solved(Problem(yesterday, problem.limits), 4)
    warm, slot_U = solved(problem, 4, start_R=before.price_R)
    assert warm.passes < cold.passes
    assert naive_prices.faults(problem.offers, slot_U, problem.limits) == []
    assert warm.value == pytest.approx(cold.value, rel=2e-5)


def test_the_deferred_are_the_shortage_and_worth_little_and_no_selection_of_the_fixed() -> None:
    rng = np.random.default_rng(4)
    users = 5_000
    worth_US = habit_curves(rng, users)
    allowed_US = np.ones(worth_US.shape, bool)
    fixed_U = rng.random(users) < 0.2
    allowed_US[fixed_U] = np.arange(24) == 10
    capacity_S = np.full(24, (~fixed_U).sum() * 9 // (10 * 23))
    capacity_S[10] = fixed_U.sum() - 300
    problem = Problem(offers_of(worth_US, allowed_US, np.zeros(users, np.int32), hashes(users)), per_slot(capacity_S))
    plan, slot_U = solved(problem, 4, may_defer=True)
    gone_U = slot_U == NO_SLOT
    assert naive_prices.faults(problem.offers, slot_U, problem.limits) == []
    assert (gone_U & fixed_U).sum() == 300
    assert plan.deferred == gone_U.sum() == users - capacity_S.sum()
    best_U = worth_US.max(axis=1)
    free_gone, free_kept = best_U[gone_U & ~fixed_U], best_U[~gone_U & ~fixed_U]
    assert free_gone.mean() < 0.6 * free_kept.mean()
    # whom chance takes is as good as who stays: within four standard errors
    worth_U = worth_US[:, 10]
    taken, left = worth_U[gone_U & fixed_U], worth_U[~gone_U & fixed_U]
    error = np.hypot(taken.std() / len(taken) ** 0.5, left.std() / len(left) ** 0.5)
    assert abs(taken.mean() - left.mean()) < 4 * error


@pytest.mark.parametrize("may_defer", [False, True])
def test_where_all_fit_nobody_is_deferred(may_defer: bool) -> None:
    problem = Problem(everything(habit_curves(np.random.default_rng(5), 2_400)), per_slot([100] * 24))
    plan, slot_U = solved(problem, 3, may_defer=may_defer)
    assert plan.deferred == plan.violations == 0
    assert np.bincount(slot_U, minlength=24).tolist() == [100] * 24


def test_providers_and_totals_hold_together() -> None:
    users, providers = 3_000, 3
    rng = np.random.default_rng(6)
    group_U = rng.choice(providers, users, p=[0.6, 0.3, 0.1]).astype(np.int32)
    offers = offers_of(habit_curves(rng, users), np.ones((users, 24), bool), group_U, hashes(users))
    n_P = np.bincount(group_U, minlength=providers)
    limits = by_provider(providers, 24, np.full(24, 150), np.repeat(np.ceil(n_P * 1.4 / 24).astype(int), 24))
    plan, slots = solve_in_memory(in_parts(offers, 5), limits, np.arange(providers, dtype=np.int32))
    assert naive_prices.faults(offers, np.concatenate(slots), limits) == []
    assert 0 <= plan.gap < 5e-3


def no_resources(slots: int) -> Limits:
    return limits_of(np.full((1, slots, 1), -1, np.int32), np.ones((1, slots, 1), np.int32), np.zeros(0, np.int64))


def test_without_resources_everyone_gets_his_best() -> None:
    problem = Problem(everything(habit_curves(np.random.default_rng(7), 50)), no_resources(24))
    plan, slot_U = solved(problem, 2, may_defer=True)
    assert slot_U.tolist() == problem.offers.worth_US().argmax(axis=1).tolist()
    assert plan.gap == plan.deferred == 0


def test_empty_buckets_and_nobody_at_all_are_plans() -> None:
    offers = everything(habit_curves(np.random.default_rng(8), 30, 6))
    nobody = offers.take(slice(0, 0))
    plan, slots = solve_in_memory([nobody, offers, nobody], per_slot([5] * 6), np.zeros(1, np.int32))
    assert [len(slot_U) for slot_U in slots] == [0, 30, 0]
    assert np.bincount(slots[1]).tolist() == [5] * 6
    assert plan.violations == 0
    empty, slots = solve_in_memory([nobody], per_slot([0] * 6), np.zeros(1, np.int32), may_defer=True)
    assert (len(slots[0]), empty.value, empty.bound, empty.gap) == (0, 0, 0, 0)


def test_with_no_choice_at_all_nothing_moves_and_too_much_is_told() -> None:
    allowed_US = np.eye(3, dtype=bool)[[0, 0, 1, 2]]
    offers = offers_of(np.ones((4, 3), np.float32), allowed_US, np.zeros(4, np.int32), hashes(4))
    plan, slot_U = solved(Problem(offers, per_slot([1, 1, 1])))
    assert slot_U.tolist() == [0, 0, 1, 2]
    assert plan.violations == 1
    fewer, slot_U = solved(Problem(offers, per_slot([1, 1, 1])), may_defer=True)
    assert sorted(slot_U[:2].tolist()) == [0, NO_SLOT]
    assert (fewer.violations, fewer.deferred) == (0, 1)


@pytest.mark.parametrize("level", [0.0, 0.25])
def test_where_everything_is_worth_the_same_every_plan_is_the_best(level: float) -> None:
    problem = Problem(everything(np.full((240, 24), level, np.float32)), per_slot([10] * 24))
    plan, slot_U = solved(problem, 3)
    assert np.bincount(slot_U, minlength=24).tolist() == [10] * 24
    assert plan.value == pytest.approx(240 * level)


def test_users_without_any_slot_are_nobodys_loss() -> None:
    offers = everything(habit_curves(np.random.default_rng(9), 60, 6))
    closed_US = np.where(np.arange(60)[:, None] % 3 == 0, np.uint16(65_535), offers.code_US)
    problem = Problem(replace(offers, code_US=closed_US), per_slot([7] * 6))
    open_alone = problem.offers.take(np.arange(60) % 3 != 0)
    plan, slot_U = solved(problem, 2, may_defer=True)
    alone, _ = solved(Problem(open_alone, problem.limits), 1, may_defer=True)
    assert (slot_U[::3] == NO_SLOT).all()
    assert plan.deferred == alone.deferred == 0
    assert plan.value == pytest.approx(alone.value, rel=1e-6)
    assert plan.scale == pytest.approx(alone.scale)
