"""nvForest (RAPIDS, the successor of cuML FIL) on the case's own forest, on a GPU.

NEVER RUN by us so far: written from https://docs.rapids.ai/api/nvforest/stable/python_api/. Rows lie on the device
before the clock starts; the choice of the slot is made there and its result copied to the host, which also waits for
the device.
"""

from pathlib import Path
from typing import Any

import numpy as np

from sto_bench import cache
from sto_bench.contest import Choice, Missing, Scorer
from sto_bench.peers.base import RowScorer, library
from sto_bench.worlds import World

TUNE_USERS = 4096


class NvforestScorer(RowScorer):
    def __init__(self, world: World, threads: int, include_expansion: bool) -> None:
        super().__init__(world, include_expansion)
        self._cupy = library("cupy", "cupy-cuda13x")
        forest = library("nvforest", "nvforest-cu13")
        if not self._cupy.cuda.is_available():
            raise Missing("no CUDA device")
        path = cache.folder() / f"nvforest-{world.case.name}.ubj"
        path.write_bytes(world.model)
        model = _load(forest, path)
        # its own search for the layout and chunk size that suit these rows
        tune = self._cupy.asarray(world.rows(slice(0, TUNE_USERS)))
        self._model = model.optimize(data=tune, predict_method="predict_proba")
        self._rows: Any = None
        self._base: Any = None

    def _expand(self) -> None:
        super()._expand()
        self._rows = self._cupy.asarray(self.rows_PF)
        self._base = None if self.base_P is None else self._cupy.asarray(self.base_P)

    def score(self) -> Choice:
        if self.include_expansion:
            self._expand()
        cupy, slots = self._cupy, self.world.case.slots
        p_US = self._model.predict_proba(self._rows)[..., -1].reshape(-1, slots)
        margin_US = cupy.log(p_US / (1 - p_US))
        if self._base is not None:
            margin_US = margin_US + self._base.reshape(-1, slots)
        slot_U = margin_US.argmax(axis=1)
        best_U = cupy.take_along_axis(margin_US, slot_U[:, None], axis=1)[:, 0]
        return Choice(np.asarray(slot_U.get()), np.asarray(best_U.get()))


def _load(forest: Any, path: Path) -> Any:
    return forest.load_model(path, model_type="xgboost_ubj", device="gpu", precision="single", align_bytes=128)


def build(world: World, threads: int, include_expansion: bool = False) -> Scorer:
    return NvforestScorer(world, threads, include_expansion)
