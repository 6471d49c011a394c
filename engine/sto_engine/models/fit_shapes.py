"""Personas: the K shapes of attention, how common they are in a cohort, how cohorts bend them (recipe, section 3).

EM of a Gamma-Poisson mixture over users with at least two opens, tempered over the first half of its rounds, shapes
smoothed over neighbouring hours and pulled to the pooled curve. U users of the sample, K shapes, C cohorts, 48 cells.
The sample comes in the order of hashes, so "the first users" is a draw.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sto_kernels.attention import RATE_PRIOR
from sto_kernels.lanes import Floats, share_days, smooth_days
from sto_kernels.naive_attention import softmax
from sto_kernels.products import gram, times

SHAPES, ROUNDS, FIT_USERS, MIN_OPENS = 16, 22, 20_000, 2
FIT_WIDTH_H, FIT_SHARE_DAYS, POOLED_OPENS = 0.6, 0.1, 1.0
COHORT_USERS, COHORT_ROUNDS = 30.0, 2
RESIDUAL_WIDTH_H, RESIDUAL_SHARE_DAYS, RESIDUAL_OPENS = 0.6, 0.3, 200.0


@dataclass(frozen=True)
class Shapes:
    """Shapes [K, 48], log prior of each in a cohort [C + 1, K], cohort residual [C + 1, 48]; last row: no cohort."""

    shape_K48: Floats
    log_prior_CK: Floats
    residual_C48: Floats


def fit_shapes(opens_U48: Floats, exposure_U48: Floats, cohort_U: NDArray[np.int32], cohorts: int) -> Shapes:
    """Fit on everyone's opens and exposure; with hardly any opens the one shape is the pooled curve."""
    pooled_48 = _pooled(opens_U48.sum(axis=0), exposure_U48.sum(axis=0))
    fit_U = np.flatnonzero(opens_U48.sum(axis=1) >= MIN_OPENS)[:FIT_USERS]
    shape_K48, common_K = _em(opens_U48[fit_U], exposure_U48[fit_U], pooled_48, exposure_U48.sum(axis=0))
    log_prior_CK = _cohort_prior(opens_U48, exposure_U48, shape_K48, np.log(common_K), cohort_U, cohorts)
    residual_C48 = _residual(opens_U48, exposure_U48, shape_K48, log_prior_CK, cohort_U, cohorts)
    return Shapes(shape_K48, log_prior_CK, residual_C48)


def _pooled(opens_48: Floats, exposure_48: Floats) -> Floats:
    """Everyone's opens an hour at risk, float64 [48]; cells never at risk get the mean."""
    mean = max(exposure_48.sum(), 1e-9) / max(opens_48.sum(), 1.0)
    return np.asarray((opens_48 + 0.5) / (exposure_48 + 0.5 * mean))


