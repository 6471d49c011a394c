"""XGBoost's fastest way from an array: `inplace_predict` on float32 rows; it walks blocks of rows, all threads."""

from typing import Any

import xgboost
from numpy.typing import NDArray

from sto_bench.contest import Scorer
from sto_bench.peers.base import RowScorer
from sto_bench.worlds import World


class XgboostScorer(RowScorer):
    def __init__(self, world: World, threads: int, include_expansion: bool) -> None:
        super().__init__(world, include_expansion)
        self._booster = xgboost.Booster({"nthread": threads}, model_file=bytearray(world.model))

    def margins(self) -> NDArray[Any]:
        found: NDArray[Any] = self._booster.inplace_predict(
            self.rows_PF, predict_type="margin", base_margin=self.base_P, validate_features=False
        )
        return found


def build(world: World, threads: int, include_expansion: bool = False) -> Scorer:
    return XgboostScorer(world, threads, include_expansion)
