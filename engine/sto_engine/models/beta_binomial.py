"""How much hits and misses tell beyond a mean: the strength k of a prior Beta(k m, k (1 - m)), fitted to many cells.

Of cells n with known means m_n, hits h_n and misses f_n the marginal likelihood is

    L(k) = sum_n ln B(k m_n + h_n, k (1 - m_n) + f_n) - ln B(k m_n, k (1 - m_n))

and where earlier hits and misses are part of the prior they stand on both sides, which makes L the predictive
likelihood of what came later. Maximised over ln k, first on a grid (L may have two tops), then by golden section.
Counts may be fractions. N cells.
"""

import math
from collections.abc import Callable

import numpy as np

from sto_kernels.lanes import Floats

LEAST_STRENGTH, MOST_STRENGTH = 1.0, 1e5
GRID, SECTIONS = 12, 14
GOLDEN = (math.sqrt(5) - 1) / 2
LEAST_MEAN = 1e-4
_SHIFT = 8
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680)


def log_gamma(x_N: Floats) -> Floats:
    """ln Gamma(x), x > 0: Stirling's series at x + 8, and back by the recurrence; relative error below 1e-12."""
    x_N = np.asarray(x_N, np.float64)
    y_N, product_N = x_N + _SHIFT, x_N.copy()
    for step in range(1, _SHIFT):
        product_N *= x_N + step
    inverse_N = 1 / y_N
    square_N, tail_N = inverse_N * inverse_N, np.zeros_like(y_N)
    for factor in reversed(_STIRLING):
        tail_N = tail_N * square_N + factor
    tail_N *= inverse_N
    stirling_N = (y_N - 0.5) * np.log(y_N) - y_N + 0.5 * math.log(2 * math.pi) + tail_N
    return np.asarray(stirling_N - np.log(product_N))


def log_beta(a_N: Floats, b_N: Floats) -> Floats:
    """ln B(a, b)."""
    return log_gamma(a_N) + log_gamma(b_N) - log_gamma(a_N + b_N)


def log_likelihood(a_N: Floats, b_N: Floats, hits_N: Floats, misses_N: Floats) -> float:
    """Of hits and misses under Beta(a, b), in any one order: no binomial coefficients."""
    return float(np.sum(log_beta(a_N + hits_N, b_N + misses_N) - log_beta(a_N, b_N)))


def fit_strength(
    mean_N: Floats, hits_N: Floats, misses_N: Floats, before: tuple[Floats, Floats] | None = None
) -> tuple[float, float]:
    """k in [LEAST_STRENGTH, MOST_STRENGTH] and its log likelihood; `before`: hits and misses that the prior has seen.

    Without any cell there is nothing to learn from: the most.
    """
    used_N = np.flatnonzero(hits_N + misses_N > 0)
    if not len(used_N):
        return MOST_STRENGTH, 0.0
    mean_N = np.clip(mean_N, LEAST_MEAN, 1 - LEAST_MEAN)[used_N]
    hits_N, misses_N = hits_N[used_N], misses_N[used_N]
    old_hits_N, old_misses_N = (0.0, 0.0) if before is None else (x[used_N] for x in before)

    def value(log_k: float) -> float:
        k = math.exp(log_k)
        return log_likelihood(k * mean_N + old_hits_N, k * (1 - mean_N) + old_misses_N, hits_N, misses_N)

    grid = np.linspace(math.log(LEAST_STRENGTH), math.log(MOST_STRENGTH), GRID).tolist()
    values = [value(log_k) for log_k in grid]
    top = int(np.argmax(values))
    log_k, best = _golden(value, grid[max(top - 1, 0)], grid[min(top + 1, GRID - 1)])
    log_k, best = max((best, log_k), (values[top], grid[top]))[::-1]
    return min(max(math.exp(log_k), LEAST_STRENGTH), MOST_STRENGTH), best


def _golden(value: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """Place and height of the top of a function with one top in [low, high]."""
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = value(left), value(right)
    for _ in range(SECTIONS):
        if at_left < at_right:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = value(right)
        else:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = value(left)
    return (left, at_left) if at_left >= at_right else (right, at_right)
