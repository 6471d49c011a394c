"""`day_of_week` and the preset `seed_best_day`: which of the seven days to come suits a recipient (grid 7, Monday 0).

    personal     customer lifetime value at least `best_day.clv_threshold`: P(click) of each day by the bundle's forest
    cohort       everybody else: the rates of his tier of engagement; `global` where that is thin, or not known
    urgency      days too late for him come after those in time (models.urgency)

The preset's forest is a random forest with balanced weights, as the field has it: margin = 4 (p - 1/2), where p is the
mean share of clicks in the leaves with every click weighing misses / clicks. p is freed of that before it is stated:
odds = p / (1 - p) / w, w such that the last days of training have their share of clicks (train.days). The policy's own
is boosted, unweighted, and p = sigmoid(margin). U users, 7 days.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.config import Config
from sto_engine.errors import BadData
from sto_engine.history.bucket import Bucket
from sto_engine.models.attention import history_priors, history_sums, tonights_priors
from sto_engine.models.best_day import DayTable, table_of
from sto_engine.models.boosted import check_features
from sto_engine.models.bundle import Bundle
from sto_engine.models.day_features import (
    DAYS,
    OWN,
    OWN_CROSS,
    OWN_FEATURES,
    OWN_SLOT,
    PLAIN,
    PLAIN_FEATURES,
    PLAIN_SLOT,
    cross_matrix,
    day_counts,
    number,
    plain_users,
    slot_matrix,
)
from sto_engine.models.device import slot_margins
from sto_engine.models.policy import Tensors, Utilities
from sto_engine.models.priors import Priors
from sto_engine.models.urgency import BEST_DAY, urgency_codes, with_urgency
from sto_engine.tables import REASONS, URGENCIES
from sto_kernels.lanes import Floats

if TYPE_CHECKING:
    from sto_kernels.forest import Forest

DAY_OF_WEEK, SEED_BEST_DAY = "day_of_week", "seed_best_day"
# of days that are alike the first is taken
WAIT = 1e-5
_MODEL, _COHORT, _GLOBAL = (np.uint8(REASONS.index(name)) for name in ("model", "cohort", "global"))


@dataclass(frozen=True)
class DayOfWeek:
    """The policy of a bundle trained for days, the preset's or the engine's own."""

    config: Config
    bundle: Bundle
    has_chances: bool = True
    # clicks of the history, which other policies do not look at (view.look)
    history_act: str = "click"

    def __post_init__(self) -> None:
        check_features(self.bundle, PLAIN_FEATURES if self.is_plain else OWN_FEATURES)
        _ = self.table, self.positive_weight

    @property
    def name(self) -> str:
        return SEED_BEST_DAY if self.is_plain else DAY_OF_WEEK

    @property
    def bundle_id(self) -> str | None:
        return self.bundle.bundle_id

    @property
    def is_plain(self) -> bool:
        return self.bundle.preset == SEED_BEST_DAY

    @property
    def needs_sums(self) -> bool:
        return not self.is_plain

    @property
    def table(self) -> DayTable:
        return table_of(self.bundle)

    @property
    def positive_weight(self) -> float:
        """What a click weighed against a miss in training."""
        return float(self.bundle.table("positive_weight", (1,))[0])

    def sums(self, bucket: Bucket, buckets: int) -> dict[str, NDArray[Any]]:
        return {} if self.is_plain else history_sums(bucket, buckets, self.bundle)

    def reduce(self, parts: Iterable[Tensors]) -> dict[str, NDArray[Any]]:
        return {} if self.is_plain else history_priors(parts, self.bundle, self.config.model)

    def weighed_by(self, priors: Tensors) -> Priors | None:
        return None if self.is_plain else tonights_priors(priors, self.bundle)

    def utilities(self, bucket: Bucket, priors: Tensors, day: date) -> Utilities:
        settings, users, counts = self.config.best_day, bucket.users, day_counts(bucket)
        user_FU = plain_users(bucket, counts, self.config)
        profiled_U = users["consent_profiling"].fill_null(True).to_numpy()
        clv_U = number(users, "clv")
        acts_U = np.bincount(bucket.cleaned.user_A, minlength=len(users))
        known_U = (counts.sends_U7.sum(axis=1) > 0) | (acts_U > 0)
        own_U = (clv_U >= settings.clv_threshold) & known_U & profiled_U & ~bucket.bad_U
        row_U = self.table.tiers_of(np.where(profiled_U, user_FU[0], np.nan))
        p_U7 = self.table.used(settings.min_sends)[row_U]
        if own_U.any():
            rows = np.flatnonzero(own_U)
            p_U7[rows] = self._chances(bucket.take(rows), user_FU[:, rows], priors)
        code_U = np.where(profiled_U, urgency_codes(user_FU[3], clv_U, settings), BEST_DAY)
        ahead_7 = (np.arange(DAYS) - day.weekday()) % DAYS
        utility_U7 = with_urgency(p_U7, code_U, ahead_7) * (1 - WAIT * ahead_7)
        return Utilities(
            utility_U7.astype(np.float32),
            p_U7.astype(np.float32),
            np.where(own_U, _MODEL, self._common_reasons(row_U)),
            np.where(own_U, acts_U, 0).astype(np.float32),
            urgency_U=np.array(URGENCIES, object)[code_U],
        )

    def told(self) -> dict[str, Any]:
        """The table by tier and day, for people."""
        return self.table.told(self.config.best_day.min_sends)

    def _common_reasons(self, row_U: NDArray[np.int64]) -> NDArray[np.uint8]:
        table = self.table
        is_common_R = table.is_thin(self.config.best_day.min_sends)
        is_common_R[-1] = True
        return np.where(is_common_R[row_U], _GLOBAL, _COHORT)

    def _chances(self, bucket: Bucket, user_FU: Floats, priors: Tensors) -> Floats:
        """P(label) of every (user, day) by the forest, float64 [U, 7]; BadData (65) for one that is not whole."""
        from sto_kernels.pack import PackError

        try:
            forest = _forest(self.bundle.forest, self.is_plain)
        except PackError as error:
            raise BadData(f"bundle {self.bundle.path} holds no usable forest: {error}") from error
        if self.is_plain:
            margin_U7 = slot_margins(forest, user_FU[: len(PLAIN)].astype(np.float32))
            return freed(margin_U7, self.positive_weight)
        counts = day_counts(bucket)
        cross_X7U = cross_matrix(bucket, counts, tonights_priors(priors, self.bundle), self.config)
        margin_U7 = slot_margins(forest, user_FU.astype(np.float32), cross_X7U)
        return np.asarray(1.0 / (1.0 + np.exp(-margin_U7.astype(np.float64))))


def freed(margin_N: NDArray[np.floating[Any]], positive_weight: float) -> Floats:
    """P(label) by margins of a random forest whose positive rows weighed `positive_weight`; any shape."""
    p_N = np.clip(0.5 + margin_N.astype(np.float64) / 4, 1e-6, 1 - 1e-6)
    odds_N = p_N / (1 - p_N) / positive_weight
    return np.asarray(odds_N / (1 + odds_N))


@lru_cache(maxsize=4)
def _forest(data: bytes, is_plain: bool) -> "Forest":
    """The same for every bucket of a run, so it is parsed and laid out once."""
    from sto_kernels.pack import pack_xgboost

    if is_plain:
        return pack_xgboost(data, PLAIN, PLAIN_SLOT, [], slot_matrix(PLAIN_SLOT))
    return pack_xgboost(data, OWN, OWN_SLOT, OWN_CROSS, slot_matrix(OWN_SLOT))
