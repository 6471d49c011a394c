"""How good a model is on rows it has not seen: the figures of the model card, and whether a rival is better.

AUC is Mann-Whitney with ties half; its standard error is that of Hanley and McNeil (1982). ECE is over ten bins of
equal count. N rows.
"""

import math
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_kernels.lanes import Floats

BINS = 10
MIN_ROWS = 200


def auc(score_N: Floats, label_N: NDArray[np.float32]) -> float | None:
    """Chance that a row with the label ranks above one without; None with one outcome only."""
    positives = float(label_N.sum(dtype=np.float64))
    negatives = len(label_N) - positives
    if not positives or not negatives:
        return None
    rank_N = pl.Series(score_N).rank("average").to_numpy()
    return float((rank_N[label_N == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def auc_error(value: float, label_N: NDArray[np.float32]) -> float:
    """Standard error of an AUC."""
    positives = float(label_N.sum(dtype=np.float64))
    negatives = len(label_N) - positives
    first, second = value / (2 - value), 2 * value**2 / (1 + value)
    spread = value * (1 - value) + (positives - 1) * (first - value**2) + (negatives - 1) * (second - value**2)
    return math.sqrt(max(spread, 0.0) / (positives * negatives))


def logloss(p_N: Floats, label_N: NDArray[np.float32]) -> float:
    """Mean negative log likelihood."""
    p = np.clip(p_N, 1e-7, 1 - 1e-7)
    return float(-np.mean(label_N * np.log(p) + (1 - label_N) * np.log(1 - p)))


def calibration_error(p_N: Floats, label_N: NDArray[np.float32]) -> float:
    """Expected calibration error: mean over bins of |mean p - share of labels|."""
    order = np.argsort(p_N, kind="stable")
    bins = [rows for rows in np.array_split(order, BINS) if len(rows)]
    gaps = [len(rows) * abs(float(p_N[rows].mean() - label_N[rows].mean(dtype=np.float64))) for rows in bins]
    return float(sum(gaps) / len(p_N))


def figures(p_N: Floats, label_N: NDArray[np.float32]) -> dict[str, Any]:
    """AUC with its error, logloss, ECE and mean probability against the share of labels."""
    value = auc(p_N, label_N)
    return {
        "rows": len(label_N),
        "auc": _round(value),
        "auc_error": None if value is None else _round(auc_error(value, label_N)),
        "logloss": _round(logloss(p_N, label_N)),
        "ece": _round(calibration_error(p_N, label_N)),
        "mean_p": _round(float(p_N.mean())),
        "base_rate": _round(float(label_N.mean(dtype=np.float64))),
    }


def is_worse(score_N: Floats, rival_N: Floats, label_N: NDArray[np.float32]) -> bool:
    """Whether a model ranks rows below its rival by more than two standard errors."""
    ours, rival = auc(score_N, label_N), auc(rival_N, label_N)
    if ours is None or rival is None or len(label_N) < MIN_ROWS:
        return False
    return ours < rival - 2 * auc_error(rival, label_N)


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
