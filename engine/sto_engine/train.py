"""`train`: point-in-time rows from the store -> forest -> bundle.

    origin = as_of - label_days           features see only events before it
    rows   = sends in [origin, as_of - 2 h - outcome lag)
    label  = the user opened that campaign within 2 h of the last send before the open

Bucket by bucket; above `train.max_rows` the rows of the lowest hashes stay, which does not depend on buckets.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

import sto_engine
from sto_engine.config import Config
from sto_engine.errors import BadData, ConfigError, InputMissing
from sto_engine.history.profile import DAY_MS, Floats, build_profile
from sto_engine.history.users import build_users
from sto_engine.ingest.store import Store
from sto_engine.models.boosted import PRESET, fit_forest
from sto_engine.models.bundle import load_bundle, save_bundle
from sto_engine.models.features import SLOT_FEATURES, slot_rows, user_features, user_matrix
from sto_engine.models.registry import check_model
from sto_engine.progress import Progress
from sto_engine.slots import SlotGrid, grid_of, local_slot
from sto_engine.tables import encode
from sto_engine.zones import event_offsets, tzdata_version
from sto_kernels.hashing import derive, unit_interval

LABEL_MS = 2 * 3_600_000
HOLDOUT_SHARE = 0.1


@dataclass
class TrainReport:
    """What was trained; `skipped` says that the bundle there was young enough."""

    bundle_id: str
    as_of: str
    rows: int = 0
    base_rate: float = 0.0
    holdout_logloss: float | None = None
    holdout_auc: float | None = None
    trees: int = 0
    skipped: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Rows:
    """Training rows: features float32 [N, F], labels 0/1 [N], user hash and a row hash [N]."""

    features_NF: Floats
    label_N: NDArray[np.float32]
    h_N: NDArray[np.uint64]
    order_N: NDArray[np.uint64]

    def take(self, index_N: NDArray[Any]) -> "Rows":
        return Rows(self.features_NF[index_N], self.label_N[index_N], self.h_N[index_N], self.order_N[index_N])


def train(
    store: Path,
    bundle: Path,
    as_of: date | None,
    config: Config,
    threads: int,
    seed: int,
    if_older_than_days: float | None,
    progress: Progress,
) -> TrainReport:
    """Train `seed_boosted` on the events before `as_of` (UTC midnight; default: the one after the newest event).

    Raises ConfigError (78) for models this version cannot train; BadData (65) for histories without sends, with less
    than `train.min_label_days` of labels, fewer than `train.min_rows` rows or only one outcome.
    """
    check_model(config)
    if config.model.policy not in (None, "boosted") or config.model.preset not in (None, PRESET):
        raise ConfigError(f'train makes policy "boosted" (preset "{PRESET}"); other policies need no training')
    if config.slots.grid not in (24, 48):
        raise ConfigError(f"slots.grid must be 24 or 48 to train; found {config.slots.grid}")
    source = Store.open(store)
    if source.newest_event_ms is None:
        raise BadData(f"store {store} has no events to train on; ingest events first")
    day = as_of or datetime.fromtimestamp(source.newest_event_ms / 1000, UTC).date() + timedelta(days=1)
    young = _young_enough(bundle, day, if_older_than_days)
    if young is not None:
        progress.info("train_skipped", bundle_id=young, why="bundle is young enough")
        return TrainReport(young, day.isoformat(), skipped=True)
    as_of_ms = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000
    rows = _collect(source, as_of_ms, config, progress)
    return _fit(rows, source, bundle, day, config, seed)


def _young_enough(bundle: Path, day: date, days: float | None) -> str | None:
    if days is None:
        return None
    try:
        old = load_bundle(bundle)
    except (InputMissing, BadData):
        return None
    age = (day - date.fromisoformat(old.meta["as_of"])).days
    return old.bundle_id if 0 <= age <= days else None


def _collect(store: Store, as_of_ms: int, config: Config, progress: Progress) -> Rows:
    """Rows of every bucket, thinned to the lowest hashes whenever they pass twice the limit."""
    grid, parts, held, limit = grid_of(config.slots.grid), [], 0, config.train.max_rows
    sends, first_ms = 0, as_of_ms
    progress.start("rows", store.buckets)
    for bucket in range(store.buckets):
        rows, found, oldest = bucket_rows(store, bucket, as_of_ms, grid, config)
        sends, first_ms = sends + found, min(first_ms, oldest)
        parts.append(rows)
        held += len(rows.label_N)
        if held > 2 * limit:
            parts = [_thin(_join(parts), limit)]
            held = len(parts[0].label_N)
        progress.advance("rows")
    rows = _thin(_join(parts), limit)
    _refuse(rows, sends, (as_of_ms - first_ms) / DAY_MS, store, config)
    return rows


def bucket_rows(store: Store, bucket: int, as_of_ms: int, grid: SlotGrid, config: Config) -> tuple[Rows, int, int]:
    """Training rows of a bucket, the number of sends before `as_of` in it, and the time of the oldest row's send."""
    events = store.read_events(bucket, before_ms=as_of_ms)
    origin_ms = as_of_ms - config.train.label_days * DAY_MS
    before = events.filter(pl.col("event_ts").dt.epoch("ms") < origin_ms)
    audience = events.select("h", "user_id").unique(maintain_order=True)
    users = build_users(audience, store.read_recipients(bucket), before, config, origin_ms)
    profile = build_profile(before, users, grid, origin_ms, config)
    end_ms = as_of_ms - LABEL_MS - int(config.train.outcome_lag_hours * 3_600_000)
    sends = _labelled_sends(events, users, origin_ms, end_ms)
    zones, zone_U = encode(users["zone"])
    user_N, time_N = sends["u"].to_numpy(), sends["ts"].to_numpy()
    offset_N = event_offsets(zones, zone_U[user_N], time_N)
    weekday_N = (time_N + offset_N.astype(np.int64) * 60_000) // DAY_MS % 7  # the epoch was a Thursday
    slots_NG = slot_rows(local_slot(grid, time_N, offset_N), (weekday_N + 3) % 7, grid)
    features_NF = np.concatenate([user_matrix(profile)[:, user_N].T, slots_NG], axis=1)
    h_N = users["h"].to_numpy()[user_N]
    order_N = derive(h_N ^ time_N.view(np.uint64), "train-sample")
    rows = Rows(
        np.ascontiguousarray(features_NF, np.float32), sends["label"].to_numpy().astype(np.float32), h_N, order_N
    )
    total = int((events["event_type"].cast(pl.String) == "send").sum())
    return rows, total, int(time_N.min()) if len(time_N) else as_of_ms


