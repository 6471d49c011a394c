"""ONNX Runtime's tree ensemble on the case's own forest, converted by onnxmltools.

The converter takes a copy of the model with three things mended: features named f0, f1, ... (it knows no others), the
base score as the margin it stands for, and the objective of a regression, so that the graph ends in the margin and no
time goes into a sigmoid.
"""

import json
from pathlib import Path
from typing import Any

import xgboost
from numpy.typing import NDArray

from sto_bench import cache
from sto_bench.contest import Scorer
from sto_bench.peers.base import RowScorer, library, plus_base
from sto_bench.training import training_facts
from sto_bench.worlds import World


def _convert(world: World, path: Path) -> None:
    converter = library("onnxmltools", "onnxmltools skl2onnx")
    types = library("onnxmltools.convert.common.data_types", "onnxmltools skl2onnx")
    width = len(world.booster.feature_names or [])
    source = xgboost.Booster(model_file=_mended(world))
    graph = converter.convert_xgboost(source, initial_types=[("rows", types.FloatTensorType([None, width]))])
    path.write_bytes(graph.SerializeToString())


def _mended(world: World) -> bytearray:
    model = json.loads(world.booster.save_raw("json"))
    learner = model["learner"]
    learner["feature_names"], learner["feature_types"] = [], []
    learner["learner_model_param"]["base_score"] = f"[{world.forest.base_margin:.9E}]"
    learner["objective"] = {"name": "reg:squarederror", "reg_loss_param": {"scale_pos_weight": "1"}}
    learner["attributes"] = {}
    return bytearray(json.dumps(model).encode())


class OnnxruntimeScorer(RowScorer):
    def __init__(self, world: World, threads: int, include_expansion: bool) -> None:
        super().__init__(world, include_expansion)
        runtime = library("onnxruntime", "onnxruntime")
        facts: dict[str, object] = {**training_facts(world.case, world.case.train_rows), "kept": world.case.trees}
        facts |= {"xgboost": xgboost.__version__, "onnxmltools": library("onnxmltools", "onnxmltools").__version__}
        path = cache.made(cache.keyed("onnx", facts, ".onnx"), lambda temporary: _convert(world, temporary))
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def margins(self) -> NDArray[Any]:
        found: NDArray[Any] = self._session.run(None, {"rows": self.rows_PF})[0]
        return plus_base(found, self.base_P)


def build(world: World, threads: int, include_expansion: bool = False) -> Scorer:
    return OnnxruntimeScorer(world, threads, include_expansion)
