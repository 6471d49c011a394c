"""The gate: draws follow the law of scipy, shares of wins the closed form; who is off is not timed.

A sample is held to the law before the first timing, the answers of every timing to their mean.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_bench.contest import GateFailed

USERS, ROUNDS = 10_000, 20
SHAPES = ((0.3, 1.0, 6.0, 40.0), (4.0, 9.0, 0.7, 160.0))
# P(X > Y) of X ~ Beta(1, 1), Y ~ Beta(2, 1) is 1 - E[Y]
PAIR, PAIR_CHANCE = ((1.0, 2.0), (1.0, 1.0)), 1 / 3
LEAST_P, SIGMAS = 1e-6, 6.0


def hold_law(draws_US: NDArray[Any]) -> None:
    """Each column follows the law of its SHAPES, by Kolmogorov and Smirnov. Raises GateFailed."""
    from scipy import stats

    for a, b, x_U in zip(*SHAPES, draws_US.T, strict=True):
        p = float(stats.kstest(x_U.astype(np.float64), stats.beta(np.float32(a), np.float32(b)).cdf).pvalue)
        if not p > LEAST_P:
            raise GateFailed(f"draws of Beta({a}, {b}) must follow its law; found a chance of {p:.2g} that they do")


def hold_pair(shares_US: NDArray[Any]) -> None:
    """The first of the PAIR wins as often as the closed form says. Raises GateFailed."""
    share = float(shares_US[:, 0].mean())
    allowed = SIGMAS * (PAIR_CHANCE * (1 - PAIR_CHANCE) / (USERS * ROUNDS)) ** 0.5
    if not abs(share - PAIR_CHANCE) < allowed:
        raise GateFailed(f"the first of two slots must win {PAIR_CHANCE:.4f} of rounds; found {share:.4f}")


def hold_moments(blocks: Sequence[NDArray[Any]], a_US: NDArray[Any], b_US: NDArray[Any], block: int) -> None:
    """What was timed lies in 0..1 and its sum is near the sum of means. Raises GateFailed."""
    off, variance = 0.0, 0.0
    for number, x_US in enumerate(blocks):
        rows = slice(number * block, (number + 1) * block)
        n_US = a_US[rows].astype(np.float64) + b_US[rows]
        mean_US = a_US[rows] / n_US
        if not (x_US.shape == mean_US.shape and x_US.min() >= 0 and x_US.max() <= 1):
            raise GateFailed("a draw must lie in 0..1, one for each user and slot")
        off += float((x_US - mean_US).sum())
        variance += float((mean_US * (1 - mean_US) / (n_US + 1)).sum())
    if not abs(off) < SIGMAS * variance**0.5:
        raise GateFailed(f"draws must have the mean of their law; found it off by {off / variance**0.5:.1f} sigma")


def hold_shares(blocks: Sequence[NDArray[Any]]) -> None:
    """The shares of each user sum to 1. Raises GateFailed."""
    if not all(np.allclose(x_US.sum(axis=1), 1, atol=1e-5) for x_US in blocks):
        raise GateFailed("the shares of a user's slots must sum to 1")
