"""`histogram`: where a user acted before, smoothed, shrunk to his cohort.

    utility = 2-hour sum of (kernel_1h(acts) + 5 * shape of the cohort)
    fewer than 5 human opens: the shape of the cohort (of everyone, where the cohort never acted)

It mirrors past send times where mail was sent at few hours; it has no probability of an open.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from sto_engine.history.profile import Profile
from sto_engine.models.policy import Sums, Utilities, add_sums

PSEUDO_COUNTS = 5.0
MIN_OPENS = 5
KERNEL_HOURS = 1.0
LABEL_HOURS = 2
EVERYONE = "global"


@dataclass(frozen=True)
class Histogram:
    """The policy; it needs no bundle."""

    name: str = "histogram"
    bundle_id: str | None = None
    needs_sums: bool = True

    def sums(self, profile: Profile) -> Sums:
        """Acts by slot of each cohort and of everyone."""
        cohorts, index_U = _cohorts(profile)
        totals = {EVERYONE: profile.acts_US.sum(axis=0, dtype=np.float64).tolist()}
        for number, cohort in enumerate(cohorts):
            totals[f"cohort:{cohort}"] = profile.acts_US[index_U == number].sum(axis=0, dtype=np.float64).tolist()
        return totals

    def reduce(self, parts: Sequence[Mapping[str, Sequence[float]]]) -> Sums:
        return add_sums(parts)

    def utilities(self, profile: Profile, priors: Mapping[str, Sequence[float]], day: date) -> Utilities:
        slots = profile.grid.slots
        cohorts, index_U = _cohorts(profile)
        everyone_S = shape(np.asarray(priors.get(EVERYONE, [0.0] * slots)))
        shapes = [shape(np.asarray(priors.get(f"cohort:{cohort}", [0.0] * slots))) for cohort in cohorts]
        own_C = np.array([bool(found.any()) for found in shapes], np.bool_)
        shape_CS = np.array([found if found.any() else everyone_S for found in shapes]).reshape(-1, slots)
        prior_US = shape_CS[index_U]
        personal_U = profile.opens_U >= MIN_OPENS
        counts_US = np.where(personal_U[:, None], smooth(profile.acts_US), np.float32(0)) + PSEUDO_COUNTS * prior_US
        reason_U = np.where(personal_U, "histogram", np.where(own_C[index_U], "cohort", "global")).astype(object)
        reason_U[~personal_U & ~prior_US.any(axis=1)] = "fallback"
        n_eff_U = np.where(personal_U, profile.opens_U, np.float32(0))
        return Utilities(ahead(counts_US).astype(np.float32), None, reason_U, n_eff_U)


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
