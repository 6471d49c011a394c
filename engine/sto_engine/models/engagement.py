"""How engaged a recipient is, 0 to 100: his snapshot's own score, or one computed from what he did.

    recency    100 x 2^(-days since the last act / 14)
    frequency  100 x a / (a + 1),  a = acts a week
    clicks     100 x r / (r + 0.2),  r = clicks over opens

    score = weighted mean of the parts that are known, by `best_day.engagement_weights` (0.4, 0.3, 0.3)

Each part is 50 at its half point, which is a habit of the trade: two weeks, once a week, one click in five opens. What
is not known of somebody does not count for him or against him: the others' weights take its place. U users.
"""

import numpy as np

from sto_engine.config_policies import EngagementWeights
from sto_kernels.lanes import Floats

HALF_DAYS, HALF_ACTS, HALF_CLICKS = 14.0, 1.0, 0.2


def engagement_scores(days_U: Floats, acts_a_week_U: Floats, clicks_U: Floats, weights: EngagementWeights) -> Floats:
    """Scores, float64 [U] in 0..100; NaN in an input is not known, and where nothing is known the score is NaN.

    `days_U` since the last act, `acts_a_week_U`, `clicks_U` clicks over opens.
    """
    parts_3U = np.stack(
        [
            100.0 * np.exp2(-np.maximum(days_U, 0.0) / HALF_DAYS),
            _saturating(acts_a_week_U, HALF_ACTS),
            _saturating(clicks_U, HALF_CLICKS),
        ]
    )
    weight_3U = np.where(np.isnan(parts_3U), 0.0, [[weights.recency], [weights.frequency], [weights.clicks]])
    total_U = weight_3U.sum(axis=0)
    summed_U = (np.nan_to_num(parts_3U) * weight_3U).sum(axis=0)
    return np.asarray(np.divide(summed_U, total_U, out=np.full(len(days_U), np.nan), where=total_U > 0))


def _saturating(x_U: Floats, half: float) -> Floats:
    return np.asarray(100.0 * np.maximum(x_U, 0.0) / (np.maximum(x_U, 0.0) + half))
