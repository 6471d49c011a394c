"""Rows -> base weights and the margins that forests start from: what there is to learn from, and for which model.

Rows lie in files and are taken a few columns at a time; both functions are work for any machine.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.config import Train
from sto_engine.files import writing
from sto_engine.history.bucket import DAY_MS
from sto_engine.train.base import COLUMNS, Base, Narrow, base_inputs, campaign_offsets, fit_base
from sto_engine.train.forests import Lesson
from sto_engine.train.passes import Source
from sto_engine.train.quality import MIN_ROWS
from sto_engine.train.row_files import RowSet
from sto_engine.train.scratch import fresh

JUDGE, FOREST = "judge", "forest"


@dataclass(frozen=True)
class Course:
    """The settings of a fit: rows of `young_ms` and later are held out, those of type `target` among them are judged.

    The former bundle is compared on rows from `previous_ms` on.
    """

    train: Train
    target: int
    young_ms: int
    previous_ms: int | None


def course_of(train: Train, target: int, as_of_ms: int, previous_ms: int | None) -> Course:
    """The course of a training that ends at `as_of_ms`."""
    return Course(train, target, as_of_ms - train.holdout_days * DAY_MS, previous_ms)


@dataclass(frozen=True)
class Look:
    """What drawn rows hold: how many each file, first and last send, share and extremes of the label."""

    rows: tuple[int, ...]
    first_ms: int
    last_ms: int
    rate: float
    least: float
    most: float


@dataclass(frozen=True)
class Prepared:
    """Base of each model, by name, and what its forest learns from."""

    bases: dict[str, Base]
    lessons: tuple[Lesson, ...]


def look(rows: RowSet) -> Look:
    """What there is to learn from."""
    kept, labels, times = [0] * rows.size, list[NDArray[np.float32]](), list[NDArray[np.int64]]()
    for file, block in rows.all_blocks(["label_N", "time_N"]):
        kept[file] += len(block["label_N"])
        labels.append(block["label_N"])
        times.append(block["time_N"])
    if not sum(kept):
        return Look((), 0, 0, 0.0, 0.0, 0.0)
    label_N, time_N = np.concatenate(labels), np.concatenate(times)
    rate = float(label_N.mean(dtype=np.float64))
    return Look(tuple(kept), int(time_N.min()), int(time_N.max()), rate, float(label_N.min()), float(label_N.max()))


def lack(seen: Look, sends: int | None, source: Source) -> str | None:
    """Why there is too little to learn from, None where there is not; `sends` are all of the history, None where
    unknown."""
    n, where, train = sum(seen.rows), f"store {source.store.path}", source.config.train
    if sends == 0 or (sends is None and n == 0):
        return f'{where} has no sends to learn from; score it with model.policy = "attention"'
    as_of_ms = source.span.as_of_ms
    days = (as_of_ms - min(seen.first_ms, as_of_ms)) / DAY_MS if n else 0.0
    if days < train.min_label_days:
        return (
            f"{where} must have {train.min_label_days} days of sends before --as-of; found {days:.1f}; "
            "collect more history, or raise train.label_days"
        )
    if n < train.min_rows:
        return (
            f"{where} must give {train.min_rows} training rows; found {n} sends in the last "
            f"{train.label_days} days; raise train.label_days or pass another --as-of"
        )
    if seen.least == seen.most:
        return f"{where}: all {n} training rows have the label {seen.least:.0f}; both must occur"
    return None


def prepare(rows: RowSet, course: Course) -> Prepared:
    """Fit the base of each model and write the margins that its rows start from."""
    narrow, file_N = _narrow(rows)
    young_N = narrow.time_N >= course.young_ms
    late_N = young_N & (narrow.type_N == course.target)
    bases, lessons = {}, []
    if _can_judge(narrow, late_N, ~young_N):
        early, count_F = narrow.take(~young_N), np.bincount(file_N[~young_N], minlength=rows.size)
        bases[JUDGE], margins_name = _base(rows, JUDGE, early, course.target)
        lessons.append(Lesson(JUDGE, tuple(count_F.tolist()), margins_name, course.young_ms))
        del early
    bases[FOREST], margins_name = _base(rows, FOREST, narrow, course.target)
    lessons.append(Lesson(FOREST, tuple(np.bincount(file_N, minlength=rows.size).tolist()), margins_name))
    return Prepared(bases, tuple(lessons))


def _narrow(rows: RowSet) -> tuple[Narrow, NDArray[np.int32]]:
    """The columns that base weights need, and the file of each row."""
    names = ("label_N", "weight_N", "type_N", "hour_N", "campaign_N", "time_N")
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in (*names, "shapes_N4", "file")}
    for file, block in rows.all_blocks([*names, "features_NF"]):
        for name in names:
            parts[name].append(block[name])
        parts["shapes_N4"].append(block["features_NF"][:, COLUMNS])
        parts["file"].append(np.full(len(block["label_N"]), file, np.int32))
    whole = {name: np.concatenate(parts.pop(name)) for name in tuple(parts)}
    return Narrow(**{name: whole[name] for name in (*names, "shapes_N4")}), whole["file"]


def _base(rows: RowSet, name: str, narrow: Narrow, target: int) -> tuple[Base, str]:
    """Base weights, and the name of the file of margins: base and campaign offset, float32 [N]."""
    inputs_N5, offset_N = base_inputs(narrow.shapes_N4), campaign_offsets(narrow)
    base = fit_base(inputs_N5, narrow.label_N, offset_N, narrow.weight_N, narrow.type_N, target)
    path = fresh(rows.folder, f"margins-{name}", ".npy")
    with writing(path):
        np.save(path, (base.margins(inputs_N5, narrow.type_N) + offset_N).astype(np.float32))
    return base, path.name


def _can_judge(rows: Narrow, *sides: NDArray[np.bool_]) -> bool:
    """Both sides have rows enough and both outcomes."""
    return all(np.count_nonzero(side_N) >= MIN_ROWS and 0 < rows.label_N[side_N].mean() < 1 for side_N in sides)
