"""Beta draws of a block of cells side by side: loops over lanes without branches, and again for the few that failed.

A cell is a (user, slot). Scratch arrays hold rows of LANES numbers one behind the other at offsets known when the code
is compiled, so that the compiler sees that rows do not overlap; loops of floats read no 64-bit numbers, which would
halve the lanes of an instruction. `beta` says what is computed.

    cells_W   uint64    start of each cell's words, its key, its counter
    cells_I   int32     radius, angle and two thresholds of a try, of two words
    cells_F   float32   X and Y, the two gammas, one behind the other; shapes less a third, their spreads, inverses
    tries_W, tries_I, tries_F   the same of one gamma each, of those that failed; twice as many lanes
    list_P    int32     which gammas failed: lane, + LANES for a Y
"""

from typing import Any

import numpy as np

from sto_kernels.beta_inputs import MAX_SLOTS
from sto_kernels.beta_math import HALF, ONE, QUARTER, THIRD, exp_32, log_32, sin_cos
from sto_kernels.compiled import jit
from sto_kernels.hashing import GOLDEN

Array = Any
LANES = 1024
X, Y, _D_A, _C_A, _D_B, _C_B, INV_A, INV_B = (row * LANES for row in range(8))
START, KEY, COUNTER = (row * LANES for row in range(3))
# one length of rows for cells_I and tries_I, so that one piece of code fills them
_ANGLE, _ACCEPT_A, _ACCEPT_B = (2 * row * LANES for row in range(1, 4))
_TRY_X, _TRY_D, _TRY_C = (2 * row * LANES for row in range(3))
# a loop over a few lanes too many leaves none over that are done one by one
_WHOLE = 15

_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S33 = (np.uint64(shift) for shift in (27, 30, 31, 33))
_LOW_31 = np.int32(0x7FFFFFFF)
# from a word of a cell to its next; its slots are GOLDEN apart
STEP = np.uint64((int(GOLDEN) * MAX_SLOTS) & 0xFFFFFFFFFFFFFFFF)
UNIT, HALF_UNIT = np.float32(2.0**-31), np.float32(2.0**-32)
EIGHTH_TURN = np.float32(np.pi / 4 * 2.0**-31)
SWAP_BIT, SIGN_BIT, ANGLE_BITS = np.int32(1), np.int32(2), np.int32(-4)
TWO_THIRDS, THREE, MINUS_TWO = np.float32(2 / 3), np.float32(3), np.float32(-2)
SQUEEZE = np.float32(108)
LEAST_SHAPE = np.float32(2.0**-100)
FAILED, ZERO, INFINITE = np.float32(-1), np.float32(0), np.float32(np.inf)
# e^-80 beside 1 is nothing, and so is what it is a factor of
FADE = np.float32(-80)


@jit
def scratch() -> Any:
    """cells_W, cells_I, cells_F; tries_W, tries_I, tries_F; list_P."""
    cells = np.zeros(3 * LANES, np.uint64), np.zeros(8 * LANES, np.int32), np.ones(8 * LANES, np.float32)
    tries = np.zeros(2 * LANES, np.uint64), np.zeros(8 * LANES, np.int32), np.ones(6 * LANES, np.float32)
    return cells, tries, np.zeros(2 * LANES, np.int32)


@jit
def mixed(state: Any) -> Any:
    """splitmix64 of `hashing`."""
    z = state + GOLDEN
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    return z ^ (z >> _S31)


@jit
def prepare(cells_F: Array, a_C: Array, b_C: Array, first: int, count: int) -> int:
    """What the draws of a block need of its shapes; 1 where one is below 1, -1 where one is no shape, else 0."""
    small, good = False, True
    for i in range(count):
        a, b = a_C[first + i], b_C[first + i]
        d_a, d_b = a + (TWO_THIRDS if a < ONE else -THIRD), b + (TWO_THIRDS if b < ONE else -THIRD)
        root_a, root_b = np.sqrt(d_a), np.sqrt(d_b)
        shared = THIRD / (root_a * root_b)
        cells_F[_D_A + i], cells_F[_C_A + i] = d_a, shared * root_b
        cells_F[_D_B + i], cells_F[_C_B + i] = d_b, shared * root_a
        small |= min(a, b) < ONE
        good &= (a > ZERO) & (b > ZERO) & (a < INFINITE) & (b < INFINITE)
    if not good:
        return -1
    if small:
        for i in range(count):
            a, b = a_C[first + i], b_C[first + i]
            cells_F[INV_A + i] = ONE / max(a, LEAST_SHAPE) if a < ONE else ZERO
            cells_F[INV_B + i] = ONE / max(b, LEAST_SHAPE) if b < ONE else ZERO
    return int(small)


@jit
def start(cells_W: Array, round_key: Any, count: int) -> None:
    """The starts of a round's words, from keys and counters."""
    for i in range(count):
        cells_W[START + i] = mixed(cells_W[KEY + i] ^ round_key) + cells_W[COUNTER + i]


@jit
def draw(scratches: Any, count: int, small: int) -> None:
    """X and Y of the first `count` cells, whose starts and shapes are in place; X / (X + Y) is the draw."""
    (cells_W, cells_I, cells_F), _, list_P = scratches
    _words(cells_W, cells_I, STEP, count)
    for i in range(count):
        x, y = normals(cells_I[i], cells_I[_ANGLE + i])
        u, v = uniform(cells_I[_ACCEPT_A + i]), uniform(cells_I[_ACCEPT_B + i])
        cells_F[X + i] = squeezed(cells_F[_D_A + i], cells_F[_C_A + i], x, u)
        cells_F[Y + i] = squeezed(cells_F[_D_B + i], cells_F[_C_B + i], y, v)
    failed = 0
    for i in range(count):
        list_P[failed] = i
        failed += min(cells_F[X + i], cells_F[Y + i]) < ZERO
    _try_again(scratches, failed)
    if small > 0:
        _boost(cells_W, cells_I, cells_F, count)