def _em(opens: Floats, exposure: Floats, pooled_48: Floats, exposure_48: Floats) -> tuple[Floats, Floats]:
    """Shapes [K, 48] at the pooled level of opens, and their shares [K]."""
    count_U = opens.sum(axis=1)
    heavy = np.argsort(-count_U, kind="stable")[: max(4 * SHAPES, len(opens) // 3)]
    start = np.sort(heavy)[: min(SHAPES, len(opens) // 4)]
    if len(start) < 2:
        return pooled_48[None], np.ones(1)
    near = smooth_days(share_days(exposure[start], 1.0) * pooled_48, 1.2)
    shape = pooled_48 * (smooth_days(share_days(opens[start], 1.0), 1.2) + 0.5) / (near + 0.5)
    common = np.full(len(start), 1.0 / len(start))
    for round_ in range(ROUNDS):
        shape = _unit(shape, pooled_48, exposure_48)
        weight, gain = _tempered(opens, exposure, shape, common, min(1.0, 0.3 + 2 * round_ / ROUNDS))
        seen = share_days(smooth_days(gram(weight, opens), FIT_WIDTH_H), FIT_SHARE_DAYS)
        expected = share_days(smooth_days(gram(weight * gain, exposure), FIT_WIDTH_H), FIT_SHARE_DAYS) * pooled_48
        shape = pooled_48 * (seen + POOLED_OPENS) / (expected + POOLED_OPENS)
        common = (weight.sum(axis=0) + 1) / (weight.sum() + len(shape))
    return _unit(shape, pooled_48, exposure_48), common


def _unit(shape_K48: Floats, pooled_48: Floats, exposure_48: Floats) -> Floats:
    """Every shape expects as many opens of everyone's exposure as the pooled curve does."""
    total_K = (shape_K48 * exposure_48).sum(axis=1, keepdims=True)
    return np.asarray(shape_K48 / (total_K / (pooled_48 * exposure_48).sum()))


def _tempered(opens: Floats, exposure: Floats, shape: Floats, common_K: Floats, heat: float) -> tuple[Floats, Floats]:
    """Posterior weights to the power `heat` (renormalised), and posterior mean rates."""
    weight, gain = mixture(opens, exposure, shape, np.log(common_K)[None])
    if heat < 1.0:
        weight = softmax(np.log(np.maximum(weight, 1e-300)) * heat)
    return weight, gain


def mixture(opens_U48: Floats, exposure_U48: Floats, shape_K48: Floats, log_prior_UK: Floats) -> tuple[Floats, Floats]:
    """Posterior weight of each shape and posterior mean rate under it, float64 [U, K] both (sto_kernels.attention)."""
    most_UK = RATE_PRIOR + opens_U48.sum(axis=1)[:, None]
    expected_UK = RATE_PRIOR + times(exposure_U48, shape_K48.T)
    logits_UK = times(opens_U48, np.log(shape_K48).T) - most_UK * np.log(expected_UK)
    return softmax(logits_UK + log_prior_UK), most_UK / expected_UK


def _cohort_prior(
    opens: Floats,
    exposure: Floats,
    shape: Floats,
    log_common_K: Floats,
    cohort_U: NDArray[np.int32],
    cohorts: int,
) -> Floats:
    """Log share of each shape in each cohort, shrunk to the overall one by COHORT_USERS users; [C + 1, K]."""
    certain_U = np.minimum(opens.sum(axis=1), 3) / 3
    log_prior = np.repeat(log_common_K[None], cohorts + 1, axis=0)
    for _ in range(COHORT_ROUNDS):
        weight = mixture(opens, exposure, shape, log_prior[cohort_U])[0] * certain_U[:, None]
        overall = (weight.sum(axis=0) + 1e-9) / (weight.sum() + 1e-9 * len(shape))
        count = by_cohort(weight, cohort_U, cohorts)
        share = (count + COHORT_USERS * overall) / (count.sum(axis=1, keepdims=True) + COHORT_USERS)
        log_prior = np.log(np.concatenate([share, overall[None]]))
    return log_prior


def _residual(
    opens: Floats,
    exposure: Floats,
    shape: Floats,
    log_prior_CK: Floats,
    cohort_U: NDArray[np.int32],
    cohorts: int,
) -> Floats:
    """What a cohort opens over what the mixture expects of it, [C + 1, 48]; 1 for no cohort."""
    weight, gain = mixture(opens, exposure, shape, log_prior_CK[cohort_U])
    expected = exposure * times(weight * gain, shape)

    def spread(x_U48: Floats) -> Floats:
        near = smooth_days(by_cohort(x_U48, cohort_U, cohorts), RESIDUAL_WIDTH_H)
        return share_days(near, RESIDUAL_SHARE_DAYS) + RESIDUAL_OPENS / 48

    return np.concatenate([spread(opens) / spread(expected), np.ones((1, 48))])


def by_cohort(x_UB: Floats, cohort_U: NDArray[np.int32], cohorts: int) -> Floats:
    """Sums of the rows of each cohort, float64 [C, B]."""
    columns = [np.bincount(cohort_U, x_UB[:, column], cohorts) for column in range(x_UB.shape[1])]
    return np.stack(columns, axis=1)