def _labelled_sends(events: pl.DataFrame, users: pl.DataFrame, origin_ms: int, end_ms: int) -> pl.DataFrame:
    """Sends of [origin, end) with columns u (row of users), ts and label: opened within 2 h, before the next send."""
    kind, ts = pl.col("event_type").cast(pl.String), pl.col("event_ts").dt.epoch("ms")
    profiled = users.with_row_index("u").filter(pl.col("consent_profiling").fill_null(True)).select("u", "user_id")
    keys = ["user_id", "campaign_id"]
    human = (kind == "open") & pl.col("is_machine_open").fill_null(False).not_()
    sends = events.filter(kind == "send").select(*keys, ts=ts).sort("ts", maintain_order=True)
    opens = events.filter(human).select(*keys, open_ts=ts).sort("open_ts", maintain_order=True)
    joined = opens.join_asof(
        sends.with_columns(send_ts="ts"),
        left_on="open_ts",
        right_on="ts",
        by=keys,
        strategy="backward",
        check_sortedness=False,
    )
    prompt = joined.filter(pl.col("open_ts") - pl.col("send_ts") <= LABEL_MS).select(*keys, ts="send_ts")
    prompt = prompt.unique(maintain_order=True).with_columns(label=pl.lit(1, pl.UInt8))
    window = sends.filter(pl.col("ts").is_between(origin_ms, end_ms, closed="left"))
    labelled = window.join(prompt, on=[*keys, "ts"], how="left", maintain_order="left")
    rows = labelled.join(profiled, on="user_id", how="inner", maintain_order="left")
    return rows.select("u", "ts", "campaign_id", pl.col("label").fill_null(0)).sort("u", "ts", "campaign_id")


