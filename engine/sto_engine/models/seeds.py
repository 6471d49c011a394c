"""The field's plain recipes, as baselines and for those who want them.

seed_histogram  the hour at which a user acted most, one act added everywhere; the cohort's below 5 acts
seed_boosted    trees over profile, 24-bin histogram and clock, no exposure, no campaign, no monotony
seed_thompson   Beta(1 + opens, 1 + misses) of each user and send hour, flat prior, one draw a night
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.config import Model
from sto_engine.errors import BadData
from sto_engine.history.bucket import DAY_MS, Bucket
from sto_engine.history.profile import build_profile
from sto_engine.models.boosted import check_features
from sto_engine.models.bundle import Bundle
from sto_engine.models.device import slot_margins
from sto_engine.models.histogram import COHORT, EVERYONE, MIN_ACTS, act_sums, add_acts
from sto_engine.models.policy import Tensors, Utilities
from sto_engine.models.seed_features import SLOT_FEATURES, slot_matrix, user_features, user_matrix
from sto_engine.slots import SlotGrid
from sto_kernels.beta import draw_betas
from sto_kernels.hashing import derive

if TYPE_CHECKING:
    from sto_kernels.forest import Forest

SEED_HISTOGRAM, SEED_BOOSTED, SEED_THOMPSON = "seed_histogram", "seed_boosted", "seed_thompson"
LABEL_MS = 2 * 3_600_000


@dataclass(frozen=True)
class SeedHistogram:
    """Where the counts are highest; no smoothing, no exposure, no probabilities."""

    grid: SlotGrid
    model: Model
    name: str = SEED_HISTOGRAM
    bundle_id: str | None = None
    needs_sums: bool = True
    has_chances: bool = False

    def sums(self, bucket: Bucket, buckets: int) -> dict[str, NDArray[Any]]:
        return act_sums(build_profile(bucket, self.grid, self.model.half_life_days), ~bucket.bad_U)

    def reduce(self, parts: Iterable[Tensors]) -> dict[str, NDArray[Any]]:
        return add_acts(parts)

    def weighed_by(self, priors: Tensors) -> None:
        return None

    def utilities(self, bucket: Bucket, priors: Tensors, day: date) -> Utilities:
        profile = build_profile(bucket, self.grid, self.model.half_life_days)
        nothing = np.zeros(self.grid.slots)
        everyone_S = priors.get(EVERYONE, nothing)
        cohort_US = np.array([priors.get(COHORT + name, nothing) for name in profile.users["cohort"]])
        cohort_US = cohort_US.reshape(-1, self.grid.slots)
        own_U, cohort_U = profile.acts_U >= MIN_ACTS, np.asarray(cohort_US.any(axis=1))
        usual_US = np.where(cohort_U[:, None], cohort_US, everyone_S)
        utility_US = np.where(own_U[:, None], profile.acts_US + 1, usual_US).astype(np.float32)
        reason_U = np.where(own_U, "histogram", np.where(cohort_U, "cohort", "global")).astype(object)
        reason_U[~utility_US.any(axis=1)] = "fallback"
        n_eff_U = np.where(own_U, profile.acts_U, np.float32(0))
        return Utilities(utility_US, None, reason_U, n_eff_U, "share")


@dataclass(frozen=True)
class SeedBoosted:
    """The policy of a bundle trained by the preset."""

    grid: SlotGrid
    model: Model
    bundle: Bundle
    name: str = SEED_BOOSTED
    needs_sums: bool = False
    has_chances: bool = True

    def __post_init__(self) -> None:
        check_features(self.bundle, [*user_features(self.grid), *SLOT_FEATURES])

    @property
    def bundle_id(self) -> str | None:
        return self.bundle.bundle_id

    def sums(self, bucket: Bucket, buckets: int) -> dict[str, NDArray[Any]]:
        return {}

    def reduce(self, parts: Iterable[Tensors]) -> dict[str, NDArray[Any]]:
        return {}

    def weighed_by(self, priors: Tensors) -> None:
        return None

    def utilities(self, bucket: Bucket, priors: Tensors, day: date) -> Utilities:
        from sto_kernels.pack import PackError

        profile = build_profile(bucket, self.grid, self.model.half_life_days)
        try:
            forest = _forest(self.bundle.forest, self.grid, day)
        except PackError as error:
            raise BadData(f"bundle {self.bundle.path} holds no usable forest: {error}") from error
        margin_US = slot_margins(forest, user_matrix(profile))
        p_open_US = (1.0 / (1.0 + np.exp(-margin_US.astype(np.float64)))).astype(np.float32)
        known_U = (profile.acts_U > 0) | (profile.sends_U > 0)
        reason_U = np.where(known_U, "model", "global").astype(object)
        return Utilities(margin_US, p_open_US, reason_U, profile.acts_U, "logit")


@dataclass(frozen=True)
class SeedThompson:
    """Thompson sampling on what was sent at each hour: it knows nothing of hours never tried."""

    grid: SlotGrid
    model: Model
    name: str = SEED_THOMPSON
    bundle_id: str | None = None
    needs_sums: bool = False
    has_chances: bool = True

    def sums(self, bucket: Bucket, buckets: int) -> dict[str, NDArray[Any]]:
        return {}

    def reduce(self, parts: Iterable[Tensors]) -> dict[str, NDArray[Any]]:
        return {}

    def weighed_by(self, priors: Tensors) -> None:
        return None

    def utilities(self, bucket: Bucket, priors: Tensors, day: date) -> Utilities:
        cleaned, slots, users = bucket.cleaned, self.grid.slots, len(bucket.users)
        seen_S = bucket.end_ms - cleaned.utc_S >= LABEL_MS
        slot_S = cleaned.local_S % DAY_MS // (self.grid.minutes * 60_000)
        cell_S = cleaned.user_S[seen_S].astype(np.int64) * slots + slot_S[seen_S]
        latency_S = cleaned.latency_S[seen_S]
        hit_S = (latency_S >= 0) & (latency_S < LABEL_MS)
        sends_US, hits_US = (np.bincount(cell_S, w, users * slots).reshape(users, slots) for w in (None, hit_S))
        a_US, b_US = (1 + x.astype(np.float32) for x in (hits_US, sends_US - hits_US))
        key_U = derive(bucket.users["h"].to_numpy(), "thompson", day.toordinal())
        p_open_US = a_US / (a_US + b_US) if len(cell_S) else None
        n_eff_U = hits_US.sum(axis=1).astype(np.float32)
        reason_U = np.full(users, "model", object)
        return Utilities(draw_betas(key_U, a_US, b_US), p_open_US, reason_U, n_eff_U)


@lru_cache(maxsize=2)
def _forest(data: bytes, grid: SlotGrid, day: date) -> "Forest":
    """The same for every bucket of a run, so it is parsed and laid out once."""
    from sto_kernels.pack import pack_xgboost

    return pack_xgboost(data, user_features(grid), SLOT_FEATURES, [], slot_matrix(grid, day))
