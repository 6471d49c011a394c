"""Moves of several users at once, where moving one alone does not help: somebody else makes room first.

Options that use the same resources are one cell; users without a slot are in a cell of their own, which uses nothing.
`move[c, e]` is the least that any user of cell c loses by going to cell e. A chain ejects a user from a cell, places
him in the next, ejects there somebody who frees what is full, and so on, until somebody lands where there is room:

    eject(c) --move[c, e]--> place(e) --0--> eject(d)   for every d that uses all that is full in e; e itself always
                             place(e) --0--> end        where nothing is full in e, or only by who left first

The cheapest chain is a shortest path (`chain_path`). From the cells of an over-full resource it restores a limit
(`relieve`); from those without a slot it finds room for one more (`place`); from anywhere, with a loss below zero, it
improves a plan (`improve`), which ends in the optimum where each option has one resource: cycle cancelling of a
minimum-cost flow. With several resources it is a search for better plans: two users never leave a cell for one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels.chain_path import ANYWHERE, NOWHERE, best_moves, shortest
from sto_kernels.compiled import read_only
from sto_kernels.limits import Int64s, Limits
from sto_kernels.offers import NONE, Offers
from sto_kernels.prices import NO_SLOT

Array = NDArray[Any]
# a gain below this share of the mean best worth is rounding
LEAST_GAIN = 1e-6
# chains that improve are looked for among so many cells: a step takes their square
MOST_CELLS = 128
# chains in a row that fail together though each move fits by itself
FAILURES = 64


@dataclass
class Pool:
    """Users who may move and the plan that they change: `slot_U` and `load_R` are written in place.

    `room_R` is the most that each resource may hold; the load of users outside of the pool is part of `load_R`. Users
    with a choice may go without a slot at the worth `none` (-inf: never).
    """

    offers: Offers
    slot_U: NDArray[np.uint8]
    limits: Limits
    load_R: Int64s
    room_R: Int64s
    none: float = -np.inf

    def __post_init__(self) -> None:
        self.cell_O, self.first_C, self.resource_K, self.weight_K = _cells(self.limits)
        cells = len(self.first_C) - 1
        self.loss_CC, self.user_CC = np.empty((cells, cells)), np.empty((cells, cells), np.int64)
        self.banned_CC, self.stale_C = np.zeros((cells, cells), np.bool_), np.ones(cells, np.bool_)
        self._tables = (
            *(read_only(self.offers.code_US, np.uint16), read_only(self.offers.low_U, np.float32)),
            *(read_only(self.offers.step_U, np.float32), read_only(self.offers.group_U, np.int32)),
            read_only(self.cell_O, np.int64),
        )

    def relieve(self, most: int = 1 << 20) -> int:
        """Chains out of over-full resources until none is left or none can be relieved; how many were."""
        done = 0
        for r in np.flatnonzero(self.load_R > self.room_R).tolist():
            while self.load_R[r] > self.room_R[r] and done < most and self._step(r):
                done += 1
        return done

    def place(self, most: int = 1 << 20) -> int:
        """Chains that find a slot for users without one, whatever the others lose, until there is none; how many."""
        done = 0
        while done < most and (self.slot_U == NO_SLOT).any() and self._step(NOWHERE):
            done += 1
        return done

    def improve(self, least: float, most: int = 1 << 20) -> int:
        """Chains that gain at least `least`, until there is none (nor are any sought among many cells); how many."""
        done = 0
        if len(self.first_C) - 1 > MOST_CELLS:
            return done
        # the large gains first: then fewer chains are left
        for times in (64, 8, 1):
            while done < most and self._step(ANYWHERE, times * least):
                done += 1
        return done

    def _step(self, start: int, least: float = 0.0) -> bool:
        """Apply the cheapest chain from the cells of a resource, from ANYWHERE with a gain, or from NOWHERE; whether
        there was one. Chains of which the moves fail together are passed over."""
        for _ in range(FAILURES):
            found = self._cheapest(start, least)
            if found is None:
                return False
            if self._apply(*found):
                self.stale_C |= self.banned_CC.any(axis=1)
                self.banned_CC[:] = False
                return True
            path_C2, last = found
            self.banned_CC[last, path_C2[last, 1]] = self.stale_C[last] = True
        return False

    def _cheapest(self, start: int, least: float) -> tuple[Int64s, int] | None:
        """Of each cell the cell before it and the cell that its user goes to, int64 [C, 2]; the last one."""
        moves = (self.banned_CC, self.stale_C, self.loss_CC, self.user_CC)
        best_moves(*self._tables, self.slot_U, self.none, *moves)
        path_C2 = np.empty((len(self.first_C) - 1, 2), np.int64)
        shared = (self.first_C, self.resource_K, self.weight_K, self.load_R, self.room_R)
        loss, last = shortest(*shared, self.loss_CC, start, least, path_C2)
        enough = loss < np.inf if start != ANYWHERE else loss < -0.5 * least
        return (path_C2, last) if last >= 0 and enough else None

    def _apply(self, path_C2: Int64s, last: int) -> bool:
        """Users along the path move; undone where the moves together break a limit that held."""
        was_R = np.maximum(self.load_R, self.room_R)
        moves, cell = [], last
        while cell >= 0:
            to = int(path_C2[cell, 1])
            moves.append((int(self.user_CC[cell, to]), to))
            self.stale_C[cell] = True
            cell = int(path_C2[cell, 0])
        old = [(user, int(self.slot_U[user])) for user, _ in moves]
        for user, to in moves:
            self._put(user, self._slot_in(user, to))
            self.stale_C[to] = True
        if (self.load_R > was_R).any():
            for user, slot in old:
                self._put(user, slot)
            return False
        return True

    def _slot_in(self, user: int, cell: int) -> int:
        """The user's best slot in a cell."""
        if cell == len(self.first_C) - 2:
            return NO_SLOT
        codes, g = self.offers.code_US[user], int(self.offers.group_U[user])
        slots = self.limits.slots
        inside = (self.cell_O[g * slots : (g + 1) * slots] == cell) & (codes != NONE)
        return int(np.argmax(np.where(inside, codes.astype(np.int64), -1)))

    def _put(self, user: int, slot: int) -> None:
        first = int(self.offers.group_U[user]) * self.limits.slots
        for sign, s in ((-1, int(self.slot_U[user])), (1, slot)):
            if s != NO_SLOT:
                cell = self.cell_O[first + s]
                entries = slice(self.first_C[cell], self.first_C[cell + 1])
                self.load_R[self.resource_K[entries]] += sign * self.weight_K[entries]
        self.slot_U[user] = slot


def _cells(limits: Limits) -> tuple[Int64s, Int64s, NDArray[np.int32], NDArray[np.int32]]:
    """Cell of each option, and the resources and weights of each cell; the last cell is of those without a slot."""
    place: dict[tuple[tuple[int, int], ...], int] = {}
    cell_O = np.empty(len(limits.first_O) - 1, np.int64)
    pairs = list(zip(limits.resource_K.tolist(), limits.weight_K.tolist(), strict=True))
    bounds = limits.first_O.tolist()
    for o in range(len(cell_O)):
        uses = tuple(sorted(pairs[bounds[o] : bounds[o + 1]]))
        cell_O[o] = place.setdefault(uses, len(place))
    first_C = np.concatenate([[0], np.cumsum([len(uses) for uses in (*place, ())])]).astype(np.int64)
    flat = [pair for uses in place for pair in uses]
    return (
        cell_O,
        first_C,
        np.array([resource for resource, _ in flat], np.int32),
        np.array([weight for _, weight in flat], np.int32),
    )
