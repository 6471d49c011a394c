"""`train`: two passes over the buckets, then the fit, the model card, and the question whether the bundle may stand.

pass 1    campaign sums and the hash sample of every bucket, at both moments -> priors at the origin and at as_of
pass 2    rows of every bucket, thinned to the lowest hashes above `train.max_rows`
fit       base weights and forest, judged on the last days of labels against histogram and the former bundle

What a bucket adds depends on nothing but the bucket, and every sum is exact or in a fixed order: the same bytes for any
number of threads, and the same priors for any number of buckets.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import sto_engine
from sto_engine.cluster import run_buckets
from sto_engine.config import Config, Train
from sto_engine.errors import BadData, ConfigError, InputMissing
from sto_engine.history.bucket import DAY_MS, window_start
from sto_engine.history.parts import read_campaigns, read_sample
from sto_engine.ingest.store import Store
from sto_engine.models.bundle import Bundle, load_bundle, save_bundle
from sto_engine.models.features import FEATURES
from sto_engine.models.fit import fit_priors
from sto_engine.models.forest import fit_forest, forest_bytes
from sto_engine.models.priors import Priors
from sto_engine.models.registry import check_model
from sto_engine.models.seeds import SEED_BOOSTED
from sto_engine.progress import Progress
from sto_engine.slots import grid_of
from sto_engine.train.fit import Fitted, fit_bundle
from sto_engine.train.moments import Span, bucket_moments, bucket_parts, span_of
from sto_engine.train.rows import Rows, bucket_rows, join, seed_names, seed_rows, thin
from sto_engine.zones import midnight_ms, tzdata_version

T = TypeVar("T")
# What the field's plain recipe trains where the configuration does not say otherwise.
SEED_SETTINGS = {"trees": 500, "depth": 6, "colsample": 1.0, "min_child_weight": 1.0, "reg_lambda": 1.0}


@dataclass
class TrainReport:
    """What was trained; `skipped` says that the bundle there was young enough."""

    bundle_id: str
    as_of: str
    rows: int = 0
    base_rate: float = 0.0
    trees: int = 0
    holdout: dict[str, Any] = field(default_factory=dict)
    rivals: dict[str, Any] = field(default_factory=dict)
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
) -> TrainReport:
    """Train `boosted` on the events before `as_of` (UTC midnight; default: the one after the newest event).

    Raises ConfigError (78) for models that are not trained; BadData (65) for histories without sends, with less than
    `train.min_label_days` of labels, fewer than `train.min_rows` rows or only one outcome, and for a model that is
    worse on later data than `histogram` or than the bundle there, unless `force`.
    """
    is_seed = _check(config)
    source = Store.open(store)
    if source.newest_event_ms is None:
        raise BadData(f"store {store} has no events to train on; ingest events first")
    day = as_of or datetime.fromtimestamp(source.newest_event_ms / 1000, UTC).date() + timedelta(days=1)
    former = _former(bundle)
    if former is not None and _answers(former, config, is_seed) and _is_young(former, day, if_older_than_days):
        progress.info("train_skipped", bundle_id=former.bundle_id, why="bundle is young enough")
        return TrainReport(former.bundle_id, day.isoformat(), skipped=True)
    job = _Training(source, span_of(day, config), config, threads, seed, progress)
    return job.seed_bundle(bundle) if is_seed else job.boosted_bundle(bundle, former, force)


def _check(config: Config) -> bool:
    """Whether the preset `seed_boosted` is asked for; ConfigError (78) for what is not trained."""
    check_model(config)
    if config.model.policy not in (None, "boosted") or config.model.preset not in (None, SEED_BOOSTED):
        asked = config.model.preset or config.model.policy
        raise ConfigError(f'train makes policy "boosted" or preset "{SEED_BOOSTED}"; "{asked}" needs no training')
    grid_of(config.slots.grid)
    return config.model.preset == SEED_BOOSTED


def _former(bundle: Path) -> Bundle | None:
    try:
        return load_bundle(bundle)
    except (InputMissing, BadData):
        return None


def _answers(former: Bundle, config: Config, is_seed: bool) -> bool:
    """Whether a bundle is for this question and these features; one that is not cannot be kept, however young."""
    names, preset = (seed_names(config), SEED_BOOSTED) if is_seed else (list(FEATURES), None)
    return (former.meta["label"], former.preset, former.features) == (config.model.label, preset, names)


def _is_young(former: Bundle, day: date, days: float | None) -> bool:
    if days is None:
        return False
    age = (day - date.fromisoformat(former.meta["as_of"])).days
    return 0 <= age <= days


@dataclass(frozen=True)
class _Training:
    """One training: the store, the span of days, and who runs the buckets."""

    store: Store
    span: Span
    config: Config
    threads: int
    seed: int
    progress: Progress

    def boosted_bundle(self, bundle: Path, former: Bundle | None, force: bool) -> TrainReport:
        parts = self._over_buckets("sums", lambda b: bucket_parts(self.store, b, self.span, self.config))
        then, now = (self._priors([part[name] for part in parts], end_ms) for name, end_ms in self._moments())
        sends = int(read_campaigns([part["now"] for part in parts]).sums_C4[:, 0].sum())
        del parts
        rival = self._rival(former, then)
        rows = self._rows(
            lambda b: bucket_rows(
                bucket_moments(self.store, b, self.span, self.config), self.span, then, rival, self.config
            ),
            sends,
        )
        self.progress.start("fit", 2)
        as_of_ms = None if rival is None else midnight_ms(date.fromisoformat(rival[0].meta["as_of"]))
        fitted = fit_bundle(
            rows, self.config.train, self.seed, then.target_type, self.span.as_of_ms, as_of_ms, self._tell
        )
        if fitted.objections and not force:
            raise BadData(
                f"the new bundle was not saved: {'; '.join(fitted.objections)}; look at the data, or keep it all the "
                "same with --force"
            )
        for objection in fitted.objections:
            self.progress.warn("forced", detail=objection)
        if self.config.train.calibrate != "none" and "calibration_x" not in fitted.tensors:
            days = self.config.train.holdout_days
            self.progress.warn(
                "not_calibrated", detail=f"the last {days} days have too few rows; p_open is as it comes"
            )
        return self._save(bundle, rows, fitted, {**now.tensors(), **fitted.tensors}, list(FEATURES), None)

    def seed_bundle(self, bundle: Path) -> TrainReport:
        train = settings(self.config.train, SEED_SETTINGS)
        rows = self._rows(
            lambda b: seed_rows(bucket_moments(self.store, b, self.span, self.config), self.span, self.config), None
        )
        self._tell("forest")
        names = seed_names(self.config)
        forest = forest_bytes(fit_forest(rows.features_NF, rows.label_N, names, train, self.seed))
        fitted = Fitted(forest, {}, {"train": train.model_dump(mode="json")}, [])
        return self._save(bundle, rows, fitted, {}, names, SEED_BOOSTED)

    def _moments(self) -> tuple[tuple[str, int], tuple[str, int]]:
        return ("origin", self.span.origin_ms), ("now", self.span.as_of_ms)

    def _priors(self, parts: list[dict[str, Any]], end_ms: int) -> Priors:
        window_ms = (window_start(end_ms, self.config), end_ms)
        half_life = self.config.model.half_life_days
        return fit_priors(read_sample(parts), read_campaigns(parts), window_ms, half_life)

    def _rival(self, former: Bundle | None, then: Priors) -> tuple[Bundle, Priors] | None:
        """The former bundle, if it answers the same question, and its priors with the campaigns of the origin."""
        if former is None or not _answers(former, self.config, is_seed=False):
            return None
        return former, former.priors.with_campaigns(then.campaign_key_G, then.rate2_G, then.rate24_G)

    def _rows(self, work: Callable[[int], Rows], sends: int | None) -> Rows:
        """Rows of every bucket in bucket order, thinned whenever they pass the limit by a quarter."""
        limit = self.config.train.max_rows
        parts: dict[int, Rows] = {}
        self.progress.start("rows", self.store.buckets)
        for bucket, rows in run_buckets(work, range(self.store.buckets), self.threads):
            parts[bucket] = rows
            if sum(len(part) for part in parts.values()) > limit * 5 // 4:
                parts = _thinned(parts, limit)
            self.progress.advance("rows")
        rows = thin(join([parts.pop(bucket) for bucket in sorted(parts)]), limit)
        self._refuse(rows, sends)
        return rows

    def _refuse(self, rows: Rows, sends: int | None) -> None:
        n, where, train = len(rows), f"store {self.store.path}", self.config.train
        if sends == 0 or (sends is None and n == 0):
            raise BadData(f'{where} has no sends to learn from; score it with model.policy = "attention"')
        days = (self.span.as_of_ms - int(rows.time_N.min(initial=self.span.as_of_ms))) / DAY_MS
        if days < train.min_label_days:
            raise BadData(
                f"{where} must have {train.min_label_days} days of sends before --as-of; found {days:.1f}; "
                "collect more history, or raise train.label_days"
            )
        if n < train.min_rows:
            raise BadData(
                f"{where} must give {train.min_rows} training rows; found {n} sends in the last "
                f"{train.label_days} days; raise train.label_days or pass another --as-of"
            )
        if rows.label_N.min() == rows.label_N.max():
            raise BadData(f"{where}: all {n} training rows have the label {rows.label_N[0]:.0f}; both must occur")

    def _over_buckets(self, phase: str, work: Callable[[int], T]) -> list[T]:
        """Results of all buckets in bucket order."""
        done: dict[int, T] = {}
        self.progress.start(phase, self.store.buckets)
        for bucket, result in run_buckets(work, range(self.store.buckets), self.threads):
            done[bucket] = result
            self.progress.advance(phase)
        return [done[bucket] for bucket in sorted(done)]

    def _tell(self, stage: str) -> None:
        self.progress.info("fit", stage=stage)
        self.progress.advance("fit")

    def _save(
        self,
        bundle: Path,
        rows: Rows,
        fitted: Fitted,
        tensors: dict[str, Any],
        names: list[str],
        preset: str | None,
    ) -> TrainReport:
        meta = {
            "engine": sto_engine.__version__,
            "policy": "boosted",
            "preset": preset,
            "as_of": self.span.as_of.isoformat(),
            "grid": self.config.slots.grid,
            "label": self.span.label,
            "features": names,
            "seed": self.seed,
            "store": self.store.fingerprint(),
            "tzdata": tzdata_version(),
        }
        rate = round(float(rows.label_N.mean(dtype="float64")), 6)
        card: dict[str, Any] = {
            "as_of": self.span.as_of.isoformat(),
            "label": self.span.label,
            "first_send": _iso(int(rows.time_N.min())),
            "last_send": _iso(int(rows.time_N.max())),
            "rows": len(rows),
            "base_rate": rate,
            "train": self.config.train.model_dump(mode="json"),
            "objections": fitted.objections,
            **fitted.card,
        }
        bundle_id = save_bundle(bundle, meta, fitted.forest, tensors, card)
        trees = card["train"]["trees"]
        holdout, rivals = fitted.card.get("holdout", {}), fitted.card.get("rivals", {})
        return TrainReport(bundle_id, self.span.as_of.isoformat(), len(rows), rate, trees, holdout, rivals)


def settings(train: Train, instead: dict[str, Any]) -> Train:
    """The section with other defaults: what the configuration names itself stays."""
    return train.model_copy(update={k: v for k, v in instead.items() if k not in train.model_fields_set})


def _thinned(parts: dict[int, Rows], limit: int) -> dict[int, Rows]:
    """Each bucket's rows below the hash that `limit` rows of all stay below."""
    order_N = np.concatenate([part.order_N for part in parts.values()])
    edge = np.partition(order_N, limit)[limit]
    return {bucket: part.take(np.flatnonzero(part.order_N < edge)) for bucket, part in parts.items()}


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).isoformat()
