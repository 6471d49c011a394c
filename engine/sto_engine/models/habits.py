"""Habits that changed: what a recipient did of late, where it speaks against what he did before (U users, 48 cells).

Decay forgets everybody alike, and loses more than it gains. Here each user has two stories: one habit all along, or a
new one since CHANGE_DAYS ago, drawn anew from the personas. Their evidence is the marginal likelihood of the counts
under the Gamma-Poisson mixture of `attention` (sto_kernels.attention),

    ln p(O | E) = ln sum_k prior_k prod_c s_kc^O_c  A0^A0 G(A0 + n) / (G(A0) (A0 + E.s_k)^(A0 + n)),  n = sum_c O_c

and P(changed) of a user follows from the odds p(before) p(since) / p(all) and the share of users who changed. That
share is fitted to a sample by EM and is 0 where it does not raise the likelihood by EVIDENCE nats.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sto_engine.models.beta_binomial import log_gamma
from sto_engine.models.priors import Priors
from sto_kernels.attention import RATE_PRIOR, attention_rates
from sto_kernels.journal import DAY_MS, Counts
from sto_kernels.lanes import Floats

CHANGE_DAYS = 21
CHANGE_MS = CHANGE_DAYS * DAY_MS
EVIDENCE, ROUNDS, START_SHARE = 5.0, 60, 0.05


def log_evidence(opens_U48: Floats, exposure_U48: Floats, cohort_U: NDArray[np.int32], priors: Priors) -> Floats:
    """ln p(opens | exposure) of each user, but for what all stories of him share, float64 [U]."""
    count_U1 = opens_U48.sum(axis=1)[:, None]
    expected_UK = np.einsum("uc,kc->uk", exposure_U48, priors.shape_K48, optimize=False)
    log_UK = np.einsum("uc,kc->uk", opens_U48, np.log(priors.shape_K48), optimize=False)
    log_UK += priors.log_prior_CK[cohort_U] - (RATE_PRIOR + count_U1) * np.log(RATE_PRIOR + expected_UK)
    top_U1 = log_UK.max(axis=1, keepdims=True)
    mixed_U = top_U1[:, 0] + np.log(np.exp(log_UK - top_U1).sum(axis=1))
    constant = RATE_PRIOR * math.log(RATE_PRIOR) - math.lgamma(RATE_PRIOR)
    return np.asarray(mixed_U + log_gamma(RATE_PRIOR + count_U1[:, 0]) + constant)


def log_odds(now: Counts, then: Counts, cohort_U: NDArray[np.int32], priors: Priors) -> Floats:
    """ln of the odds of a change, before any share: counts of all history and of that before the change, [U]."""
    before, since, whole = _counts(then), _since(now, then), _counts(now)
    two = log_evidence(*before, cohort_U, priors) + log_evidence(*since, cohort_U, priors)
    return np.asarray(two - log_evidence(*whole, cohort_U, priors))


def fit_share(log_odds_U: Floats) -> float:
    """The share of users who changed."""
    odds_U, share = np.exp(np.minimum(log_odds_U, 50.0)), START_SHARE
    for _ in range(ROUNDS if len(odds_U) else 0):
        share = float((share * odds_U / (1 - share + share * odds_U)).mean())
    gain = float(np.log1p(share * (odds_U - 1)).sum())
    return share if gain > EVIDENCE else 0.0


def changing_rates(
    rate_48U: Floats, now: Counts, then: Counts, cohort_U: NDArray[np.int32], priors: Priors, share: float
) -> Floats:
    """Rates of attention, each user's two stories weighed by what speaks for them, float64 [48, U]."""
    odds_U = np.exp(np.minimum(log_odds(now, then, cohort_U, priors), 50.0))
    changed_U = share * odds_U / (1 - share + share * odds_U)
    opens, exposure = (x.astype(np.float32) for x in _since(now, then))
    new_48U = attention_rates(opens, exposure, cohort_U, priors.shape_K48, priors.log_prior_CK, priors.residual_C48)
    return np.asarray((1 - changed_U) * rate_48U + changed_U * new_48U)


def _counts(counts: Counts) -> tuple[Floats, Floats]:
    return counts.opens_U48.astype(np.float64), counts.exposure_U48.astype(np.float64)


def _since(now: Counts, then: Counts) -> tuple[Floats, Floats]:
    """What came after; mail that was underway then may leave a trace below 0."""
    opens, exposure = (np.maximum(x - y, 0.0) for x, y in zip(_counts(now), _counts(then), strict=True))
    return opens, exposure
