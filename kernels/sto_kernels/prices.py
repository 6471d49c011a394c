"""The best slot for everyone under limits: one price a resource, then everybody chooses for himself.

    maximise   sum_u worth[u, slot_u]      subject to  load_r <= capacity_r  for every resource r

Lagrange's dual puts a price on each resource, and a user then takes the slot whose worth less its cost is largest.
Users are coupled by the prices alone, a few numbers, which is what makes the problem fit any number of buckets
(Zhang et al., "Solving Billion-Scale Knapsack Problems", WWW 2020).

    cost[g, s]  = sum of price_r * weight over the resources r of option (g, s)
    dual(price) = price . capacity + sum_u eps * log sum_s exp((worth[u, s] - cost[g_u, s]) / eps)

For eps -> 0 the last term is the best each user can do, and dual(price) bounds the optimum from above at any prices:
that is the certificate. A small eps makes it smooth, so that Newton's method minimises it (`price_fit`). `moments`
are the sums that its gradient and Hessian need, over users of one block:

    first[g, s]     = sum p_us            p_u = softmax((worth_u - cost_g) / eps)
    second[g, s, t] = sum p_us p_ut       t <= s

`choose_slots` draws from p_u by adding Gumbel noise that is a hash of (user, slot, run): users with equal curves,
whom no price can tell apart, are split as the dual expects, and the draw is the same wherever it is made. A user may
stay without a slot at the worth `none` (-inf: never). Those with one allowed slot have nothing to choose: they keep it,
and are no part of the dual, whose capacity is what they leave. U users, S slots, G groups.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels.compiled import jit, read_only
from sto_kernels.hashing import GOLDEN, U64, splitmix64
from sto_kernels.offers import NONE, Offers

Array = NDArray[Any]
Floats = NDArray[np.float64]
NO_SLOT = 255
# slots that lie further below the best get no noise and no share: e^-20 is 2e-9
NEAR = 20.0
_MIX_1, _MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


@dataclass(frozen=True)
class Moments:
    """Expected sends of each option, their second moments (lower triangle), the smooth dual's users' part."""

    first_GS: Floats
    second_GSS: Floats
    value: float

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.first_GS + other.first_GS, self.second_GSS + other.second_GSS, self.value + other.value)


@dataclass(frozen=True)
class Choice:
    """Slot of each user (255: none); the sums of what was chosen and of the best without noise, in worth less cost."""

    slot_U: NDArray[np.uint8]
    best: float


def moments(
    offers: Offers, cost_GS: Floats, eps: float, none: float, weight_G: Floats, want_second: bool = True
) -> Moments:
    """Sums over the users of `offers`, each counted `weight_G` times."""
    groups, slots = cost_GS.shape
    first_GS, value_1 = np.zeros((groups, slots)), np.zeros(1)
    second_GSS = np.zeros((groups, slots, slots) if want_second else (1, slots, slots))
    _moments(
        *_columns(offers),
        read_only(cost_GS, np.float64),
        eps,
        none,
        read_only(weight_G, np.float64),
        want_second,
        first_GS,
        second_GSS,
        value_1,
    )
    return Moments(first_GS, second_GSS, float(value_1[0]))


def choose(offers: Offers, cost_GS: Floats, run_key: U64, eps: float, none: float = -np.inf) -> Choice:
    """The slot of every user at these costs: argmax of worth - cost + eps * Gumbel; ties to the earlier slot."""
    slot_U, best_1 = np.empty(len(offers), np.uint8), np.zeros(1)
    key_U = splitmix64(offers.h_U ^ run_key)
    _choose(
        *_columns(offers),
        read_only(key_U, np.uint64),
        read_only(cost_GS, np.float64),
        eps,
        none,
        slot_U,
        best_1,
    )
    return Choice(slot_U, float(best_1[0]))


def value_of(offers: Offers, slot_U: NDArray[np.uint8], none: float = 0.0) -> float:
    """Worth of the slots, users without one at `none`."""
    return float(_value(*_columns(offers)[:3], read_only(slot_U, np.uint8), none))


def _columns(offers: Offers) -> tuple[Array, Array, Array, Array]:
    return (
        read_only(offers.code_US, np.uint16),
        read_only(offers.low_U, np.float32),
        read_only(offers.step_U, np.float32),
        read_only(offers.group_U, np.int32),
    )


@jit
def _moments(
    code_US: Array,
    low_U: Array,
    step_U: Array,
    group_U: Array,
    cost_GS: Array,
    eps: float,
    none: float,
    weight_G: Array,
    want_second: bool,
    first_GS: Array,
    second_GSS: Array,
    value_1: Array,
) -> None:
    users, slots = code_US.shape
    net_S, near_S, share_S = np.empty(slots), np.empty(slots, np.int64), np.empty(slots + 1)
    value = 0.0
    for u in range(users):
        g = group_U[u]
        if _nets(code_US, low_U[u], step_U[u], cost_GS, u, g, net_S) < 2:
            continue
        top = max(_highest(net_S), none)
        n = _softmax(net_S, top, none, eps, near_S, share_S)
        value += weight_G[g] * (top + eps * np.log(share_S[slots]))
        for j in range(n):
            amount = weight_G[g] * share_S[j]
            first_GS[g, near_S[j]] += amount
            if want_second:
                for k in range(j + 1):
                    second_GSS[g, near_S[j], near_S[k]] += amount * share_S[k]
    value_1[0] = value


@jit
def _softmax(net_S: Array, top: float, none: float, eps: float, near_S: Array, share_S: Array) -> int:
    """Shares of the slots near the top, whose number is returned; behind them all, the sum before it is made 1."""
    n, z, slots, floor = 0, 0.0, len(net_S), top - NEAR * eps
    for s in range(slots):
        if net_S[s] >= floor:
            near_S[n] = s
            n += 1
    if n == 1 and none < floor:
        # nearly everybody when eps is small
        share_S[0], share_S[slots] = 1.0, 1.0
        return n
    for j in range(n):
        share_S[j] = np.exp((net_S[near_S[j]] - top) / eps)
        z += share_S[j]
    if none >= floor:
        z += np.exp((none - top) / eps)
    for j in range(n):
        share_S[j] /= z
    share_S[slots] = z
    return n


@jit
def _choose(
    code_US: Array,
    low_U: Array,
    step_U: Array,
    group_U: Array,
    key_U: Array,
    cost_GS: Array,
    eps: float,
    none: float,
    slot_U: Array,
    best_1: Array,
) -> None:
    users, slots = code_US.shape
    net_S = np.empty(slots)
    best = 0.0
    for u in range(users):
        chosen = NO_SLOT
        allowed = _nets(code_US, low_U[u], step_U[u], cost_GS, u, group_U[u], net_S)
        if allowed > 0:
            top = _highest(net_S)
            if allowed > 1:
                top = max(top, none)
            best += top
            floor, near = top - NEAR * eps, 0
            for s in range(slots):
                if net_S[s] >= floor:
                    chosen = s
                    near += 1
            if allowed > 1 and near + (none >= floor) > 1:
                chosen = _drawn(net_S, none, floor, key_U[u], eps)
            elif near == 0:
                chosen = NO_SLOT
        slot_U[u] = chosen
    best_1[0] = best


@jit
def _nets(code_US: Array, low: float, step: float, cost_GS: Array, u: int, g: int, net_S: Array) -> int:
    """Worth less cost of each slot of user u, -inf where not allowed; how many are allowed."""
    allowed, low, step = 0, np.float64(low), np.float64(step)
    for s in range(len(net_S)):
        code = code_US[u, s]
        net = low + step * np.float64(code) - cost_GS[g, s]
        net_S[s] = net if code != NONE else -np.inf
        allowed += code != NONE
    return allowed


@jit
def _highest(net_S: Array) -> float:
    """The largest; four at a time, since one after the other waits for each comparison."""
    a = b = c = d = -np.inf
    s = 0
    while s + 3 < len(net_S):
        a, b = max(a, net_S[s]), max(b, net_S[s + 1])
        c, d = max(c, net_S[s + 2]), max(d, net_S[s + 3])
        s += 4
    while s < len(net_S):
        a = max(a, net_S[s])
        s += 1
    return max(max(a, b), max(c, d))


@jit
def _drawn(net_S: Array, none: float, floor: float, key: Any, eps: float) -> int:
    """The slot, or none, whose net with noise is highest, of those at `floor` or above."""
    chosen, highest = NO_SLOT, -np.inf
    for s in range(len(net_S) + 1):
        net = net_S[s] if s < len(net_S) else none
        if net >= floor and net > -np.inf:
            net += eps * gumbel(key, s)
            if net > highest:
                chosen, highest = s if s < len(net_S) else NO_SLOT, net
    return chosen


@jit
def gumbel(key: Any, s: int) -> float:
    """The noise of slot s of the user whose key of this run is `key`: -log(-log(u)), u of 53 bits of a hash."""
    z = key + np.uint64(s + 1) * np.uint64(GOLDEN)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_MIX_1)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_MIX_2)
    z = z ^ (z >> np.uint64(31))
    u = (np.float64(z >> np.uint64(11)) + 0.5) * 2.0**-53
    return float(-np.log(-np.log(u)))


@jit
def _value(code_US: Array, low_U: Array, step_U: Array, slot_U: Array, none: float) -> float:
    total = 0.0
    for u in range(len(slot_U)):
        s = slot_U[u]
        if s == NO_SLOT:
            total += none
        else:
            total += np.float64(low_U[u]) + np.float64(step_U[u]) * np.float64(code_US[u, s])
    return total
