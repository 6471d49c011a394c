"""Attention of each user: opens per weighted hour at risk, by hour of weekday and weekend (docs: recipe, section 3).

A Gamma-Poisson mixture of K shapes gives each user a first curve, his cohort bends it, his own opens bend it again:

    n, e_k   = sum_c O_c,  sum_c E_c s_kc
    w_k      ~ prior_k(cohort) * exp(sum_c O_c log s_kc - (A0 + n) log(A0 + e_k))
    m_c      = residual_c(cohort) * sum_k w_k (A0 + n) / (A0 + e_k) s_kc
    rate_c   = m_c * (smooth(O)_c + OWN / 24) / (smooth(E m)_c + OWN / 24)

The update is the posterior mean of a Gamma(A0, A0) rate under each shape. U users, K shapes, C cohorts, 48 cells.
`attention_rates` is the kernel, `naive_attention.attention_rates` its twin.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sto_kernels.compiled import jit
from sto_kernels.lanes import LANES, Array, Floats, gaussian_taps, lend, load, smooth, store

RATE_PRIOR = 1.5
OWN_WIDTH_H, OWN_SHARE_DAYS, OWN_COUNTS = 0.8, 0.5, 45.0


def attention_rates(
    opens_U48: NDArray[np.float32],
    exposure_U48: NDArray[np.float32],
    cohort_U: NDArray[np.int32],
    shape_K48: Floats,
    log_prior_CK: Floats,
    residual_C48: Floats,
) -> Floats:
    """Opens per weighted hour at risk of each user, cell-major float64 [48, U]."""
    rate_48U = np.empty((48, len(opens_U48)))
    log_shape_K48 = np.log(shape_K48)
    taps = gaussian_taps(OWN_WIDTH_H)
    _rates(opens_U48, exposure_U48, cohort_U, shape_K48, log_shape_K48, log_prior_CK, residual_C48, taps, rate_48U)
    return rate_48U


@jit
def _rates(
    opens_U48: Array,
    exposure_U48: Array,
    cohort_U: Array,
    shape_K48: Array,
    log_shape_K48: Array,
    log_prior_CK: Array,
    residual_C48: Array,
    taps: Array,
    rate_48U: Array,
) -> None:
    opens, exposure = np.empty((48, LANES)), np.empty((48, LANES))
    rate, spread, weight = np.empty((48, LANES)), np.empty((48, LANES)), np.empty((len(shape_K48), LANES))
    cohort = np.zeros(LANES, np.int32)
    for first in range(0, len(opens_U48), LANES):
        load(opens_U48, first, opens)
        load(exposure_U48, first, exposure)
        cohort[: min(LANES, len(cohort_U) - first)] = cohort_U[first : first + LANES]
        _mixture(opens, exposure, cohort, shape_K48, log_shape_K48, log_prior_CK, weight, rate)
        for cell in range(48):
            for lane in range(LANES):
                rate[cell, lane] *= residual_C48[cohort[lane], cell]
        _own(opens, exposure, taps, spread, rate)
        store(rate, first, rate_48U)


@jit
def _mixture(
    opens: Array,
    exposure: Array,
    cohort: Array,
    shape_K48: Array,
    log_shape_K48: Array,
    log_prior_CK: Array,
    weight: Array,
    rate: Array,
) -> None:
    """Posterior mean curve of the mixture into `rate`; `weight` is scratch [K, L]."""
    shapes = len(shape_K48)
    count, likelihood, expected = np.zeros(LANES), np.empty(LANES), np.empty(LANES)
    gain = np.empty((shapes, LANES))
    for cell in range(48):
        for lane in range(LANES):
            count[lane] += opens[cell, lane]
    for k in range(shapes):
        _weigh(opens, log_shape_K48[k], likelihood)
        _weigh(exposure, shape_K48[k], expected)
        for lane in range(LANES):
            gain[k, lane] = (RATE_PRIOR + count[lane]) / (RATE_PRIOR + expected[lane])
            weight[k, lane] = likelihood[lane] + log_prior_CK[cohort[lane], k]
            weight[k, lane] -= (RATE_PRIOR + count[lane]) * math.log(RATE_PRIOR + expected[lane])
    normalise(weight)
    for k in range(shapes):
        for lane in range(LANES):
            weight[k, lane] *= gain[k, lane]
    _mean_curve(weight, shape_K48, rate)


@jit
def _mean_curve(weight: Array, shape_K48: Array, rate: Array) -> None:
    """Shapes by the weights [K, L] of each lane, summed four at a time."""
    shapes = len(shape_K48)
    for cell in range(48):
        for lane in range(LANES):
            rate[cell, lane] = 0.0
        for k in range(0, shapes - 3, 4):
            a, b, c, d = shape_K48[k, cell], shape_K48[k + 1, cell], shape_K48[k + 2, cell], shape_K48[k + 3, cell]
            for lane in range(LANES):
                total = rate[cell, lane] + weight[k, lane] * a
                total += weight[k + 1, lane] * b
                total += weight[k + 2, lane] * c
                rate[cell, lane] = total + weight[k + 3, lane] * d
        for k in range(shapes - shapes % 4, shapes):
            for lane in range(LANES):
                rate[cell, lane] += weight[k, lane] * shape_K48[k, cell]


@jit
def _weigh(x: Array, weight_48: Array, total: Array) -> None:
    """Sum of the cells of each lane by their weights. Four cells at a time: `total` is loaded and stored less often."""
    for lane in range(LANES):
        total[lane] = 0.0
    for cell in range(0, 48, 4):
        a, b, c, d = weight_48[cell], weight_48[cell + 1], weight_48[cell + 2], weight_48[cell + 3]
        for lane in range(LANES):
            near = total[lane] + x[cell, lane] * a
            near += x[cell + 1, lane] * b
            near += x[cell + 2, lane] * c
            total[lane] = near + x[cell + 3, lane] * d


@jit
def normalise(logits_KL: Array) -> None:
    """Softmax over the K rows of each lane, in place."""
    top, total = np.full(LANES, -np.inf), np.zeros(LANES)
    for k in range(len(logits_KL)):
        for lane in range(LANES):
            top[lane] = max(top[lane], logits_KL[k, lane])
    for k in range(len(logits_KL)):
        for lane in range(LANES):
            logits_KL[k, lane] = math.exp(logits_KL[k, lane] - top[lane])
            total[lane] += logits_KL[k, lane]
    for k in range(len(logits_KL)):
        for lane in range(LANES):
            logits_KL[k, lane] /= total[lane]


@jit
def _own(opens: Array, exposure: Array, taps: Array, spread: Array, rate: Array) -> None:
    """Bend the curve by the user's own opens over what it expects of him, in place."""
    expected = np.empty((48, LANES))
    for cell in range(48):
        for lane in range(LANES):
            expected[cell, lane] = exposure[cell, lane] * rate[cell, lane]
    smooth(expected, taps, spread)
    lend(spread, OWN_SHARE_DAYS)
    smooth(opens, taps, expected)
    lend(expected, OWN_SHARE_DAYS)
    own = OWN_COUNTS / 24
    for cell in range(48):
        for lane in range(LANES):
            rate[cell, lane] *= (expected[cell, lane] + own) / (spread[cell, lane] + own)
