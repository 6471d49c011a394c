"""What earlier outcomes foretell of later ones: strength and discount under which they do it best, point in time.

Sends are added up by (user, slot). The prior of each is Beta(k m, k (1 - m)) with what was known at the moment on top;
k and what a day leaves of an outcome are those under which the outcomes since then are likeliest. N rows, C cells.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sto_engine.models.beta_binomial import fit_strength
from sto_engine.models.outcomes import Terms, count_outcomes
from sto_kernels.journal import DAY_MS, Cleaned
from sto_kernels.lanes import Floats

SINCE_DAYS = 14
DISCOUNTS = (1.0, 0.99, 0.98, 0.95)
# nats by which a discount must raise the likelihood over the one before
EVIDENCE = 2.0
# against a prior as strong as this it does not matter how old outcomes are
DEAF = 5_000.0


@dataclass(frozen=True)
class Later:
    """Mature sends since the moment: their rows in `cleaned`, exposure and hits, [N]."""

    rows: NDArray[np.int64]
    user_N: NDArray[np.int64]
    slot_N: NDArray[np.int64]
    rho_N: Floats
    hit_N: NDArray[np.float32]


@dataclass(frozen=True)
class Cells:
    """Sends added up by a key: exposure, hits and mean chance of each, [C]; `place_N` is the cell of each send."""

    key_C: NDArray[np.int64]
    place_N: NDArray[np.int64]
    sends_C: Floats
    hits_C: Floats
    mean_C: Floats

    @classmethod
    def of(cls, key_N: NDArray[np.int64], later: Later, p_N: Floats) -> "Cells":
        key_C, place_N = np.unique(key_N, return_inverse=True)
        weights = later.rho_N, later.hit_N, later.rho_N * p_N
        sends_C, hits_C, sum_C = (np.asarray(np.bincount(place_N, x, len(key_C)), np.float64) for x in weights)
        return cls(key_C, place_N, sends_C, hits_C, sum_C / np.maximum(sends_C, 1e-9))

    @property
    def misses_C(self) -> Floats:
        return np.maximum(self.sends_C - self.hits_C, 0.0)


def moment_of(cleaned: Cleaned, window_ms: tuple[int, int]) -> int:
    """From when on outcomes are foretold: the last SINCE_DAYS, or half of the days that have sends."""
    first_ms = int(cleaned.utc_S.min(initial=window_ms[1]))
    days = min(SINCE_DAYS, (window_ms[1] - first_ms) // (2 * DAY_MS))
    return window_ms[1] - days * DAY_MS


def later_sends(cleaned: Cleaned, rows: NDArray[np.int64], rate_C: Floats, terms: Terms) -> Later:
    """These sends and what became of them."""
    user_N, slot_N = cleaned.user_S[rows].astype(np.int64), terms.slot(cleaned, rows)
    hit_N = terms.hits(cleaned, rows).astype(np.float32)
    return Later(rows, user_N, slot_N, rate_C[cleaned.campaign_S[rows]], hit_N)


@dataclass(frozen=True)
class Memory:
    """How much own outcomes count: strength of the prior against them, and what a day leaves of one."""

    strength: float
    discount: float


def fit_memory(
    cleaned: Cleaned,
    later: Later,
    p_N: Floats,
    weights: tuple[Floats, Floats],
    terms: Terms,
    moment_ms: int,
    discount: float | None,
) -> Memory:
    """Fit to sends of which `p_N` is expected; `weights` are rho of campaigns and weights of types (count_outcomes).

    What is older counts less only where that is evident, and as much as `discount` says where it is given.
    """
    cells = Cells.of(later.user_N * terms.slots + later.slot_N, later, p_N)
    found: tuple[float, Memory] | None = None
    for daily in DISCOUNTS if discount is None else (discount,):
        then = count_outcomes(cleaned, *weights, terms, moment_ms, daily)
        before = tuple(x.reshape(-1)[cells.key_C].astype(np.float64) for x in (then.hits_US, then.misses_US))
        strength, value = fit_strength(cells.mean_C, cells.hits_C, cells.misses_C, (before[0], before[1]))
        if found is None or value > found[0] + EVIDENCE:
            found = (value, Memory(strength, daily))
        if strength > DEAF:
            break
    assert found is not None
    return found[1]
