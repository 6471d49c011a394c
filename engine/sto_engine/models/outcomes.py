"""What became of sends at each slot: the evidence of a bandit.

A send counts, as a hit or a miss, only once it is mature: its label window is over and `train.outcome_lag_hours` more,
so that slow reports are in. To count opens as they come and misses later would flatter young sends. A campaign that
appeals half as much is half a try: exposure is the sum of rho, the appeal within the label window (history.rates), so
that hits / exposure estimates the chance of a promo of ordinary appeal. What is left of exposure after the hits counts
as misses; hits of dull campaigns may exceed it, then there are none. Machines and invalid addresses teach nobody.

U users, S slots, C campaigns, T types of mail.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sto_kernels.journal import DAY_MS, HOUR_MS, Cleaned
from sto_kernels.lanes import Floats

LABEL_HOURS = {"open_2h": 2, "open_24h": 24}


@dataclass(frozen=True)
class Terms:
    """What counts as an outcome: slots of a day, label, hours that reports may be late."""

    slots: int
    label: str
    lag_hours: float

    @property
    def label_ms(self) -> int:
        return LABEL_HOURS[self.label] * HOUR_MS

    @property
    def mature_ms(self) -> int:
        """Age at which a send counts."""
        return self.label_ms + int(self.lag_hours * HOUR_MS)

    def hits(self, cleaned: Cleaned, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these sends were opened within the label window, bool [N]."""
        wait_N = cleaned.latency_S[rows]
        return np.asarray((wait_N >= 0) & (wait_N < self.label_ms))

    def slot(self, cleaned: Cleaned, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Slot of each of these sends by its local time, int64 [N]."""
        return np.asarray(cleaned.local_S[rows] % DAY_MS // (DAY_MS // self.slots))


@dataclass(frozen=True)
class Outcomes:
    """Exposure (sends, weighed) and hits of each (user, slot), float32 [U, S]."""

    sends_US: NDArray[np.float32]
    hits_US: NDArray[np.float32]

    @property
    def misses_US(self) -> NDArray[np.float32]:
        return np.asarray(np.maximum(self.sends_US - self.hits_US, 0), np.float32)

    def but(self, bad_U: NDArray[np.bool_]) -> "Outcomes":
        """The same, nothing of some users."""
        keep_U1 = ~bad_U[:, None]
        return Outcomes(self.sends_US * keep_U1, self.hits_US * keep_U1)


def mature_sends(cleaned: Cleaned, terms: Terms, end_ms: int, from_ms: int | None = None) -> NDArray[np.int64]:
    """Rows of the sends that count at `end_ms`, of users who are no machines; not before `from_ms`."""
    counts_S = end_ms - cleaned.utc_S >= terms.mature_ms
    if from_ms is not None:
        counts_S &= cleaned.utc_S >= from_ms
    bad_U = (cleaned.machine_U > 0) | cleaned.invalid_U
    return np.flatnonzero(counts_S & ~bad_U[cleaned.user_S])


def count_outcomes(
    cleaned: Cleaned, rate_C: Floats, follow_T: Floats, terms: Terms, end_ms: int, discount: float = 1.0
) -> Outcomes:
    """Outcomes of everyone as known at `end_ms`; what is n whole days old counts `discount` ** n of itself.

    `rate_C` is rho of each campaign; `follow_T` what a type of mail tells of the type to be scored (models.fit_types).
    """
    rows, users = mature_sends(cleaned, terms, end_ms), len(cleaned.machine_U)
    age_N = (end_ms - cleaned.utc_S[rows]) // DAY_MS
    weight_N = discount**age_N * follow_T[cleaned.type_S[rows]]
    cell_N = cleaned.user_S[rows].astype(np.int64) * terms.slots + terms.slot(cleaned, rows)
    sends, hits = (
        np.bincount(cell_N, weight_N * x, users * terms.slots).astype(np.float32).reshape(users, terms.slots)
        for x in (rate_C[cleaned.campaign_S[rows]], terms.hits(cleaned, rows))
    )
    return Outcomes(sends, hits)
