"""The forests of a training: what each learns from, and who grows them, this process or a group of machines.

Files of rows are dealt to the processes by size; each reads its own as often as XGBoost asks for them, and the first
one writes the forests. All forests are grown in one run of the group, whose start costs as much as many trees.

    forest-NAME.UUID.ubj    a forest; grown.UUID.json names those of one whole run
    checkpoint: NAME.ubj    the forests so far; one with all of its trees is not grown again
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.errors import BadData, ConfigError
from sto_engine.executor import Executor, Member
from sto_engine.files import canonical_json, write_atomic, writing
from sto_engine.models.forest import Batch, Recipe, fit_forest, forest_bytes, trees_of
from sto_engine.train.row_files import RowSet
from sto_engine.train.scratch import fresh

# files of fewer rows are joined: a page of a few hundred rows costs XGBoost as much as one of thousands
BATCH_ROWS = 131_072


@dataclass(frozen=True)
class Lesson:
    """What a forest learns from: drawn rows before `before_ms`, `rows` of each file, and their base margins.

    `margins` names a float32 file of one margin a row, in the order of files; None for forests that have none, whose
    rows all weigh the same.
    """

    name: str
    rows: tuple[int, ...]
    margins: str | None = None
    before_ms: int | None = None


@dataclass(frozen=True)
class Plan:
    """Everything that the processes of a group are told; `every` trees a checkpoint is handed over, never for None."""

    rows: RowSet
    lessons: tuple[Lesson, ...]
    recipe: Recipe
    every: int | None = None


def grow(plan: Plan, executor: Executor) -> dict[str, bytes]:
    """Each lesson's forest as UBJSON, by name.

    Raises ConfigError (78) for more workers than files with rows and for external memory on a GPU, Unavailable (69)
    where XGBoost is missing.
    """
    group = executor.group
    if plan.recipe.on_gpu and plan.recipe.external:
        # XGBoost would have to be fed from GPU memory; quantized rows that fit there are a byte a feature
        raise ConfigError(
            "cluster.external_memory is for training on CPUs; found workers with a GPU, which hold a byte a feature of "
            "each row; set cluster.external_memory = false or cluster.train_gpu = false"
        )
    if group is None:
        executor.call(partial(grow_part, plan, Member(0, 1, None, _keep_nothing)))
    else:
        deal(plan, group.world)
        group.run(partial(grow_part, plan), plan.rows.folder / "group")
    return _harvest(plan)


def deal(plan: Plan, world: int) -> list[list[int]]:
    """Files of each process, ascending: the largest first to whoever has least, by the rows of the first lesson."""
    size_F = np.array(plan.lessons[0].rows)
    if np.count_nonzero(size_F) < world:
        raise ConfigError(
            f"cluster.train_workers must be at most {np.count_nonzero(size_F)}, the buckets that have rows; found "
            f"{world}; lower it"
        )
    hands: list[list[int]] = [[] for _ in range(world)]
    held = [0] * world
    for file in np.argsort(-size_F, kind="stable").tolist():
        least = held.index(min(held))
        hands[least].append(file)
        held[least] += int(size_F[file])
    return [sorted(hand) for hand in hands]


def grow_part(plan: Plan, member: Member) -> None:
    """One process of the group: every lesson in turn, from where the checkpoint left off; the first one writes."""
    files = deal(plan, member.world)[member.rank]
    started = _read_checkpoint(member.checkpoint)
    forests: dict[str, bytes] = {}
    for lesson in plan.lessons:
        start = started.get(lesson.name)
        if start is not None and trees_of(start) >= plan.recipe.rounds:
            forests[lesson.name] = start
            continue
        hand_over = partial(_hand_over, member, dict(forests), lesson.name)
        booster = fit_forest(_batches(plan.rows, lesson, files), plan.recipe, start, plan.every, hand_over)
        forests[lesson.name] = forest_bytes(booster)
        if plan.every is not None and lesson is not plan.lessons[-1]:
            hand_over(forests[lesson.name])
    if member.rank == 0:
        _write_forests(plan.rows.folder, forests)


def _batches(rows: RowSet, lesson: Lesson, files: Sequence[int]) -> list[Callable[[], Batch]]:
    """The lesson's rows of some files, small files joined."""
    batches: list[Callable[[], Batch]] = []
    joined, held = list[int](), 0
    for file in files:
        if lesson.rows[file]:
            joined.append(file)
            held += lesson.rows[file]
        if held >= BATCH_ROWS or (joined and file == files[-1]):
            batches.append(partial(_load, rows, lesson, joined))
            joined, held = [], 0
    return batches


def _load(rows: RowSet, lesson: Lesson, files: Sequence[int]) -> Batch:
    """Rows of some files; those of one whole file are not copied."""
    wanted = ["features_NF", "label_N"]
    wanted += [] if lesson.margins is None else ["weight_N"]
    wanted += [] if lesson.before_ms is None else ["time_N"]
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in wanted}
    for file in files:
        for block in rows.blocks(file, wanted):
            for name in wanted:
                found = block[name]
                if lesson.before_ms is not None:
                    found = found[block["time_N"] < lesson.before_ms]
                parts[name].append(found)
    whole = {name: part[0] if len(part) == 1 else np.concatenate(part) for name, part in parts.items()}
    return Batch(whole["features_NF"], whole["label_N"], whole.get("weight_N"), _margins(rows.folder, lesson, files))


def _margins(folder: Path, lesson: Lesson, files: Sequence[int]) -> NDArray[np.float32] | None:
    if lesson.margins is None:
        return None
    margin_N = np.load(folder / lesson.margins, mmap_mode="r")
    first_F = np.cumsum([0, *lesson.rows])
    return np.concatenate([margin_N[first_F[file] : first_F[file + 1]] for file in files])


def _hand_over(member: Member, finished: dict[str, bytes], name: str, forest: bytes) -> None:
    """A checkpoint: the forests that are finished and the one that grows; its folder may go once it is handed over."""
    if member.rank:
        member.report(None)
        return
    with tempfile.TemporaryDirectory(prefix="sto-forests-") as folder:
        for own, body in {**finished, name: forest}.items():
            (Path(folder) / f"{own}.ubj").write_bytes(body)
        member.report(Path(folder))


def _read_checkpoint(folder: Path | None) -> dict[str, bytes]:
    return {} if folder is None else {path.stem: path.read_bytes() for path in folder.glob("*.ubj")}


def _write_forests(folder: Path, forests: dict[str, bytes]) -> None:
    """All forests of a run, and last the file that names them."""
    names = {}
    for name, body in forests.items():
        path = fresh(folder, f"forest-{name}", ".ubj")
        names[name] = path.name
        with writing(path):
            path.write_bytes(body)
    write_atomic(fresh(folder, "grown", ".json"), canonical_json(names))


def _harvest(plan: Plan) -> dict[str, bytes]:
    """What a whole run has written; where several have, each is as good as the other."""
    folder = plan.rows.folder
    grown = sorted(folder.glob("grown.*.json"))
    if not grown:
        raise BadData(
            f"{folder} must hold the forests that were grown; found none; put --bundle where all machines see it"
        )
    return {name: (folder / file).read_bytes() for name, file in json.loads(grown[0].read_bytes()).items()}


def _keep_nothing(checkpoint: Path | None) -> None:
    """Who trains alone loses nothing that it could go on from."""
