"""The solver on whole senders, against the exact optimum of a network flow, and by its own certificate."""

import numpy as np
import pytest

from limited import Int64s, by_provider, everything, flow_optimum, habit_curves, hashes, in_parts, per_slot, tied_curves
from sto_engine.assign.in_memory import solve_in_memory
from sto_kernels.limits import counts_GS
from sto_kernels.offers import Offers, offers_of

ONE_GROUP = np.zeros(1, np.int32)


def tight(users: int) -> Int64s:
    """Every slot takes 1.05 times its part of the users."""
    return np.full(24, int(1.05 * users / 24) + 1)


def sender(kind: str, users: int) -> Offers:
    curves = {"habit": habit_curves, "tied": tied_curves}[kind]
    return everything(curves(np.random.default_rng(users), users))


def assert_near_the_optimum(offers: Offers, optimum: float, parts: int, most_gap: float) -> None:
    capacity_S = tight(len(offers))
    plan, slots = solve_in_memory(in_parts(offers, parts), per_slot(capacity_S), ONE_GROUP)
    sent_S = counts_GS(offers.group_U, np.concatenate(slots), 1, 24)[0]
    assert sent_S.sum() == len(offers)
    assert (sent_S <= capacity_S).all()
    # the flow rounds each worth to 1e-9
    rounding = 1e-9 * len(offers)
    assert plan.value <= optimum + rounding
    assert plan.value >= (1 - most_gap) * optimum
    assert plan.bound >= optimum - rounding
    assert plan.gap <= most_gap


@pytest.mark.parametrize(("kind", "most_gap"), [("habit", 1e-4), ("tied", 3e-4)])
def test_20_000_users_are_within_a_hair_of_the_exact_flow_in_any_number_of_buckets(kind: str, most_gap: float) -> None:
    offers = sender(kind, 20_000)
    optimum = flow_optimum(offers, tight(20_000))
    for parts in (1, 16, 64):
        assert_near_the_optimum(offers, optimum, parts, most_gap)


@pytest.mark.long
@pytest.mark.parametrize(("kind", "most_gap"), [("habit", 1e-4), ("tied", 3e-4)])
def test_100_000_users_are_within_a_hair_of_the_exact_flow(kind: str, most_gap: float) -> None:
    offers = sender(kind, 100_000)
    assert_near_the_optimum(offers, flow_optimum(offers, tight(100_000)), 16, most_gap)


@pytest.mark.long
def test_a_sample_of_the_users_and_corrections_are_enough() -> None:
    offers = sender("tied", 300_000)
    capacity_S = tight(len(offers))
    plan, slots = solve_in_memory(in_parts(offers, 16), per_slot(capacity_S), ONE_GROUP, threads=2)
    assert (counts_GS(offers.group_U, np.concatenate(slots), 1, 24)[0] <= capacity_S).all()
    assert 0 <= plan.gap <= 3e-4


@pytest.mark.long
def test_20_providers_and_totals_are_within_a_hair_of_the_bound() -> None:
    users, providers = 100_000, 20
    rng = np.random.default_rng(20)
    share_P = np.array([0.45, 0.18, 0.09, *np.linspace(0.03, 0.006, 17)])
    group_U = rng.choice(providers, users, p=share_P / share_P.sum()).astype(np.int32)
    offers = offers_of(habit_curves(rng, users), np.ones((users, 24), bool), group_U, hashes(users))
    n_P = np.bincount(group_U, minlength=providers)
    limits = by_provider(providers, 24, tight(users), np.repeat((n_P * 1.5 / 24).astype(int) + 1, 24))
    plan, slots = solve_in_memory(in_parts(offers, 16), limits, np.arange(providers, dtype=np.int32), threads=2)
    load_R = limits.load_R(counts_GS(group_U, np.concatenate(slots), providers, 24))
    assert (load_R <= limits.capacity_R).all()
    assert plan.violations == 0
    assert 0 <= plan.gap <= 2e-4


@pytest.mark.parametrize("share", [0.9, 0.6])
def test_of_too_many_users_as_many_are_deferred_as_have_no_room(share: float) -> None:
    offers = sender("habit", 10_000)
    capacity_S = np.full(24, int(share * 10_000 / 24))
    plan, slots = solve_in_memory(in_parts(offers, 8), per_slot(capacity_S), ONE_GROUP, may_defer=True)
    slot_U = np.concatenate(slots)
    assert counts_GS(offers.group_U, slot_U, 1, 24)[0].tolist() == capacity_S.tolist()
    assert plan.deferred == (slot_U == 255).sum() == 10_000 - capacity_S.sum()
    assert 0 <= plan.gap <= 2e-4
