"""Mail of different types ages differently, and says more or less about when a person looks at a promo.

Order mail is opened the moment it arrives: its opens tell when people order, not when they look. For each type T

    decay_T   how attention fades with the age of its mails, fitted on its own sends
    follow_T  how closely its opens follow the attention that the target type shows, held to 0..1

follow is the exponent kappa of P(an open of u falls into cell c) ~ E_uc lambda_uc^kappa, with lambda fitted on the
target type alone; levels drop out by conditioning on the number of opens. 1: the same habit. 0: the hour does not
matter. It weighs what the type adds to opens and exposure. U users of the sample, C campaigns, T types, 48 cells.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sto_engine.history.rates import TYPES
from sto_engine.models.fit_shapes import fit_shapes
from sto_kernels.attention import attention_rates
from sto_kernels.count_walk import age_decay, count, unopened_kernel
from sto_kernels.journal import Cleaned, Counts
from sto_kernels.lanes import Floats

DECAY_USERS, FOLLOW_USERS = 8_000, 8_000
MIN_OPENS = 200  # fewer opens of a type cannot show a fade of their own
FOLLOW_PRIOR, STEPS = 100.0, 20


@dataclass(frozen=True)
class Types:
    """Age decay [T, 24] and weight [T] of each type of campaign; `target` is the type that attention is fitted for."""

    decay_T24: Floats
    follow_T: Floats
    target: int


def fit_types(
    cleaned: Cleaned,
    users: int,
    rates_C: tuple[Floats, Floats],
    cohort_U: NDArray[np.int32],
    cohorts: int,
    end_ms: int,
    wanted: int = 0,
) -> Types:
    """Fit on the sample for the type `wanted`, or, where it has too few opens, for the one that has most; types with
    hardly an open share the pooled decay and follow."""
    opened_S = cleaned.latency_S >= 0
    opens_T = np.bincount(cleaned.type_S[opened_S], minlength=TYPES)
    target = wanted if opens_T[wanted] >= MIN_OPENS else int(opens_T.argmax())
    first = min(DECAY_USERS, users)
    pooled_24 = age_decay(cleaned, first, rates_C[1], end_ms)
    decay_T24, follow_T = np.repeat(pooled_24[None], TYPES, axis=0), np.ones(TYPES)
    own = [kind for kind in range(TYPES) if opens_T[kind] >= MIN_OPENS]
    if len(own) < 2 and not (own and opens_T.sum() > opens_T[own[0]]):
        return Types(decay_T24, follow_T, target)

    def counted(kind: int) -> Counts:
        mails = of_type(cleaned, kind)
        decay_T24[kind] = age_decay(mails, first, rates_C[1], end_ms)
        return count(mails, users, *rates_C, decay_T24[kind], unopened_kernel(decay_T24[kind]), end_ms)

    rate_U48 = _attention(counted(target), cohort_U, cohorts)
    for kind in own:
        if kind != target:
            found = counted(kind)
            follow_T[kind] = follow(found.opens_U48, found.exposure_U48, rate_U48)
    return Types(decay_T24, follow_T, target)


def of_type(cleaned: Cleaned, kind: int) -> Cleaned:
    """The same history with the sends of one type alone."""
    rows = np.flatnonzero(cleaned.type_S == kind)
    names = ("user_S", "utc_S", "local_S", "latency_S", "campaign_S", "type_S", "label_S")
    return replace(cleaned, **{name: getattr(cleaned, name)[rows] for name in names})


def _attention(counts: Counts, cohort_U: NDArray[np.int32], cohorts: int) -> Floats:
    """Rates of everyone in the sample by these counts alone, float64 [U, 48]."""
    opens, exposure = counts.opens_U48, counts.exposure_U48
    shapes = fit_shapes(opens.astype(np.float64), exposure.astype(np.float64), cohort_U, cohorts)
    return attention_rates(opens, exposure, cohort_U, shapes.shape_K48, shapes.log_prior_CK, shapes.residual_C48).T


def follow(opens_U48: NDArray[np.float32], exposure_U48: NDArray[np.float32], rate_U48: Floats) -> float:
    """kappa by Newton's method on the conditional likelihood, drawn to 1 by FOLLOW_PRIOR units of information."""
    rows = np.flatnonzero(opens_U48.any(axis=1))[:FOLLOW_USERS]
    opens, exposure = opens_U48[rows].astype(np.float64), np.maximum(exposure_U48[rows], 1e-9).astype(np.float64)
    log_rate = np.log(rate_U48[rows])
    log_rate -= log_rate.mean(axis=1, keepdims=True)
    count_U, reached, kappa = opens.sum(axis=1), float((opens * log_rate).sum()), 1.0
    for _ in range(STEPS):
        weight = exposure * np.exp(kappa * log_rate)
        weight /= weight.sum(axis=1, keepdims=True)
        mean_U = (weight * log_rate).sum(axis=1)
        spread_U = (weight * log_rate**2).sum(axis=1) - mean_U**2
        slope = reached - float((count_U * mean_U).sum()) - FOLLOW_PRIOR * (kappa - 1)
        step = slope / (float((count_U * spread_U).sum()) + FOLLOW_PRIOR)
        kappa += min(max(step, -1.0), 1.0)
    return min(max(kappa, 0.0), 1.0)
