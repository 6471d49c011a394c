"""Another brand's priors where one's own history is short: each table drawn to that of the other, the more the less
stands behind it.

    m_c = own users of the cohort with 3 opens (fewer count in part) + OTHERS x those of all cohorts
    w_c = m_c / (m_c + USERS)

    personas     both brands' shapes side by side, in a cohort with w_c of the own shares and 1 - w_c of the other's;
                 the other's are brought to the own level of opens, (opens + OPENS) / (expected by them + OPENS)
    residual     own^w_c x other^(1 - w_c)
    send hour, slot rates, acts   w_c x own + (1 - w_c) x other, rates at the own level
    open rates   (opens + SENDS x the other's rate) / (sends + SENDS)
    age decay, follow             by types, with opens / (opens + TYPE_OPENS)

Cohorts are matched by name; one that a brand does not know has its row of cohorts never seen. What speaks of campaigns
stays one's own. C cohorts and the row of those never seen, K shapes.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from sto_engine.history.rates import TYPES
from sto_engine.models.priors import Priors, codes_of
from sto_kernels.lanes import Floats

USERS, OTHERS = 100.0, 0.1
OPENS, SENDS, TYPE_OPENS = 20.0, 200.0, 200.0
# shapes that are nowhere common, or too many, are left out: the work of scoring grows with them
LEAST_SHARE, MOST_SHAPES = 0.005, 32
TINY = 1e-12


@dataclass(frozen=True)
class Evidence:
    """What stands behind priors: users of each cohort that teach, min(opens, 3) / 3 each [C]; opens and hours at risk
    by cell [48]; sends weighted by appeal, and as they are; opens by type [T]."""

    users_C: Floats
    opens_48: Floats
    exposure_48: Floats
    sends2: float
    sends: float
    opens_T: Floats


NOTHING = Evidence(np.zeros(0), np.zeros(48), np.zeros(48), 0.0, 0.0, np.zeros(TYPES))


def inherit(own: Priors, evidence: Evidence, other: Priors) -> Priors:
    """The own priors drawn to those of another brand; names of sign-up sources stay the own ones."""
    if not own.has_sends:  # acts alone are on another scale
        evidence = replace(NOTHING, users_C=np.zeros(len(own.cohort_names)))
    names = tuple(sorted({*own.cohort_names, *other.cohort_names}))
    own_C, other_C = (codes_of(pl.Series([*names, None]), x.cohort_names) for x in (own, other))
    total = float(evidence.users_C.sum())
    seen_C1 = (np.append(evidence.users_C, 0.0)[own_C] + OTHERS * total)[:, None]
    w_C1, w_T = seen_C1 / (seen_C1 + USERS), evidence.opens_T / (evidence.opens_T + TYPE_OPENS)
    rate, rate2, p0 = (
        (sends * mine + SENDS * theirs) / (sends + SENDS)
        for sends, mine, theirs in (
            (evidence.sends, own.open_rate, other.open_rate),
            (evidence.sends2, own.open_rate2, other.open_rate2),
            (evidence.sends, own.effect_p0, other.effect_p0),
        )
    )
    log_prior_CK = np.concatenate(
        [np.log(w_C1 + TINY) + own.log_prior_CK[own_C], np.log(1 - w_C1) + other.log_prior_CK[other_C]], axis=1
    )
    shape_K48 = np.concatenate([own.shape_K48, other.shape_K48 * _level(evidence, other)])
    return replace(
        own,
        cohort_names=names,
        has_sends=own.has_sends or other.has_sends,
        has_acts=own.has_acts or other.has_acts,
        decay_T24=_mean(w_T[:, None], own.decay_T24, other.decay_T24),
        follow_T=_mean(w_T, own.follow_T, other.follow_T),
        target_type=own.target_type if w_T[own.target_type] >= 0.5 else other.target_type,
        **_common(shape_K48, log_prior_CK),
        residual_C48=np.exp(_mean(w_C1, np.log(own.residual_C48[own_C]), np.log(other.residual_C48[other_C]))),
        effect_mean_C5=_mean(w_C1, own.effect_mean_C5[own_C], other.effect_mean_C5[other_C]),
        effect_precision_55=_precision(total / (total + USERS), own, other),
        effect_p0=p0,
        slot_rate_C24=_mean(w_C1, own.slot_rate_C24[own_C], other.slot_rate_C24[other_C] * rate2 / other.open_rate2),
        act_shape_C24=_mean(w_C1, own.act_shape_C24[own_C], other.act_shape_C24[other_C]),
        open_rate2=rate2,
        open_rate=rate,
    )


def matched(own: Priors, other: Priors) -> int:
    """How many of the own cohorts the other brand knows by name."""
    return len({*own.cohort_names} & {*other.cohort_names})


def _mean(w: Floats, own: Floats, other: Floats) -> Floats:
    return np.asarray(w * own + (1 - w) * other)


def _level(evidence: Evidence, other: Priors) -> float:
    """How many times as many opens an hour at risk there are as the other brand's usual curve expects."""
    usual_48 = np.einsum("k,kc->c", np.exp(other.log_prior_CK[-1]), other.shape_K48)
    expected = float(np.sum(evidence.exposure_48 * usual_48))
    return (float(evidence.opens_48.sum()) + OPENS) / (expected + OPENS)


def _common(shape_K48: Floats, log_prior_CK: Floats) -> dict[str, Any]:
    """The shapes that are common in some cohort, in their order, and their log shares among themselves."""
    most_K = np.exp(log_prior_CK).max(axis=0)
    kept = np.sort(np.argsort(-most_K, kind="stable")[:MOST_SHAPES])
    kept = kept[most_K[kept] >= min(LEAST_SHARE, most_K.max())]
    share_CK = np.exp(log_prior_CK[:, kept]) + TINY
    share_CK /= share_CK.sum(axis=1, keepdims=True)
    return {"shape_K48": shape_K48[kept], "log_prior_CK": np.log(share_CK)}


def _precision(w: float, own: Priors, other: Priors) -> Floats:
    """Of the mean covariance of users around their cohort."""
    spread_55 = w * np.linalg.inv(own.effect_precision_55) + (1 - w) * np.linalg.inv(other.effect_precision_55)
    return np.asarray(np.linalg.inv(spread_55))
