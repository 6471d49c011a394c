"""`train`: two passes over the buckets, then the fit, the model card, and the question whether the bundle may stand.

pass 1    campaign sums and the hash sample of every bucket, at both moments -> priors at the origin and at as_of
pass 2    rows of every bucket; above `train.max_rows` those of the lowest hashes (train.draw)
fit       base weights and forests, judged on the last days of labels against histogram and the former bundle

What a bucket adds depends on nothing but the bucket, and every sum is exact or in a fixed order: the same bytes for any
number of threads and machines, and the same priors for any number of buckets. Sums, rows and forests lie in files of a
folder beside the bundle (train.scratch); this process holds their names and a few counts.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from sto_engine.config import Config
from sto_engine.errors import BadData
from sto_engine.executor import Executor, Threads
from sto_engine.ingest.calendar_file import with_calendar
from sto_engine.ingest.store import Store
from sto_engine.models.bundle import Bundle
from sto_engine.models.features import FEATURES, MONOTONE
from sto_engine.models.forest import Recipe
from sto_engine.models.priors import Priors
from sto_engine.models.seeds import SEED_BOOSTED
from sto_engine.progress import Progress
from sto_engine.train.days import learn_days
from sto_engine.train.draw import Tally, edge_of
from sto_engine.train.fit import Fitted, finish
from sto_engine.train.forests import Lesson, Plan, grow
from sto_engine.train.former import answers, has_prior, is_young, read_former
from sto_engine.train.moments import span_of
from sto_engine.train.passes import (
    Drawn,
    MomentPriors,
    Source,
    count_bucket,
    draw_bucket,
    draw_seed_bucket,
    moment_priors,
    sum_bucket,
)
from sto_engine.train.prepare import FOREST, Look, course_of, lack, look, prepare
from sto_engine.train.prior_bundle import carried, lack_before, origin, read_prior, warn_of_strangers
from sto_engine.train.question import (
    BOOSTED,
    OF_DAYS,
    labelled,
    names_of,
    policy_of,
    preset_of,
    question_of,
    settings_of,
)
from sto_engine.train.row_files import RowSet
from sto_engine.train.saved import write_bundle
from sto_engine.train.scratch import work_folder
from sto_engine.zones import midnight_ms

T = TypeVar("T")


@dataclass
class TrainReport:
    """What was trained, `trained_by` whom if not by this process; `skipped`: the bundle there was young enough."""

    bundle_id: str
    as_of: str
    rows: int = 0
    base_rate: float = 0.0
    trees: int = 0
    from_prior: dict[str, Any] = field(default_factory=dict)
    holdout: dict[str, Any] = field(default_factory=dict)
    rivals: dict[str, Any] = field(default_factory=dict)
    best_day: dict[str, Any] = field(default_factory=dict)
    trained_by: dict[str, Any] = field(default_factory=dict)
    skipped: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def train(
    store: Path,
    bundle: Path,
    as_of: date | None,
    config: Config,
    threads: int,
    seed: int,
    if_older_than_days: float | None,
    progress: Progress,
    force: bool = False,
    executor: Executor | None = None,
    prior_bundle: Path | None = None,
) -> TrainReport:
    """Train the model that the configuration names (default: `boosted`) on the events before `as_of`.

    `as_of` is a UTC midnight, by default the one after the newest event.
    `executor` does the work; without one, `threads` of this process. `prior_bundle` is another brand's, which own
    tables are drawn to, and whose forest serves where there is too little to train.

    Raises ConfigError (78) for models that are not trained; BadData (65) for histories without sends, with less than
    `train.min_label_days` of labels, fewer than `train.min_rows` rows or only one outcome, and for a model that is
    worse on later data than `histogram` or than the bundle there, unless `force`.
    """
    question = question_of(config)
    config = labelled(with_calendar(config), question)
    # machines that work for this one may start in another folder
    source = Store.open(store if executor is None or executor.in_process else store.absolute())
    prior = None if prior_bundle is None else read_prior(prior_bundle, bundle, config, question)
    day = as_of or _day_of(source, prior)
    former = read_former(bundle)
    is_kept = former is not None and answers(former, config, question) and has_prior(former, prior)
    if former is not None and is_kept and is_young(former, day, if_older_than_days):
        progress.info("train_skipped", bundle_id=former.bundle_id, why="bundle is young enough")
        return TrainReport(former.bundle_id, day.isoformat(), skipped=True)
    with work_folder(bundle) as folder:
        work = Source(source, span_of(day, config), config, folder)
        job = _Training(work, executor or Threads(threads), seed, progress, prior)
        if question in OF_DAYS:
            return job.day_bundle(bundle, question)
        return job.seed_bundle(bundle) if question == SEED_BOOSTED else job.boosted_bundle(bundle, former, force)


def _day_of(store: Store, prior: Bundle | None) -> date:
    """The day after the newest event; without any, that of the other brand's bundle."""
    if store.newest_event_ms is not None:
        return datetime.fromtimestamp(store.newest_event_ms / 1000, UTC).date() + timedelta(days=1)
    if prior is None:
        raise BadData(f"store {store.path} has no events to train on; ingest events first, or pass --prior-bundle")
    return date.fromisoformat(prior.meta["as_of"])


