"""Slow and obvious twins of offers, prices, choice and limits: loops, float64, Python integers; and the best plan there
is, by trying them all. U users, S slots, G groups, R resources, N plans."""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels.limits import Int64s, Limits
from sto_kernels.offers import NONE, STEPS, Offers

Floats = NDArray[np.float64]
Slots = NDArray[np.uint8]
NO_SLOT = 255
WORD = 2**64


def encode(worths: list[float], allowed: list[bool]) -> tuple[list[int], float, float]:
    """Codes, low and step of one user, without rounding to float32."""
    inside = [worth for worth, is_allowed in zip(worths, allowed, strict=True) if is_allowed]
    low = min(inside, default=0.0)
    step = (max(inside, default=0.0) - low) / STEPS
    codes = [round((worth - low) / step) if step > 0 else 0 for worth in worths]
    return [code if is_allowed else NONE for code, is_allowed in zip(codes, allowed, strict=True)], low, step


def worths(offers: Offers) -> Floats:
    """What the codes stand for, -inf where a slot is not allowed, float64 [U, S]."""
    found = np.full(offers.code_US.shape, -np.inf)
    for u, s in np.ndindex(found.shape):
        if offers.code_US[u, s] != NONE:
            found[u, s] = float(offers.low_U[u]) + float(offers.step_U[u]) * int(offers.code_US[u, s])
    return found


def shares(offers: Offers, cost_GS: Floats, eps: float, none: float) -> tuple[Floats, Floats]:
    """p_us of users with a choice, zero for all others, float64 [U, S]; each user's part of the smooth dual."""
    worth_US = worths(offers)
    share_US, value_U = np.zeros(worth_US.shape), np.zeros(len(offers))
    for u in range(len(offers)):
        if np.isfinite(worth_US[u]).sum() < 2:
            continue
        nets = np.append(worth_US[u] - cost_GS[offers.group_U[u]], none)
        top = nets.max()
        parts = np.exp((nets - top) / eps)
        share_US[u], value_U[u] = (parts / parts.sum())[:-1], top + eps * math.log(parts.sum())
    return share_US, value_U


def moments(offers: Offers, cost_GS: Floats, eps: float, none: float, weight_G: Floats) -> tuple[Floats, Floats, float]:
    """first [G, S], second [G, S, S] (both triangles), value."""
    share_US, value_U = shares(offers, cost_GS, eps, none)
    groups, slots = cost_GS.shape
    first_GS, second_GSS = np.zeros((groups, slots)), np.zeros((groups, slots, slots))
    for u, g in enumerate(offers.group_U.tolist()):
        first_GS[g] += weight_G[g] * share_US[u]
        second_GSS[g] += weight_G[g] * np.outer(share_US[u], share_US[u])
    return first_GS, second_GSS, float((weight_G[offers.group_U] * value_U).sum())


def dual(
    offers: Offers, limits: Limits, capacity_R: Floats, price_R: Floats, eps: float, none: float, weight_G: Floats
) -> float:
    """The smooth dual at these prices."""
    value = moments(offers, limits.cost_GS(price_R), eps, none, weight_G)[2]
    return value + sum(
        float(price) * float(capacity) + 0.5 * float(soft) * float(price) ** 2
        for price, capacity, soft in zip(price_R, capacity_R, limits.softness_R, strict=True)
    )


def splitmix64(x: int) -> int:
    z = (x + 0x9E3779B97F4A7C15) % WORD
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def gumbel(h: int, run_key: int, slot: int) -> float:
    """The noise of a user at a slot: word `slot` of the splitmix64 stream of his key of this run."""
    z = splitmix64((splitmix64(h ^ run_key) + slot * 0x9E3779B97F4A7C15) % WORD)
    return -math.log(-math.log(((z >> 11) + 0.5) * 2.0**-53))


def choose(
    worth_US: NDArray[Any],
    group_U: NDArray[Any],
    h_U: NDArray[Any],
    cost_GS: Floats,
    run_key: int,
    eps: float,
    none: float,
) -> list[int]:
    """Slot of each user (255: none), with noise on every slot, however far below the best; -inf is not allowed."""
    chosen = []
    for u, row in enumerate(worth_US.tolist()):
        slots = [s for s, worth in enumerate(row) if worth > -math.inf]
        if len(slots) < 2:
            chosen.append(slots[0] if slots else NO_SLOT)
            continue
        nets = {s: row[s] - float(cost_GS[group_U[u], s]) + eps * gumbel(int(h_U[u]), run_key, s) for s in slots}
        if none > -math.inf:
            nets[NO_SLOT] = none + eps * gumbel(int(h_U[u]), run_key, len(row))
        chosen.append(max(nets, key=lambda s: (nets[s], -s)))
    return chosen


