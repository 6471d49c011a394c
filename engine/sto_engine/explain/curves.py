"""From what is usual to what is his: the curves behind a choice, slot by slot (recipe, sections 3 and 5).

cohort    nobody's history: the personas as common as in the cohort, bent by the cohort's residual
personas  the personas weighed by the user's opens and exposure
own       bent once more by his own opens: what the policy takes
"""

from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.history.bucket import Bucket
from sto_engine.history.days import weekday_of
from sto_engine.history.profile import build_profile
from sto_engine.models.attention import Attention, tonights_priors
from sto_engine.models.boosted import Boosted
from sto_engine.models.features import Known, attention_to, know
from sto_engine.models.histogram import MIN_ACTS, PSEUDO_COUNTS, Histogram, smooth, smoothed
from sto_engine.models.hour_of_week import HourOfWeek
from sto_engine.models.policy import Policy, Tensors
from sto_engine.models.priors import Priors
from sto_engine.plan import Plan
from sto_kernels.attention import attention_rates
from sto_kernels.curves import open_chances, windows
from sto_kernels.lanes import Floats
from sto_kernels.naive_attention import mixture

TOP_PERSONAS = 3
LABEL_HOURS = 2
Curves = dict[str, list[float | None]]


def of_day(plan: Plan) -> Policy:
    """The policy, or the one of a day that a policy of the week is made of."""
    return plan.policy.of_day if isinstance(plan.policy, HourOfWeek) else plan.policy


def known_of(plan: Plan, bucket: Bucket, priors: Tensors) -> Known | None:
    """The user's counts under tonight's priors; None for the baselines, which have none."""
    policy, half_life = of_day(plan), plan.config.model.half_life_days
    if isinstance(policy, Attention | Boosted):
        return know(bucket, tonights_priors(priors, policy.bundle), half_life)
    return know(bucket, tonights_priors(priors, None), half_life) if isinstance(policy, Histogram) else None


def curves(plan: Plan, bucket: Bucket, priors: Tensors, known: Known | None) -> Curves:
    """The stages of the policy's curve by name, one number a slot each."""
    policy = of_day(plan)
    if known is not None and isinstance(policy, Attention | Boosted):
        stages = {"cohort": _cohort_rate(known), "personas": _persona_rate(known), "own": known.rate_48U}
        return {f"p_2h_{name}": _label_chances(policy, known, plan, rate) for name, rate in stages.items()}
    profile = build_profile(bucket, plan.grid, plan.config.model.half_life_days)
    acts = {"acts": numbers(profile.acts_US[0])}
    if not isinstance(plan.policy, Histogram):
        return acts
    both_S = smoothed(profile, priors)[0][0]
    own_S = smooth(profile.acts_US)[0] if profile.acts_U[0] >= MIN_ACTS else np.zeros(plan.grid.slots)
    return {**acts, "acts_smoothed": numbers(own_S), "acts_of_cohort": numbers(both_S - own_S)}


def _label_chances(policy: Attention | Boosted, known: Known, plan: Plan, rate_48U: Floats) -> list[float | None]:
    """P(open within the label window) of every slot by these rates, the days of a week one after the other; `boosted`
    weighs the type of the campaign later."""
    kind, grid = policy.kind if isinstance(policy, Attention) else None, plan.grid
    rate_48U, decay_24 = attention_to(rate_48U, known.priors, kind)
    days = [plan.date]
    if grid.days == 7:
        days = [plan.date + timedelta(days=(weekday - plan.date.weekday()) % 7) for weekday in range(7)]
    weekdays = [int(weekday_of(known.bucket.days, day, 1)[0]) for day in days]
    found = [open_chances(rate_48U, windows(decay_24, LABEL_HOURS, day, grid.slots // grid.days)) for day in weekdays]
    return numbers(np.concatenate(found)[:, 0])


def usual(plan: Plan, known: Known | None) -> dict[str, Any]:
    """What the priors say of the user: cohort, and for attention and `boosted` his heaviest personas."""
    if known is None:
        return {}
    cohort = int(_cohort(known)[0])
    found: dict[str, Any] = {
        "cohort_known": cohort < len(known.priors.cohort_names),
        "campaigns": len(known.priors.campaign_key_G),
        "open_rate": round(known.priors.open_rate, 6),
        "open_rate_2h": round(known.priors.open_rate2, 6),
    }
    if isinstance(plan.policy, Histogram):
        return {**found, "pseudo_counts": PSEUDO_COUNTS, "min_acts": MIN_ACTS}
    return {**found, "personas": _personas(_weights(known)[0], known.priors)}


def _personas(weight_K: Floats, priors: Priors) -> list[dict[str, Any]]:
    """The heaviest shapes with the hours at which they look most, on weekdays and weekends."""
    peak_K2 = priors.shape_K48.reshape(-1, 2, 24).argmax(axis=2)
    return [
        {
            "persona": int(k),
            "weight": round(float(weight_K[k]), 6),
            "weekday_peak_hour": int(peak_K2[k, 0]),
            "weekend_peak_hour": int(peak_K2[k, 1]),
        }
        for k in np.argsort(-weight_K, kind="stable")[:TOP_PERSONAS]
    ]


def _cohort(known: Known) -> NDArray[np.int32]:
    return known.priors.cohorts_of(known.bucket.users["cohort"])


def _cohort_rate(known: Known) -> Floats:
    """Rates of a member of the cohort of whom nothing is known, [48, 1]."""
    priors, nothing_U48 = known.priors, np.zeros((1, 48), np.float32)
    tables = (priors.shape_K48, priors.log_prior_CK, priors.residual_C48)
    return attention_rates(nothing_U48, nothing_U48, _cohort(known), *tables)


def _persona_rate(known: Known) -> Floats:
    """Rates by the personas as his history weighs them, before his own opens bend the curve, [48, 1]."""
    weight_K, gain_K = _weights(known)
    priors = known.priors
    return np.asarray(((weight_K * gain_K) @ priors.shape_K48 * priors.residual_C48[_cohort(known)]).T)


def _weights(known: Known) -> tuple[Floats, Floats]:
    """Posterior weight of each persona and the rate under it, [K] both."""
    counts, priors = known.counts, known.priors
    opens, exposure = counts.opens_U48.astype(np.float64), counts.exposure_U48.astype(np.float64)
    weight_UK, gain_UK = mixture(opens, exposure, priors.shape_K48, priors.log_prior_CK[_cohort(known)])
    return weight_UK[0], gain_UK[0]


def numbers(values_S: NDArray[Any], digits: int = 6) -> list[float | None]:
    """Plain numbers for JSON; None where there is none."""
    return [round(float(value), digits) if np.isfinite(value) else None for value in values_S]
