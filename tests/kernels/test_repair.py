"""Repair within quotas, near ties and shedding, against a checker that knows no kernel."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from limited import Int64s, Problem, everything, hashes, per_slot, small_problem
from sto_kernels import naive_prices
from sto_kernels.hashing import derive
from sto_kernels.limits import Limits, limits_of
from sto_kernels.offers import NONE, Offers, offers_of
from sto_kernels.prices import NO_SLOT, Floats, choose
from sto_kernels.repair import near_ties, repair, shed

KEY = np.uint64(7)


def chosen(problem: Problem, none: float = -np.inf) -> tuple[naive_prices.Slots, Int64s]:
    """Everyone's best slot and what these take."""
    free = np.zeros((problem.limits.groups, problem.limits.slots))
    slot_U = choose(problem.offers, free, KEY, 1e-4, none).slot_U
    return slot_U, np.array(naive_prices.loads(problem.offers.group_U, slot_U, problem.limits), np.int64)


def could_leave(problem: Problem, slot_U: naive_prices.Slots, load_R: Int64s, quota_R: Int64s) -> list[int]:
    """Users of over-full resources who have another slot with room that takes less of what is over-full."""
    limits, found = problem.limits, []
    take_OR = naive_prices.takes(limits)
    for u, s in enumerate(slot_U.tolist()):
        first = int(problem.offers.group_U[u]) * limits.slots
        if s == NO_SLOT or not (take_OR[first + s] > 0)[load_R > quota_R].any():
            continue
        for t in np.flatnonzero(problem.offers.code_US[u] != NONE).tolist():
            more_R = take_OR[first + t] - take_OR[first + s]
            fits = (load_R + more_R <= quota_R)[more_R > 0].all()
            if fits and (more_R < 0)[load_R > quota_R].any():
                found.append(u)
    return found


@given(st.integers(0, 100_000), st.sampled_from([6, 30, 65]), st.integers(1, 4), st.sampled_from([-np.inf, 0.3]))
@settings(max_examples=120, deadline=None)
def test_limits_hold_after_repair_but_for_those_whom_nobody_could_leave(
    seed: int, users: int, width: int, none: float
) -> None:
    problem = small_problem(seed, users, 5, width, slack=users / 10)
    slot_U, load_R = chosen(problem, none)
    quota_R = problem.limits.capacity_R
    cost_GS = np.random.default_rng(seed).random((2, 5)) / 9
    new_U, new_R = repair(problem.offers, slot_U, problem.limits, cost_GS, load_R, quota_R)
    assert new_R.tolist() == naive_prices.loads(problem.offers.group_U, new_U, problem.limits)
    assert not [fault for fault in naive_prices.faults(problem.offers, new_U, problem.limits) if "allowed" in fault]
    assert (new_R <= np.maximum(load_R, quota_R)).all()
    assert could_leave(problem, new_U, new_R, quota_R) == []
    assert ((slot_U == NO_SLOT) | (new_U != NO_SLOT)).all()
    took_only_what_is_over = load_R > quota_R
    take_OR = naive_prices.takes(problem.limits)
    for u in np.flatnonzero((new_U != slot_U) & (slot_U != NO_SLOT)).tolist():
        option = int(problem.offers.group_U[u]) * 5 + int(slot_U[u])
        assert (take_OR[option] > 0)[took_only_what_is_over].any()


@given(st.integers(0, 100_000))
@settings(max_examples=40, deadline=None)
def test_users_without_a_slot_get_one_where_there_is_room(seed: int) -> None:
    problem = small_problem(seed, 20, 5, 1, slack=3)
    slot_U = np.full(20, NO_SLOT, np.uint8)
    nothing_R = np.zeros(len(problem.limits.capacity_R), np.int64)
    new_U, new_R = repair(
        problem.offers, slot_U, problem.limits, np.zeros((2, 5)), nothing_R, problem.limits.capacity_R
    )
    assert naive_prices.faults(problem.offers, new_U, problem.limits) == []
    take_OR = naive_prices.takes(problem.limits)
    for u in np.flatnonzero(new_U == NO_SLOT).tolist():
        for s in np.flatnonzero(problem.offers.code_US[u] != NONE).tolist():
            option = int(problem.offers.group_U[u]) * 5 + s
            assert (new_R + take_OR[option] > problem.limits.capacity_R)[take_OR[option] > 0].any()


def test_those_who_lose_least_move_and_to_the_best_slot_with_room() -> None:
    worth_US = np.array([[0.9, 0.5, 0.1], [0.9, 0.8, 0.1], [0.9, 0.1, 0.7], [0.9, 0.0, 0.1]], np.float32)
    offers, limits = everything(worth_US), per_slot([2, 1, 5])
    slot_U, load_R = np.zeros(4, np.uint8), np.array([4, 0, 0])
    new_U, _ = repair(offers, slot_U, limits, np.zeros((1, 3)), load_R, limits.capacity_R)
    assert new_U.tolist() == [0, 1, 2, 0]


def test_a_move_counts_what_slots_cost() -> None:
    worth_US = np.array([[0.9, 0.8, 0.7], [0.9, 0.2, 0.1]], np.float32)
    offers, limits = everything(worth_US), per_slot([1, 5, 5])
    new_U, _ = repair(
        offers, np.zeros(2, np.uint8), limits, np.array([[0.0, 0.3, 0.1]]), np.array([2, 0, 0]), limits.capacity_R
    )
    assert new_U.tolist() == [2, 0]


