"""`histogram`: where a user acted before, smoothed, shrunk to his cohort (recipe, section 5).

    utility = 2-hour sum of (kernel_1h(acts) + 5 * shape of the cohort)
    fewer than 5 human acts: the shape of the cohort (of everyone, where the cohort never acted)

It mirrors past send times where mail was sent at few hours. Its probability of an open is the slot rate: what mails
sent near that hour brought, null where nothing was ever sent.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.config import Model
from sto_engine.history.bucket import Bucket
from sto_engine.history.profile import Profile, build_profile
from sto_engine.models.attention import history_priors, history_sums
from sto_engine.models.counts import voice
from sto_engine.models.features import know
from sto_engine.models.policy import Tensors, Utilities
from sto_engine.models.priors import Priors, from_tensors
from sto_engine.slots import SlotGrid

PSEUDO_COUNTS = 5.0
MIN_ACTS = 5
KERNEL_HOURS = 1.0
LABEL_HOURS = 2
EVERYONE, COHORT = "acts.global", "acts.cohort:"


@dataclass(frozen=True)
class Histogram:
    """The policy; it needs no bundle."""

    grid: SlotGrid
    model: Model
    name: str = "histogram"
    bundle_id: str | None = None
    needs_sums: bool = True
    has_chances: bool = True

    def sums(self, bucket: Bucket, buckets: int) -> dict[str, NDArray[Any]]:
        """Acts by slot of each cohort and of everyone who is no machine, and what slot rates need."""
        profile = build_profile(bucket, self.grid, self.model.half_life_days)
        return {**act_sums(profile, ~bucket.bad_U), **history_sums(bucket, buckets, None)}

    def reduce(self, parts: Iterable[Tensors]) -> dict[str, NDArray[Any]]:
        acts = dict[str, NDArray[Any]]()
        usual = history_priors(_adding_acts(parts, acts), None, self.model)
        return {**acts, **usual}

    def weighed_by(self, priors: Tensors) -> Priors:
        return from_tensors(priors, "the priors of this run")

    def utilities(self, bucket: Bucket, priors: Tensors, day: date) -> Utilities:
        profile = build_profile(bucket, self.grid, self.model.half_life_days)
        counts_US, reason_U = smoothed(profile, priors)
        usual = from_tensors(priors, "the priors of this run")
        p_open_US = None
        if usual.has_sends:
            rate_24U = know(bucket, usual, self.model.half_life_days).slot_rate_24U
            p_open_US = np.repeat(rate_24U.T, self.grid.slots // 24, axis=1).astype(np.float32)
        n_eff_U = np.where(profile.acts_U >= MIN_ACTS, profile.acts_U, np.float32(0))
        return Utilities(ahead(counts_US).astype(np.float32), p_open_US, reason_U, n_eff_U, "share")


def act_sums(profile: Profile, may_U: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """Acts by slot of the users who may teach, of everyone and of each cohort, float64 [S] each."""
    cohorts, index_U = _cohorts(profile)
    weight_U = np.where(may_U, voice(profile.acts_US.sum(axis=1)), 0.0).astype(np.float32)
    acts_US = weight_U[:, None] * profile.acts_US
    totals = {EVERYONE: acts_US.sum(axis=0, dtype=np.float64)}
    for number, cohort in enumerate(cohorts):
        totals[COHORT + cohort] = acts_US[index_U == number].sum(axis=0, dtype=np.float64)
    return totals


def add_acts(parts: Iterable[Tensors]) -> dict[str, NDArray[Any]]:
    """Sums of the same name over all parts."""
    total = dict[str, NDArray[Any]]()
    for _ in _adding_acts(parts, total):
        pass
    return total


def _adding_acts(parts: Iterable[Tensors], total: dict[str, NDArray[Any]]) -> Iterator[Tensors]:
    """The parts as they are; what they say of acts is added to `total` on the way."""
    for part in parts:
        for name in part:
            if name == EVERYONE or name.startswith(COHORT):
                total[name] = total.get(name, np.zeros(len(part[name]))) + part[name]
        yield part


def smoothed(profile: Profile, priors: Tensors) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Smoothed counts with those of the cohort, float64 [U, S], and the reason of each user."""
    slots = profile.grid.slots
    cohorts, index_U = _cohorts(profile)
    nothing = np.zeros(slots)
    everyone_S = shape(priors.get(EVERYONE, nothing))
    shapes = [shape(priors.get(COHORT + cohort, nothing)) for cohort in cohorts]
    own_C = np.array([bool(found.any()) for found in shapes], np.bool_)
    shape_CS = np.array([found if found.any() else everyone_S for found in shapes]).reshape(-1, slots)
    prior_US = shape_CS[index_U]
    personal_U = profile.acts_U >= MIN_ACTS
    counts_US = np.where(personal_U[:, None], smooth(profile.acts_US), np.float32(0)) + PSEUDO_COUNTS * prior_US
    reason_U = np.where(personal_U, "histogram", np.where(own_C[index_U], "cohort", "global")).astype(object)
    reason_U[~personal_U & ~prior_US.any(axis=1)] = "fallback"
    return counts_US, reason_U


def _cohorts(profile: Profile) -> tuple[list[str], NDArray[np.int64]]:
    names, index_U = np.unique(profile.users["cohort"].to_numpy().astype(object).astype(str), return_inverse=True)
    return [str(name) for name in names], index_U.astype(np.int64)


def kernel(slots: int, hours: float = KERNEL_HOURS) -> NDArray[np.float64]:
    """Circular Gaussian weights by distance in slots of a day, summing to 1, float64 [S]."""
    apart_S = (np.arange(slots) + slots // 2) % slots - slots // 2
    weight_S = np.exp(-0.5 * (apart_S * 24 / slots / hours) ** 2)
    return np.asarray(weight_S / weight_S.sum())


def smooth(counts_US: NDArray[np.float32]) -> NDArray[np.float64]:
    """Counts spread by the 1 h kernel, float64 [U, S]; sums of shifted copies in a fixed order, no matrix product."""
    weight_S = kernel(counts_US.shape[1])
    out_US = np.zeros(counts_US.shape)
    for shift in np.flatnonzero(weight_S > 1e-9):
        out_US += weight_S[shift] * np.roll(counts_US, int(shift), axis=1)
    return out_US


def shape(counts_S: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smoothed share of each slot, float64 [S], summing to 1; all 0 without counts."""
    total = counts_S.sum()
    if total <= 0:
        return np.zeros(len(counts_S))
    return np.asarray(smooth(counts_S[None, :].astype(np.float32))[0] / total)


def ahead(counts_US: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over the two hours from each slot on, circular, float64 [U, S]."""
    steps = LABEL_HOURS * counts_US.shape[1] // 24
    out_US = counts_US.copy()
    for step in range(1, steps):
        out_US += np.roll(counts_US, -step, axis=1)
    return out_US
