"""Exact limits after the choice by prices: the few users of over-full resources move to slots with room.

Prices leave a resource over-full by what a hashed draw and a sample leave open, some tenths of a percent. Those who
lose least by it move, each to his best slot that has room in all its resources, so that no limit is broken anew.

    repeat    loss_u = net of the slot - net of the best other slot with room      for users in over-full resources
              in order of (loss, place): if a resource of the user's slot is still over-full, move him
    until nothing is over-full, or nobody can move

Within a bucket the room is the bucket's quota (`quotas`), so that buckets repair themselves alone. `chain` is for what
is left where masks are narrow: somebody else makes room first.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels.compiled import jit, read_only
from sto_kernels.hashing import derive
from sto_kernels.limits import Int64s, Limits
from sto_kernels.offers import NONE, Offers
from sto_kernels.prices import NO_SLOT, Floats

Array = NDArray[Any]
ROUNDS = 8
# in eps: who loses more by a move gains nothing by a chain of them
NEAR_TIE = 10.0


def repair(
    offers: Offers, slot_U: NDArray[np.uint8], limits: Limits, cost_GS: Floats, load_R: Int64s, quota_R: Int64s
) -> tuple[NDArray[np.uint8], Int64s]:
    """New slots and loads; hard resources are within `quota_R` but for what nobody could leave.

    `load_R` is what `slot_U` takes. Users without a slot get one where there is room.
    """
    slot_U, load_R = slot_U.copy(), load_R.copy()
    room_R = np.where(limits.hard_R, quota_R, np.iinfo(np.int64).max)
    tables = (*offers.columns(), *limits.entries(), read_only(cost_GS, np.float64), read_only(room_R, np.int64))
    for attempt in range(ROUNDS):
        if not (load_R > room_R).any():
            break
        loss_U, exact = np.empty(len(offers)), attempt > 0
        _losses(*tables, read_only(slot_U, np.uint8), read_only(load_R, np.int64), exact, loss_U)
        movers = np.flatnonzero(loss_U < np.inf)
        order = movers[np.argsort(loss_U[movers], kind="stable")]
        if not _move(*tables, read_only(order, np.int64), slot_U, load_R) and exact:
            break
    without = np.flatnonzero(slot_U == NO_SLOT)
    if len(without):
        _move(*tables, read_only(without, np.int64), slot_U, load_R)
    return slot_U, load_R


def near_ties(offers: Offers, slot_U: NDArray[np.uint8], cost_GS: Floats, eps: float, none: float) -> NDArray[np.int64]:
    """Rows of users who lose little by another slot, whether or not it has room, or have none; least losses first."""
    loss_U = np.empty(len(offers))
    _least_losses(*offers.columns(), read_only(cost_GS, np.float64), none, read_only(slot_U, np.uint8), loss_U)
    rows = np.flatnonzero(loss_U < NEAR_TIE * eps)
    return rows[np.argsort(loss_U[rows], kind="stable")]


def shed(
    offers: Offers, slot_U: NDArray[np.uint8], limits: Limits, load_R: Int64s, room_R: Int64s
) -> tuple[NDArray[np.uint8], Int64s]:
    """Users of over-full resources lose their slot until nothing is over-full: those worth least first, those who had
    no choice (an arm of an experiment) last and by hash, so that who is left is no selection."""
    slot_U, load_R = slot_U.copy(), load_R.copy()
    here = np.flatnonzero(slot_U != NO_SLOT)
    worth_U = offers.worth_US()[here, slot_U[here]]
    fixed_U = offers.fixed_U()[here]
    worth_U = np.where(fixed_U, 0.0, worth_U)
    order = here[np.lexsort((derive(offers.h_U[here], "shed"), worth_U, fixed_U))]
    tables = (read_only(offers.group_U, np.int32), *limits.entries(), read_only(room_R, np.int64))
    _drop(*tables, limits.slots, read_only(order, np.int64), slot_U, load_R)
    return slot_U, load_R


@jit
def _is_over(o: int, first_O: Array, resource_K: Array, load_R: Array, room_R: Array) -> bool:
    over = False
    for k in range(first_O[o], first_O[o + 1]):
        over = over or load_R[resource_K[k]] > room_R[resource_K[k]]
    return over


@jit
def _drop(
    group_U: Array,
    first_O: Array,
    resource_K: Array,
    weight_K: Array,
    room_R: Array,
    slots: int,
    order: Array,
    slot_U: Array,
    load_R: Array,
) -> None:
    """Users in this order lose their slots while these use something that is over-full."""
    for i in range(len(order)):
        u = order[i]
        o = group_U[u] * slots + np.int64(slot_U[u])
        if _is_over(o, first_O, resource_K, load_R, room_R):
            for k in range(first_O[o], first_O[o + 1]):
                load_R[resource_K[k]] -= weight_K[k]
            slot_U[u] = NO_SLOT


@jit
def _fits(o: int, old: int, first_O: Array, resource_K: Array, weight_K: Array, load_R: Array, room_R: Array) -> bool:
    """Whether one more send of option o fits once the send of option `old` (-1: none) is gone."""
    for k in range(first_O[o], first_O[o + 1]):
        r, more = resource_K[k], np.int64(weight_K[k])
        if old >= 0:
            for j in range(first_O[old], first_O[old + 1]):
                if resource_K[j] == r:
                    more -= weight_K[j]
        if more > 0 and load_R[r] + more > room_R[r]:
            return False
    return True


@jit
def _relieves(
    o: int, old: int, first_O: Array, resource_K: Array, weight_K: Array, load_R: Array, room_R: Array
) -> bool:
    """Whether option o takes less than option `old` of anything that is over-full."""
    relieves = False
    for j in range(first_O[old], first_O[old + 1]):
        r, less = resource_K[j], weight_K[j]
        if load_R[r] > room_R[r]:
            for k in range(first_O[o], first_O[o + 1]):
                if resource_K[k] == r:
                    less -= weight_K[k]
            relieves = relieves or less > 0
    return relieves


@jit
def _best_other(
    u: int,
    code_US: Array,
    low_U: Array,
    step_U: Array,
    group_U: Array,
    first_O: Array,
    resource_K: Array,
    weight_K: Array,
    cost_GS: Array,
    room_R: Array,
    now: int,
    load_R: Array,
) -> tuple[int, float]:
    """The best slot but `now` that has room and, out of a slot that is over-full, takes less of what is over-full
    there, and its net; -1 where there is none."""
    slots = code_US.shape[1]
    g, best, net_best = group_U[u], -1, -np.inf
    old = g * slots + now if now != NO_SLOT else -1
    for s in range(slots):
        if s == now or code_US[u, s] == NONE:
            continue
        net = np.float64(low_U[u]) + np.float64(step_U[u]) * np.float64(code_US[u, s]) - cost_GS[g, s]
        o = g * slots + s
        if (
            net > net_best
            and _fits(o, old, first_O, resource_K, weight_K, load_R, room_R)
            and (old < 0 or _relieves(o, old, first_O, resource_K, weight_K, load_R, room_R))
        ):
            best, net_best = s, net
    return best, net_best


@jit
def _least_losses(
    code_US: Array,
    low_U: Array,
    step_U: Array,
    group_U: Array,
    cost_GS: Array,
    none: float,
    slot_U: Array,
    loss_U: Array,
) -> None:
    """What each user loses by his next best slot or by none; inf for those without a choice, -inf without a slot."""
    for u in range(len(slot_U)):
        now, g, step = np.int64(slot_U[u]), group_U[u], np.float64(step_U[u])
        here, best, allowed = np.inf, none - np.float64(low_U[u]), 0
        for s in range(code_US.shape[1]):
            if code_US[u, s] != NONE:
                net = step * np.float64(code_US[u, s]) - cost_GS[g, s]
                allowed += 1
                if s == now:
                    here = net
                else:
                    best = max(best, net)
        loss_U[u] = here - best if now != NO_SLOT else -np.inf
        if allowed < 2:
            loss_U[u] = np.inf


@jit
def _losses(
    code_US: Array,
    low_U: Array,
    step_U: Array,
    group_U: Array,
    first_O: Array,
    resource_K: Array,
    weight_K: Array,
    cost_GS: Array,
    room_R: Array,
    slot_U: Array,
    load_R: Array,
    exact: bool,
    loss_U: Array,
) -> None:
    """What each user of an over-full resource loses by moving; inf for all others and for those who cannot.

    Unless `exact`, slots which have room only because he leaves are passed over.
    """
    slots = code_US.shape[1]
    over_O = np.empty(len(first_O) - 1, np.bool_)
    closed_O = np.empty(len(first_O) - 1)
    for o in range(len(over_O)):
        over_O[o] = _is_over(o, first_O, resource_K, load_R, room_R)
        closed_O[o] = 0.0 if _fits(o, -1, first_O, resource_K, weight_K, load_R, room_R) else -np.inf
    for u in range(len(slot_U)):
        loss_U[u] = np.inf
        now, g, step = np.int64(slot_U[u]), group_U[u], np.float64(step_U[u])
        if now == NO_SLOT or not over_O[g * slots + now]:
            continue
        net = -np.inf
        if exact:
            _, net = _best_other(
                u, code_US, low_U, step_U, group_U, first_O, resource_K, weight_K, cost_GS, room_R, now, load_R
            )
            net -= np.float64(low_U[u])
        else:
            for s in range(slots):
                if s != now and code_US[u, s] != NONE:
                    net = max(net, step * np.float64(code_US[u, s]) - cost_GS[g, s] + closed_O[g * slots + s])
        if net > -np.inf:
            loss_U[u] = step * np.float64(code_US[u, now]) - cost_GS[g, now] - net


@jit
def _move(
    code_US: Array,
    low_U: Array,
    step_U: Array,
    group_U: Array,
    first_O: Array,
    resource_K: Array,
    weight_K: Array,
    cost_GS: Array,
    room_R: Array,
    order: Array,
    slot_U: Array,
    load_R: Array,
) -> int:
    """Users in this order leave over-full resources, or get a slot, where one with room is left; how many moved."""
    slots, moved = code_US.shape[1], 0
    for i in range(len(order)):
        u = order[i]
        now, g = np.int64(slot_U[u]), group_U[u]
        old = g * slots + now if now != NO_SLOT else -1
        if old >= 0 and not _is_over(old, first_O, resource_K, load_R, room_R):
            continue
        best, _ = _best_other(
            u, code_US, low_U, step_U, group_U, first_O, resource_K, weight_K, cost_GS, room_R, now, load_R
        )
        if best < 0:
            continue
        if old >= 0:
            for k in range(first_O[old], first_O[old + 1]):
                load_R[resource_K[k]] -= weight_K[k]
        o = g * slots + best
        for k in range(first_O[o], first_O[o + 1]):
            load_R[resource_K[k]] += weight_K[k]
        slot_U[u] = best
        moved += 1
    return moved
