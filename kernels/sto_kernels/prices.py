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

from sto_kernels import draws
from sto_kernels.compiled import jit, read_only
from sto_kernels.draws import highest, nets
from sto_kernels.hashing import U64, derive, splitmix64, tag_key
from sto_kernels.offers import Offers

Array = NDArray[Any]
Floats = NDArray[np.float64]
NO_SLOT, NEAR = draws.NO_SLOT, draws.NEAR


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
    """Slot of each user (255: none); the sum of everyone's best worth less cost, without noise."""

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
        *offers.columns(),
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
    with np.errstate(over="ignore"):
        draws.choose_codes(
            *offers.columns(),
            read_only(key_U, np.uint64),
            read_only(cost_GS, np.float64),
            eps,
            none,
            slot_U,
            best_1,
        )
    return Choice(slot_U, float(best_1[0]))


def choose_slots(
    utility_US: Any, allowed_US: Any, price_GS: Any, group_U: Any, hash_U: Any, tag: str, eps: float
) -> Any:
    """Slots at these prices from utilities as they are, uint8 [U]; 255 where no slot is allowed.

    Arrays, or tensors on one device whose slots come back there: finite float32 [U, S], bool [U, S], float64 [G, S],
    int32 [U], uint64 [U] (or its bits as int64). `tag` names the noise. Raises ValueError for shapes that differ.
    """
    shape, users = tuple(utility_US.shape), len(utility_US)
    fits = shape == tuple(allowed_US.shape) and shape[1:] == tuple(price_GS.shape[1:])
    if not fits or users != len(group_U) or users != len(hash_U):
        raise ValueError(
            f"utilities {shape}, allowed {tuple(allowed_US.shape)}, prices {tuple(price_GS.shape)}, "
            f"{len(group_U)} groups, {len(hash_U)} hashes"
        )
    if users and not 0 <= int(group_U.min()) <= int(group_U.max()) < len(price_GS):
        raise ValueError(f"groups must be in 0..{len(price_GS) - 1}; found {int(group_U.min())}..{int(group_U.max())}")
    if not isinstance(utility_US, np.ndarray):
        from sto_kernels.choose_torch import choose_tensors

        return choose_tensors(utility_US, allowed_US, price_GS, group_U, hash_U, int(tag_key(tag)), eps)
    slot_U = np.empty(users, np.uint8)
    with np.errstate(over="ignore"):
        draws.choose_utilities(
            read_only(utility_US, np.float32),
            read_only(allowed_US, np.bool_),
            read_only(group_U, np.int32),
            read_only(derive(hash_U.view(np.uint64), tag), np.uint64),
            read_only(price_GS, np.float64),
            eps,
            slot_U,
        )
    return slot_U


def value_of(offers: Offers, slot_U: NDArray[np.uint8], none: float = 0.0) -> float:
    """Worth of the slots, users without one at `none`."""
    return float(_value(*offers.columns()[:3], read_only(slot_U, np.uint8), none))


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
        if nets(code_US, low_U[u], step_U[u], cost_GS, u, g, net_S) < 2:
            continue
        top = max(highest(net_S), none)
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
def _value(code_US: Array, low_U: Array, step_U: Array, slot_U: Array, none: float) -> float:
    total = 0.0
    for u in range(len(slot_U)):
        s = slot_U[u]
        if s == NO_SLOT:
            total += none
        else:
            total += np.float64(low_U[u]) + np.float64(step_U[u]) * np.float64(code_US[u, s])
    return total
