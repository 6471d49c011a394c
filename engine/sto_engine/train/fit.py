"""Rows -> base weights, forest, calibration and model card.

The last `train.holdout_days` are judged by a model that has not seen them; the model that is kept learns from all rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.config import Train
from sto_engine.history.bucket import DAY_MS
from sto_engine.models.features import CROSS, FEATURES, LEVELS, MONOTONE
from sto_engine.models.forest import fit_forest, forest_bytes, gains, margins
from sto_engine.train.base import Base, base_inputs, campaign_offsets, fit_base
from sto_engine.train.quality import MIN_ROWS, figures, is_worse
from sto_engine.train.rows import RIVALS, Rows
from sto_kernels.lanes import Floats

PROBE_ROWS, PROBE_STEP = 2_000, 0.5


@dataclass(frozen=True)
class Model:
    """A fitted model: what the margin starts from, and XGBoost's booster."""

    base: Base
    booster: Any

    def scores(self, features_NF: NDArray[np.float32]) -> Floats:
        """P(label) of each row, campaigns all alike, float64 [N]."""
        base_N = self.base.margins(base_inputs(features_NF)).astype(np.float32)
        return np.asarray(1 / (1 + np.exp(-margins(self.booster, features_NF, base_N))))


@dataclass(frozen=True)
class Fitted:
    """What goes into a bundle, and what speaks against it (`objections`)."""

    forest: bytes
    tensors: dict[str, NDArray[Any]]
    card: dict[str, Any]
    objections: list[str]


def fit_bundle(
    rows: Rows,
    train: Train,
    seed: int,
    target: int,
    as_of_ms: int,
    previous_as_of_ms: int | None,
    tell: Callable[[str], None],
) -> Fitted:
    """Fit on all rows, judge on the latest of the type to be scored, `target`; `tell` names the stage that begins."""
    young_N = rows.time_N >= as_of_ms - train.holdout_days * DAY_MS
    late_N = young_N & (rows.type_N == target)
    card: dict[str, Any] = {}
    objections: list[str] = []
    tensors: dict[str, NDArray[Any]] = {}
    if _can_judge(rows, late_N, ~young_N):
        tell("judge")
        late = rows.take(late_N)
        p_N = fit_model(rows.take(~young_N), train, seed, target).scores(late.features_NF)
        card["holdout"] = {"days": train.holdout_days, **figures(p_N, late.label_N)}
        card["rivals"], objections = _rivals(p_N, late, previous_as_of_ms)
        if train.calibrate == "isotonic":
            tensors["calibration_x"], tensors["calibration_y"] = isotonic(p_N, late.label_N)
    tell("forest")
    model = fit_model(rows, train, seed, target)
    tensors["base_weight_5"] = model.base.weight_5
    card["base_weights"] = [round(float(weight), 6) for weight in model.base.weight_5]
    card["gain"] = gains(model.booster)
    card["monotone_violations"] = monotone_violations(model, rows)
    return Fitted(forest_bytes(model.booster), tensors, card, objections)


def fit_model(rows: Rows, train: Train, seed: int, target: int) -> Model:
    """Base weights, then the forest on top of base margin and campaign offset; rows weigh as their type follows."""
    inputs_N5, offset_N = base_inputs(rows.features_NF), campaign_offsets(rows)
    base = fit_base(inputs_N5, rows.label_N, offset_N, rows.weight_N, rows.type_N, target)
    base_N = (base.margins(inputs_N5, rows.type_N) + offset_N).astype(np.float32)
    booster = fit_forest(rows.features_NF, rows.label_N, FEATURES, train, seed, base_N, MONOTONE, rows.weight_N)
    return Model(base, booster)


def _can_judge(rows: Rows, *sides: NDArray[np.bool_]) -> bool:
    """Both sides have rows enough and both outcomes."""
    return all(np.count_nonzero(side_N) >= MIN_ROWS and 0 < rows.label_N[side_N].mean() < 1 for side_N in sides)


def _rivals(p_N: Floats, late: Rows, previous_as_of_ms: int | None) -> tuple[dict[str, Any], list[str]]:
    """Other models on the same later rows; a former bundle is compared on what came after it only."""
    found, objections = {}, []
    for column, name in enumerate(RIVALS):
        since_N = late.time_N >= (previous_as_of_ms or 0) if name == "previous" else np.ones(len(late), np.bool_)
        score_N = late.rival_NR[since_N, column].astype(np.float64)
        label_N, own_N = late.label_N[since_N], p_N[since_N]
        if len(label_N) < MIN_ROWS or not np.isfinite(score_N).all() or not 0 < label_N.mean() < 1:
            continue
        found[name] = {**figures(score_N, label_N), "ours": figures(own_N, label_N)["auc"]}
        if name in ("histogram", "previous") and is_worse(own_N, score_N, label_N):
            objections.append(
                f"on {len(label_N)} later rows its AUC is {found[name]['ours']}, that of {name} {found[name]['auc']}"
            )
    return found, objections


def isotonic(p_N: Floats, label_N: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Knots of the isotonic regression of labels on probabilities, ascending, float64 [K] each."""
    from scipy.optimize import isotonic_regression

    order = np.argsort(p_N, kind="stable")
    x_N = p_N[order]
    y_N = np.asarray(isotonic_regression(label_N[order].astype(np.float64)).x)
    # a block of equal values is told by its two ends
    ends = np.flatnonzero(np.diff(y_N) > 0)
    knots = np.unique(np.concatenate([[0], ends, ends + 1, [len(x_N) - 1]]))
    x_K, first = np.unique(x_N[knots], return_index=True)
    return x_K, np.clip(y_N[knots][first], 1e-6, 1 - 1e-6)


def monotone_violations(model: Model, rows: Rows) -> int:
    """Rows of a probe whose margin falls when a constrained feature rises; 0 where the constraints hold."""
    probe_NF = rows.features_NF[:: max(1, len(rows) // PROBE_ROWS)][:PROBE_ROWS]
    p_N, broken = model.scores(probe_NF), 0
    for name in (*LEVELS, *CROSS[:6]):
        raised_NF = probe_NF.copy()
        raised_NF[:, FEATURES.index(name)] += PROBE_STEP
        broken += int(np.count_nonzero(model.scores(raised_NF) < p_N - 1e-6))
    return broken
