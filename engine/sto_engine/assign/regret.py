"""What exploring costs a run, as the policy sees it: opens expected less than at each recipient's best slot.

    regret    posterior mean of the best allowed slot, less that of the slot that was drawn
    explored  users whose drawn slot is not their best one

of users who follow the model, before limits of capacity. Sums are whole numbers of 2^-32 opens, the same in whatever
order buckets are added. U users, S slots.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.assign.gain import UNIT


@dataclass(frozen=True)
class Regret:
    """Users who follow a model that draws, those of them who explore, opens expected at the best slot and lost."""

    users: int = 0
    explored: int = 0
    best: int = 0
    lost: int = 0

    def __add__(self, other: "Regret") -> "Regret":
        pairs = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return Regret(*(mine + theirs for mine, theirs in pairs))

    def to_json(self) -> dict[str, int]:
        return asdict(self)

    @classmethod
    def from_json(cls, told: Mapping[str, int]) -> "Regret":
        return cls(**told)

    def summary(self) -> dict[str, Any]:
        """Per recipient; null without users."""
        n = self.users
        return {
            "users": n,
            "regret": round(self.lost * UNIT / n, 8) if n else None,
            "expected_best": round(self.best * UNIT / n, 8) if n else None,
            "explored_share": round(self.explored / n, 6) if n else None,
        }


def regret_of(
    mean_US: NDArray[np.float32], allowed_US: NDArray[np.bool_], slot_U: NDArray[np.uint8], follows_U: NDArray[np.bool_]
) -> Regret:
    """Of the users `follows_U` with these slots."""
    rows = np.flatnonzero(follows_U)
    best_N = np.where(allowed_US[rows], mean_US[rows], -np.inf).max(axis=1, initial=-np.inf).astype(np.float64)
    lost_N = best_N - mean_US[rows, slot_U[rows]].astype(np.float64)
    whole = (int(np.rint(x_N / UNIT).astype(np.int64).sum()) for x_N in (best_N, lost_N))
    return Regret(len(rows), int((lost_N > 0).sum()), *whole)
