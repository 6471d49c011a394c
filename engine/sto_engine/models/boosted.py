"""`boosted`: attention and its companions under a small forest; P(label) of every slot in one kernel call (recipe, 6).

margin = base margin (ridge logistic on two levels and two shapes, shapes halved) + forest (monotone in both)
p_open = sigmoid(margin), calibrated where the bundle says how; the slot is the argmax of the margin
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.config import Model
from sto_engine.errors import BadData
from sto_engine.history.bucket import Bucket
from sto_engine.models.attention import blend, history_priors, history_sums, reasons, tonights_priors
from sto_engine.models.bundle import Bundle
from sto_engine.models.device import slot_margins
from sto_engine.models.features import CROSS, FEATURES, USER_FEATURES, Features, blocks, build_features
from sto_engine.models.policy import Measure, Tensors, Utilities
from sto_engine.models.priors import Priors
from sto_engine.slots import SlotGrid

if TYPE_CHECKING:
    from sto_kernels.forest import Forest


@dataclass(frozen=True)
class Boosted:
    """The policy of a trained bundle."""

    grid: SlotGrid
    model: Model
    bundle: Bundle
    name: str = "boosted"
    needs_sums: bool = True
    has_chances: bool = True
    kind: int | None = None  # type of the campaign; None: the one that attention is fitted for

    def __post_init__(self) -> None:
        check_features(self.bundle, FEATURES)

    @property
    def bundle_id(self) -> str | None:
        return self.bundle.bundle_id

    def sums(self, bucket: Bucket, buckets: int) -> dict[str, NDArray[Any]]:
        return history_sums(bucket, buckets, self.bundle)

    def reduce(self, parts: Iterable[Tensors]) -> dict[str, NDArray[Any]]:
        return history_priors(parts, self.bundle, self.model)

    def weighed_by(self, priors: Tensors) -> Priors:
        return tonights_priors(priors, self.bundle)

    def utilities(self, bucket: Bucket, priors: Tensors, day: date) -> Utilities:
        return self.of_days(bucket, priors, [day])[0]

    def of_days(self, bucket: Bucket, priors: Tensors, days: Sequence[date]) -> list[Utilities]:
        """Utilities for sends on each of these days, from one count of the history."""
        users, slots, w24 = len(bucket.users), self.grid.slots, self.model.w24
        utility_DUS, p_open_DUS = (np.empty((len(days), users, slots), np.float32) for _ in range(2))
        reason_U, acts_U = np.empty(users, np.uint8), np.empty(users, np.float32)
        for block, known in blocks(bucket, tonights_priors(priors, self.bundle), self.model.half_life_days):
            for d, day in enumerate(days):
                features = build_features(known, day, slots, self.kind)
                margin_US = slot_scores(self.bundle, features)
                p_US = 1.0 / (1.0 + np.exp(-margin_US.astype(np.float64)))
                utility_DUS[d, block] = margin_US if w24 == 0 else blend(p_US, features.p24_SU.T, w24)
                p_open_DUS[d, block] = calibrated(self.bundle, p_US)
            reason_U[block], acts_U[block] = reasons(known), known.counts.acts_U
        measure: Measure = "logit" if w24 == 0 else "share"
        both = zip(utility_DUS, p_open_DUS, strict=True)
        return [Utilities(utility_US, p_open_US, reason_U, acts_U, measure) for utility_US, p_open_US in both]


def slot_scores(bundle: Bundle, features: Features) -> NDArray[np.float32]:
    """Margin of every (user, slot) by the bundle's forest and base weights, float32 [U, S].

    Raises BadData (65) for a forest that is not whole.
    """
    from sto_kernels.pack import PackError

    slots = features.cross_XSU.shape[1]
    try:
        forest = _forest(bundle.forest, slots)
    except PackError as error:
        raise BadData(f"bundle {bundle.path} holds no usable forest: {error}") from error
    base_SU = features.base(bundle.table("base_weight_5", (5,)))
    return slot_margins(forest, features.user_FU, features.cross_XSU, base_SU)


@lru_cache(maxsize=4)
def _forest(data: bytes, slots: int) -> "Forest":
    """The same for every bucket of a run, so it is parsed and laid out once."""
    from sto_kernels.pack import pack_xgboost

    return pack_xgboost(data, USER_FEATURES, [], CROSS, np.zeros((slots, 0), np.float32))


def calibrated(bundle: Bundle, p_US: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities by the bundle's isotonic curve, which keeps their order; as they are where it has none."""
    if "calibration_x" not in bundle.tensors:
        return p_US
    x_N, y_N = bundle.tensors["calibration_x"], bundle.tensors["calibration_y"]
    return np.asarray(np.interp(p_US, x_N, y_N), np.float64)


def check_features(bundle: Bundle, wanted: Sequence[str]) -> None:
    """BadData (65) where the bundle was trained on other features, or on the same in another order."""
    found = list(bundle.features)
    if found == list(wanted):
        return
    missing, extra = [n for n in wanted if n not in found], [n for n in found if n not in wanted]
    what = f"missing {missing}, extra {extra}" if missing or extra else "the same features in another order"
    raise BadData(f"bundle {bundle.path} does not fit this engine's features ({what}); train it again")
