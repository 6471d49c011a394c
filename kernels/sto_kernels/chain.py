"""Moves of several users at once, where moving one alone does not help: somebody else makes room first.

Options that use the same resources are one cell. `move[c, e]` is the least that any user of cell c loses by going to
cell e. A chain ejects a user from a cell, places him in the next, ejects there somebody who frees what is full, and so
on, until somebody lands where there is room:

    eject(c) --move[c, e]--> place(e) --0--> eject(d)   for every d that uses all that is full in e; e itself always
                             place(e) --0--> end        where nothing is full in e, or only by who left first

The cheapest chain is a shortest path (Bellman-Ford; C cells are few, users are only in `move`). From the cells of an
over-full resource it restores a limit (`relieve`); from anywhere, with a loss below zero, it improves a plan
(`improve`), which ends in the optimum where each option has one resource: cycle cancelling of a minimum-cost flow.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels.compiled import jit, read_only
from sto_kernels.limits import Int64s, Limits
from sto_kernels.offers import NONE, Offers
from sto_kernels.prices import NO_SLOT

Array = NDArray[Any]
# a gain below this share of the mean best worth is rounding
LEAST_GAIN = 1e-6
# chains that improve are looked for among so many cells: a step takes their square
MOST_CELLS = 128
NOBODY = -1


@dataclass
class Pool:
    """Users who may move and the plan that they change: `slot_U` and `load_R` are written in place.

    `room_R` is the most that each resource may hold; the load of users outside of the pool is part of `load_R`.
    """

    offers: Offers
    slot_U: NDArray[np.uint8]
    limits: Limits
    load_R: Int64s
    room_R: Int64s

    def __post_init__(self) -> None:
        self.cell_O, self.first_C, self.resource_K, self.weight_K = _cells(self.limits)
        cells = len(self.first_C) - 1
        self.loss_CC, self.user_CC = np.empty((cells, cells)), np.empty((cells, cells), np.int64)
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

    def improve(self, least: float, most: int = 1 << 20) -> int:
        """Chains that gain at least `least`, until there is none (nor are any sought among many cells); how many."""
        done = 0
        if len(self.first_C) - 1 > MOST_CELLS:
            return done
        while done < most and self._step(NOBODY, -least):
            done += 1
        return done

    def _step(self, resource: int, most_loss: float = np.inf) -> bool:
        """Apply the cheapest chain from the cells of `resource` (from any: NOBODY); whether there was one."""
        _best_moves(*self._tables, self.slot_U, self.loss_CC, self.user_CC)
        cells = len(self.first_C) - 1
        from_C, to_C = np.empty(cells, np.int64), np.empty(cells, np.int64)
        shared = (self.first_C, self.resource_K, self.weight_K, self.load_R, self.room_R)
        loss, last = _shortest(*shared, self.loss_CC, resource, from_C, to_C)
        if last < 0 or not loss < most_loss:
            return False
        return self._apply(from_C, to_C, last)

    def _apply(self, from_C: Int64s, to_C: Int64s, last: int) -> bool:
        """Users along the path move; undone where the moves together break a limit that held."""
        was_R = np.maximum(self.load_R, self.room_R)
        moves, cell = [], last
        while cell >= 0:
            moves.append((int(self.user_CC[cell, to_C[cell]]), int(to_C[cell])))
            cell = int(from_C[cell])
        old = [(user, int(self.slot_U[user])) for user, _ in moves]
        for user, to in moves:
            self._put(user, self._slot_in(user, to))
        if (self.load_R > was_R).any():
            for user, slot in old:
                self._put(user, slot)
            return False
        return True

    def _slot_in(self, user: int, cell: int) -> int:
        """The user's best slot in a cell."""
        codes, g = self.offers.code_US[user], int(self.offers.group_U[user])
        slots = self.limits.slots
        inside = (self.cell_O[g * slots : (g + 1) * slots] == cell) & (codes != NONE)
        return int(np.argmax(np.where(inside, codes.astype(np.int64), -1)))

    def _put(self, user: int, slot: int) -> None:
        first = int(self.offers.group_U[user]) * self.limits.slots
        for sign, s in ((-1, int(self.slot_U[user])), (1, slot)):
            cell = self.cell_O[first + s]
            entries = slice(self.first_C[cell], self.first_C[cell + 1])
            self.load_R[self.resource_K[entries]] += sign * self.weight_K[entries]
        self.slot_U[user] = slot


def _cells(limits: Limits) -> tuple[Int64s, Int64s, NDArray[np.int32], NDArray[np.int32]]:
    """Cell of each option, and the resources and weights of each cell; a cell is what uses the same."""
    place: dict[tuple[tuple[int, int], ...], int] = {}
    cell_O = np.empty(len(limits.first_O) - 1, np.int64)
    pairs = list(zip(limits.resource_K.tolist(), limits.weight_K.tolist(), strict=True))
    bounds = limits.first_O.tolist()
    for o in range(len(cell_O)):
        uses = tuple(sorted(pairs[bounds[o] : bounds[o + 1]]))
        cell_O[o] = place.setdefault(uses, len(place))
    first_C = np.concatenate([[0], np.cumsum([len(uses) for uses in place])]).astype(np.int64)
    flat = [pair for uses in place for pair in uses]
    return (
        cell_O,
        first_C,
        np.array([resource for resource, _ in flat], np.int32),
        np.array([weight for _, weight in flat], np.int32),
    )


