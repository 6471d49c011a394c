"""Usual chance of each slot by cohort, by outcomes alone.

    everyone's rate -> each slot of everyone -> each slot of a cohort (-> Beta(k m, k (1 - m)) of a recipient)

Each step is drawn to the one before it by a strength that is fitted to its own cells (models.beta_binomial). C cohorts
and, last, the row of cohorts never seen; U users, S slots.
"""

import numpy as np
from numpy.typing import NDArray

from sto_engine.models.beta_binomial import fit_strength
from sto_engine.models.outcomes import Outcomes
from sto_kernels.lanes import Floats

FALLBACK_RATE, FALLBACK_SENDS = 0.1, 10.0


def fit_cohorts(outcomes: Outcomes, cohort_U: NDArray[np.int32], cohorts: int) -> Floats:
    """Mean chance of each slot by the outcomes of a sample, float64 [C + 1, S]."""
    hits_CS, misses_CS = (_by_cohort(x, cohort_U, cohorts) for x in (outcomes.hits_US, outcomes.misses_US))
    hits_S, misses_S = hits_CS.sum(axis=0), misses_CS.sum(axis=0)
    hits, sends = hits_S.sum(), hits_S.sum() + misses_S.sum()
    rate = (hits + FALLBACK_RATE * FALLBACK_SENDS) / (sends + FALLBACK_SENDS)
    mean_S = _drawn(np.full(len(hits_S), rate), hits_S, misses_S)
    mean_CS = _drawn(np.broadcast_to(mean_S, hits_CS.shape), hits_CS, misses_CS)
    return np.concatenate([mean_CS, mean_S[None]])


def _drawn(mean: Floats, hits: Floats, misses: Floats) -> Floats:
    """Means of cells by their own hits and misses, drawn to `mean`."""
    strength, _ = fit_strength(mean.reshape(-1), hits.reshape(-1), misses.reshape(-1))
    return np.asarray((strength * mean + hits) / (strength + hits + misses))


def _by_cohort(x_US: NDArray[np.float32], cohort_U: NDArray[np.int32], cohorts: int) -> Floats:
    columns = (np.ascontiguousarray(x_U, np.float64) for x_U in x_US.T)
    return np.stack([np.bincount(cohort_U, x_U, cohorts) for x_U in columns], axis=1)