@dataclass(frozen=True)
class _Training:
    """One training: what is read and where work lies, and who does it."""

    source: Source
    executor: Executor
    seed: int
    progress: Progress
    prior: Bundle | None = None

    @property
    def _config(self) -> Config:
        return self.source.config

    def boosted_bundle(self, bundle: Path, former: Bundle | None, force: bool) -> TrainReport:
        (then, now), last_bin, sends = self.sums()
        warn_of_strangers(self.prior, now.own, self.progress)
        rival = self._rival(former, then.used)
        rows, seen = self.drawn_rows(partial(draw_bucket, self.source, last_bin, then.used, rival), last_bin)
        why = lack(seen, sends, self.source)
        if why is None and self.prior is not None:
            why = lack_before(then)
        if why is not None:
            return self._carry(bundle, now, why)
        previous_ms = None if rival is None else midnight_ms(date.fromisoformat(rival[0].meta["as_of"]))
        course = course_of(self._config.train, then.used.target_type, self.source.span.as_of_ms, previous_ms)
        self.progress.start("fit", 3)
        self.tell("base")
        prepared = self.executor.call(partial(prepare, rows, course))
        self.tell("forest")
        recipe = Recipe(tuple(FEATURES), self._config.train, self.seed, MONOTONE)
        forests = self.grow(Plan(rows, prepared.lessons, recipe))
        self.tell("judge")
        fitted = self.executor.call(partial(finish, rows, course, prepared, forests))
        self._object(fitted, force)
        card = fitted.card if self.prior is None else {**fitted.card, "from_prior": origin(self.prior, now.own)}
        fitted = replace(fitted, tensors={**now.used.tensors(), **fitted.tensors}, card=card)
        return self._save(bundle, seen, forests[FOREST], fitted, BOOSTED)

    def _carry(self, bundle: Path, now: MomentPriors, why: str) -> TrainReport:
        """The other brand's forest, where there is one, since there is too little to train."""
        if self.prior is None:
            raise BadData(why)
        self.progress.warn("carried", detail=f"the forest is that of bundle {self.prior.bundle_id}: {why}")
        fitted = carried(self.prior, now.used, now.own, why)
        return self._save(bundle, look(RowSet(self.source.folder, ())), self.prior.forest, fitted, BOOSTED)

    def seed_bundle(self, bundle: Path) -> TrainReport:
        tally = Tally()
        for _, count_B in self.over_buckets("count", partial(count_bucket, self.source)):
            tally.add(count_B)
        last_bin = tally.last_bin(self._config.train.max_rows)
        rows, seen = self.drawn_rows(partial(draw_seed_bucket, self.source, last_bin), last_bin)
        why = lack(seen, None, self.source)
        if why is not None:
            raise BadData(why)
        self.progress.start("fit", 1)
        self.tell("forest")
        names, train = names_of(self._config, SEED_BOOSTED), settings_of(self._config.train, SEED_BOOSTED)
        recipe = Recipe(tuple(names), train, self.seed, based=False)
        forests = self.grow(Plan(rows, (Lesson(FOREST, seen.rows),), recipe))
        fitted = Fitted({}, {"train": train.model_dump(mode="json")}, [])
        return self._save(bundle, seen, forests[FOREST], fitted, SEED_BOOSTED)

    def day_bundle(self, bundle: Path, question: str) -> TrainReport:
        self.progress.start("fit", 2)
        learnt = learn_days(self, question)
        return self._save(bundle, learnt.seen, learnt.forest, learnt.fitted, question)

    def sums(self) -> tuple[tuple[MomentPriors, MomentPriors], int | None, int]:
        """First pass: priors at the origin and at as_of, the last bin of rows that are drawn, and all sends."""
        found: dict[int, tuple[str, str]] = {}
        tally, sends = Tally(), 0
        for bucket, sums in self.over_buckets("sums", partial(sum_bucket, self.source)):
            found[bucket] = sums.origin, sums.now
            sends += sums.sends
            tally.add(sums.count_B)
        names = [found[bucket] for bucket in sorted(found)]
        ends_ms = self.source.span.origin_ms, self.source.span.as_of_ms
        other = None if self.prior is None else self.prior.priors
        then, now = (
            self.executor.call(partial(moment_priors, self.source, [both[moment] for both in names], end_ms, other))
            for moment, end_ms in enumerate(ends_ms)
        )
        for name in chain.from_iterable(names):
            (self.source.folder / name).unlink(missing_ok=True)
        return (then, now), tally.last_bin(self._config.train.max_rows), sends

    def _rival(self, former: Bundle | None, then: Priors) -> tuple[Bundle, Priors] | None:
        """The former bundle, if it answers the same question, and its priors with the campaigns of the origin."""
        if former is None or not answers(former, self._config, BOOSTED):
            return None
        return former, former.priors.with_campaigns(then.campaign_key_G, then.rate2_G, then.rate24_G)

    def drawn_rows(self, work: Callable[[int], Drawn], last_bin: int | None) -> tuple[RowSet, Look]:
        """Second pass: the files of every bucket with rows, in bucket order, and what they hold."""
        drawn = dict(self.over_buckets("rows", work))
        edge = None
        if last_bin is not None:
            below = sum(found.file.rows - len(found.last) for found in drawn.values())
            edge = edge_of([found.last for found in drawn.values()], below, self._config.train.max_rows)
        files = tuple(drawn[bucket].file for bucket in sorted(drawn) if drawn[bucket].file.rows)
        rows = RowSet(self.source.folder, files, edge)
        return rows, self.executor.call(partial(look, rows))

    def grow(self, plan: Plan) -> dict[str, bytes]:
        """The forests, by the group of machines where there is one."""
        group, settings = self.executor.group, self._config.cluster
        if group is not None:
            recipe = replace(
                plan.recipe, threads=settings.train_cpus, on_gpu=group.on_gpu, external=settings.external_memory
            )
            every = settings.checkpoint_trees if settings.on_lost_worker == "checkpoint" else None
            plan = replace(plan, recipe=recipe, every=every)
            self.progress.info("group", **self._trained_by())
        return grow(plan, self.executor)

    def _trained_by(self) -> dict[str, Any]:
        """What trained the forests where it was not this process."""
        group = self.executor.group
        if group is None:
            return {}
        device = "cuda" if group.on_gpu else "cpu"
        return {"workers": group.world, "device": device, "external_memory": self._config.cluster.external_memory}

    def _object(self, fitted: Fitted, force: bool) -> None:
        """BadData (65) where something speaks against the bundle; what is only to be known is told."""
        if fitted.objections and not force:
            raise BadData(
                f"the new bundle was not saved: {'; '.join(fitted.objections)}; look at the data, or keep it all the "
                "same with --force"
            )
        for objection in fitted.objections:
            self.progress.warn("forced", detail=objection)
        train = self._config.train
        if train.calibrate != "none" and "calibration_x" not in fitted.tensors:
            self.progress.warn(
                "not_calibrated",
                detail=f"the last {train.holdout_days} days have too few rows; p_open is as it comes",
            )

    def over_buckets(self, phase: str, work: Callable[[int], T]) -> Iterator[tuple[int, T]]:
        """Buckets and their results as they come."""
        buckets = self.source.store.buckets
        self.progress.start(phase, buckets)
        for bucket, result in self.executor.run(work, range(buckets)):
            yield bucket, result
            self.progress.advance(phase)

    def tell(self, stage: str) -> None:
        self.progress.info("fit", stage=stage)
        self.progress.advance("fit")

    def _save(self, bundle: Path, seen: Look, forest: bytes, fitted: Fitted, question: str) -> TrainReport:
        by = self._trained_by()
        prior = {} if self.prior is None else {"prior": self.prior.bundle_id}
        names = names_of(self._config, question)
        head = {"policy": policy_of(question), "preset": preset_of(question), "features": names}
        contract = {**head, "seed": self.seed, **prior}
        bundle_id, card = write_bundle(bundle, self.source, seen, forest, fitted, contract, by)
        told = {name: card.get(name, {}) for name in ("from_prior", "holdout", "rivals", "best_day")}
        trees = card["train"]["trees"]
        return TrainReport(bundle_id, card["as_of"], card["rows"], card["base_rate"], trees, **told, trained_by=by)
