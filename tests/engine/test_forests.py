"""Forests from files of rows: the same bytes however rows are cut, dealt to processes, lost and taken up again."""

import hashlib
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from executors import Travelling
from groups import Processes
from sto_engine.config import Train
from sto_engine.errors import BadData, ConfigError, Unavailable
from sto_engine.executor import Executor, Threads
from sto_engine.models.forest import Batch, Recipe, fit_forest, forest_bytes, trees_of
from sto_engine.train.forests import Lesson, Plan, deal, grow
from sto_engine.train.row_files import RowSet, write_rows
from sto_engine.train.rows import RIVALS, Rows

FEATURES, SIZES, LATE_MS = 6, (700, 0, 1900, 400, 3), 1_000
TRAIN = Train(trees=12, depth=3, min_child_weight=5, subsample=0.8, colsample=0.8)
RECIPE = Recipe(tuple(f"f{i}" for i in range(FEATURES)), TRAIN, 7, (1, 1, 0, 0, 0, 0))


def drawn(rows: int, seed: int) -> Rows:
    """Rows with missing values, weights and a label that the first feature decides."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, FEATURES)).astype(np.float32)
    label = (rng.random(rows) < 1 / (1 + np.exp(-features[:, 0]))).astype(np.float32)
    features[rng.random((rows, FEATURES)) < 0.1] = np.nan
    small, order = rng.integers(0, 3, rows).astype(np.int8), rng.integers(0, 2**63, rows).astype(np.uint64)
    time, rivals = rng.integers(0, 2 * LATE_MS, rows), np.zeros((rows, len(RIVALS)), np.float32)
    weight = rng.choice(np.array([0.3, 1, 0.77], np.float32), rows)
    return Rows(features, label, order, small, small, weight, time, order, rivals)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two forests: one of the early rows, one of all, each on margins of its own."""
    files = tuple(write_rows(tmp_path, bucket, drawn(rows, bucket)) for bucket, rows in enumerate(SIZES))
    parts = [drawn(rows, bucket) for bucket, rows in enumerate(SIZES)]
    lessons = []
    for name, before in (("judge", LATE_MS), ("forest", None)):
        kept = tuple(int(np.count_nonzero(part.time_N < before)) if before else len(part) for part in parts)
        margins = np.random.default_rng(len(name)).normal(size=sum(kept)).astype(np.float32)
        np.save(tmp_path / f"{name}.npy", margins)
        lessons.append(Lesson(name, kept, f"{name}.npy", before))
    return Plan(RowSet(tmp_path, files), tuple(lessons), RECIPE)


def in_memory(plan: Plan, lesson: Lesson) -> Any:
    """The forest as XGBoost itself trains it on one matrix."""
    parts = [drawn(rows, bucket) for bucket, rows in enumerate(SIZES)]
    whole = {
        n: np.concatenate([getattr(p, n) for p in parts]) for n in ("features_NF", "label_N", "weight_N", "time_N")
    }
    kept = whole["time_N"] < (lesson.before_ms or 2**60)
    data = xgboost.QuantileDMatrix(
        *(whole[name][kept] for name in ("features_NF", "label_N")),
        weight=whole["weight_N"][kept],
        base_margin=np.load(plan.rows.folder / str(lesson.margins)),
        feature_names=list(RECIPE.names),
        nthread=2,
    )
    return xgboost.train(RECIPE.params(), data, TRAIN.trees)


def clear(plan: Plan) -> None:
    """Forget the forests that were grown."""
    for old in plan.rows.folder.glob("grown.*"):
        old.unlink()


def short(forests: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(forest).hexdigest() for name, forest in forests.items()}


@pytest.mark.parametrize("executor", [Threads(1), Travelling(), Travelling(group=Processes())], ids=str)
def test_one_process_grows_the_forests_of_one_matrix_byte_for_byte(executor: Executor, plan: Plan) -> None:
    wanted = {lesson.name: forest_bytes(in_memory(plan, lesson)) for lesson in plan.lessons}
    assert short(grow(plan, executor)) == short(wanted)


