"""Habits that changed: what a recipient did of late, where it speaks against what he did before (U users, 48 cells).

Decay forgets everybody alike, and loses more than it gains. Here each user has two stories: one habit all along, or a
new one since CHANGE_DAYS ago, drawn anew from the personas s_k of `attention` (sto_kernels.attention). Given how often
he opened in each of the two periods, when he did tells of the shape alone,

    l_k(O, E) = sum_c O_c ln s_kc - n ln E.s_k,  n = sum_c O_c         for O opens and E hours at risk of a period
    odds      = (sum_k prior_k e^l_k(before)) (sum_k prior_k e^l_k(since)) / sum_k prior_k e^(l_k(before) + l_k(since))

and P(changed) follows from the odds and the share of users who changed. That share is fitted to a sample by EM.
"""

import numpy as np
from numpy.typing import NDArray

from sto_engine.models.priors import Priors
from sto_kernels.attention import attention_rates
from sto_kernels.journal import DAY_MS, Counts
from sto_kernels.lanes import Floats

CHANGE_DAYS = 21
CHANGE_MS = CHANGE_DAYS * DAY_MS
ROUNDS, PRIOR_SHARE, PRIOR_USERS, LEAST_SHARE = 200, 0.02, 50.0, 0.002
MOST_LOG_ODDS = 50.0
LEAST_EXPOSURE = 1e-9


def log_odds(now: Counts, then: Counts, cohort_U: NDArray[np.int32], priors: Priors) -> Floats:
    """ln of the odds of a change, before any share: counts of all history and of that before the change, [U]."""
    before_UK, since_UK = (_shape_evidence(*counts, priors) for counts in (_counts(then), _since(now, then)))
    prior_UK = priors.log_prior_CK[cohort_U]
    prior_UK = prior_UK - _log_sum(prior_UK)[:, None]
    return _log_sum(prior_UK + before_UK) + _log_sum(prior_UK + since_UK) - _log_sum(prior_UK + before_UK + since_UK)


def _shape_evidence(opens_U48: Floats, exposure_U48: Floats, priors: Priors) -> Floats:
    """l_k of each user and persona, [U, K]."""
    expected_UK = np.einsum("uc,kc->uk", exposure_U48, priors.shape_K48, optimize=False)
    log_UK = np.einsum("uc,kc->uk", opens_U48, np.log(priors.shape_K48), optimize=False)
    return np.asarray(log_UK - opens_U48.sum(axis=1)[:, None] * np.log(np.maximum(expected_UK, LEAST_EXPOSURE)))


def _log_sum(x_UK: Floats) -> Floats:
    top_U1 = x_UK.max(axis=1, keepdims=True)
    return np.asarray(top_U1[:, 0] + np.log(np.exp(x_UK - top_U1).sum(axis=1)))


def fit_share(log_odds_U: Floats) -> float:
    """The share of users who changed, by EM; PRIOR_USERS users of whom PRIOR_SHARE changed hold it where few tell."""
    odds_U, share = np.exp(np.minimum(log_odds_U, MOST_LOG_ODDS)), PRIOR_SHARE
    for _ in range(ROUNDS):
        changed = float(changed_U(odds_U, share).sum())
        share = (changed + PRIOR_USERS * PRIOR_SHARE) / (len(odds_U) + PRIOR_USERS)
    return share if share >= LEAST_SHARE else 0.0


def changed_U(odds_U: Floats, share: float) -> Floats:
    """P(changed) of each user."""
    return np.asarray(share * odds_U / (1 - share + share * odds_U))


def changing_rates(
    rate_48U: Floats, now: Counts, then: Counts, cohort_U: NDArray[np.int32], priors: Priors, share: float
) -> Floats:
    """Rates of attention, each user's two stories weighed by what speaks for them, float64 [48, U]."""
    odds_U = np.exp(np.minimum(log_odds(now, then, cohort_U, priors), MOST_LOG_ODDS))
    new_U = changed_U(odds_U, share)
    opens, exposure = (x.astype(np.float32) for x in _since(now, then))
    new_48U = attention_rates(opens, exposure, cohort_U, priors.shape_K48, priors.log_prior_CK, priors.residual_C48)
    return np.asarray((1 - new_U) * rate_48U + new_U * new_48U)


def _counts(counts: Counts) -> tuple[Floats, Floats]:
    return counts.opens_U48.astype(np.float64), counts.exposure_U48.astype(np.float64)


def _since(now: Counts, then: Counts) -> tuple[Floats, Floats]:
    """What came after; mail that was underway then may leave a trace below 0."""
    opens, exposure = (np.maximum(x - y, 0.0) for x, y in zip(_counts(now), _counts(then), strict=True))
    return opens, exposure