def loads(group_U: NDArray[Any], slot_U: NDArray[Any], limits: Limits) -> list[int]:
    """Units of each resource that these slots take."""
    load_R = [0] * len(limits.capacity_R)
    for g, s in zip(group_U.tolist(), slot_U.tolist(), strict=True):
        if s != NO_SLOT:
            for k in range(limits.first_O[g * limits.slots + s], limits.first_O[g * limits.slots + s + 1]):
                load_R[limits.resource_K[k]] += int(limits.weight_K[k])
    return load_R


def faults(offers: Offers, slot_U: Slots, limits: Limits) -> list[str]:
    """What is wrong with a plan: slots that are not allowed, and hard resources over their capacity."""
    found = [
        f"user {u} has slot {s}, which is not allowed"
        for u, s in enumerate(slot_U.tolist())
        if s != NO_SLOT and offers.code_US[u, s] == NONE
    ]
    for r, load in enumerate(loads(offers.group_U, slot_U, limits)):
        if limits.softness_R[r] == 0 and load > limits.capacity_R[r]:
            found.append(f"resource {r} holds {load} of {limits.capacity_R[r]}")
    return found


def value(offers: Offers, slot_U: Slots, limits: Limits, none: float) -> float:
    """Worth of a plan less what exceeding soft resources costs; a user who has allowed slots and got none is `none`."""
    worth_US = worths(offers)
    total = 0.0
    for u, s in enumerate(slot_U.tolist()):
        if s != NO_SLOT:
            total += worth_US[u, s]
        elif np.isfinite(worth_US[u]).any():
            total += none
    for r, load in enumerate(loads(offers.group_U, slot_U, limits)):
        if limits.softness_R[r] > 0:
            total -= max(0, load - int(limits.capacity_R[r])) ** 2 / (2 * float(limits.softness_R[r]))
    return total


@dataclass(frozen=True)
class Best:
    """The best feasible plan (none where there is none), and the least number of users who go without a slot."""

    slot_U: Slots | None
    value: float
    fewest_without: int


def best_plan(offers: Offers, limits: Limits, none: float) -> Best:
    """Of all plans that keep the hard limits; users may go without a slot where `none` is finite, those with one
    allowed slot may not."""
    allowed_US, choices = offers.allowed_US(), []
    for row in allowed_US:
        slots = np.flatnonzero(row).tolist()
        may_skip = not slots or (len(slots) > 1 and none > -math.inf)
        choices.append([*slots, NO_SLOT] if may_skip else slots)
    plan_NU = np.array(list(itertools.product(*choices)), np.int64).reshape(-1, len(offers))
    worth_UX = np.where(allowed_US.any(axis=1, keepdims=True), none, 0.0) * np.ones((1, NO_SLOT + 1))
    worth_UX[:, : limits.slots] = worths(offers)
    take_OR = takes(limits)
    value_N, load_NR = np.zeros(len(plan_NU)), np.zeros((len(plan_NU), take_OR.shape[1]), np.int64)
    for u, g in enumerate(offers.group_U.tolist()):
        value_N += worth_UX[u, plan_NU[:, u]]
        load_NR += take_OR[np.where(plan_NU[:, u] == NO_SLOT, -1, g * limits.slots + plan_NU[:, u])]
    over_NR = np.maximum(load_NR - limits.capacity_R, 0)
    soft = limits.softness_R > 0
    value_N -= (over_NR[:, soft] ** 2 / (2 * limits.softness_R[soft])).sum(axis=1)
    keeps_N = (over_NR[:, ~soft] == 0).all(axis=1)
    if not keeps_N.any():
        return Best(None, -math.inf, -1)
    best = int(np.argmax(np.where(keeps_N, value_N, -np.inf)))
    without_N = ((plan_NU == NO_SLOT) & allowed_US.any(axis=1)).sum(axis=1)
    return Best(plan_NU[best].astype(np.uint8), float(value_N[best]), int(without_N[keeps_N].min()))


def takes(limits: Limits) -> Int64s:
    """Units of each resource that each option takes, int64 [O + 1, R]; the last row, of no send, is zero."""
    take_OR = np.zeros((len(limits.first_O), len(limits.capacity_R)), np.int64)
    for o in range(len(limits.first_O) - 1):
        for k in range(limits.first_O[o], limits.first_O[o + 1]):
            take_OR[o, limits.resource_K[k]] += limits.weight_K[k]
    return take_OR
