"""The cheapest chain of moves between cells (`chain` says what a chain is), by the relaxations of Bellman and Ford.

Cells are few, users are only in the least losses of moves. The last of C cells is that of users without a slot.
Where moves gain, paths can be circles of negative length: from anywhere, the first one that closes is the answer.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels.compiled import jit
from sto_kernels.offers import NONE
from sto_kernels.prices import NO_SLOT

Array = NDArray[Any]
NOBODY = -1
# where a chain starts from, if not from the cells of a resource
ANYWHERE, NOWHERE = -1, -2
# sums of losses that differ by less are equal
ROUNDING = 1e-12


@jit
def best_moves(
    code_US: Array,
    low_U: Array,
    step_U: Array,
    group_U: Array,
    cell_O: Array,
    slot_U: Array,
    none: float,
    banned_CC: Array,
    stale_C: Array,
    loss_CC: Array,
    user_CC: Array,
) -> None:
    """The least loss of a move from each stale cell to each other, and whose it is; none are stale afterwards."""
    cells, slots = loss_CC.shape[0], code_US.shape[1]
    _forget(stale_C, loss_CC, user_CC)
    for u in range(len(slot_U)):
        now, first = np.int64(slot_U[u]), group_U[u] * slots
        c = cells - 1 if now == NO_SLOT else cell_O[first + now]
        if stale_C[c] and (now != NO_SLOT or none > -np.inf):
            low, step = np.float64(low_U[u]), np.float64(step_U[u])
            _best_of_user(
                u, c, now, code_US, low, step, none, cell_O[first : first + slots], banned_CC[c], loss_CC[c], user_CC[c]
            )
    for c in range(cells):
        stale_C[c] = False


@jit
def _best_of_user(
    u: int,
    c: int,
    now: int,
    code_US: Array,
    low: float,
    step: float,
    none: float,
    cell_S: Array,
    banned_C: Array,
    loss_C: Array,
    user_C: Array,
) -> None:
    """The losses of user u, who is in cell c, where they are less than anyone's before him."""
    allowed, nowhere = 0, len(loss_C) - 1
    here = none if now == NO_SLOT else low + step * np.float64(code_US[u, now])
    for s in range(len(cell_S)):
        if code_US[u, s] != NONE:
            allowed += 1
            e, loss = cell_S[s], here - (low + step * np.float64(code_US[u, s]))
            if loss < loss_C[e] and e != c and not banned_C[e]:
                loss_C[e] = loss
                user_C[e] = u
    if allowed > 1 and here - none < loss_C[nowhere] and c != nowhere and not banned_C[nowhere]:
        loss_C[nowhere] = here - none
        user_C[nowhere] = u


@jit
def _forget(stale_C: Array, loss_CC: Array, user_CC: Array) -> None:
    for c in range(len(stale_C)):
        if stale_C[c]:
            for e in range(len(stale_C)):
                loss_CC[c, e] = np.inf
                user_CC[c, e] = NOBODY


@jit
def shortest(
    first_C: Array,
    resource_K: Array,
    weight_K: Array,
    load_R: Array,
    room_R: Array,
    loss_CC: Array,
    start: int,
    least: float,
    path_C2: Array,
) -> tuple[float, int]:
    """Loss of the cheapest chain and the last cell that it ejects from (-1: none).

    `start` is a resource that is relieved, ANYWHERE or NOWHERE; differences below `least` are not followed. Written for
    each cell on the path: the cell before it, and the cell that its ejected user goes to.
    """
    cells = len(first_C) - 1
    room_C, begin_E = np.empty(cells, np.bool_), np.zeros(cells + 1, np.int64)
    freer_F = _freers(first_C, resource_K, weight_K, load_R, room_R, room_C, begin_E)
    # only out of what is over-full may a chain end without a slot for somebody
    room_C[cells - 1] = start >= 0
    # dist[d]: least loss of the moves before somebody is ejected from d; via[d]: the cell that makes him leave
    dist_C, via_C, from_C = np.full(cells, np.inf), np.full(cells, -1, np.int64), np.full(cells, -1, np.int64)
    for d in range(cells):
        if start == ANYWHERE or (start == NOWHERE and d == cells - 1) or _uses(d, start, first_C, resource_K):
            dist_C[d] = 0.0
    circle_3 = np.full(3, -1, np.int64)
    for _ in range(cells):
        tolerance = max(least, ROUNDING)
        if not _relax(loss_CC, begin_E, freer_F, tolerance, start == ANYWHERE, dist_C, from_C, via_C, circle_3):
            break
    last, target = circle_3[0], circle_3[1]
    if last >= 0:
        from_C[circle_3[2]] = -1
    else:
        best = np.inf
        for c in range(cells):
            root = _root(from_C, c)
            for e in range(cells):
                if dist_C[c] + loss_CC[c, e] < best and (
                    room_C[e] or _returns(root, e, start, first_C, resource_K, weight_K, load_R, room_R)
                ):
                    best, last, target = dist_C[c] + loss_CC[c, e], c, e
    return _trace(loss_CC, from_C, via_C, path_C2, last, target), last


@jit
def _uses(c: int, resource: int, first_C: Array, resource_K: Array) -> bool:
    uses = False
    for k in range(first_C[c], first_C[c + 1]):
        uses = uses or resource_K[k] == resource
    return uses


@jit
def _returns(
    root: int,
    e: int,
    start: int,
    first_C: Array,
    resource_K: Array,
    weight_K: Array,
    load_R: Array,
    room_R: Array,
) -> bool:
    """Whether who left cell `root` first makes the room that the last needs in e."""
    nowhere = len(first_C) - 2
    if root == nowhere or e == nowhere:
        return root == e and start == ANYWHERE
    return not _uses(e, start, first_C, resource_K) and _frees(root, e, first_C, resource_K, weight_K, load_R, room_R)


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
def _root(from_C: Array, c: int) -> int:
    """The cell that the path to c starts from."""
    while from_C[c] >= 0:
        c = from_C[c]
    return c


@jit
def _trace(loss_CC: Array, from_C: Array, via_C: Array, path_C2: Array, last: int, target: int) -> float:
    """The loss of the path to `last`. Writes where its users go: to the cell through which the next leaves, the last to
    `target`."""
    c, loss = last, 0.0 if last >= 0 else np.inf
    while c >= 0:
        path_C2[c, 0], path_C2[c, 1] = from_C[c], target
        loss += loss_CC[c, target]
        target, c = via_C[c], from_C[c]
    return loss


@jit
def _relax(
    loss_CC: Array,
    begin_E: Array,
    freer_F: Array,
    tolerance: float,
    want_circle: bool,
    dist_C: Array,
    from_C: Array,
    via_C: Array,
    circle_3: Array,
) -> bool:
    """One pass over all moves; whether it found anything shorter. A circle is its last move and the cell it ends in."""
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
                if reach < dist_C[d] - tolerance:
                    if not _before(from_C, c, d):
                        dist_C[d], from_C[d], via_C[d] = reach, c, e
                        changed = True
                    elif want_circle:
                        circle_3[0], circle_3[1], circle_3[2] = c, e, d
                        return False
    return changed


@jit
def _before(from_C: Array, c: int, d: int) -> bool:
    """Whether cell d already lies on the path to c: a path through it once more would be a circle."""
    found = False
    while c >= 0 and not found:
        found = c == d
        c = from_C[c]
    return found
