"""`attention`: when each user looks into his inbox, from when mail lay unread and when it was opened (recipe, 3).

Without a bundle the priors are fitted in the run, from phase 0; with one they are the bundle's. Only how much each
campaign appeals always comes from tonight's history, since campaigns are younger than bundles.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.config import Model
from sto_engine.history.bucket import Bucket
from sto_engine.history.parts import campaign_tensors, read_history, sample_tensors
from sto_engine.history.rates import campaign_rates
from sto_engine.models.bundle import Bundle
from sto_engine.models.features import Known, chances, know
from sto_engine.models.fit import fit_priors
from sto_engine.models.policy import Tensors, Utilities
from sto_engine.models.priors import Priors, from_tensors
from sto_engine.slots import SlotGrid
from sto_engine.tables import REASONS
from sto_kernels.lanes import Floats

W24_SCALE = 10.0


@dataclass(frozen=True)
class Attention:
    """The policy, by a bundle's priors or by those of tonight's history."""

    grid: SlotGrid
    model: Model
    bundle: Bundle | None = None
    name: str = "attention"
    needs_sums: bool = True
    has_chances: bool = True
    kind: int | None = None  # type of the campaign; None: the one that attention is fitted for

    @property
    def bundle_id(self) -> str | None:
        return self.bundle.bundle_id if self.bundle is not None else None

    def sums(self, bucket: Bucket, buckets: int) -> dict[str, NDArray[Any]]:
        return history_sums(bucket, buckets, self.bundle)

    def reduce(self, parts: Iterable[Tensors]) -> dict[str, NDArray[Any]]:
        return history_priors(parts, self.bundle, self.model, self.kind or 0)

    def weighed_by(self, priors: Tensors) -> Priors:
        return tonights_priors(priors, self.bundle)

    def utilities(self, bucket: Bucket, priors: Tensors, day: date) -> Utilities:
        return self.of_days(bucket, priors, [day])[0]

    def of_days(self, bucket: Bucket, priors: Tensors, days: Sequence[date]) -> list[Utilities]:
        """Utilities for sends on each of these days, from one count of the history."""
        known = know(bucket, tonights_priors(priors, self.bundle), self.model.half_life_days)
        return [self._on(known, day) for day in days]

    def _on(self, known: Known, day: date) -> Utilities:
        p2_SU, p24_SU = chances(known, day, self.grid.slots, self.kind)
        p_SU = p24_SU if self.model.label == "open_24h" else p2_SU
        p_open_US = np.ascontiguousarray(p_SU.T, np.float32) if known.priors.has_sends else None
        utility_US = p_SU.T if self.model.w24 == 0 else blend(p_SU.T, p24_SU.T, self.model.w24)
        return Utilities(
            np.ascontiguousarray(utility_US, np.float32),
            p_open_US,
            reasons(known),
            known.counts.acts_U.astype(np.float32),
            "chance" if self.model.w24 == 0 else "share",
        )


def history_sums(bucket: Bucket, buckets: int, bundle: Bundle | None) -> dict[str, NDArray[Any]]:
    """Campaign sums; without a bundle also what the bucket offers to the sample."""
    sample = sample_tensors(bucket, buckets) if bundle is None else {}
    return {**campaign_tensors(bucket), **sample, "window_ms": np.array([bucket.start_ms, bucket.end_ms])}


def history_priors(
    parts: Iterable[Tensors], bundle: Bundle | None, model: Model, kind: int = 0
) -> dict[str, NDArray[Any]]:
    """Rates of tonight's campaigns; without a bundle every table of the priors, attention fitted for campaigns of the
    type `kind`. Parts in bucket order, read once."""
    found = read_history(parts, bundle is None)
    if found.sample is not None:
        return fit_priors(found.sample, found.campaigns, found.window_ms, model.half_life_days, kind).tensors()
    key_G, rate2_G, rate24_G = campaign_rates(found.campaigns)
    return {"campaign_key_G": key_G, "rate2_G": rate2_G, "rate24_G": rate24_G}


def tonights_priors(tensors: Tensors, bundle: Bundle | None) -> Priors:
    """The priors of a run: those fitted in it, or the bundle's with tonight's campaigns."""
    if bundle is None:
        return from_tensors(tensors, "the priors of this run")
    return bundle.priors.with_campaigns(tensors["campaign_key_G"], tensors["rate2_G"], tensors["rate24_G"])


def blend(p_US: Floats, p24_US: Floats, w24: float) -> Floats:
    """Opens within the label window and within a day, each over the user's mean (recipe, section 6)."""
    day_US = p24_US / np.maximum(p24_US.mean(axis=1, keepdims=True), 1e-9)
    return np.asarray(p_US / np.maximum(p_US.mean(axis=1, keepdims=True), 1e-9) + W24_SCALE * w24 * day_US)


def reasons(known: Known) -> NDArray[np.uint8]:
    """Places in REASONS: `model` with a history of one's own, else `cohort` or `global`; `fallback` if all lack it."""
    own_U = (known.counts.sent_U > 0) | (known.counts.acts_U > 0)
    return reasons_of(own_U, known.traits.cohort_U, known.priors)


def reasons_of(own_U: NDArray[np.bool_], cohort_U: NDArray[np.int32], priors: Priors) -> NDArray[np.uint8]:
    """The same from who has a history and the row of everyone's cohort."""
    named_U = cohort_U < len(priors.cohort_names)
    own, cohort, everyone, nobody = (
        np.uint8(REASONS.index(name)) for name in ("model", "cohort", "global", "fallback")
    )
    if not priors.has_acts:
        return np.full(len(own_U), nobody)
    return np.where(own_U, own, np.where(named_U, cohort, everyone))
