"""The choice of a slot, kernels: worth less cost of each slot, and the best of them with noise (`prices`).

U users, S slots, G groups.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels.compiled import jit
from sto_kernels.hashing import GOLDEN
from sto_kernels.offers import NONE

Array = NDArray[Any]
NO_SLOT = 255
# slots that lie further below the best get no noise and no share: e^-20 is 2e-9
NEAR = 20.0
_MIX_1, _MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


@jit
def choose_codes(
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
        allowed = nets(code_US, low_U[u], step_U[u], cost_GS, u, group_U[u], net_S)
        slot_U[u], top = _pick(net_S, allowed, none, key_U[u], eps)
        if allowed > 0:
            best += max(top, none)  # who has no choice may still be left out
    best_1[0] = best


@jit
def choose_utilities(
    utility_US: Array, allowed_US: Array, group_U: Array, key_U: Array, price_GS: Array, eps: float, slot_U: Array
) -> None:
    users, slots = utility_US.shape
    net_S = np.empty(slots)
    for u in range(users):
        allowed = 0
        for s in range(slots):
            net = np.float64(utility_US[u, s]) - price_GS[group_U[u], s]
            net_S[s] = net if allowed_US[u, s] else -np.inf
            allowed += allowed_US[u, s]
        slot_U[u], _ = _pick(net_S, allowed, -np.inf, key_U[u], eps)


@jit
def _pick(net_S: Array, allowed: int, none: float, key: Any, eps: float) -> tuple[int, float]:
    """The slot that is drawn and the best net, `none` among them for those with a choice; 255 and 0 without slots."""
    if allowed == 0:
        return NO_SLOT, 0.0
    chosen, near, top = NO_SLOT, 0, highest(net_S)
    if allowed > 1:
        top = max(top, none)
    floor = top - NEAR * eps
    for s in range(len(net_S)):
        if net_S[s] >= floor:
            chosen = s
            near += 1
    if allowed > 1 and near + (none >= floor) > 1:
        chosen = _drawn(net_S, none, floor, key, eps)
    return chosen, top


@jit
def nets(code_US: Array, low: float, step: float, cost_GS: Array, u: int, g: int, net_S: Array) -> int:
    """Worth less cost of each slot of user u, -inf where not allowed; how many are allowed."""
    allowed, low, step = 0, np.float64(low), np.float64(step)
    for s in range(len(net_S)):
        code = code_US[u, s]
        net = low + step * np.float64(code) - cost_GS[g, s]
        net_S[s] = net if code != NONE else -np.inf
        allowed += code != NONE
    return allowed


@jit
def highest(net_S: Array) -> float:
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
