"""Slow and obvious twins of the Beta draws: one cell after the other in float64, with the same hashed numbers."""

import math

import numpy as np
from numpy.typing import NDArray

from sto_kernels.beta_inputs import round_key

_GOLDEN, _64 = 0x9E3779B97F4A7C15, (1 << 64) - 1


def draw_betas(
    key_U: NDArray[np.uint64], a_US: NDArray[np.float32], b_US: NDArray[np.float32], round: int = 0
) -> NDArray[np.float64]:
    """One draw of Beta(a, b) for each (user, slot), float64 [U, S]."""
    out_US = np.zeros(a_US.shape)
    for u, s in np.ndindex(out_US.shape):
        start = _splitmix64(int(key_U[u]) ^ int(round_key(round))) + s * _GOLDEN
        out_US[u, s] = _beta(start, float(a_US[u, s]), float(b_US[u, s]))
    return out_US


def win_shares(
    key_U: NDArray[np.uint64],
    a_US: NDArray[np.float32],
    b_US: NDArray[np.float32],
    draws: int,
    allowed_US: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Share of rounds 1..draws in which each slot has the highest draw, of those allowed, float64 [U, S]."""
    shares_US = np.zeros(a_US.shape)
    for number in range(1, draws + 1):
        for u, x_S in enumerate(draw_betas(key_U, a_US, b_US, number)):
            slots = [s for s in range(len(x_S)) if allowed_US is None or allowed_US[u, s]]
            if slots:
                shares_US[u, max(slots, key=lambda s: (x_S[s], -s))] += 1 / draws
    return shares_US


def _beta(start: int, a: float, b: float) -> float:
    """X / (X + Y) in logarithms, X ~ Gamma(a), Y ~ Gamma(b)."""
    log_x, log_y = (_log_gamma(start, shape, side) for side, shape in enumerate((a, b)))
    return 1 / (1 + math.exp(log_y - log_x)) if log_y - log_x < 700 else 0.0


def _log_gamma(start: int, shape: float, side: int) -> float:
    boost = math.log(_uniform(_word(start, 0), side)) / shape if shape < 1 else 0.0
    d = shape + 1 - 1 / 3 if shape < 1 else shape - 1 / 3
    c, tried = 1 / math.sqrt(9 * d), 0
    while True:
        x = _normals(_word(start, 2 * tried + 1))[side]
        v, u = (1 + c * x) ** 3, 1 - _uniform(_word(start, 2 * tried + 2), side)
        if v > 0 and math.log(u) < x * x / 2 + d - d * v + d * math.log(v):
            return math.log(d * v) + boost
        tried += 1


def _normals(word: int) -> tuple[float, float]:
    radius = math.sqrt(-2 * math.log(_uniform(word, 0)))
    low = word % 2**32
    angle = (low - 2**32 if low >= 2**31 else low) // 4 * 4
    turn = angle / 2**31 * math.pi / 4
    pair = radius * math.cos(turn), radius * math.sin(turn)
    if low & 1:
        pair = pair[1], pair[0]
    return (-pair[0], -pair[1]) if low & 2 else pair


def _uniform(word: int, side: int) -> float:
    """Of the upper 31 bits, or the lower."""
    return ((word >> 33 if side == 0 else word % 2**31) + 0.5) / 2**31


def _word(start: int, number: int) -> int:
    return _splitmix64(start + number * 2**16 * _GOLDEN)


def _splitmix64(x: int) -> int:
    z = (x + _GOLDEN) & _64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _64
    return z ^ (z >> 31)