def _join(parts: list[Rows]) -> Rows:
    columns = ("features_NF", "label_N", "h_N", "order_N")
    return Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in columns))


def _thin(rows: Rows, limit: int) -> Rows:
    """The `limit` rows of the lowest hashes, in the order they came."""
    if len(rows.label_N) <= limit:
        return rows
    return rows.take(np.sort(np.argsort(rows.order_N, kind="stable")[:limit]))


def _refuse(rows: Rows, sends: int, days: float, store: Store, config: Config) -> None:
    n, where = len(rows.label_N), f"store {store.path}"
    if sends == 0:
        raise BadData(f'{where} has no sends, so "boosted" cannot be trained; score it with model.policy = "histogram"')
    if days < config.train.min_label_days:
        raise BadData(
            f"{where} must have {config.train.min_label_days} days of sends before --as-of; found {days:.1f}; "
            "collect more history, or raise train.label_days"
        )
    if n < config.train.min_rows:
        raise BadData(
            f"{where} must give {config.train.min_rows} training rows; found {n} sends in the last "
            f"{config.train.label_days} days; raise train.label_days or pass another --as-of"
        )
    if rows.label_N.min() == rows.label_N.max():
        raise BadData(f"{where}: all {n} training rows have the label {rows.label_N[0]:.0f}; both outcomes are needed")


def _fit(rows: Rows, store: Store, bundle: Path, day: date, config: Config, seed: int) -> TrainReport:
    grid = grid_of(config.slots.grid)
    names = [*user_features(grid), *SLOT_FEATURES]
    holdout_N = unit_interval(derive(rows.h_N, "train-holdout")) < HOLDOUT_SHARE
    fit, held = rows.take(~holdout_N), rows.take(holdout_N)
    forest, booster = fit_forest(fit.features_NF, fit.label_N, names, config.train, seed)
    p_N = np.asarray(booster.inplace_predict(held.features_NF), np.float64) if len(held.label_N) else None
    report = TrainReport(
        bundle_id="",
        as_of=day.isoformat(),
        rows=len(rows.label_N),
        base_rate=round(float(rows.label_N.mean()), 6),
        holdout_logloss=_logloss(p_N, held.label_N),
        holdout_auc=_auc(p_N, held.label_N),
        trees=config.train.trees,
    )
    meta = {
        "engine": sto_engine.__version__,
        "policy": "boosted",
        "preset": PRESET,
        "as_of": day.isoformat(),
        "grid": grid.slots,
        "label": config.model.label,
        "features": names,
        "seed": seed,
        "store": store.fingerprint(),
        "tzdata": tzdata_version(),
    }
    card = {key: value for key, value in report.as_dict().items() if key not in ("bundle_id", "skipped")}
    report.bundle_id = save_bundle(bundle, meta, forest, {**card, "train": config.train.model_dump(mode="json")})
    return report


def _logloss(p_N: NDArray[np.float64] | None, label_N: NDArray[np.float32]) -> float | None:
    if p_N is None:
        return None
    p = np.clip(p_N, 1e-7, 1 - 1e-7)
    return round(float(-np.mean(label_N * np.log(p) + (1 - label_N) * np.log(1 - p))), 6)


def _auc(p_N: NDArray[np.float64] | None, label_N: NDArray[np.float32]) -> float | None:
    """Chance that an opened row ranks above an unopened one, ties half (Mann-Whitney)."""
    if p_N is None or not 0 < label_N.sum() < len(label_N):
        return None
    rank_N = pl.Series(p_N).rank("average").to_numpy()
    positives = float(label_N.sum())
    above = rank_N[label_N == 1].sum() - positives * (positives + 1) / 2
    return round(float(above / (positives * (len(label_N) - positives))), 6)
