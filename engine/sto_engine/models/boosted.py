"""`boosted`, preset `seed_boosted`: trees over profile and clock; P(open within 2 h) of every slot in one kernel call.

The only file that knows XGBoost. Training runs in this process; scoring reads the saved bytes with the engine's own
parser and never calls XGBoost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.config import Train
from sto_engine.errors import BadData, Unavailable
from sto_engine.history.profile import Floats, Profile
from sto_engine.models.bundle import Bundle
from sto_engine.models.features import SLOT_FEATURES, slot_matrix, user_features, user_matrix
from sto_engine.models.policy import Sums, Utilities
from sto_engine.slots import SlotGrid

if TYPE_CHECKING:
    from sto_kernels.forest import Forest

PRESET = "seed_boosted"
# XGBoost's histogram sums depend on how rows are split over threads; one fixed number keeps the bytes of a model
# independent of --threads.
TRAIN_THREADS = 2


@dataclass(frozen=True)
class Boosted:
    """The policy of a trained bundle."""

    bundle: Bundle
    name: str = "boosted"
    needs_sums: bool = False

    @property
    def bundle_id(self) -> str | None:
        return self.bundle.bundle_id

    def sums(self, profile: Profile) -> Sums:
        return {}

    def reduce(self, parts: Sequence[Mapping[str, Sequence[float]]]) -> Sums:
        return {}

    def utilities(self, profile: Profile, priors: Mapping[str, Sequence[float]], day: date) -> Utilities:
        from sto_kernels.margins import slot_margins
        from sto_kernels.pack import PackError

        check_features(self.bundle, user_features(profile.grid))
        try:
            forest = _forest(self.bundle.forest, profile.grid, day)
        except PackError as error:
            raise BadData(f"bundle {self.bundle.path} holds no usable forest: {error}") from error
        # Buckets run in parallel already; one thread each keeps --threads what it says.
        margin_US = slot_margins(forest, user_matrix(profile), threads=1).numpy()
        p_open_US = (1.0 / (1.0 + np.exp(-margin_US.astype(np.float64)))).astype(np.float32)
        known_U = (profile.opens_U > 0) | (profile.sends_U > 0)
        reason_U = np.where(known_U, "model", "global").astype(object)
        return Utilities(margin_US, p_open_US, reason_U, profile.opens_U)


@lru_cache(maxsize=2)
def _forest(data: bytes, grid: SlotGrid, day: date) -> "Forest":
    """The same for every bucket of a run, so it is parsed and laid out once."""
    from sto_kernels.pack import pack_xgboost

    return pack_xgboost(data, user_features(grid), SLOT_FEATURES, [], slot_matrix(grid, day))


def check_features(bundle: Bundle, names: Sequence[str]) -> None:
    """BadData (65) where the bundle was trained on other features, or on the same in another order."""
    wanted, found = [*names, *SLOT_FEATURES], list(bundle.features)
    if found == wanted:
        return
    missing, extra = [n for n in wanted if n not in found], [n for n in found if n not in wanted]
    what = f"missing {missing}, extra {extra}" if missing or extra else "the same features in another order"
    raise BadData(f"bundle {bundle.path} does not fit this engine's features ({what}); train it again")


def fit_forest(
    rows_NF: Floats, label_N: NDArray[np.float32], names: Sequence[str], train: Train, seed: int
) -> tuple[bytes, Any]:
    """Train on float32 [N, F] and labels 0/1; returns the model as UBJSON bytes and the booster.

    Raises Unavailable (69) where XGBoost is not installed.
    """
    try:
        import xgboost
    except ImportError as error:
        raise Unavailable(
            "training needs XGBoost; install it with: pip install 'sto-engine[cpu]' (or [gpu])"
        ) from error
    params = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "max_depth": train.depth,
        "learning_rate": train.learning_rate,
        "subsample": train.subsample,
        "seed": seed,
        "nthread": TRAIN_THREADS,
    }
    data = xgboost.QuantileDMatrix(rows_NF, label_N, feature_names=list(names), nthread=TRAIN_THREADS)
    booster = xgboost.train(params, data, train.trees)
    return bytes(booster.save_raw("ubj")), booster
