"""Forests -> calibration, model card, and what speaks against the bundle.

The last `train.holdout_days` are judged by a model that has not seen them; the model that is kept learns from all rows.
Rows are read block by block; `finish` is work for any machine.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.models.features import CROSS, FEATURES, LEVELS
from sto_engine.models.forest import gains, margins, read_forest
from sto_engine.train.base import COLUMNS, Base, base_inputs
from sto_engine.train.prepare import FOREST, JUDGE, Course, Prepared
from sto_engine.train.quality import MIN_ROWS, figures, is_worse
from sto_engine.train.row_files import Columns, RowSet
from sto_engine.train.rows import RIVALS
from sto_kernels.lanes import Floats

PROBE_ROWS, PROBE_STEP = 2_000, 0.5


@dataclass(frozen=True)
class Model:
    """A fitted model: what the margin starts from, and XGBoost's booster."""

    base: Base
    booster: Any

    def scores(self, features_NF: NDArray[np.float32]) -> Floats:
        """P(label) of each row, campaigns all alike, float64 [N]."""
        base_N = self.base.margins(base_inputs(features_NF[:, COLUMNS])).astype(np.float32)
        return np.asarray(1 / (1 + np.exp(-margins(self.booster, features_NF, base_N))))


@dataclass(frozen=True)
class Fitted:
    """What goes into a bundle beside the forest, and what speaks against it (`objections`)."""

    tensors: dict[str, NDArray[Any]]
    card: dict[str, Any]
    objections: list[str]


def finish(rows: RowSet, course: Course, prepared: Prepared, forests: dict[str, bytes]) -> Fitted:
    """Judge the early model on the late rows, and tell what is to be told of the one that is kept."""
    card: dict[str, Any] = {}
    objections: list[str] = []
    tensors: dict[str, NDArray[Any]] = {}
    if JUDGE in forests:
        p_N, late = _late(rows, course, Model(prepared.bases[JUDGE], read_forest(forests[JUDGE])))
        card["holdout"] = {"days": course.train.holdout_days, **figures(p_N, late["label_N"])}
        card["rivals"], objections = _rivals(p_N, late, course.previous_ms)
        if course.train.calibrate == "isotonic":
            tensors["calibration_x"], tensors["calibration_y"] = isotonic(p_N, late["label_N"])
    model = Model(prepared.bases[FOREST], read_forest(forests[FOREST]))
    tensors["base_weight_5"] = model.base.weight_5
    card["base_weights"] = [round(float(weight), 6) for weight in model.base.weight_5]
    card["gain"] = gains(model.booster)
    card["monotone_violations"] = monotone_violations(model, _probe(rows, sum(prepared.lessons[-1].rows)))
    return Fitted(tensors, card, objections)


def _late(rows: RowSet, course: Course, model: Model) -> tuple[Floats, Columns]:
    """Chances of the late rows of the type to be scored, and what their judgement needs of them."""
    names = ["label_N", "time_N", "rival_NR"]
    score: list[Floats] = []
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    for _, block in rows.all_blocks([*names, "type_N", "features_NF"]):
        late_N = (block["time_N"] >= course.young_ms) & (block["type_N"] == course.target)
        if late_N.any():
            score.append(model.scores(block["features_NF"][late_N]))
            for name in names:
                parts[name].append(block[name][late_N])
    return np.concatenate(score), {name: np.concatenate(part) for name, part in parts.items()}


def _rivals(p_N: Floats, late: Columns, previous_ms: int | None) -> tuple[dict[str, Any], list[str]]:
    """Other models on the same later rows; a former bundle is compared on what came after it only."""
    found, objections = {}, []
    for column, name in enumerate(RIVALS):
        since_N = late["time_N"] >= ((previous_ms or 0) if name == "previous" else 0)
        score_N = late["rival_NR"][since_N, column].astype(np.float64)
        label_N, own_N = late["label_N"][since_N], p_N[since_N]
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


def _probe(rows: RowSet, total: int) -> NDArray[np.float32]:
    """Features of about PROBE_ROWS rows, evenly over all `total`."""
    step = max(1, total // PROBE_ROWS)
    first, found = 0, []
    for _, block in rows.all_blocks(["features_NF"]):
        features_NF = block["features_NF"]
        found.append(features_NF[-first % step :: step])
        first += len(features_NF)
    return np.concatenate(found)[:PROBE_ROWS]


def monotone_violations(model: Model, probe_NF: NDArray[np.float32]) -> int:
    """Rows of a probe whose margin falls when a constrained feature rises; 0 where the constraints hold."""
    p_N, broken = model.scores(probe_NF), 0
    for name in (*LEVELS, *CROSS[:6]):
        raised_NF = probe_NF.copy()
        raised_NF[:, FEATURES.index(name)] += PROBE_STEP
        broken += int(np.count_nonzero(model.scores(raised_NF) < p_N - 1e-6))
    return broken
