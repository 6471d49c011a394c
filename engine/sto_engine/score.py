"""The nightly run of one bucket, as pure functions: phase A (choice) and phase B (spread).

Everything about a user lies in his bucket (view.py reads it), so these return Arrow tables and small counts; who runs
them, and how their results reach the disk, is decided elsewhere. U users of the bucket, S slots.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from sto_engine.assign import arms
from sto_engine.assign.capacity import SpreadKey, spread_ranks
from sto_engine.assign.window import ZoneSlots, shifted_zones, zone_slots
from sto_engine.history.bucket import Bucket
from sto_engine.models.dump import feature_table
from sto_engine.models.policy import Utilities
from sto_engine.plan import Plan
from sto_engine.tables import ARMS, REASONS, encode
from sto_engine.view import BucketView
from sto_kernels.hashing import tag_key
from sto_kernels.spread import spread_offsets_ms

K = TypeVar("K")
MINUTE_MS = 60_000
FALLBACK = REASONS.index("fallback")


@dataclass
class BucketCounts:
    """What crosses buckets after phase A: small, and the same in whatever order it is summed."""

    audience: int = 0
    nan_rows: int = 0
    suppressed: Counter[str] = field(default_factory=Counter)
    reason: Counter[str] = field(default_factory=Counter)
    arm: Counter[str] = field(default_factory=Counter)
    slot: Counter[int] = field(default_factory=Counter)
    preferred: Counter[int] = field(default_factory=Counter)
    provider: Counter[str] = field(default_factory=Counter)
    spread: Counter[SpreadKey] = field(default_factory=Counter)


@dataclass(frozen=True)
class Staged:
    """Phase A of one bucket: rows to send in (h, user_id) order, rows not to send, and what was counted."""

    rows: pa.Table
    suppressed: pa.Table
    counts: BucketCounts
    p_open_US: NDArray[np.float32] | None
    features: pa.Table | None = None


def stage_bucket(plan: Plan, priors: Mapping[str, NDArray[Any]], seen: BucketView) -> Staged:
    """Phase A: utilities -> mask, arm and provisional slot of every recipient who is not suppressed."""
    counts = BucketCounts(audience=len(seen.reason))
    known, reason = seen.mailed(), seen.reason
    mailed = known.users
    zone = shifted_zones(mailed["zone"], known.cleaned.shift_U, plan.date)
    zones = zone_slots(zone, plan.grid, plan.date, plan.config, plan.not_before_ms)
    late = _without_slot(zones)
    reason = reason.scatter(reason.is_null().arg_true(), late)
    gone = pl.DataFrame([seen.user_id, reason.alias("reason")]).drop_nulls("reason")
    counts.suppressed.update(dict(gone["reason"].value_counts().iter_rows()))
    utilities, in_time = plan.policy.utilities(known, priors, plan.date), late.is_null()
    features = _features(plan, priors, known, in_time) if plan.dump_features else None
    if not in_time.all():
        mailed, zones, utilities = (
            mailed.filter(in_time),
            zones.of(in_time.to_numpy()),
            utilities.of(in_time.to_numpy()),
        )
    rows = _choose(plan, mailed, utilities, zones, counts)
    return Staged(rows.to_arrow(), gone.to_arrow(), counts, utilities.p_open_US, features)


def _features(plan: Plan, priors: Mapping[str, NDArray[Any]], known: Bucket, in_time: pl.Series) -> pa.Table:
    """What was counted of everyone who gets an assignment, in the same order."""
    weighed_by, half_life_days = plan.policy.weighed_by(priors), plan.config.model.half_life_days
    return feature_table(known, weighed_by, half_life_days, plan.store.id_type, in_time.to_numpy())


def _without_slot(zones: ZoneSlots) -> pl.Series:
    """Why the window, or the day's clock, leaves a user no slot; null where one is left."""
    none_U = pl.Series(zones.n_allowed_U() == 0)
    closed = pl.when(pl.Series(zones.in_window_U())).then(pl.lit("no_slot_left")).otherwise(pl.lit("window_closed"))
    return pl.select(pl.when(none_U).then(closed)).to_series().cast(pl.String)


def _choose(
    plan: Plan, users: pl.DataFrame, utilities: Utilities, zones: ZoneSlots, counts: BucketCounts
) -> pl.DataFrame:
    """Masked choice of every user: model's slot, arm, final slot, propensity; the staged rows."""
    n_users, control = len(users), plan.control_slot
    allowed_US = zones.allowed_US()
    reason_U = reason_codes(utilities.reason_U)
    utility_US = _sane(utilities.utility_US, allowed_US, reason_U, plan, counts)
    best_US = utility_US if zones.allowed_ZS.all() else np.where(allowed_US, utility_US, -np.inf)
    model_slot_U = best_US.argmax(axis=1).astype(np.uint8)
    arm_U = arms.draw_arms(users, plan.config.experiment, allowed_US[:, control])
    slot_U = np.where(arm_U == arms.CONTROL, np.uint8(control), model_slot_U)
    random_U = arm_U == arms.RANDOM
    slot_U[random_U] = arms.random_slots(users["h"].to_numpy()[random_U], allowed_US[random_U], plan.seed)
    reason_U[arm_U == arms.CONTROL] = REASONS.index("control")
    reason_U[random_U] = REASONS.index("random")
    chance_U = arms.propensities(slot_U, model_slot_U, control, zones.n_allowed_U(), arm_U, plan.config.experiment)
    p_US, names_provider = utilities.p_open_US, encode(users["provider"])
    _count(counts, zones, slot_U, model_slot_U, arm_U, reason_U, names_provider)
    return users.select("h", "user_id", pl.col("provider").cast(pl.Enum(names_provider[0]))).with_columns(
        slot=pl.Series(slot_U),
        start_ms=pl.Series(zones.start_ms(slot_U)),
        tz_offset=pl.Series(zones.offset_min(slot_U)),
        arm=pl.Series(arms.ARM_NAMES, dtype=pl.Enum(ARMS)).gather(arm_U),
        reason=pl.Series(REASONS, dtype=pl.Enum(REASONS)).gather(reason_U),
        propensity=pl.Series(chance_U),
        p_open=_nullable(None if p_US is None else p_US[np.arange(n_users), slot_U], n_users),
        p_control=_nullable(None if p_US is None else p_US[:, control], n_users),
        preferred_slot=pl.Series(model_slot_U),
        n_eff=pl.Series(np.asarray(utilities.n_eff_U, np.float32)),
    )


