"""Draws from Beta distributions that depend on the user and the slot alone: Thompson sampling, the same in any bucket.

Beta(a, b) = X / (X + Y) with X ~ Gamma(a), Y ~ Gamma(b) by the squeeze of Marsaglia and Tsang (2000), whose normals
come by the polar method from a splitmix64 stream that starts at the hash of (user, slot). U users, S slots.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels.compiled import jit, read_only
from sto_kernels.hashing import GOLDEN

Array = NDArray[Any]
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S11, _S27, _S30, _S31 = (np.uint64(shift) for shift in (11, 27, 30, 31))


def draw_betas(key_U: NDArray[np.uint64], a_US: NDArray[np.float32], b_US: NDArray[np.float32]) -> NDArray[np.float32]:
    """One draw of Beta(a, b) for each (user, slot), float32 [U, S]; `key_U` seeds the user's draws; a, b >= 1."""
    if a_US.shape != b_US.shape or len(key_U) != len(a_US):
        raise ValueError(f"draw_betas needs a and b of one shape [U, S]; found {a_US.shape}, {b_US.shape}")
    if a_US.min(initial=1) < 1 or b_US.min(initial=1) < 1:
        raise ValueError("draw_betas needs a and b of at least 1: start from a prior of one open and one miss")
    out_US = np.empty(a_US.shape, np.float32)
    inputs = read_only(key_U, np.uint64), read_only(a_US, np.float32), read_only(b_US, np.float32)
    _draw(*inputs, out_US)
    return out_US


@jit
def _draw(key_U: Array, a_US: Array, b_US: Array, out_US: Array) -> None:
    state = np.zeros(1, np.uint64)
    for u in range(len(key_U)):
        for s in range(a_US.shape[1]):
            state[0] = key_U[u] ^ (np.uint64(s + 1) * _MIX_2)
            x, y = _gamma(float(a_US[u, s]), state), _gamma(float(b_US[u, s]), state)
            out_US[u, s] = x / (x + y)


@jit
def _uniform(state: Array) -> Any:
    """The next number of the stream in (0, 1)."""
    state[0] += GOLDEN
    z = state[0]
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    return (float((z ^ (z >> _S31)) >> _S11) + 0.5) * 2.0**-53


@jit
def _normal(state: Array) -> Any:
    while True:
        u, v = 2 * _uniform(state) - 1, 2 * _uniform(state) - 1
        r = u * u + v * v
        if 0 < r < 1:
            return u * math.sqrt(-2 * math.log(r) / r)


@jit
def _gamma(shape: float, state: Array) -> Any:
    """A draw of Gamma(shape, 1), shape >= 1."""
    d = shape - 1 / 3
    c = 1 / math.sqrt(9 * d)
    while True:
        x = _normal(state)
        v = (1 + c * x) ** 3
        if v > 0 and math.log(_uniform(state)) < 0.5 * x * x + d - d * v + d * math.log(v):
            return d * v
