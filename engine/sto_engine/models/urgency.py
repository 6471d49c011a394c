"""How long mail may wait for a better day, by the risk of losing a recipient and by what he is worth.

    today        churn risk at least `high_churn` and value at least `high_value`: the first local day that there is
    within_24h   churn risk at least `medium_churn` otherwise: the better of the first two local days
    best_day     everybody else, those of unknown churn risk among them

A tier is no mask: its days come first in a user's utilities and the others after them, so where a window, a cap or
capacity takes his days away he is still mailed. U users, 7 days (Monday 0).
"""

import numpy as np
from numpy.typing import NDArray

from sto_engine.config_policies import BestDay
from sto_engine.tables import URGENCIES
from sto_kernels.lanes import Floats

TODAY, WITHIN_24H, BEST_DAY = (np.uint8(URGENCIES.index(name)) for name in ("today", "within_24h", "best_day"))
# what a day of waiting leaves of the worth of mail that is to go today
FADE = 0.5
# the best day that is too late is worth this share of the worst in time
LATE = 0.1


def urgency_codes(churn_U: Floats, value_U: Floats, settings: BestDay) -> NDArray[np.uint8]:
    """Places in URGENCIES, uint8 [U]; NaN is not known, and makes nothing urgent."""
    medium_U = churn_U >= settings.medium_churn
    today_U = (churn_U >= settings.high_churn) & (value_U >= settings.value_of_urgency)
    return np.where(today_U, TODAY, np.where(medium_U, WITHIN_24H, BEST_DAY))


def with_urgency(worth_U7: Floats, code_U: NDArray[np.uint8], ahead_7: NDArray[np.int64]) -> Floats:
    """Worths of the days so that those of a user's tier come first; `ahead_7` days until each weekday, float64 [U, 7].

    What goes today is worth the mean of the days now, and less with every day. Of days too late the order stays.
    """
    out_U7 = worth_U7.copy()
    today_U, soon_U = code_U == TODAY, code_U == WITHIN_24H
    out_U7[today_U] = worth_U7[today_U].mean(axis=1, keepdims=True) * FADE**ahead_7
    late_7 = ahead_7 > 1
    worst_U1 = worth_U7[soon_U][:, ~late_7].min(axis=1, keepdims=True)
    most_U1 = np.maximum(worth_U7[soon_U].max(axis=1, keepdims=True), 1e-12)
    out_U7[soon_U] = np.where(late_7, LATE * worst_U1 * worth_U7[soon_U] / most_U1, worth_U7[soon_U])
    return out_U7
