"""What the slots of a group of users use up, and how much of it there is.

A resource is anything that is short: an UTC quarter-hour in total or of one provider, a day's budget, the share of a
slot. Option (g, s), a send to a user of group g at slot s, takes `weight_K[k]` units of resource `resource_K[k]` for
each k in first_O[o]:first_O[o + 1] with o = g * S + s. A send that is spread over four quarter-hours takes one unit,
a quarter of a send, of each. G groups, S slots, R resources, O = G * S options.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels.compiled import jit, read_only

Int64s = NDArray[np.int64]
Array = NDArray[Any]


@dataclass(frozen=True)
class Limits:
    """`capacity_R` in units. A resource with `softness_R` > 0 may be exceeded by y at a cost of y^2 / (2 softness)."""

    slots: int
    first_O: Int64s
    resource_K: NDArray[np.int32]
    weight_K: NDArray[np.int32]
    capacity_R: Int64s
    softness_R: NDArray[np.float64]

    @property
    def groups(self) -> int:
        return (len(self.first_O) - 1) // self.slots

    @property
    def hard_R(self) -> NDArray[np.bool_]:
        return np.asarray(self.softness_R == 0)

    def cost_GS(self, price_R: NDArray[np.float64]) -> NDArray[np.float64]:
        """What each option costs at these prices, float64 [G, S]."""
        cost_O = np.zeros(len(self.first_O) - 1)
        _costs(*self.entries(), read_only(price_R, np.float64), cost_O)
        return cost_O.reshape(self.groups, self.slots)

    def load_R(self, n_GS: Int64s) -> Int64s:
        """Units that so many sends of each option take, int64 [R]."""
        load_R = np.zeros(len(self.capacity_R), np.int64)
        _loads(*self.entries(), read_only(n_GS.reshape(-1), np.int64), load_R)
        return load_R

    def expected_R(self, n_GS: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same of expected numbers of sends, float64 [R]."""
        load_R = np.zeros(len(self.capacity_R))
        _loads(*self.entries(), read_only(n_GS.reshape(-1), np.float64), load_R)
        return load_R

    def entries(self) -> tuple[Array, Array, Array]:
        """What kernels are given of it: `first_O`, `resource_K`, `weight_K`."""
        return (
            read_only(self.first_O, np.int64),
            read_only(self.resource_K, np.int32),
            read_only(self.weight_K, np.int32),
        )


def limits_of(resources_GSJ: NDArray[np.int32], weights_GSJ: NDArray[np.int32], capacity_R: Int64s) -> Limits:
    """Hard limits from a table of up to J resources an option; -1 is none."""
    slots = resources_GSJ.shape[1]
    used = resources_GSJ >= 0
    first_O = np.concatenate([[0], np.cumsum(used.sum(axis=2).reshape(-1))]).astype(np.int64)
    resource_K, weight_K = resources_GSJ[used].astype(np.int32), weights_GSJ[used].astype(np.int32)
    return Limits(slots, first_O, resource_K, weight_K, capacity_R.astype(np.int64), np.zeros(len(capacity_R)))


def counts_GS(group_U: NDArray[np.int32], slot_U: NDArray[np.uint8], groups: int, slots: int) -> Int64s:
    """Sends of each option, int64 [G, S]; slots beyond the grid (255: none) are no sends."""
    sent = slot_U < slots
    cell_U = group_U[sent].astype(np.int64) * slots + slot_U[sent]
    return np.bincount(cell_U, minlength=groups * slots).reshape(groups, slots).astype(np.int64)


@jit
def _costs(first_O: Array, resource_K: Array, weight_K: Array, price_R: Array, cost_O: Array) -> None:
    for o in range(len(cost_O)):
        for k in range(first_O[o], first_O[o + 1]):
            cost_O[o] += price_R[resource_K[k]] * weight_K[k]


@jit
def _loads(first_O: Array, resource_K: Array, weight_K: Array, n_O: Array, load_R: Array) -> None:
    for o in range(len(n_O)):
        if n_O[o] != 0:
            for k in range(first_O[o], first_O[o + 1]):
                load_R[resource_K[k]] += n_O[o] * weight_K[k]
