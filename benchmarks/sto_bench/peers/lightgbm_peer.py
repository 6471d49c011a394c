"""LightGBM with a model of its own of the same shape: trees of at most 2^depth leaves and that depth, same features."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_bench import cache
from sto_bench.cases import Case
from sto_bench.contest import Scorer
from sto_bench.peers.base import OWN_ROWS, RowScorer, library, plus_base
from sto_bench.training import training_facts, training_rows
from sto_bench.worlds import World


def model_path(case: Case, threads: int) -> Path:
    """The text file of the case's LightGBM model, from the cache or trained now; lleaves compiles the same one."""
    lightgbm, rows = library("lightgbm", "lightgbm"), min(case.train_rows, OWN_ROWS)

    def train(path: Path) -> None:
        rows_NF, label_N, base_N = training_rows(case, rows)
        data = lightgbm.Dataset(rows_NF, label_N, init_score=base_N)
        params = {
            "objective": "binary",
            "num_leaves": 2**case.depth,
            "max_depth": case.depth,
            "learning_rate": 0.05,
            "bagging_fraction": 0.8,
            "bagging_freq": 1,
            "max_bin": 255,
            # the default of 20 rows and 1e-3 of hessian a leaf would leave trees smaller than XGBoost's
            "min_data_in_leaf": 3,
            "num_threads": threads,
            "verbose": -1,
        }
        lightgbm.train(params, data, case.trees).save_model(path)

    facts = {**training_facts(case, rows), "trees": case.trees, "lightgbm": lightgbm.__version__}
    return cache.made(cache.keyed("lightgbm", facts, ".txt"), train)


class LightgbmScorer(RowScorer):
    def __init__(self, world: World, threads: int, include_expansion: bool) -> None:
        super().__init__(world, include_expansion)
        lightgbm = library("lightgbm", "lightgbm")
        self._booster = lightgbm.Booster(model_file=model_path(world.case, threads))
        self._threads = threads
        leaves = sum(tree["num_leaves"] for tree in self._booster.dump_model()["tree_info"])
        self.note = f"own model, {leaves:,} leaves (ours {leaf_count(world):,})"

    def margins(self) -> NDArray[Any]:
        found: NDArray[Any] = self._booster.predict(
            self.rows_PF, raw_score=True, num_threads=self._threads, validate_features=False
        )
        return plus_base(found, self.base_P)


def leaf_count(world: World) -> int:
    """Leaves of the case's forest."""
    return int(np.count_nonzero(world.forest.left_N < 0))


def build(world: World, threads: int, include_expansion: bool = False) -> Scorer:
    return LightgbmScorer(world, threads, include_expansion)
