"""What a bandit learns from everyone: appeal of campaigns, and by `bandit.prior` what cohorts or contexts tell.

Fitted in phase 0 of a run, or by `bandit update`, whose state carries the same tables. G campaigns, T types of mail.
"""

import json
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.config_policies import Bandit as Settings
from sto_engine.errors import BadData
from sto_engine.history.parts import History
from sto_engine.history.rates import TYPES, campaign_rates
from sto_engine.history.sample import Sample
from sto_engine.models.bundle import Bundle
from sto_engine.models.cohorts import fit_cohorts
from sto_engine.models.context import (
    campaign_weights,
    first_users,
    fit_context,
    sample_cohorts,
    sample_counts,
)
from sto_engine.models.fit import fit_priors
from sto_engine.models.foretell import Memory, fit_memory, later_sends, moment_of
from sto_engine.models.habits import CHANGE_MS, fit_share, log_odds
from sto_engine.models.outcomes import Terms, count_outcomes, mature_sends
from sto_engine.models.policy import Tensors
from sto_engine.models.priors import Priors
from sto_engine.models.priors import from_tensors as priors_of
from sto_kernels.lanes import Floats

PREFIX = "bandit."
FIT_USERS = 20_000


@dataclass(frozen=True)
class Learnt:
    """`memory`: strength of the prior and discount. `mean_CS`: chances by cohort (`cohort_names`, then all others).

    Contextual alone: the tables of attention, weights of the margin, strength of levels, share of changed habits.
    """

    campaign_key_G: NDArray[np.uint64]
    rate_G: Floats
    follow_T: Floats
    memory: Memory
    has_sends: bool
    cohort_names: tuple[str, ...] = ()
    mean_CS: Floats | None = None
    priors: Priors | None = None
    weight_5: Floats | None = None
    level_strength: float = 1.0
    change_share: float = 0.0

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Everything as arrays by name."""
        numbers = [self.memory.strength, self.memory.discount, self.level_strength, self.change_share]
        own = {
            "campaign_key_G": self.campaign_key_G,
            "rate_G": self.rate_G,
            "follow_T": self.follow_T,
            "numbers": np.array([*numbers, float(self.has_sends)]),
            "cohort_names": np.frombuffer(json.dumps(list(self.cohort_names)).encode(), np.uint8),
        }
        own |= {name: x for name in ("mean_CS", "weight_5") if (x := getattr(self, name)) is not None}
        tables = self.priors.tensors() if self.priors is not None else {}
        return {**tables, **{PREFIX + name: array for name, array in own.items()}}


def learnt_of(tensors: Tensors, where: str) -> Learnt:
    """What `Learnt.tensors` wrote; BadData (65) where it is not whole."""
    own = {name.removeprefix(PREFIX): x for name, x in tensors.items() if name.startswith(PREFIX)}
    missing = {"campaign_key_G", "rate_G", "follow_T", "numbers", "cohort_names"} - set(own)
    if missing or own["numbers"].shape != (5,):
        raise BadData(f"{where} must hold the tables of a bandit; missing {sorted(missing)}; make it again")
    strength, discount, level, share, has_sends = own["numbers"].tolist()
    return Learnt(
        own["campaign_key_G"],
        own["rate_G"],
        own["follow_T"],
        Memory(strength, discount),
        bool(has_sends),
        tuple(json.loads(own["cohort_names"].tobytes())),
        own.get("mean_CS"),
        priors_of(tensors, where) if "weight_5" in own else None,
        own.get("weight_5"),
        level,
        share,
    )


def half_life(settings: Settings, half_life_days: float | None) -> float | None:
    """That of attention: the model's own, else the one that a given discount stands for."""
    if half_life_days is not None or settings.discount is None or settings.discount == 1:
        return half_life_days
    return math.log(0.5) / math.log(settings.discount)


def fit(
    history: History,
    settings: Settings,
    terms: Terms,
    bundle: Bundle | None,
    half_life_days: float | None,
    kind: int = 0,
) -> Learnt:
    """Fit by sums and sample of all buckets, for campaigns of the type `kind`; BadData (65) for opens without sends."""
    sample = history.sample
    assert sample is not None
    has_sends = bool(len(history.campaigns.key_C))
    if not has_sends and len(sample.cleaned.user_A):
        raise BadData(
            'model.policy = "bandit" needs sends, since its outcomes are sends that were opened or not; found opens '
            'alone; ingest sends, or use model.policy = "attention"'
        )
    if settings.prior == "contextual":
        return _contextual(history, sample, settings, terms, bundle, half_life(settings, half_life_days), kind)
    key_G, rate2_G, rate24_G = campaign_rates(history.campaigns)
    rate_G = rate24_G if terms.label_ms > 12 * 3_600_000 else rate2_G
    start = Learnt(key_G, rate_G, np.ones(TYPES), Memory(2.0, settings.discount or 1.0), has_sends)
    if settings.prior == "flat":
        return start
    return _by_cohort(start, history, sample, settings, terms)


def _contextual(
    history: History,
    sample: Sample,
    settings: Settings,
    terms: Terms,
    bundle: Bundle | None,
    half_life_days: float | None,
    kind: int,
) -> Learnt:
    if bundle is None:
        priors = fit_priors(sample, history.campaigns, history.window_ms, half_life_days, kind)
    else:
        priors = bundle.priors.with_campaigns(*campaign_rates(history.campaigns))
    found = fit_context(sample, priors, history.window_ms, terms, half_life_days, settings.discount)
    rate_G = campaign_weights(priors, priors.campaign_key_G, terms)
    return Learnt(
        priors.campaign_key_G,
        rate_G,
        priors.follow_T,
        found.memory,
        priors.has_sends,
        priors=priors,
        weight_5=found.weight_5,
        level_strength=found.level_strength,
        change_share=_changes(sample, priors, history.window_ms) if half_life_days is None else 0.0,
    )


def _changes(sample: Sample, priors: Priors, window_ms: tuple[int, int]) -> float:
    """The share of users whose habit changed; none in a history that is no longer before the change than after it."""
    start_ms, end_ms = window_ms
    some, before = first_users(sample, FIT_USERS), (start_ms, end_ms - CHANGE_MS)
    if not len(some.cleaned.utc_S) or some.cleaned.utc_S.min() > before[1] - CHANGE_MS:
        return 0.0
    now, then = sample_counts(some, priors, window_ms), sample_counts(some, priors, before)
    return fit_share(log_odds(now, then, sample_cohorts(some, priors.cohort_names), priors))


def _by_cohort(start: Learnt, history: History, sample: Sample, settings: Settings, terms: Terms) -> Learnt:
    """Means by all outcomes of the sample; strength and discount by what foretells its last weeks."""
    end_ms, cohort_U = history.window_ms[1], sample.cohort_U
    place_C = np.searchsorted(start.campaign_key_G, sample.campaign_key_C)
    rate_C = start.rate_G[place_C]
    outcomes = count_outcomes(sample.cleaned, rate_C, start.follow_T, terms, end_ms)
    mean_CS = fit_cohorts(outcomes, cohort_U, len(sample.cohorts))
    some = first_users(sample, FIT_USERS)
    moment_ms = moment_of(some.cleaned, history.window_ms)
    later = later_sends(some.cleaned, mature_sends(some.cleaned, terms, end_ms, moment_ms), rate_C, terms)
    p_N = mean_CS[some.cohort_U[later.user_N], later.slot_N]
    memory = fit_memory(some.cleaned, later, p_N, (rate_C, start.follow_T), terms, moment_ms, settings.discount)
    return replace(start, memory=memory, cohort_names=sample.cohorts, mean_CS=mean_CS)
