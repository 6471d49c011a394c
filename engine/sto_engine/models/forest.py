"""The only file that knows XGBoost: rows -> trees. Scoring reads the saved bytes with the engine's own parser.

Rows come batch by batch, from files as often as XGBoost asks (four times), and are kept as one byte a feature; the
bytes of a model do not depend on how rows are cut into batches, nor on whether the quantized rows lie in memory or on
disk. They do depend on the number of threads, of processes, and on the device.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.config import Train
from sto_engine.errors import Unavailable

# XGBoost's histogram sums depend on how rows are split over threads; one fixed number keeps the bytes of a model
# independent of --threads.
TRAIN_THREADS = 2


@dataclass(frozen=True)
class Batch:
    """Features float32 [N, F] and labels 0/1 of some rows, their weights and the margins that they start from."""

    features_NF: NDArray[np.float32]
    label_N: NDArray[np.float32]
    weight_N: NDArray[np.float32] | None = None
    base_N: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Recipe:
    """How to grow a forest; `monotone` is 1 for features whose rise must not lower the margin.

    `based` says that rows come with base margins; `external` keeps the quantized rows on the local disk. `bagged` grows
    a random forest, all trees at once from a margin of 0; a row of the label weighs `positive_weight`.
    """

    names: tuple[str, ...]
    train: Train
    seed: int
    monotone: tuple[int, ...] | None = None
    based: bool = True
    threads: int = TRAIN_THREADS
    on_gpu: bool = False
    external: bool = False
    bagged: bool = False
    positive_weight: float = 1.0

    @property
    def rounds(self) -> int:
        """How often XGBoost grows: a tree each time, or all of a random forest at once."""
        return 1 if self.bagged else self.train.trees

    def params(self) -> dict[str, Any]:
        """The same as XGBoost names it."""
        train = self.train
        params: dict[str, Any] = {
            "objective": "binary:logistic",
            "tree_method": "hist",
            "max_depth": train.depth,
            "learning_rate": train.learning_rate,
            "subsample": train.subsample,
            "colsample_bytree": train.colsample,
            "min_child_weight": train.min_child_weight,
            "reg_lambda": train.reg_lambda,
            "seed": self.seed,
            "nthread": self.threads,
        }
        if self.monotone is not None:
            params["monotone_constraints"] = "(" + ",".join(map(str, self.monotone)) + ")"
        if self.based or self.bagged:
            params["base_score"] = 0.5  # the base margin, or 0, is the whole start: nothing to add to it
        if self.bagged:
            params |= {"num_parallel_tree": train.trees, "colsample_bytree": 1.0, "colsample_bynode": train.colsample}
        if self.positive_weight != 1.0:
            params["scale_pos_weight"] = self.positive_weight
        if self.on_gpu:
            params["device"] = "cuda"
        return params


def fit_forest(
    batches: Sequence[Callable[[], Batch]],
    recipe: Recipe,
    start: bytes | None = None,
    every: int | None = None,
    grown: Callable[[bytes], None] | None = None,
) -> Any:
    """Train on the rows of `batches`, each called several times; returns the booster.

    Grows on from `start`, the UBJSON of the first trees, to `recipe.rounds`; calls `grown` with the forest so far
    every so many trees, but not with the last. Within a collective of XGBoost `batches` are the rows of one process,
    and all of them call this. Raises Unavailable (69) without XGBoost, or without its CUDA where it is asked for.
    """
    xgboost = _xgboost()
    if recipe.on_gpu and not xgboost.build_info()["USE_CUDA"]:
        raise Unavailable(
            "training on a GPU needs XGBoost with CUDA; found one without; install it with: pip install "
            "'sto-engine[gpu]', or set cluster.train_gpu = false"
        )
    former = None if start is None else xgboost.Booster(model_file=bytearray(start))
    done = 0 if former is None else former.num_boosted_rounds()
    rounds = recipe.rounds - done
    callbacks = [_teller(xgboost, recipe.rounds, every, grown)] if every and grown else []

    def grow(cache: str | None) -> Any:
        # the quantized rows end with this function, before the folder of their files does
        data = _matrix(xgboost, batches, recipe, cache)
        return xgboost.train(recipe.params(), data, rounds, xgb_model=former, callbacks=callbacks)

    if not recipe.external:
        return grow(None)
    with tempfile.TemporaryDirectory(prefix="sto-train-") as folder:
        return grow(str(Path(folder) / "rows"))


def forest_bytes(booster: Any) -> bytes:
    """The model as UBJSON."""
    return bytes(booster.save_raw("ubj"))


def read_forest(forest: bytes) -> Any:
    """The booster of a model's UBJSON."""
    return _xgboost().Booster(model_file=bytearray(forest))


def trees_of(forest: bytes) -> int:
    """How many trees a model's UBJSON holds."""
    return int(read_forest(forest).num_boosted_rounds())


def gains(booster: Any) -> dict[str, float]:
    """Total gain of each feature that a tree uses, as shares of the whole."""
    found = booster.get_score(importance_type="total_gain")
    total = sum(found.values()) or 1.0
    return {name: round(float(gain) / total, 6) for name, gain in sorted(found.items(), key=lambda item: -item[1])}


def margins(booster: Any, rows_NF: NDArray[np.float32], base_N: NDArray[np.float32] | None) -> NDArray[np.float64]:
    """Base margin (None: the model's own) plus the trees, by XGBoost itself, float64 [N]."""
    names = booster.feature_names
    data = _xgboost().DMatrix(rows_NF, base_margin=base_N, feature_names=names)
    return np.asarray(booster.predict(data, output_margin=True), np.float64)


def _matrix(xgboost: Any, batches: Sequence[Callable[[], Batch]], recipe: Recipe, cache: str | None) -> Any:
    """The rows quantized: in memory, or in files of this machine whose names begin with `cache`."""
    rows = _iterator(xgboost, batches, recipe, cache)
    kind = xgboost.QuantileDMatrix if cache is None else xgboost.ExtMemQuantileDMatrix
    return kind(rows, nthread=recipe.threads)


def _iterator(xgboost: Any, batches: Sequence[Callable[[], Batch]], recipe: Recipe, cache: str | None) -> Any:
    """XGBoost's view of the batches."""

    class Batches(xgboost.DataIter):  # type: ignore[misc]
        def __init__(self) -> None:
            self.place = 0
            super().__init__(cache_prefix=cache)

        def next(self, take: Callable[..., None]) -> bool:
            if self.place == len(batches):
                return False
            batch = batches[self.place]()
            self.place += 1
            names, label_N, weight_N = list(recipe.names), batch.label_N, batch.weight_N
            take(data=batch.features_NF, label=label_N, weight=weight_N, base_margin=batch.base_N, feature_names=names)
            return True

        def reset(self) -> None:
            self.place = 0

    return Batches()


def _teller(xgboost: Any, trees: int, every: int, grown: Callable[[bytes], None]) -> Any:
    """Calls `grown` every so many trees: after each one it would cost seconds a tree on a cluster."""

    class Teller(xgboost.callback.TrainingCallback):  # type: ignore[misc]
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            done = model.num_boosted_rounds()
            if done % every == 0 and done < trees:
                grown(forest_bytes(model))
            return False

    return Teller()


def _xgboost() -> Any:
    try:
        import xgboost
    except ImportError as error:
        raise Unavailable(
            "training needs XGBoost; install it with: pip install 'sto-engine[cpu]' (or [gpu])"
        ) from error
    return xgboost