def reason_codes(reason_U: NDArray[Any]) -> NDArray[np.uint8]:
    """Places in REASONS of the reasons of a policy, names or places already -> a fresh uint8 [U]."""
    if reason_U.dtype == np.uint8:
        return reason_U.copy()
    names = pl.Series(reason_U.tolist(), dtype=pl.Enum(REASONS))
    return names.to_physical().to_numpy().astype(np.uint8)


def _sane(
    utility_US: NDArray[np.float32],
    allowed_US: NDArray[np.bool_],
    reason_U: NDArray[np.uint8],
    plan: Plan,
    counts: BucketCounts,
) -> NDArray[np.float32]:
    """Utilities an argmax may see: users without data, or with a NaN, get the allowed slot nearest the control time."""
    finite_US = np.isfinite(utility_US)
    if not finite_US.all():
        nan_U = (~finite_US & allowed_US).any(axis=1)
        counts.nan_rows += int(nan_U.sum())
        reason_U[nan_U] = FALLBACK
    fallback_U = reason_U == FALLBACK
    if not fallback_U.any():
        return utility_US
    slots = np.arange(plan.grid.slots)
    apart_S = np.abs(slots - plan.control_slot)
    near_S = -np.minimum(apart_S, plan.grid.slots - apart_S).astype(np.float32)
    return np.where(fallback_U[:, None], near_S, utility_US)


def _nullable(values: NDArray[np.float32] | None, length: int) -> pl.Series:
    if values is None:
        return pl.Series([None] * length, dtype=pl.Float32)
    return pl.Series(np.ascontiguousarray(values, dtype=np.float32))


def _count(
    counts: BucketCounts,
    zones: ZoneSlots,
    slot_U: NDArray[np.uint8],
    model_slot_U: NDArray[np.uint8],
    arm_U: NDArray[np.uint8],
    reason_U: NDArray[np.uint8],
    provider: tuple[list[str], NDArray[np.int32]],
) -> None:
    slots, (providers, provider_U) = range(256), provider
    counts.reason.update(_tally(reason_U, REASONS))
    counts.arm.update(_tally(arm_U, [name or "outside" for name in arms.ARM_NAMES]))
    counts.slot.update(_tally(slot_U, slots))
    counts.preferred.update(_tally(model_slot_U[arm_U == arms.MODEL], slots))
    counts.provider.update(_tally(provider_U, providers))
    start_ZS, cells = zones.start_ms_ZS, (zones.zone_U, slot_U, provider_U)
    shape = (*start_ZS.shape, len(providers))
    n_ZSP = np.bincount(np.ravel_multi_index(cells, shape), minlength=int(np.prod(shape))).reshape(shape)
    for zone, slot, name in np.argwhere(n_ZSP):
        counts.spread[int(start_ZS[zone, slot]), providers[name]] += int(n_ZSP[zone, slot, name])


def _tally(code_U: NDArray[Any], names: Sequence[K]) -> dict[K, int]:
    n_C = np.bincount(code_U)
    return {names[code]: n for code, n in enumerate(n_C.tolist()) if n}


def place_bucket(
    plan: Plan, rows: pl.DataFrame, first_rank: Mapping[SpreadKey, int], window_ms: int, run_id: str
) -> pl.DataFrame:
    """Phase B: the assignments of one bucket, `send_at` by the golden-ratio rank within (UTC start, provider).

    `first_rank` holds, per key, how many sends of earlier buckets share it; `window_ms` is the spread window.
    """
    kind = rows["provider"].dtype
    assert isinstance(kind, pl.Enum)
    names, provider_U = kind.categories.to_list(), rows["provider"].to_physical().to_numpy()
    rank_U = spread_ranks(rows["start_ms"].to_numpy(), provider_U, names, first_rank)
    tag_P = np.array([tag_key(f"provider:{name}") for name in names], np.uint64)
    run_key = np.uint64(tag_key(f"run:{run_id}"))
    offset_U = spread_offsets_ms(rank_U, tag_P[provider_U], run_key, window_ms)
    local_ms = pl.col("start_ms") + pl.col("tz_offset").cast(pl.Int64) * MINUTE_MS
    return rows.with_columns(
        pl.col("provider", "arm", "reason").cast(pl.String),
        campaign_id=pl.lit(plan.campaign, pl.String),
        channel=pl.lit(plan.channel, pl.String),
        slot_local=local_ms.cast(pl.Datetime("ms")),
        send_at=(pl.col("start_ms") + pl.Series(offset_U)).cast(pl.Datetime("ms", "UTC")),
        urgency=pl.lit(None, pl.String),
        bundle_id=pl.lit(plan.policy.bundle_id, pl.String),
    )
