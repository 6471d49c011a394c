"""The only file that knows XGBoost: rows -> trees. Scoring reads the saved bytes with the engine's own parser."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.config import Train
from sto_engine.errors import Unavailable

# XGBoost's histogram sums depend on how rows are split over threads; one fixed number keeps the bytes of a model
# independent of --threads.
TRAIN_THREADS = 2


def fit_forest(
    rows_NF: NDArray[np.float32],
    label_N: NDArray[np.float32],
    names: Sequence[str],
    train: Train,
    seed: int,
    base_N: NDArray[np.float32] | None = None,
    monotone: Sequence[int] | None = None,
    weight_N: NDArray[np.float32] | None = None,
) -> Any:
    """Train on float32 [N, F] and labels 0/1 on top of base margins [N]; returns the booster.

    `monotone` is 1 for features whose rise must not lower the margin. Raises Unavailable (69) without XGBoost.
    """
    xgboost = _xgboost()
    params = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "max_depth": train.depth,
        "learning_rate": train.learning_rate,
        "subsample": train.subsample,
        "colsample_bytree": train.colsample,
        "min_child_weight": train.min_child_weight,
        "reg_lambda": train.reg_lambda,
        "seed": seed,
        "nthread": TRAIN_THREADS,
    }
    if monotone is not None:
        params["monotone_constraints"] = "(" + ",".join(map(str, monotone)) + ")"
    data = xgboost.QuantileDMatrix(rows_NF, label_N, weight=weight_N, feature_names=list(names), nthread=TRAIN_THREADS)
    if base_N is not None:
        params["base_score"] = 0.5  # the base margin is the whole start: nothing to add to it
        data.set_base_margin(base_N)
    return xgboost.train(params, data, train.trees)


def forest_bytes(booster: Any) -> bytes:
    """The model as UBJSON."""
    return bytes(booster.save_raw("ubj"))


def gains(booster: Any) -> dict[str, float]:
    """Total gain of each feature that a tree uses, as shares of the whole."""
    found = booster.get_score(importance_type="total_gain")
    total = sum(found.values()) or 1.0
    return {name: round(float(gain) / total, 6) for name, gain in sorted(found.items(), key=lambda item: -item[1])}


def margins(booster: Any, rows_NF: NDArray[np.float32], base_N: NDArray[np.float32]) -> NDArray[np.float64]:
    """Base margin plus the trees, by XGBoost itself, float64 [N]."""
    names = booster.feature_names
    data = _xgboost().DMatrix(rows_NF, base_margin=base_N, feature_names=names)
    return np.asarray(booster.predict(data, output_margin=True), np.float64)


def _xgboost() -> Any:
    try:
        import xgboost
    except ImportError as error:
        raise Unavailable(
            "training needs XGBoost; install it with: pip install 'sto-engine[cpu]' (or [gpu])"
        ) from error
    return xgboost