@pytest.mark.parametrize("external", [False, True])
def test_how_rows_are_cut_and_where_they_lie_does_not_change_a_forest(external: bool) -> None:
    rows, base = drawn(3000, 1), np.random.default_rng(0).normal(size=3000).astype(np.float32)

    def cut(first: int, last: int) -> Callable[[], Batch]:
        part = slice(first, last)
        return lambda: Batch(rows.features_NF[part], rows.label_N[part], rows.weight_N[part], base[part])

    whole = fit_forest([cut(0, 3000)], RECIPE)
    edges = (0, 1, 130, 900, 901, 2500, 3000)
    parts = [cut(*pair) for pair in pairwise(edges)]
    assert forest_bytes(fit_forest(parts, replace(RECIPE, external=external))) == forest_bytes(whole)


def test_files_are_dealt_by_size_and_everyone_has_one(plan: Plan) -> None:
    rows = plan.lessons[0].rows
    hands = deal(plan, 2)
    assert sorted(file for hand in hands for file in hand) == list(range(len(SIZES)))
    assert sum(rows[file] for file in hands[0]) == max(rows)
    assert deal(plan, 1) == [list(range(len(SIZES)))]
    assert all(any(rows[file] for file in hand) for hand in deal(plan, 4))
    with pytest.raises(ConfigError, match=r"cluster\.train_workers must be at most 4, .* found 5"):
        grow(plan, Travelling(group=Processes(5)))


def test_a_group_that_starts_anew_grows_the_same_forests(plan: Plan) -> None:
    wanted = short(grow(plan, Threads(1)))
    clear(plan)
    plan = replace(plan, every=5)
    assert short(grow(plan, Travelling(group=Processes(dies_at=(2, 4))))) == wanted
    assert len(list((plan.rows.folder / "group").glob("report-*"))) == 2 + 4 + 5


def test_a_group_that_resumes_grows_no_finished_forest_again(plan: Plan) -> None:
    """Reports: judge with 5, 10 and 12 trees, forest with 5 and 10; a forest goes on from the tree of the report."""
    wanted = short(grow(plan, Threads(1)))
    clear(plan)
    grown = grow(replace(plan, every=5), Travelling(group=Processes(resumes=True, dies_at=(4, 1))))
    reports = sorted((plan.rows.folder / "group").glob("report-*"), key=lambda path: int(path.name[7:]))
    trees = [{file.stem: trees_of(file.read_bytes()) for file in report.iterdir()} for report in reports]
    assert trees == [{"judge": 5}, {"judge": 10}, {"judge": 12}, *({"judge": 12, "forest": n} for n in (5, 10))]
    assert short(grown)["judge"] == wanted["judge"]
    assert trees_of(grown["forest"]) == TRAIN.trees


def test_two_processes_share_the_rows_and_agree_on_one_forest(plan: Plan) -> None:
    alone = grow(plan, Threads(1))["forest"]
    clear(plan)
    one_thread = replace(plan, recipe=replace(RECIPE, threads=1))
    shared = grow(one_thread, Travelling(group=Processes(2)))["forest"]
    assert trees_of(shared) == TRAIN.trees
    features = drawn(500, 99).features_NF
    ours, other = (
        xgboost.Booster(model_file=bytearray(forest)).inplace_predict(features) for forest in (alone, shared)
    )
    assert np.corrcoef(ours, other)[0, 1] > 0.98


def test_a_group_whose_folder_nobody_else_sees_is_told_so(plan: Plan) -> None:
    class Nobody(Processes):
        def run(self, loop: object, folder: Path) -> None: ...

    with pytest.raises(BadData, match="put --bundle where all machines see it"):
        grow(plan, Travelling(group=Nobody()))


def test_external_memory_is_not_for_gpus(plan: Plan) -> None:
    on_gpu = replace(plan, recipe=replace(RECIPE, on_gpu=True, external=True))
    with pytest.raises(ConfigError, match=r"cluster\.train_gpu = false"):
        grow(on_gpu, Travelling(group=Processes(on_gpu=True)))


@pytest.mark.skipif(xgboost.build_info()["USE_CUDA"], reason="this XGBoost has CUDA")
def test_a_gpu_needs_an_xgboost_with_cuda(plan: Plan) -> None:
    with pytest.raises(Unavailable, match="XGBoost with CUDA"):
        grow(replace(plan, recipe=replace(RECIPE, on_gpu=True)), Threads(1))


def test_a_machine_without_xgboost_says_what_to_install(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(Unavailable, match="needs XGBoost; install it"):
        grow(plan, Threads(1))
