"""`day_of_week` and `seed_best_day`: their tables and forests from drawn rows, judged on the last days.

The holdout is judged by a forest that has not seen it, against the best day table of the same early rows.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sto_engine.config import Config
from sto_engine.errors import BadData
from sto_engine.executor import Executor
from sto_engine.history.bucket import DAY_MS
from sto_engine.models.best_day import DayTable, fit_table
from sto_engine.models.day_features import MONOTONE
from sto_engine.models.day_of_week import SEED_BEST_DAY, freed
from sto_engine.models.forest import Recipe, gains, margins, read_forest
from sto_engine.models.priors import Priors
from sto_engine.train.draw import Tally
from sto_engine.train.fit import Fitted
from sto_engine.train.forests import Lesson, Plan
from sto_engine.train.passes import Drawn, MomentPriors, Source, count_bucket, draw_day_bucket
from sto_engine.train.prepare import FOREST, JUDGE, Look, lack
from sto_engine.train.quality import MIN_ROWS, figures
from sto_engine.train.question import names_of, settings_of
from sto_engine.train.row_files import Columns, RowSet
from sto_kernels.lanes import Floats

T = TypeVar("T")
WIDEST, HALVINGS = 3.0, 40


class Trainer(Protocol):
    """What a training does for every model (train_job)."""

    @property
    def source(self) -> Source: ...

    @property
    def executor(self) -> Executor: ...

    @property
    def seed(self) -> int: ...

    def sums(self) -> tuple[tuple[MomentPriors, MomentPriors], int | None, int]: ...

    def over_buckets(self, phase: str, work: Callable[[int], T]) -> Iterator[tuple[int, T]]: ...

    def drawn_rows(self, work: Callable[[int], Drawn], last_bin: int | None) -> tuple[RowSet, Look]: ...

    def grow(self, plan: Plan) -> dict[str, bytes]: ...

    def tell(self, stage: str) -> None: ...


@dataclass(frozen=True)
class Learnt:
    """What rows of days come to: what was seen of them, the forest, and what goes beside it."""

    seen: Look
    forest: bytes
    fitted: Fitted


def learn_days(job: Trainer, question: str) -> Learnt:
    """Train the preset or the policy; BadData (65) where there is too little to learn from."""
    source, config = job.source, job.source.config
    then, now, last_bin, sends = _first_pass(job, question)
    rows, seen = job.drawn_rows(partial(draw_day_bucket, source, last_bin, then), last_bin)
    why = lack(seen, sends, source)
    if why is not None:
        raise BadData(why)
    young_ms = source.span.as_of_ms - config.train.holdout_days * DAY_MS
    table, early = job.executor.call(partial(table_of_rows, rows, config, None)), _early(rows, young_ms)
    recipe = recipe_of(config, question, job.seed, seen.rate)
    lessons = [Lesson(FOREST, seen.rows)]
    if sum(early) >= MIN_ROWS <= sum(seen.rows) - sum(early):
        lessons.insert(0, Lesson(JUDGE, early, None, young_ms))
    job.tell("forest")
    forests = job.grow(Plan(rows, tuple(lessons), recipe))
    weight = recipe.positive_weight
    card: dict[str, Any] = {
        "train": recipe.train.model_dump(mode="json"),
        "gain": gains(read_forest(forests[FOREST])),
        "best_day": table.told(config.best_day.min_sends),
    }
    if JUDGE in forests:
        job.tell("judge")
        figures_of, weight = job.executor.call(partial(judged, rows, config, young_ms, forests[JUDGE], recipe))
        card |= figures_of
    tensors = {**table.tensors(), "positive_weight": np.array([weight]), **(now.tensors() if now else {})}
    return Learnt(seen, forests[FOREST], Fitted(tensors, card, []))


def _first_pass(job: Trainer, question: str) -> tuple[Priors | None, Priors | None, int | None, int | None]:
    """Priors at the origin and at as_of where the model has them, the last bin that is drawn, all sends if known."""
    if question == SEED_BEST_DAY:
        tally = Tally()
        for _, count_B in job.over_buckets("count", partial(count_bucket, job.source)):
            tally.add(count_B)
        return None, None, tally.last_bin(job.source.config.train.max_rows), None
    (then, now), last_bin, sends = job.sums()
    return then.used, now.used, last_bin, sends


def recipe_of(config: Config, question: str, seed: int, rate: float) -> Recipe:
    """How the forest grows, where a share `rate` of the rows has the label."""
    names, train = tuple(names_of(config, question)), settings_of(config.train, question)
    if question == SEED_BEST_DAY:
        weight = (1 - rate) / rate if 0 < rate < 1 else 1.0
        return Recipe(names, train, seed, based=False, bagged=True, positive_weight=weight)
    return Recipe(names, train, seed, MONOTONE, based=False)


def _early(rows: RowSet, young_ms: int) -> tuple[int, ...]:
    """Rows of each file from before the holdout."""
    count_F = [0] * rows.size
    for file, block in rows.all_blocks(["time_N"]):
        count_F[file] += int((block["time_N"] < young_ms).sum())
    return tuple(count_F)


def table_of_rows(rows: RowSet, config: Config, before_ms: int | None) -> DayTable:
    """The table of the rows before a moment; engagement is the first feature."""
    found = _columns(rows, None if before_ms is None else (0, before_ms))
    engagement_N = found["features_NF"][:, 0]
    return fit_table(engagement_N, found["hour_N"].astype(np.int64), found["label_N"], config.best_day.tiers)


def _columns(rows: RowSet, span_ms: tuple[int, int] | None) -> Columns:
    names = ["features_NF", "hour_N", "label_N", "time_N"]
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    for _, block in rows.all_blocks(names):
        time_N = block["time_N"]
        in_N = slice(None) if span_ms is None else (time_N >= span_ms[0]) & (time_N < span_ms[1])
        for name in names:
            parts[name].append(block[name][in_N])
    return {name: np.concatenate(part) for name, part in parts.items()}


def judged(rows: RowSet, config: Config, young_ms: int, forest: bytes, recipe: Recipe) -> tuple[dict[str, Any], float]:
    """Figures of the early forest on the late rows, and of the early table on the same; what to free margins of."""
    late = _columns(rows, (young_ms, 2**62))
    margin_N = margins(read_forest(forest), late["features_NF"], None)
    weight = weight_of(margin_N, float(late["label_N"].mean()), recipe)
    p_N = freed(margin_N, weight) if recipe.bagged else 1 / (1 + np.exp(-margin_N))
    table = table_of_rows(rows, config, young_ms)
    row_N = table.tiers_of(late["features_NF"][:, 0].astype(np.float64))
    table_N = table.used(config.best_day.min_sends)[row_N, late["hour_N"].astype(np.int64)]
    label_N = late["label_N"]
    card = {
        "holdout": {"days": config.train.holdout_days, **figures(p_N, label_N)},
        "rivals": {"best_day_table": figures(table_N, label_N)},
    }
    return card, weight


def weight_of(margin_N: Floats, rate: float, recipe: Recipe) -> float:
    """What to free margins of so that later rows have their share `rate` of labels on average.

    That is about the weight of training: a mean over trees that each fit their rows too well is a little off.
    """
    if not recipe.bagged or not 0 < rate < 1:
        return recipe.positive_weight
    low, high = (math.log(recipe.positive_weight) + step for step in (-WIDEST, WIDEST))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        # the more margins are freed of, the less is left
        low, high = (middle, high) if freed(margin_N, math.exp(middle)).mean() > rate else (low, middle)
    return math.exp((low + high) / 2)