@jit
def _best_moves(
    code_US: Array,
    low_U: Array,
    step_U: Array,
    group_U: Array,
    cell_O: Array,
    slot_U: Array,
    loss_CC: Array,
    user_CC: Array,
) -> None:
    """The least loss of a move from each cell to each other, and whose it is."""
    cells, slots = loss_CC.shape[0], code_US.shape[1]
    for c in range(cells):
        for e in range(cells):
            loss_CC[c, e] = np.inf
            user_CC[c, e] = NOBODY
    for u in range(len(slot_U)):
        now, first, step = np.int64(slot_U[u]), group_U[u] * slots, np.float64(step_U[u])
        if now == NO_SLOT:
            continue
        c = cell_O[first + now]
        for s in range(slots):
            if code_US[u, s] != NONE:
                e = cell_O[first + s]
                loss = step * (np.float64(code_US[u, now]) - np.float64(code_US[u, s]))
                if e != c and loss < loss_CC[c, e]:
                    loss_CC[c, e], user_CC[c, e] = loss, u


@jit
def _frees(d: int, e: int, first_C: Array, resource_K: Array, weight_K: Array, load_R: Array, room_R: Array) -> bool:
    """Whether a send that leaves cell d (-1: none does) frees all that is full in cell e."""
    frees = True
    for k in range(first_C[e], first_C[e + 1]):
        r, freed = resource_K[k], 0
        if load_R[r] + weight_K[k] > room_R[r]:
            if d >= 0:
                for j in range(first_C[d], first_C[d + 1]):
                    if resource_K[j] == r:
                        freed = weight_K[j]
            frees = frees and freed >= weight_K[k]
    return frees


@jit
def _freers(
    first_C: Array, resource_K: Array, weight_K: Array, load_R: Array, room_R: Array, room_C: Array, begin_E: Array
) -> Any:
    """Who frees cell e: cells freer_F[begin_E[e]:begin_E[e + 1]], itself among them; writes which cells have room."""
    cells = len(room_C)
    freer_F = np.empty(cells * cells, np.int64)
    n = 0
    for e in range(cells):
        room_C[e] = _frees(-1, e, first_C, resource_K, weight_K, load_R, room_R)
        for d in range(cells):
            if d == e or (not room_C[e] and _frees(d, e, first_C, resource_K, weight_K, load_R, room_R)):
                freer_F[n] = d
                n += 1
        begin_E[e + 1] = n
    return freer_F


@jit
def _shortest(
    first_C: Array,
    resource_K: Array,
    weight_K: Array,
    load_R: Array,
    room_R: Array,
    loss_CC: Array,
    resource: int,
    from_C: Array,
    to_C: Array,
) -> tuple[float, int]:
    """Loss of the cheapest chain and the last cell that it ejects from (-1: none).

    Written for each cell on the path: the cell before it, and the cell that its ejected user goes to.
    """
    cells = len(first_C) - 1
    room_C, begin_E = np.empty(cells, np.bool_), np.zeros(cells + 1, np.int64)
    freer_F = _freers(first_C, resource_K, weight_K, load_R, room_R, room_C, begin_E)
    # dist[d]: least loss of the moves before somebody is ejected from d; via[d]: the cell that makes him leave
    dist_C, via_C = np.full(cells, np.inf), np.full(cells, -1, np.int64)
    for d in range(cells):
        from_C[d], to_C[d] = -1, -1
        starts = resource < 0
        for k in range(first_C[d], first_C[d + 1]):
            starts = starts or resource_K[k] == resource
        if starts:
            dist_C[d] = 0.0
    for _ in range(cells):
        if not _relax(loss_CC, begin_E, freer_F, dist_C, from_C, via_C):
            break
    best, last, target = np.inf, -1, -1
    for c in range(cells):
        root = _root(from_C, c) if resource < 0 else -1
        for e in range(cells):
            if dist_C[c] + loss_CC[c, e] < best:
                returns = root >= 0 and e != c and _frees(root, e, first_C, resource_K, weight_K, load_R, room_R)
                if room_C[e] or returns:
                    best, last, target = dist_C[c] + loss_CC[c, e], c, e
    _trace(from_C, via_C, to_C, last, target)
    return best, last


@jit
def _root(from_C: Array, c: int) -> int:
    """The cell that the path to c starts from."""
    while from_C[c] >= 0:
        c = from_C[c]
    return c


@jit
def _trace(from_C: Array, via_C: Array, to_C: Array, last: int, target: int) -> None:
    """Where each cell's user on the path goes: to the cell through which the next one leaves, the last to `target`."""
    c = last
    while c >= 0:
        to_C[c] = target
        target, c = via_C[c], from_C[c]


@jit
def _relax(loss_CC: Array, begin_E: Array, freer_F: Array, dist_C: Array, from_C: Array, via_C: Array) -> bool:
    """One pass of Bellman and Ford over all moves; whether it found anything shorter."""
    changed, cells = False, len(dist_C)
    for c in range(cells):
        if dist_C[c] == np.inf:
            continue
        for e in range(cells):
            reach = dist_C[c] + loss_CC[c, e]
            if reach == np.inf:
                continue
            for f in range(begin_E[e], begin_E[e + 1]):
                d = freer_F[f]
                if reach < dist_C[d] - 1e-12 and not _before(from_C, c, d):
                    dist_C[d], from_C[d], via_C[d] = reach, c, e
                    changed = True
    return changed


@jit
def _before(from_C: Array, c: int, d: int) -> bool:
    """Whether cell d already lies on the path to c: a path through it once more would be a circle."""
    found = False
    while c >= 0 and not found:
        found = c == d
        c = from_C[c]
    return found
