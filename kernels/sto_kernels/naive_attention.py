"""Plain twins of `attention`, `send_effect` and `curves`: whole tables at a time, matrix products, LAPACK. For tests.

Same arguments and results as the kernels of the same name; float64 throughout.
"""

import numpy as np
from numpy.typing import NDArray

from sto_kernels.attention import OWN_COUNTS, OWN_SHARE_DAYS, OWN_WIDTH_H, RATE_PRIOR
from sto_kernels.curves import RATE_LEVEL, RATE_SENDS, RATE_WIDTH_H, SHAPE_COUNTS, SHAPE_WIDTH_H
from sto_kernels.lanes import Floats, share_days, smooth_days
from sto_kernels.send_effect import MAX_LOG, MAX_STEP, MAX_VARIANCE, STEPS, harmonics

Table = NDArray[np.float32] | Floats


def attention_rates(
    opens_U48: Table,
    exposure_U48: Table,
    cohort_U: NDArray[np.int32],
    shape_K48: Floats,
    log_prior_CK: Floats,
    residual_C48: Floats,
) -> Floats:
    opens, exposure = np.asarray(opens_U48, np.float64), np.asarray(exposure_U48, np.float64)
    weight_UK, gain_UK = mixture(opens, exposure, shape_K48, log_prior_CK[cohort_U])
    mean_U48 = (weight_UK * gain_UK) @ shape_K48 * residual_C48[cohort_U]
    own = OWN_COUNTS / 24
    seen = share_days(smooth_days(opens, OWN_WIDTH_H), OWN_SHARE_DAYS)
    expected = share_days(smooth_days(exposure * mean_U48, OWN_WIDTH_H), OWN_SHARE_DAYS)
    return np.asarray((mean_U48 * (seen + own) / (expected + own)).T)


def mixture(opens_U48: Floats, exposure_U48: Floats, shape_K48: Floats, log_prior_UK: Floats) -> tuple[Floats, Floats]:
    """Posterior weight of each shape and posterior mean rate under it, float64 [U, K] both."""
    count_U, expected_UK = opens_U48.sum(axis=1), exposure_U48 @ shape_K48.T
    logits_UK = opens_U48 @ np.log(shape_K48).T - (RATE_PRIOR + count_U)[:, None] * np.log(RATE_PRIOR + expected_UK)
    return softmax(logits_UK + log_prior_UK), (RATE_PRIOR + count_U)[:, None] / (RATE_PRIOR + expected_UK)


def softmax(logits_UK: Floats) -> Floats:
    """Rows that sum to 1."""
    weight_UK = np.exp(logits_UK - logits_UK.max(axis=1, keepdims=True))
    return np.asarray(weight_UK / weight_UK.sum(axis=1, keepdims=True))


def send_hour_modes(
    opens_U24: Table, sends_U24: Table, mean_U5: Floats, precision_55: Floats, p0: float, steps: int
) -> tuple[Floats, Floats]:
    opens, sends = np.asarray(opens_U24, np.float64), np.asarray(sends_U24, np.float64)
    theta_U5, F = mean_U5.copy(), harmonics()

    def hessian() -> Floats:
        rate = sends * p0 * np.exp(np.clip(theta_U5 @ F.T, -MAX_LOG, MAX_LOG))
        return np.asarray(np.einsum("us,si,sj->uij", rate, F, F) + precision_55)

    for _ in range(steps):
        rate = sends * p0 * np.exp(np.clip(theta_U5 @ F.T, -MAX_LOG, MAX_LOG))
        gradient = (opens - rate) @ F - (theta_U5 - mean_U5) @ precision_55
        step = np.linalg.solve(hessian(), gradient[:, :, None])[:, :, 0]
        theta_U5 = theta_U5 + step * np.minimum(1, MAX_STEP / np.maximum(np.abs(step).max(1, keepdims=True), 1e-9))
    return theta_U5.T, np.asarray(np.linalg.inv(hessian()).reshape(len(opens), 25).T, np.float64)


def send_hour_curve(opens_U24: Table, sends_U24: Table, mean_U5: Floats, precision_55: Floats, p0: float) -> Floats:
    F = harmonics()
    theta_5U, covariance_25U = send_hour_modes(opens_U24, sends_U24, mean_U5, precision_55, p0, STEPS)
    variance_US = np.einsum("si,uij,sj->us", F, covariance_25U.T.reshape(-1, 5, 5), F)
    log_rate_US = theta_5U.T @ F.T + 0.5 * np.minimum(variance_US, MAX_VARIANCE)
    return np.asarray(np.clip(p0 * np.exp(log_rate_US), 1e-5, 0.95).T)


def slot_rates(opens2_U24: Table, sends2_U24: Table, cohort_U: NDArray[np.int32], rate_C24: Floats) -> Floats:
    opens, sends = np.asarray(opens2_U24, np.float64), np.asarray(sends2_U24, np.float64)
    prior = rate_C24[cohort_U]
    level = (opens.sum(axis=1) + RATE_LEVEL) / ((sends * prior).sum(axis=1) + RATE_LEVEL)
    prior = np.clip(prior * level[:, None], 1e-4, 0.95)
    near_opens, near_sends = smooth_days(opens, RATE_WIDTH_H), smooth_days(sends, RATE_WIDTH_H)
    return np.asarray(((near_opens + RATE_SENDS * prior) / (near_sends + RATE_SENDS)).T)


def act_shapes(acts_U24: Table, cohort_U: NDArray[np.int32], shape_C24: Floats) -> Floats:
    near = smooth_days(np.asarray(acts_U24, np.float64) + SHAPE_COUNTS * shape_C24[cohort_U], SHAPE_WIDTH_H)
    return np.asarray((near / near.sum(axis=1, keepdims=True)).T)
