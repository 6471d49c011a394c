"""How much a campaign appeals, apart from the hour it was sent at.

A sender who mails each campaign at one hour confounds the two: what a campaign earned is its own appeal and its hour's.
Both are told apart by a mixed Poisson model over (campaign c, local send hour h), for the windows of 2 and of 24 h:

    opens_ch ~ Poisson(sends_ch exp(type_c + F_h . beta + a_c)),   a_c ~ N(0, sigma^2)

with F two harmonics of the day. Campaigns mailed at the same hour differ by a alone, and mail that goes out at all
hours (triggers) shows the hours alone. Fitted by penalised quasi-likelihood (Breslow and Clayton 1993): weighted least
squares on the working response, the variance of a by EM. The appeal weighs a send: half as many expected opens is half
an exposure. C rows of sums, G campaigns.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sto_engine.history.sample import Campaigns
from sto_kernels.lanes import Floats

TYPES, ROUNDS = 3, 30
START_SPREAD, LEAST_SPREAD = 0.3, 0.02
HOUR_SPREAD, TYPE_SPREAD = 0.5, 3.0
STEEPEST = 1.0


@dataclass(frozen=True)
class Appeal:
    """Appeal of each campaign against the promo of a mean campaign, float64 [G], and log effect of each hour, [24]."""

    key_G: NDArray[np.uint64]
    rate_G: Floats
    hour_24: Floats


def campaign_rates(campaigns: Campaigns) -> tuple[NDArray[np.uint64], Floats, Floats]:
    """Keys of the campaigns (ascending) and their appeal within 2 h and within 24 h, float64 [G] each."""
    first, second = (
        fit_appeal(campaigns.key_C, campaigns.hour_C, campaigns.type_C, *campaigns.sums_C4[:, two : two + 2].T)
        for two in (0, 2)
    )
    return first.key_G, first.rate_G, second.rate_G


def fit_appeal(
    key_C: NDArray[np.uint64],
    hour_C: NDArray[np.int8],
    type_C: NDArray[np.int8],
    sends_C: NDArray[np.int64],
    opens_C: NDArray[np.int64],
) -> Appeal:
    """Fit the model to sums by campaign and hour, rows in the order of `key_C`."""
    key_G, group_C = np.unique(key_C, return_inverse=True)
    design_CP = np.concatenate([np.eye(TYPES)[type_C], hour_harmonics()[hour_C]], axis=1)
    total = (float(opens_C.sum()) + 1) / (float(sends_C.sum()) + 10)
    ridge_P = np.array([TYPE_SPREAD] * TYPES + [HOUR_SPREAD] * 4) ** -2.0
    start_P = np.array([np.log(total)] * TYPES + [0.0] * 4)
    beta_P, spread, a_G = start_P.copy(), START_SPREAD**2, np.zeros(len(key_G))
    for _ in range(ROUNDS if len(key_G) else 0):
        log_rate_C = _levels(design_CP, beta_P)
        mean_C = np.asarray(sends_C * np.exp(log_rate_C + a_G[group_C]), np.float64)
        # the working response less a, times its weight, without dividing by a mean that may be nothing
        pull_C = mean_C * (log_rate_C + a_G[group_C]) + opens_C - mean_C
        weight_G = np.bincount(group_C, mean_C, len(key_G))
        shrink_G = np.asarray(spread / (1 + spread * weight_G), np.float64)
        beta_P = _fixed(design_CP, mean_C, pull_C, group_C, shrink_G, ridge_P, start_P)
        rest_G = np.bincount(group_C, pull_C - mean_C * _levels(design_CP, beta_P), len(key_G))
        a_G = np.clip(shrink_G * rest_G, a_G - STEEPEST, a_G + STEEPEST)
        seen_G = weight_G > 0
        if seen_G.any():
            spread = max(float((a_G**2 + shrink_G)[seen_G].mean()), LEAST_SPREAD**2)
    type_G = np.zeros(len(key_G), np.int64)
    np.maximum.at(type_G, group_C, type_C)
    hour_24 = hour_harmonics() @ beta_P[TYPES:]
    promo = 0 if not len(type_C) or (type_C == 0).any() else int(type_C[0])
    return Appeal(key_G, np.exp(a_G + beta_P[type_G] - beta_P[promo]), hour_24 - hour_24.mean())


def _fixed(
    design_CP: Floats,
    mean_C: Floats,
    pull_C: Floats,
    group_C: NDArray[np.int64],
    shrink_G: Floats,
    ridge_P: Floats,
    prior_P: Floats,
) -> Floats:
    """Type levels and harmonics with the campaigns integrated out (Woodbury by campaign), float64 [P]."""
    parameters = design_CP.shape[1]
    weighted_CP = design_CP * mean_C[:, None]
    by_group_GP = np.stack([np.bincount(group_C, weighted_CP[:, p], len(shrink_G)) for p in range(parameters)], axis=1)
    pull_G = np.bincount(group_C, pull_C, len(shrink_G))
    curve_PP = np.einsum("cp,cq->pq", design_CP, weighted_CP) - np.einsum(
        "gp,g,gq->pq", by_group_GP, shrink_G, by_group_GP
    )
    slope_P = np.einsum("cp,c->p", design_CP, pull_C) - np.einsum("gp,g,g->p", by_group_GP, shrink_G, pull_G)
    return np.asarray(np.linalg.solve(curve_PP + np.diag(ridge_P), slope_P + ridge_P * prior_P))


def _levels(design_CP: Floats, beta_P: Floats) -> Floats:
    """design @ beta, its sums in one order for any number of BLAS threads, float64 [C]."""
    return np.asarray(np.einsum("cp,p->c", design_CP, beta_P))


def hour_harmonics() -> Floats:
    """Two harmonics of the day at the middle of each hour, float64 [24, 4]."""
    angle = 2 * np.pi / 24 * (np.arange(24) + 0.5)
    return np.stack([np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)], axis=1)


def look_up(key_C: NDArray[np.uint64], known_K: NDArray[np.uint64], rate_K: Floats) -> Floats:
    """Rates of the campaigns `key_C` in the table of known ones (ascending keys); 1 for those it lacks."""
    if not len(known_K):
        return np.ones(len(key_C))
    place_C = np.minimum(np.searchsorted(known_K, key_C), len(known_K) - 1)
    return np.where(known_K[place_C] == key_C, rate_K[place_C], 1.0)
