"""Senders with limits for tests: curves of slots, random small problems, and the exact optimum as a network flow."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sto_kernels.hashing import U64, hash_integers
from sto_kernels.limits import Limits, limits_of
from sto_kernels.offers import Offers, offers_of

Floats = NDArray[np.float64]
Int64s = NDArray[np.int64]


def hashes(users: int, seed: int = 0) -> U64:
    return hash_integers(np.arange(users, dtype=np.int64) + seed * 1_000_003)


def habit_curves(rng: np.random.Generator, users: int, slots: int = 24) -> NDArray[np.float32]:
    """Chance of an open by slot: a level of each user's own, a common evening and noon, and an hour of his own."""
    hour_S = np.arange(slots) * 24.0 / slots

    def bump(centre: Floats, width: Floats) -> Floats:
        away = np.abs(hour_S - centre)
        return np.asarray(np.exp(-0.5 * (np.minimum(away, 24 - away) / width) ** 2))

    common_S = bump(np.float64(19.5), np.float64(2.5)) + 0.6 * bump(np.float64(12.0), np.float64(2.0))
    own_US = bump(rng.normal(17.0, 5.0, (users, 1)) % 24, rng.uniform(1.0, 4.0, (users, 1)))
    logit_US = rng.normal(-2.0, 0.8, (users, 1)) + 0.8 * common_S + rng.gamma(1.5, 0.6, (users, 1)) * own_US
    return (1.0 / (1.0 + np.exp(-logit_US))).astype(np.float32)


def tied_curves(rng: np.random.Generator, users: int, share: float = 0.4, curves: int = 48) -> NDArray[np.float32]:
    """The same, but that a share of the users has one of a few curves exactly."""
    worth_US = habit_curves(rng, users)
    tied_U = rng.random(users) < share
    shared = habit_curves(rng, curves)
    worth_US[tied_U] = shared[rng.integers(0, curves, int(tied_U.sum()))]
    return worth_US


def everything(worth_US: NDArray[np.float32], seed: int = 0) -> Offers:
    """Offers of one group with every slot allowed."""
    users = len(worth_US)
    return offers_of(worth_US, np.ones(worth_US.shape, bool), np.zeros(users, np.int32), hashes(users, seed))


def in_parts(offers: Offers, parts: int) -> list[Offers]:
    edges = np.linspace(0, len(offers), parts + 1).astype(int)
    return [offers.take(slice(a, b)) for a, b in pairwise(edges.tolist())]


def per_slot(capacity_S: list[int] | Int64s) -> Limits:
    """One group whose slots are one resource each."""
    slots = len(capacity_S)
    table = np.arange(slots, dtype=np.int32).reshape(1, slots, 1)
    return limits_of(table, np.ones_like(table), np.asarray(capacity_S, np.int64))


def by_provider(providers: int, slots: int, total_S: Int64s, of_PS: Int64s) -> Limits:
    """A group is a provider: each slot is a resource in total and one of each provider."""
    slot_S = np.arange(slots)
    table = np.stack([np.stack([slot_S, slots * (p + 1) + slot_S], axis=1) for p in range(providers)])
    return limits_of(table.astype(np.int32), np.ones(table.shape, np.int32), np.append(total_S, of_PS.reshape(-1)))


@dataclass(frozen=True)
class Problem:
    offers: Offers
    limits: Limits


def small_problem(
    seed: int, users: int = 6, slots: int = 4, width: int = 1, slack: float = 0.5, one_resource: bool = False
) -> Problem:
    """Random worths, masks, two groups, windows of `width` resources each, and capacities near what is needed."""
    rng = np.random.default_rng(seed)
    allowed_US = rng.random((users, slots)) < rng.choice([0.5, 0.8, 1.0])
    worth_US = rng.choice([rng.random((users, slots)), rng.integers(0, 3, (users, slots)) / 2]).astype(np.float32)
    group_U = rng.integers(0, 2, users).astype(np.int32)
    bins = slots + width - 1
    window_SJ = np.arange(slots)[:, None] + np.arange(width)
    both = bool(rng.integers(0, 2)) and not one_resource
    # resources: bins in total, then bins of group 1 alone
    table = np.full((2, slots, 2 * width), -1)
    table[:, :, :width] = window_SJ
    if both:
        table[1, :, width:] = bins + window_SJ
    mean = users * width / bins
    capacity_R = np.maximum(0, rng.integers(-1, 2, 2 * bins) + round(mean + slack))
    offers = offers_of(
        worth_US, allowed_US, group_U, hashes(users, seed), np.full(users, rng.choice([1, 3]), np.float32)
    )
    return Problem(
        offers, limits_of(table.astype(np.int32), np.ones(table.shape, np.int32), capacity_R.astype(np.int64))
    )


def flow_optimum(offers: Offers, capacity_S: Int64s) -> float:
    """The most that users of one group with every slot allowed can get, exact to 1e-9 of a worth, by OR-Tools."""
    from ortools.graph.python import min_cost_flow

    worth_US = offers.low_U[:, None].astype(float) + offers.step_U[:, None].astype(float) * offers.code_US
    users, slots = worth_US.shape
    flow = min_cost_flow.SimpleMinCostFlow()
    tail = np.repeat(np.arange(users), slots)
    head = users + np.tile(np.arange(slots), users)
    cost = np.round(-worth_US.reshape(-1) * 1e9).astype(np.int64)
    flow.add_arcs_with_capacity_and_unit_cost(tail, head, np.ones(users * slots, np.int64), cost)
    sink = users + slots
    flow.add_arcs_with_capacity_and_unit_cost(
        users + np.arange(slots), np.full(slots, sink), np.asarray(capacity_S, np.int64), np.zeros(slots, np.int64)
    )
    flow.set_nodes_supplies(np.append(np.arange(users), sink), np.append(np.ones(users, np.int64), -users))
    if flow.solve() != flow.OPTIMAL:
        raise AssertionError("the flow has no optimum: capacities hold fewer than the users")
    return -flow.optimal_cost() / 1e9
