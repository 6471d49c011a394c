"""The only state that crosses buckets: small tables that say what is usual, saved as named tensors.

C cohorts and, last, the row of cohorts never seen; K shapes; G campaigns. float64 unless said otherwise.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.errors import BadData
from sto_engine.history.rates import TYPES
from sto_kernels.lanes import Floats

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Priors:
    """What the policies know of everyone; see `models.fit` for how each table is estimated."""

    cohort_names: tuple[str, ...]
    source_names: tuple[str, ...]
    has_sends: bool
    has_acts: bool
    campaign_key_G: NDArray[np.uint64]
    rate2_G: Floats
    rate24_G: Floats
    decay_T24: Floats
    follow_T: Floats
    target_type: int
    shape_K48: Floats
    log_prior_CK: Floats
    residual_C48: Floats
    effect_mean_C5: Floats
    effect_precision_55: Floats
    effect_p0: float
    slot_rate_C24: Floats
    act_shape_C24: Floats
    open_rate2: float
    open_rate: float

    def cohorts_of(self, names: pl.Series) -> NDArray[np.int32]:
        """Row of each user's cohort; one that was not seen gets the last, int32 [U]."""
        return codes_of(names, self.cohort_names)

    def with_campaigns(self, key_G: NDArray[np.uint64], rate2_G: Floats, rate24_G: Floats) -> "Priors":
        """The same tables with the rates of other campaigns: those that tonight's history holds."""
        return replace(self, campaign_key_G=key_G, rate2_G=rate2_G, rate24_G=rate24_G)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Everything as arrays by name; texts as UTF-8 JSON bytes."""
        out: dict[str, NDArray[Any]] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                value = np.frombuffer(json.dumps(list(value)).encode(), np.uint8)
            out[field.name] = np.atleast_1d(np.asarray(value))
        return out


def from_tensors(tensors: Tensors, where: str) -> Priors:
    """Priors from the arrays of `tensors`; BadData (65) names a table that is missing, misshapen or not finite."""
    values: dict[str, Any] = {}
    for field in fields(Priors):
        if field.name not in tensors:
            raise BadData(f"{where} must hold the table {field.name}; found {sorted(tensors)}; train it again")
        array = tensors[field.name]
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BadData(f"{where}: table {field.name} must be finite; train it again")
        if field.name.endswith("_names"):
            values[field.name] = tuple(json.loads(array.tobytes()))
        else:
            values[field.name] = array[0].item() if array.shape == (1,) and _is_scalar(field.name) else array
    priors = Priors(**values)
    _check_shapes(priors, where)
    if priors.target_type not in range(TYPES):
        raise BadData(f"{where}: target_type must be in 0..{TYPES - 1}; found {priors.target_type}; train it again")
    return priors


def _is_scalar(name: str) -> bool:
    return name in ("has_sends", "has_acts", "target_type", "effect_p0", "open_rate2", "open_rate")


def _check_shapes(priors: Priors, where: str) -> None:
    cohorts, shapes, campaigns = len(priors.cohort_names) + 1, len(priors.shape_K48), len(priors.campaign_key_G)
    wanted = {
        "rate2_G": (campaigns,),
        "rate24_G": (campaigns,),
        "decay_T24": (TYPES, 24),
        "follow_T": (TYPES,),
        "shape_K48": (shapes, 48),
        "log_prior_CK": (cohorts, shapes),
        "residual_C48": (cohorts, 48),
        "effect_mean_C5": (cohorts, 5),
        "effect_precision_55": (5, 5),
        "slot_rate_C24": (cohorts, 24),
        "act_shape_C24": (cohorts, 24),
    }
    for name, shape in wanted.items():
        found = getattr(priors, name).shape
        if found != shape:
            raise BadData(f"{where}: table {name} must have shape {shape}; found {found}; train it again")


def codes_of(names: pl.Series, known: tuple[str, ...]) -> NDArray[np.int32]:
    """Index of each name in `known`; len(known) for the rest, nulls included."""
    place = {name: code for code, name in enumerate(known)}
    codes = names.replace_strict(place, default=len(known), return_dtype=pl.Int32) if place else None
    if codes is None:
        return np.full(len(names), len(known), np.int32)
    return codes.to_numpy().astype(np.int32)