def overlapping_windows() -> tuple[Offers, Limits]:
    """Slots 0, 1, 2 over quarters 0-1, 1-2, 2-3; only quarter 1 will be short."""
    window_SJ = np.array([[[0, 1], [1, 2], [2, 3]]], np.int32)
    limits = limits_of(window_SJ, np.ones_like(window_SJ), np.array([9, 1, 9, 9]))
    return everything(np.array([[0.9, 0.8, 0.1], [0.9, 0.85, 0.3]], np.float32)), limits


def test_nobody_moves_to_a_slot_that_leaves_the_same_resource_over_full() -> None:
    offers, limits = overlapping_windows()
    new_U, new_R = repair(
        offers, np.zeros(2, np.uint8), limits, np.zeros((1, 3)), np.array([2, 2, 0, 0]), limits.capacity_R
    )
    assert sorted(new_U.tolist()) == [0, 2]
    assert new_U[1] == 2
    assert new_R.tolist() == [1, 1, 1, 1]


def test_soft_resources_are_never_over_full() -> None:
    offers, limits = everything(np.array([[0.9, 0.1]] * 3, np.float32)), per_slot([1, 3])
    soft = Limits(2, limits.first_O, limits.resource_K, limits.weight_K, limits.capacity_R, np.array([1.0, 0.0]))
    slot_U, load_R = np.zeros(3, np.uint8), np.array([3, 0])
    assert repair(offers, slot_U, soft, np.zeros((1, 2)), load_R, soft.capacity_R)[0].tolist() == [0, 0, 0]
    assert slot_U.tolist() == [0, 0, 0]


def losses(offers: Offers, slot_U: naive_prices.Slots, cost_GS: Floats, none: float) -> list[float]:
    """What each user loses by his next best; inf without a choice, -inf without a slot."""
    found = []
    for u, row in enumerate(naive_prices.worths(offers)):
        nets = row - cost_GS[offers.group_U[u]]
        others = [net for s, net in enumerate(nets) if s != slot_U[u]]
        if np.isfinite(row).sum() < 2:
            found.append(np.inf)
        else:
            found.append(-np.inf if slot_U[u] == NO_SLOT else nets[slot_U[u]] - max(*others, none))
    return found


@given(st.integers(0, 100_000), st.sampled_from([-np.inf, 0.2]))
@settings(max_examples=60, deadline=None)
def test_near_ties_are_those_with_the_least_losses(seed: int, none: float) -> None:
    problem = small_problem(seed, 30, 5)
    slot_U, _ = chosen(problem, none)
    cost_GS, eps = np.random.default_rng(seed).random((2, 5)) / 9, 0.02
    rows = near_ties(problem.offers, slot_U, cost_GS, eps, none)
    by_hand = np.array(losses(problem.offers, slot_U, cost_GS, none))
    assert set(rows.tolist()) ^ set(np.flatnonzero(by_hand < 10 * eps).tolist()) <= {
        u for u, loss in enumerate(by_hand) if abs(loss - 10 * eps) < 1e-6
    }
    ordered = by_hand[rows]
    assert (ordered[1:] >= ordered[:-1] - 1e-6).all()


@given(st.integers(0, 100_000), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_shedding_ends_within_the_limits_and_takes_slots_of_over_full_resources_only(seed: int, width: int) -> None:
    problem = small_problem(seed, 30, 5, width, slack=1.0)
    slot_U, load_R = chosen(problem)
    room_R = problem.limits.capacity_R
    new_U, new_R = shed(problem.offers, slot_U, problem.limits, load_R, room_R)
    assert naive_prices.faults(problem.offers, new_U, problem.limits) == []
    assert new_R.tolist() == naive_prices.loads(problem.offers.group_U, new_U, problem.limits)
    take_OR = naive_prices.takes(problem.limits)
    for u in np.flatnonzero(new_U != slot_U).tolist():
        assert new_U[u] == NO_SLOT
        assert (take_OR[int(problem.offers.group_U[u]) * 5 + int(slot_U[u])] > 0)[load_R > room_R].any()


def test_those_worth_least_are_shed_first_and_those_without_a_choice_by_hash() -> None:
    users = 40
    worth_US = np.linspace(0.1, 0.9, users, dtype=np.float32)[::-1, None] * np.ones((1, 2), np.float32)
    allowed_US = np.ones((users, 2), bool)
    allowed_US[::2, 1] = False
    offers = offers_of(worth_US, allowed_US, np.zeros(users, np.int32), hashes(users))
    slot_U, load_R = np.zeros(users, np.uint8), np.array([users, 0])
    few, _ = shed(offers, slot_U, per_slot([users - 5, 0]), load_R, np.array([users - 5, 0]))
    assert np.flatnonzero(few == NO_SLOT).tolist() == [31, 33, 35, 37, 39]
    most, _ = shed(offers, slot_U, per_slot([8, 0]), load_R, np.array([8, 0]))
    assert (most[1::2] == NO_SLOT).all()
    place_U = derive(offers.h_U[::2], "shed")
    assert sorted(np.flatnonzero(most[::2] == 0)) == sorted(np.argsort(place_U)[-8:])
