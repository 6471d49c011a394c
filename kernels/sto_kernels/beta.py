"""Draws of Beta(a, b) for each (user, slot): a function of the user's key, the slot and the round, and of nothing else.

Beta(a, b) = X / (X + Y) with X ~ Gamma(a), Y ~ Gamma(b) by Marsaglia and Tsang, "A simple method for generating gamma
variables" (2000); any finite a, b > 0. A draw that float32 cannot tell from 0 or 1 is 0 or 1.

    word j     = splitmix64(splitmix64(key ^ key of the round) + (slot + 65536 j) GOLDEN)
    try n      = words 2n + 1 and 2n + 2: a pair of normals by Box and Muller, x for X and y for Y, and a uniform each
    d, c       = a - 1/3 (a + 2/3 below 1), 1 / sqrt(9 d);   w = c x;   v = (1 + w)^3
    accept v d if  (1 - u) 108 d min(1, 1 + w) > x^4                                      the squeeze, without logarithm
               or  log u < 3 d (log(1 + w) - w + w^2 / 2 - w^3 / 3)                       the test itself
    below 1    X U^(1/a), U from word 0; of X and Y the larger such factor is divided out of both, as a power of e

The squeeze: the right side of the test is -x^4 h / (27 d), h = 1/4 - w/5 + w^2/6 - ..., and h is at most 1/4 for w >= 0
and 1/(4 + 4w) below; log u < -y wherever 1 - u > y. It costs no logarithm and closes in on the test as d grows.

How it runs (`beta_lanes`): blocks of cells; loops over lanes that become vector instructions; X and Y whose squeeze
fails (7 % at a = 1, 1 % at 4) are gathered, tested in full and tried again, so that no loop branches. Only + - * /,
square roots and bits (`beta_math`), nothing fused and nothing reordered: float32 as IEEE 754 has it, so every x86,
every width of its registers, every number of threads and torch give the same bytes (`beta_torch`, which also draws
where nothing is compiled).

The floor, on 256 bits (8 lanes; compilers prefer them to 512) with two float and three integer operations a cycle, by
cell: normals and squeezes 84 float operations, 5.3 cycles; two square roots and a division of shapes, 3.1; two words of
14 operations, 4 lanes each, 3.5; X / (X + Y) 0.7. That is 13 cycles, 240 million cells/s on a core of 3 GHz. Measured
116 million for a in 1..5 and b in 1..20, half the floor: the rest is finding and trying again what failed, starts of
words and ends of loops. Shapes below 1 take 9 cycles more: 69 million.

U users, S slots, C = U * S cells.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels.beta_inputs import check_places, check_shapes, round_key
from sto_kernels.beta_lanes import LANES, START, X, Y, draw, mixed, prepare, scratch
from sto_kernels.compiled import jit, obstacle, read_only
from sto_kernels.hashing import GOLDEN

Array = NDArray[Any]


def draw_betas(
    key_U: NDArray[np.uint64], a_US: NDArray[np.float32], b_US: NDArray[np.float32], round: int = 0
) -> NDArray[np.float32]:
    """One draw of Beta(a, b) for each (user, slot), float32 [U, S]; `key_U` seeds the user's draws.

    `round` 0 is the draw that decides, others are those that `beta_wins` counts. Shapes below 2^-100 are taken as that.
    Raises ValueError for shapes that are not finite and above 0, or that do not fit.
    """
    check_places(key_U, a_US, b_US)
    if obstacle() is not None:
        return _by_torch(key_U, a_US, b_US, round)
    out_US = np.empty(a_US.shape, np.float32)
    inputs = read_only(key_U, np.uint64), read_only(a_US, np.float32), read_only(b_US, np.float32)
    if not _draw(*inputs, round_key(round), out_US.reshape(-1)):
        check_shapes(a_US, b_US)
    return out_US


def _by_torch(key_U: Array, a_US: Array, b_US: Array, round: int) -> NDArray[np.float32]:
    """The same bits without compiled code, at a fraction of its speed."""
    import torch

    from sto_kernels.beta_torch import draw_betas_torch

    key, a, b = (torch.from_numpy(np.array(x)) for x in (key_U.view(np.int64), a_US, b_US))
    return draw_betas_torch(key, a, b, round).numpy()


@jit
def _draw(key_U: Array, a_US: Array, b_US: Array, key: Any, out_C: Array) -> bool:
    slots, cells = a_US.shape[1], len(out_C)
    a_C, b_C = a_US.reshape(cells), b_US.reshape(cells)
    scratches = scratch()
    cells_W, _, cells_F = scratches[0]
    for first in range(0, cells, LANES):
        count = min(LANES, cells - first)
        _place(key_U, key, slots, first, count, cells_W)
        small = prepare(cells_F, a_C, b_C, first, count)
        if small < 0:
            return False
        draw(scratches, count, small)
        for i in range(count):
            out_C[first + i] = cells_F[X + i] / (cells_F[X + i] + cells_F[Y + i])
    return True


@jit
def _place(key_U: Array, key: Any, slots: int, first: int, count: int, cells_W: Array) -> None:
    """The starts of the cells of a block, a run of a user's slots after the other."""
    i, u = 0, first // slots
    s = first - u * slots
    while i < count:
        run, base = min(slots - s, count - i), mixed(key_U[u] ^ key) + np.uint64(s) * GOLDEN
        for k in range(run):
            cells_W[START + i + k] = base + np.uint64(k) * GOLDEN
        i, u, s = i + run, u + 1, 0
