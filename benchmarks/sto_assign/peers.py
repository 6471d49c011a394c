"""Plain ways to choose slots: everybody's best, first come first served, and those first who lose most."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_assign.problems import NO_SLOT, Problem
from sto_kernels.compiled import jit

Slots = NDArray[np.uint8]
Array = NDArray[Any]


def argmax(problem: Problem) -> Slots:
    """The best open slot of each user, limits or not."""
    slot_U = np.empty(problem.users, np.uint8)
    for block in problem.blocks():
        slot_U[block] = _open_worths(problem, block).argmax(axis=1)
    return slot_U


def greedy(problem: Problem) -> Slots:
    """In the order of arrival, each the best open slot that still has room."""
    return _in_order(problem, np.arange(problem.users))


def regret(problem: Problem) -> Slots:
    """The same in another order: those first who lose most with their second slot."""
    loss_U = np.empty(problem.users, np.float32)
    for block in problem.blocks():
        best_U2 = np.partition(_open_worths(problem, block), -2, axis=1)[:, -2:]
        loss_U[block] = best_U2[:, 1] - best_U2[:, 0]
    return _in_order(problem, np.argsort(-loss_U, kind="stable"))


def _open_worths(problem: Problem, block: slice) -> NDArray[np.float32]:
    open_US = problem.open_GS[problem.group_U[block]]
    return np.where(open_US, problem.worth_US[block], np.float32(-np.inf))


def _in_order(problem: Problem, order_U: NDArray[np.int64]) -> Slots:
    slot_U = np.full(problem.users, NO_SLOT, np.uint8)
    tables = (problem.open_GS, problem.resource_GSJ, problem.weight_GSJ, problem.capacity_R.copy())
    _fill(problem.worth_US, problem.group_U, order_U, *tables, slot_U)
    return slot_U


@jit
def _fill(
    worth_US: Array,
    group_U: Array,
    order_U: Array,
    open_GS: Array,
    resource_GSJ: Array,
    weight_GSJ: Array,
    room_R: Array,
    slot_U: Array,
) -> None:
    slots, several = worth_US.shape[1], resource_GSJ.shape[2]
    for u in order_U:
        g, best, worth = group_U[u], -1, -np.inf
        for s in range(slots):
            fits = open_GS[g, s] and worth_US[u, s] > worth
            for j in range(several):
                r = resource_GSJ[g, s, j]
                fits = fits and (r < 0 or room_R[r] >= weight_GSJ[g, s, j])
            if fits:
                best, worth = s, worth_US[u, s]
        if best >= 0:
            slot_U[u] = best
            for j in range(several):
                if resource_GSJ[g, best, j] >= 0:
                    room_R[resource_GSJ[g, best, j]] -= weight_GSJ[g, best, j]
