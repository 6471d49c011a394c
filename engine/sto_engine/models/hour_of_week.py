"""`hour_of_week`: the best hour of the seven days to come, by the intensity that `attention` or `boosted` has for each.

The slots of each day are those that the policy of one day would have for that date, so a bundle and its forest serve as
they are. Days differ by weekday and weekend, by person; that campaigns of some weekdays earn more is not among what is
known: a campaign goes out on one day, so its appeal and its day cannot be told apart. Of days that are alike the first
is taken. U users, S = 168 slots, Monday first.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.history.bucket import Bucket
from sto_engine.models.attention import Attention
from sto_engine.models.boosted import Boosted
from sto_engine.models.policy import Measure, Tensors, Utilities
from sto_engine.models.priors import Priors
from sto_engine.slots import SlotGrid

WEEK = SlotGrid(168)
# what a day of waiting costs, as a share of what a slot is worth: enough to decide between days that are alike
WAIT = 1e-5


@dataclass(frozen=True)
class HourOfWeek:
    """The policy, by that of one day."""

    of_day: Attention | Boosted
    name: str = "hour_of_week"
    needs_sums: bool = True
    has_chances: bool = True

    @property
    def bundle_id(self) -> str | None:
        return self.of_day.bundle_id

    def sums(self, bucket: Bucket, buckets: int) -> dict[str, NDArray[Any]]:
        return self.of_day.sums(bucket, buckets)

    def reduce(self, parts: Iterable[Tensors]) -> dict[str, NDArray[Any]]:
        return self.of_day.reduce(parts)

    def weighed_by(self, priors: Tensors) -> Priors | None:
        return self.of_day.weighed_by(priors)

    def utilities(self, bucket: Bucket, priors: Tensors, day: date) -> Utilities:
        days = [day + timedelta(days=(weekday - day.weekday()) % 7) for weekday in range(7)]
        found = self.of_day.of_days(bucket, priors, days)
        first, chances = found[day.weekday()], [one.p_open_US for one in found]
        p_open_US = (
            None if any(p is None for p in chances) else np.concatenate([p for p in chances if p is not None], 1)
        )
        utility_US = np.concatenate([_worth(one.utility_US, one.measure) for one in found], axis=1)
        soon_S = 1 - WAIT * WEEK.days_ahead(day)
        return replace(
            first, utility_US=(utility_US * soon_S).astype(np.float32), p_open_US=p_open_US, measure="chance"
        )


def _worth(utility_US: NDArray[np.float32], measure: Measure) -> NDArray[np.float64]:
    """A margin as the chance that it stands for."""
    wide_US = utility_US.astype(np.float64)
    return wide_US if measure == "chance" else 1.0 / (1.0 + np.exp(-wide_US))
