"""Yggdrasil Decision Forests with a model of its own of the same shape; of its engines the fastest here.

Its scores are probabilities: monotone in the margin, so the choice is the same work. The dataset is made outside the
clock, since YDF turns rows into columns of its own first.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_bench import cache
from sto_bench.cases import Case
from sto_bench.contest import Choice, Missing, Scorer
from sto_bench.peers.base import RowScorer, choose, library
from sto_bench.peers.lightgbm_peer import leaf_count
from sto_bench.recipients import F32
from sto_bench.training import training_facts, training_rows
from sto_bench.worlds import World

# its exact splits take seconds a tree on more; the trees are nearly full with this many
TRAIN_ROWS = 40_000
TUNE_USERS = 200


def _columns(rows_NF: F32) -> dict[str, NDArray[Any]]:
    return {f"f{k}": np.ascontiguousarray(column) for k, column in enumerate(rows_NF.T)}


def _model(case: Case, ydf: Any, threads: int) -> Any:
    rows = min(case.train_rows, TRAIN_ROWS)

    def train(path: Path) -> None:
        rows_NF, label_N, _ = training_rows(case, rows)
        learner = ydf.GradientBoostedTreesLearner(
            label="label",
            num_trees=case.trees,
            # YDF counts nodes on the path, not edges
            max_depth=case.depth + 1,
            shrinkage=0.05,
            subsample=0.8,
            min_examples=3,
            early_stopping="NONE",
            validation_ratio=0.0,
            # exact splits on all rows take minutes; bins make trees of the same size
            discretize_numerical_columns=True,
            num_threads=threads,
        )
        learner.train({**_columns(rows_NF), "label": label_N.astype(np.int64)}, verbose=0).save(str(path))

    facts = {**training_facts(case, rows), "trees": case.trees, "ydf": ydf.__version__}
    path = cache.keyed("ydf", facts, "")
    return ydf.load_model(str(cache.made(path, train)))


class YdfScorer(RowScorer):
    def __init__(self, world: World, threads: int, include_expansion: bool) -> None:
        super().__init__(world, include_expansion)
        if world.case.with_base:
            raise Missing("YDF cannot start from a base margin")
        self._ydf = library("ydf", "ydf")
        self._ydf.verbose(0)
        self._model, self._threads = _model(world.case, self._ydf, threads), threads
        self._data: Any = None
        leaves = (self._model.num_nodes() + self._model.num_trees()) // 2
        engine = self._pick_engine()
        self.note = f"own model, {leaves:,} leaves (ours {leaf_count(world):,}); engine {engine}"

    def _pick_engine(self) -> str:
        """Force the fastest of its engines on a sample: which one that is depends on the forest."""
        seconds = {}
        for engine in self._model.list_compatible_engines():
            self._model.force_engine(engine)
            self.load(TUNE_USERS)
            seconds[engine] = min(self.time_calls(1, time.perf_counter)[0] for _ in range(2))
        best = min(seconds, key=lambda engine: seconds[engine])
        self._model.force_engine(best)
        return str(best)

    def _expand(self) -> None:
        rows_PF = self.world.rows(slice(0, self.users))
        self._data = self._ydf.create_vertical_dataset(
            _columns(rows_PF), data_spec=self._model.data_spec(), required_columns=self._model.input_feature_names()
        )

    def score(self) -> Choice:
        if self.include_expansion:
            self._expand()
        return choose(self._model.predict(self._data, num_threads=self._threads), self.world.case.slots)


def build(world: World, threads: int, include_expansion: bool = False) -> Scorer:
    return YdfScorer(world, threads, include_expansion)
