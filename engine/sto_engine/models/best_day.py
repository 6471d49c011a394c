"""The best day of everyone and of each tier of engagement: what was sent on each weekday, and what came of it.

Tiers are cut at quantiles of the engagement of the mails that were learnt from, so each holds about as many mails. A
tier that was mailed too little on some day is thin, and has the best day of all. Intervals are Wilson's (1927), 95 %.
T tiers; row T of a table is everybody, those of unknown engagement among them; 7 days, Monday 0.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.models.bundle import Bundle
from sto_kernels.lanes import Floats

Z95 = 1.959963984540054
WEEK = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True)
class DayTable:
    """Edges between tiers [T - 1], mails sent and answered by tier and day [T + 1, 7]."""

    edge_E: Floats
    sends_R7: Floats
    hits_R7: Floats

    def tiers_of(self, engagement_U: Floats) -> NDArray[np.int64]:
        """Row of each user: his tier, or everybody's where his engagement is not known, int64 [U]."""
        tier_U = np.searchsorted(self.edge_E, engagement_U, side="right")
        return np.where(np.isnan(engagement_U), len(self.edge_E) + 1, tier_U)

    def is_thin(self, min_sends: int) -> NDArray[np.bool_]:
        """Rows that decide nothing on their own, bool [T + 1]; everybody's always does."""
        is_last_R = np.arange(len(self.sends_R7)) == len(self.sends_R7) - 1
        return np.asarray((self.sends_R7 < min_sends).any(axis=1) & ~is_last_R)

    def rates(self) -> Floats:
        """Share of mails answered, float64 [T + 1, 7]; 0 where none was sent."""
        return np.divide(self.hits_R7, self.sends_R7, out=np.zeros(self.sends_R7.shape), where=self.sends_R7 > 0)

    def used(self, min_sends: int) -> Floats:
        """The rates that decide: a thin tier has everybody's, float64 [T + 1, 7]."""
        rate_R7 = self.rates()
        return np.where(self.is_thin(min_sends)[:, None], rate_R7[-1], rate_R7)

    def told(self, min_sends: int) -> dict[str, Any]:
        """For people: by tier the chosen day with its confidence, and by day sends, clicks, rate and interval."""
        used_R7, thin_R = self.used(min_sends), self.is_thin(min_sends)
        edges = [None, *(round(float(edge), 2) for edge in self.edge_E), None]
        tiers = []
        for row in range(len(self.sends_R7)):
            is_all = row == len(self.sends_R7) - 1
            basis = len(self.sends_R7) - 1 if thin_R[row] else row
            tiers.append(
                {
                    "tier": "all" if is_all else str(row + 1),
                    "engagement_from": None if is_all else edges[row],
                    "engagement_below": None if is_all else edges[row + 1],
                    "thin": bool(thin_R[row]),
                    "best_day": WEEK[int(used_R7[row].argmax())],
                    "confidence": self._confidence(basis),
                    "days": self._days(row),
                }
            )
        return {"min_sends": min_sends, "tiers": tiers}

    def _days(self, row: int) -> list[dict[str, Any]]:
        sends_7, hits_7, rate_7 = self.sends_R7[row], self.hits_R7[row], self.rates()[row]
        low_7, high_7 = wilson(hits_7, sends_7)
        return [
            {
                "day": name,
                "sends": int(sends_7[day]),
                "clicks": int(hits_7[day]),
                "rate": round(float(rate_7[day]), 6),
                "low": round(float(low_7[day]), 6),
                "high": round(float(high_7[day]), 6),
            }
            for day, name in enumerate(WEEK)
        ]

    def _confidence(self, row: int) -> float:
        """P(the best day's rate is above the runner-up's), by the normal approximation of two Beta posteriors."""
        rate_7 = self.rates()[row]
        second, first = np.argsort(rate_7, kind="stable")[-2:]
        a_2, n_2 = self.hits_R7[row, [first, second]] + 1, self.sends_R7[row, [first, second]] + 2
        mean_2 = a_2 / n_2
        spread = math.sqrt(float((mean_2 * (1 - mean_2) / (n_2 + 1)).sum()))
        return round(0.5 * (1 + math.erf(float(mean_2[0] - mean_2[1]) / spread / math.sqrt(2))), 4)

    def tensors(self) -> dict[str, NDArray[Any]]:
        return {"tier_edges": self.edge_E, "tier_sends": self.sends_R7, "tier_hits": self.hits_R7}


def fit_table(engagement_N: NDArray[np.float32], day_N: NDArray[np.int64], hit_N: NDArray[Any], tiers: int) -> DayTable:
    """The table of N mails: engagement when they were sent (NaN: not known), local weekday, whether answered."""
    known_N = engagement_N[~np.isnan(engagement_N)].astype(np.float64)
    edge_E = np.quantile(known_N, np.arange(1, tiers) / tiers) if len(known_N) else np.zeros(0)
    edge_E = np.unique(edge_E)  # many with the same score make fewer tiers
    table = DayTable(edge_E, *(np.zeros((len(edge_E) + 2, len(WEEK))) for _ in range(2)))
    cell_N = table.tiers_of(engagement_N.astype(np.float64)) * len(WEEK) + day_N
    for counts_R7, weight_N in ((table.sends_R7, None), (table.hits_R7, hit_N)):
        counts_R7[:] = np.bincount(cell_N, weight_N, counts_R7.size).reshape(counts_R7.shape)
        counts_R7[-1] += counts_R7[:-1].sum(axis=0)
    return table


def table_of(bundle: Bundle) -> DayTable:
    """The table that a bundle holds; BadData (65) where it is missing or misshapen."""
    found = bundle.tensors.get("tier_edges")
    edges = 0 if found is None else len(found)
    edge_E = bundle.table("tier_edges", (edges,))
    shape = (edges + 2, len(WEEK))
    return DayTable(edge_E, bundle.table("tier_sends", shape), bundle.table("tier_hits", shape))


def wilson(hits_N: Floats, sends_N: Floats) -> tuple[Floats, Floats]:
    """Ends of the 95 % interval of a share; 0 and 1 where nothing was sent."""
    n_N = np.maximum(sends_N, 1e-12)
    share_N, square = hits_N / n_N, Z95 * Z95
    middle_N = (share_N + square / (2 * n_N)) / (1 + square / n_N)
    half_N = Z95 / (1 + square / n_N) * np.sqrt(share_N * (1 - share_N) / n_N + square / (4 * n_N * n_N))
    return np.clip(middle_N - half_N, 0, 1), np.clip(middle_N + half_N, 0, 1)