@jit
def _words(words_W: Array, parts_I: Array, step: Any, count: int) -> None:
    """The two words of a try, as numbers of 31 bits but for the angle, which has 32."""
    for i in range(count):
        word = mixed(words_W[i] + step)
        parts_I[i], parts_I[_ANGLE + i] = np.int32(word >> _S33), np.int32(word)
    for i in range(count):
        word = mixed(words_W[i] + step + STEP)
        parts_I[_ACCEPT_A + i] = np.int32(word >> _S33)
        parts_I[_ACCEPT_B + i] = np.int32(np.int32(word) & _LOW_31)


@jit
def uniform(bits: Any) -> Any:
    """(n + 1/2) 2^-31 of 31 bits, float32 in (0, 1]."""
    return np.float32(bits) * UNIT + HALF_UNIT


@jit
def normals(bits: Any, low: Any) -> Any:
    """Two independent normals of a word, by Box and Muller: up to an eighth of a turn, its axes swapped, its sign."""
    radius = np.sqrt(log_32(uniform(bits)) * MINUS_TWO)
    s, c = sin_cos(np.float32(np.int32(low & ANGLE_BITS)) * EIGHTH_TURN)
    signed = -radius if low & SIGN_BIT else radius
    swap = (low & SWAP_BIT) != 0
    return signed * (s if swap else c), signed * (c if swap else s)


@jit
def squeezed(d: Any, c: Any, x: Any, u: Any) -> Any:
    """A quarter of the gamma of d and c = 1/sqrt(9 d) that normal x leads to, where the squeeze accepts it, else -1."""
    p = c * x + ONE
    square = x * x
    return QUARTER * d * (p * p * p) if SQUEEZE * d * u * min(ONE, p) > square * square else FAILED


@jit
def tested(d: Any, c: Any, x: Any, u: Any) -> Any:
    """The same by the whole test."""
    w = c * x
    p = w + ONE
    bound = THREE * d * (log_32(p) - w + w * w * HALF - w * w * w * THIRD)
    return QUARTER * d * (p * p * p) if (p > ZERO) & (log_32(ONE - u) < bound) else FAILED


@jit
def _try_again(scratches: Any, cells: int) -> None:
    """Gammas of so many cells that failed: first their own try by the whole test, then try after try."""
    (cells_W, _, cells_F), (tries_W, tries_I, tries_F), list_P = scratches
    failed = _sided(cells_F, list_P, cells)
    for k in range(failed):
        side = list_P[k] // LANES
        i = list_P[k] - side * LANES
        tries_W[k] = cells_W[START + i]
        tries_F[_TRY_D + k], tries_F[_TRY_C + k] = (
            cells_F[_D_A + 2 * side * LANES + i],
            cells_F[_C_A + 2 * side * LANES + i],
        )
    step = STEP
    while failed > 0:
        _try(tries_W, tries_I, tries_F, list_P, step, failed)
        step += STEP + STEP
        kept = 0
        for k in range(failed):
            cells_F[X + list_P[k]] = tries_F[_TRY_X + k]
            list_P[kept], tries_W[kept] = list_P[k], tries_W[k]
            tries_F[_TRY_D + kept], tries_F[_TRY_C + kept] = tries_F[_TRY_D + k], tries_F[_TRY_C + k]
            kept += tries_F[_TRY_X + k] < ZERO
        failed = kept


@jit
def _sided(cells_F: Array, list_P: Array, cells: int) -> int:
    """The list of cells becomes one of gammas, those of Y behind those of X; how many they are."""
    failed = cells
    for k in range(cells):
        list_P[failed] = LANES + list_P[k]
        failed += cells_F[Y + list_P[k]] < ZERO
    kept = 0
    for k in range(failed):
        list_P[kept] = list_P[k]
        kept += cells_F[X + list_P[k]] < ZERO
    return kept


@jit
def _try(tries_W: Array, tries_I: Array, tries_F: Array, list_P: Array, step: Any, failed: int) -> None:
    count = min(failed + _WHOLE & ~_WHOLE, 2 * LANES)
    _words(tries_W, tries_I, step, count)
    for k in range(count):
        x, y = normals(tries_I[k], tries_I[_ANGLE + k])
        is_x = list_P[k] < LANES
        u = uniform(tries_I[_ACCEPT_A + k] if is_x else tries_I[_ACCEPT_B + k])
        tries_F[_TRY_X + k] = tested(tries_F[_TRY_D + k], tries_F[_TRY_C + k], x if is_x else y, u)


@jit
def _boost(cells_W: Array, cells_I: Array, cells_F: Array, count: int) -> None:
    """Gamma(a) = Gamma(a + 1) U^(1/a) for shapes below 1; of the two factors the larger is divided out of both."""
    for i in range(count):
        word = mixed(cells_W[START + i])
        cells_I[i], cells_I[LANES + i] = np.int32(word >> _S33), np.int32(np.int32(word) & _LOW_31)
    for i in range(count):
        log_a = log_32(uniform(cells_I[i])) * cells_F[INV_A + i]
        log_b = log_32(uniform(cells_I[LANES + i])) * cells_F[INV_B + i]
        gap = -abs(log_a - log_b)
        factor = exp_32(max(gap, FADE)) if gap > FADE else ZERO
        cells_F[X + i] *= factor if log_a < log_b else ONE
        cells_F[Y + i] *= factor if log_b < log_a else ONE
