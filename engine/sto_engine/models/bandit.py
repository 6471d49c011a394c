"""`bandit`: Thompson sampling. Beta(a, b) of each recipient and slot, one draw of it a campaign, the best draw is sent.

    flat         Beta(1, 1)
    cohort       Beta(k m, k (1 - m)), m the cohort's mean at the slot (models.cohorts)
    contextual   Beta(k p, k (1 - p)), p what `attention` or a bundle's `boosted` says of the slot on the day, times
                 what the recipient hits more or less than it says over all slots (models.context)

and on top his own hits and misses at the slot (models.outcomes). An honest draw of the first two explores more than
some tens of campaigns can pay back, so a and b are multiplied by `bandit.sharpen` for the draw (Chapelle and Li, "An
empirical evaluation of Thompson sampling", 2011, who divide the variance); p_open stays the posterior mean. Over 30
campaigns in closed loops prior `cohort` captured the more the sharper it drew, from 1 over 4 and 16 to 64.

Draws are hashes of (recipient, occasion, seed): the same in any bucket, thread or order, new for each campaign.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.config import Model
from sto_engine.config_policies import Bandit as Settings
from sto_engine.history.bucket import Bucket
from sto_engine.history.days import by_weekday, weekday_of
from sto_engine.history.parts import campaign_tensors, read_history, sample_tensors
from sto_engine.history.rates import look_up
from sto_engine.models.attention import reasons
from sto_engine.models.bandit_fit import Learnt, fit, half_life, learnt_of
from sto_engine.models.bandit_state import State
from sto_engine.models.boosted import calibrated, slot_scores
from sto_engine.models.bundle import Bundle
from sto_engine.models.context import Curves, leveled
from sto_engine.models.features import Known, blocks, build_features, counts_at
from sto_engine.models.habits import CHANGE_MS, changing_rates
from sto_engine.models.outcomes import Outcomes, Terms, count_outcomes, mature_sends
from sto_engine.models.policy import Belief, Tensors, Utilities
from sto_engine.models.priors import Priors, codes_of
from sto_engine.slots import SlotGrid
from sto_engine.tables import REASONS
from sto_kernels.beta import draw_betas
from sto_kernels.hashing import derive, parts_of
from sto_kernels.lanes import Floats


@dataclass(frozen=True)
class Bandit:
    """The policy; `occasion` (assign.arms.occasion_of) and `seed` name the draw."""

    grid: SlotGrid
    model: Model
    settings: Settings
    lag_hours: float
    bundle: Bundle | None = None
    occasion: str = ""
    seed: int = 0
    name: str = "bandit"
    has_chances: bool = True
    state: State | None = None
    kind: int | None = None  # type of the campaign; None: the one that attention is fitted for

    @property
    def bundle_id(self) -> str | None:
        return self.bundle.bundle_id if self.bundle is not None else None

    @property
    def needs_sums(self) -> bool:
        return self.state is None

    @property
    def terms(self) -> Terms:
        label = self.model.label if self.bundle is None else str(self.bundle.meta["label"])
        return Terms(self.grid.slots, label, self.lag_hours)

    def sums(self, bucket: Bucket, buckets: int) -> dict[str, NDArray[Any]]:
        window_ms = np.array([bucket.start_ms, bucket.end_ms])
        return {**campaign_tensors(bucket), **sample_tensors(bucket, buckets), "window_ms": window_ms}

    def reduce(self, parts: Iterable[Tensors]) -> dict[str, NDArray[Any]]:
        history = read_history(parts, with_sample=True)
        return fit(history, self.settings, self.terms, self.bundle, self.model.half_life_days, self.kind or 0).tensors()

    def weighed_by(self, priors: Tensors) -> Priors | None:
        return self._learnt(priors).priors

    def told(self, priors: Tensors) -> dict[str, Any]:
        """What a run was decided by, for its summary."""
        learnt = self._learnt(priors)
        return {
            "through": None if self.state is None else self.state.meta["through"],
            "prior": self.settings.prior,
            "strength": round(learnt.memory.strength, 3),
            "discount": learnt.memory.discount,
            "sharpen": self.settings.sharpen,
            "level_strength": round(learnt.level_strength, 3),
            "changed_share": round(learnt.change_share, 4),
        }

    def utilities(self, bucket: Bucket, priors: Tensors, day: date) -> Utilities:
        learnt = self._learnt(priors)
        outcomes = self.outcomes(bucket, learnt)
        said = self._context(bucket, learnt, day) if learnt.priors is not None else _usual(bucket, learnt, outcomes)
        p_US = said.p_US if learnt.priors is None else leveled(said.p_US, outcomes, learnt.level_strength)
        k = learnt.memory.strength
        a_US, b_US = k * p_US + outcomes.hits_US, k * (1 - p_US) + outcomes.misses_US
        belief = self._belief(bucket, a_US, b_US)
        draw_US = draw_betas(belief.key_U, belief.a_US, belief.b_US)
        p_open_US = (a_US / (a_US + b_US)).astype(np.float32) if learnt.has_sends else None
        return Utilities(draw_US, p_open_US, said.reason_U, said.acts_U, "chance", belief)

    def outcomes(self, bucket: Bucket, learnt: Learnt) -> Outcomes:
        """Hits and exposure of everyone in the bucket: those of the state, or counted."""
        if self.state is not None and len(bucket.users):
            number = int(parts_of(bucket.users["h"].to_numpy()[:1], self.state.meta["buckets"])[0])
            return self.state.outcomes(number, bucket.users["user_id"], self.grid.slots).but(bucket.bad_U)
        rate_C = look_up(bucket.campaign_key_C, learnt.campaign_key_G, learnt.rate_G)
        bounds = self.terms, bucket.end_ms, learnt.memory.discount
        return count_outcomes(bucket.cleaned, rate_C, learnt.follow_T, *bounds)

    def _learnt(self, priors: Tensors) -> Learnt:
        if self.state is not None:
            return learnt_of(self.state.tensors, f"bandit state {self.state.path}")
        return learnt_of(priors, "the priors of this run")

    def mature(self, bucket: Bucket) -> int:
        """How many sends count."""
        return len(mature_sends(bucket.cleaned, self.terms, bucket.end_ms))

    def _belief(self, bucket: Bucket, a_US: Floats, b_US: Floats) -> Belief:
        key_U = derive(bucket.users["h"].to_numpy(), f"thompson:{self.occasion}", self.seed)
        sharp = self.settings.sharpen
        a, b = (np.ascontiguousarray(sharp * x, np.float32) for x in (a_US, b_US))
        return Belief(key_U, a, b)

    def _context(self, bucket: Bucket, learnt: Learnt, day: date) -> "_Said":
        """What attention, or the forest, says of a send on the day."""
        assert learnt.priors is not None
        half_life_days = half_life(self.settings, self.model.half_life_days)
        users = len(bucket.users)
        said = _Said(np.empty((users, self.grid.slots)), np.empty(users, np.uint8), np.empty(users, np.float32))
        for block, known in blocks(bucket, learnt.priors, half_life_days):
            known = _with_changes(known, learnt.change_share)
            said.p_US[block] = self._chances(known, learnt, day)
            said.reason_U[block], said.acts_U[block] = reasons(known), known.counts.acts_U
        return said

    def _chances(self, known: Known, learnt: Learnt, day: date) -> Floats:
        if self.bundle is not None:
            margin_US = slot_scores(self.bundle, build_features(known, day, self.grid.slots, self.kind))
            return calibrated(self.bundle, 1.0 / (1.0 + np.exp(-margin_US.astype(np.float64))))
        weight_5 = learnt.weight_5
        assert weight_5 is not None
        curves = Curves(known.rate_48U, known.send_hour_24U, self.kind)
        margin_SU = by_weekday(
            weekday_of(known.bucket.days, day, known.rate_48U.shape[1]),
            lambda weekday: curves.margins(known.priors, weekday, self.terms, weight_5),
        )
        return np.asarray(1.0 / (1.0 + np.exp(-margin_SU.T.astype(np.float64))))


@dataclass(frozen=True)
class _Said:
    """Chances before any outcome at single slots, places in REASONS, and the acts or hits behind them."""

    p_US: Floats
    reason_U: NDArray[np.uint8]
    acts_U: NDArray[np.float32]


def _with_changes(known: Known, share: float) -> Known:
    """The same with rates that know of habits which changed."""
    if not share:
        return known
    then = counts_at(known.bucket, known.priors, known.bucket.end_ms - CHANGE_MS)
    cohort_U = known.traits.cohort_U
    rate_48U = changing_rates(known.rate_48U, known.counts, then, cohort_U, known.priors, share)
    return replace(known, rate_48U=rate_48U)


def _usual(bucket: Bucket, learnt: Learnt, outcomes: Outcomes) -> _Said:
    """What cohorts say, or with a flat prior nothing."""
    users, slots = outcomes.hits_US.shape
    own, cohort, everyone, nobody = (REASONS.index(name) for name in ("model", "cohort", "global", "fallback"))
    if learnt.mean_CS is None:
        p_US, usual_U = np.full((users, slots), 0.5), np.full(users, everyone)
    else:
        cohort_U = codes_of(bucket.users["cohort"], learnt.cohort_names)
        p_US = learnt.mean_CS[cohort_U]
        usual_U = np.where(cohort_U < len(learnt.cohort_names), cohort, everyone)
    reason_U = np.where(outcomes.sends_US.any(axis=1), own, usual_U)
    reason_U = reason_U if learnt.has_sends else np.full(users, nobody)
    return _Said(p_US, reason_U.astype(np.uint8), outcomes.hits_US.sum(axis=1))
