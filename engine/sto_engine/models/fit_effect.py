"""Priors of the send-hour effect and of slot rates and histograms: what a cohort's users have in common.

U users of the sample, C cohorts and a last row for none, 24 hours.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sto_engine.models.fit_shapes import by_cohort
from sto_kernels.lanes import Floats, smooth_days
from sto_kernels.products import gram
from sto_kernels.send_effect import HARMONICS, send_hour_modes

EFFECT_USERS, EFFECT_ROUNDS = 8_000, 9
FIRST_STEPS, LATER_STEPS = 6, 4
START_VARIANCE, FLOOR_VARIANCE = (1.0, 0.15, 0.15, 0.15, 0.15), (0.5, 0.02, 0.02, 0.02, 0.02)
COHORT_USERS, FLOOR_USERS = 100.0, 200.0
RATE_WIDTH_H, RATE_COHORT_SENDS = 0.7, 400.0


@dataclass(frozen=True)
class Effect:
    """Mean harmonics of each cohort [C + 1, 5], precision of a user around them [5, 5], opens within 24 h a send."""

    mean_C5: Floats
    precision_55: Floats
    p0: float


def fit_effect(
    opens_U24: NDArray[np.float32], sends_U24: NDArray[np.float32], cohort_U: NDArray[np.int32], cohorts: int
) -> Effect:
    """Random-coefficient Poisson model by EM on the first EFFECT_USERS users (recipe, section 4)."""
    sent = float(sends_U24.sum(dtype=np.float64))
    p0 = min(max(float(opens_U24.sum(dtype=np.float64)) / sent, 1e-5), 0.95) if sent > 0 else 0.1
    opens, sends, code = opens_U24[:EFFECT_USERS], sends_U24[:EFFECT_USERS], cohort_U[:EFFECT_USERS]
    users, size_C = len(opens), np.bincount(code, minlength=cohorts)[:, None]
    mean, covariance, overall = np.zeros((cohorts, HARMONICS)), np.diag(START_VARIANCE), np.zeros(HARMONICS)
    for round_ in range(EFFECT_ROUNDS if users else 0):
        steps = FIRST_STEPS if round_ == 0 else LATER_STEPS
        theta_5U, posterior_25U = send_hour_modes(opens, sends, mean[code], np.linalg.inv(covariance), p0, steps)
        overall = theta_5U.mean(axis=1)
        mean = (by_cohort(theta_5U.T, code, cohorts) + COHORT_USERS * overall) / (size_C + COHORT_USERS)
        off_U5 = theta_5U.T - mean[code]
        spread = gram(off_U5, off_U5) + posterior_25U.sum(axis=1).reshape(HARMONICS, HARMONICS)
        covariance = (spread + FLOOR_USERS * np.diag(FLOOR_VARIANCE)) / (users + FLOOR_USERS)
    return Effect(np.concatenate([mean, overall[None]]), np.linalg.inv(covariance), p0)


def fit_slot_rates(opens2_U24: Floats, sends2_U24: Floats, cohort_U: NDArray[np.int32], cohorts: int) -> Floats:
    """P(open within 2 h | sent at hour) of each cohort, shrunk to everyone's, [C + 1, 24] (recipe, section 5)."""
    opens_24, sends_24 = opens2_U24.sum(axis=0), sends2_U24.sum(axis=0)
    p = (opens_24.sum() + 1e-3) / (sends_24.sum() + 1e-2)
    near_opens, near_sends = smooth_days(opens_24[None], RATE_WIDTH_H), smooth_days(sends_24[None], RATE_WIDTH_H)
    everyone = (near_opens + 20 * p) / (near_sends + 20)
    opens = smooth_days(by_cohort(opens2_U24, cohort_U, cohorts), RATE_WIDTH_H)
    sends = smooth_days(by_cohort(sends2_U24, cohort_U, cohorts), RATE_WIDTH_H)
    level = everyone * ((opens.sum(axis=1) + 5) / ((sends * everyone).sum(axis=1) + 5))[:, None]
    own = RATE_COHORT_SENDS / 24
    return np.concatenate([level * (opens + own) / (sends * level + own), everyone])


def fit_act_shapes(acts_U24: Floats, cohort_U: NDArray[np.int32], cohorts: int) -> Floats:
    """Share of each hour in a cohort's acts, one act an hour added, [C + 1, 24]; the last row is everyone's."""
    counts = np.concatenate([by_cohort(acts_U24, cohort_U, cohorts), acts_U24.sum(axis=0)[None]]) + 1
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))
