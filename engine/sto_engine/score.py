"""The nightly run of one bucket, as pure functions: phase 0 (sums), phase A (choice), phase B (spread).

Everything about a user lies in his bucket, so these read the store and return Arrow tables and small counts; who runs
them, and how their results reach the disk, is decided elsewhere. U users of the bucket, S slots.
"""

import datetime as dt
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from sto_engine.assign import arms
from sto_engine.assign.capacity import SpreadKey
from sto_engine.assign.window import ZoneSlots, zone_slots
from sto_engine.config import Config
from sto_engine.history.bucket import build_journal, window_start
from sto_engine.history.users import build_users
from sto_engine.ingest.audience import Audience
from sto_engine.ingest.store import Store
from sto_engine.models.policy import Policy, Utilities
from sto_engine.slots import SlotGrid, parse_clock
from sto_engine.suppress import suppressions
from sto_kernels.hashing import tag_key
from sto_kernels.spread import spread_offsets_ms

MINUTE_MS = 60_000


@dataclass(frozen=True)
class Plan:
    """What a run decides for every bucket alike."""

    store: Store
    config: Config
    policy: Policy
    grid: SlotGrid
    date: dt.date
    origin_ms: int
    not_before_ms: int | None = None
    campaign: str | None = None
    channel: str = "email"
    audience: Audience | None = None
    seed: int = 0

    @property
    def start_ms(self) -> int:
        """Events before this are no longer history."""
        return window_start(self.origin_ms, self.config)

    @property
    def control_slot(self) -> int:
        return parse_clock(self.config.experiment.control_time) // self.grid.minutes


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


def bucket_sums(plan: Plan, bucket: int) -> dict[str, NDArray[Any]]:
    """Phase 0: what this bucket adds to the priors, from everyone with events in the history before the day."""
    events = plan.store.read_events(bucket, before_ms=plan.origin_ms, from_ms=plan.start_ms)
    seen = events.select("h", "user_id").unique(maintain_order=True)
    users = build_users(seen, plan.store.read_recipients(bucket), events, plan.config, plan.origin_ms)
    known = build_journal(events, users, plan.config).at(plan.start_ms, plan.origin_ms)
    return plan.policy.sums(known, plan.store.buckets)


def stage_bucket(plan: Plan, priors: Mapping[str, NDArray[Any]], bucket: int) -> Staged:
    """Phase A: audience -> suppressions -> utilities -> mask, arm and provisional slot of every recipient left."""
    events = plan.store.read_events(bucket, before_ms=plan.origin_ms)
    recipients = plan.store.read_recipients(bucket)
    audience = _audience(plan, bucket, events, recipients)
    counts = BucketCounts(audience=len(audience))
    users = build_users(audience.select("h", "user_id"), recipients, events, plan.config, plan.origin_ms)
    users = users.with_columns(suppressed=suppressions(audience, users, events))
    zones = zone_slots(users["zone"], plan.grid, plan.date, plan.config, plan.not_before_ms)
    users = users.with_columns(suppressed=_without_slot(users["suppressed"], zones))
    gone = users.filter(pl.col("suppressed").is_not_null()).select("user_id", reason="suppressed")
    kept = users.filter(pl.col("suppressed").is_null()).drop("suppressed")
    counts.suppressed.update(gone["reason"].to_list())
    known = build_journal(events, kept, plan.config).at(plan.start_ms, plan.origin_ms)
    utilities = plan.policy.utilities(known, priors, plan.date)
    zones = zone_slots(kept["zone"], plan.grid, plan.date, plan.config, plan.not_before_ms)
    rows = _choose(plan, kept, utilities, zones, counts)
    return Staged(rows.to_arrow(), gone.to_arrow(), counts, utilities.p_open_US)


def _audience(plan: Plan, bucket: int, events: pl.DataFrame, recipients: pl.DataFrame | None) -> pl.DataFrame:
    """Rows h, user_id, row of the bucket in (h, user_id, row) order, duplicates included."""
    if plan.audience is not None:
        return plan.audience.bucket(bucket)
    if recipients is not None:
        return recipients.select("h", "user_id", "row")
    return events.select("h", "user_id").unique(maintain_order=True).with_columns(row=pl.lit(0, pl.UInt64))


def _without_slot(reason: pl.Series, zones: ZoneSlots) -> pl.Series:
    """Add the reason of users whom the window, or the day's clock, leaves no slot."""
    allowed_U = zones.allowed_US().any(axis=1)
    closed = pl.Series(np.where(zones.in_window_U(), "no_slot_left", "window_closed").astype(object), dtype=pl.String)
    return pl.select(pl.coalesce(reason, pl.when(~pl.Series(allowed_U)).then(closed))).to_series()


def _choose(
    plan: Plan, users: pl.DataFrame, utilities: Utilities, zones: ZoneSlots, counts: BucketCounts
) -> pl.DataFrame:
    """Masked choice of every user: model's slot, arm, final slot, propensity; the staged rows."""
    allowed_US, n_users = zones.allowed_US(), len(users)
    reason_U = np.asarray(utilities.reason_U, dtype=object).copy()
    utility_US = _sane(utilities.utility_US, allowed_US, reason_U, plan, counts)
    model_slot_U = np.where(allowed_US, utility_US, -np.inf).argmax(axis=1).astype(np.uint8)
    control_open_U = allowed_US[:, plan.control_slot]
    arm_U = arms.draw_arms(users, plan.config.experiment, control_open_U)
    random_U = arms.random_slots(users["h"].to_numpy(), allowed_US, plan.seed)
    slot_U = np.where(arm_U == arms.CONTROL, plan.control_slot, model_slot_U)
    slot_U = np.where(arm_U == arms.RANDOM, random_U, slot_U).astype(np.uint8)
    reason_U[arm_U == arms.CONTROL] = "control"
    reason_U[arm_U == arms.RANDOM] = "random"
    n_allowed_U = allowed_US.sum(axis=1)
    pick_U = np.arange(n_users)
    p_US = utilities.p_open_US
    rows = users.select("h", "user_id", "provider").with_columns(
        slot=pl.Series(slot_U),
        start_ms=pl.Series(zones.start_ms(slot_U)),
        tz_offset=pl.Series(zones.offset_min(slot_U)),
        arm=pl.Series([arms.ARM_NAMES[code] for code in arm_U], dtype=pl.String),
        reason=pl.Series(reason_U.tolist(), dtype=pl.String),
        propensity=pl.Series(
            arms.propensities(slot_U, model_slot_U, plan.control_slot, n_allowed_U, arm_U, plan.config.experiment)
        ),
        p_open=_nullable(None if p_US is None else p_US[pick_U, slot_U], n_users),
        p_control=_nullable(None if p_US is None else p_US[:, plan.control_slot], n_users),
        preferred_slot=pl.Series(model_slot_U),
        n_eff=pl.Series(np.asarray(utilities.n_eff_U, np.float32)),
    )
    _count(rows, counts)
    return rows


def _sane(
    utility_US: NDArray[np.float32],
    allowed_US: NDArray[np.bool_],
    reason_U: NDArray[np.object_],
    plan: Plan,
    counts: BucketCounts,
) -> NDArray[np.float32]:
    """Utilities an argmax may see: users without data, or with a NaN, get the allowed slot nearest the control time."""
    nan_U = (~np.isfinite(utility_US) & allowed_US).any(axis=1)
    counts.nan_rows += int(nan_U.sum())
    reason_U[nan_U] = "fallback"
    fallback_U = reason_U == "fallback"
    slots = np.arange(plan.grid.slots)
    apart_S = np.abs(slots - plan.control_slot)
    near_S = -np.minimum(apart_S, plan.grid.slots - apart_S).astype(np.float32)
    return np.where(fallback_U[:, None], near_S, utility_US)


def _nullable(values: NDArray[np.float32] | None, length: int) -> pl.Series:
    if values is None:
        return pl.Series([None] * length, dtype=pl.Float32)
    return pl.Series(np.ascontiguousarray(values, dtype=np.float32))


def _count(rows: pl.DataFrame, counts: BucketCounts) -> None:
    counts.reason.update(rows["reason"].to_list())
    counts.arm.update(arm or "outside" for arm in rows["arm"].to_list())
    counts.slot.update(rows["slot"].to_list())
    counts.preferred.update(rows.filter(pl.col("arm") == "model")["preferred_slot"].to_list())
    counts.provider.update(rows["provider"].to_list())
    counts.spread.update(zip(rows["start_ms"].to_list(), rows["provider"].to_list(), strict=True))


def place_bucket(
    plan: Plan, rows: pl.DataFrame, first_rank: Mapping[SpreadKey, int], window_ms: int, run_id: str
) -> pl.DataFrame:
    """Phase B: the assignments of one bucket, `send_at` by the golden-ratio rank within (UTC start, provider).

    `first_rank` holds, per key, how many sends of earlier buckets share it; `window_ms` is the spread window.
    """
    rank = pl.int_range(pl.len()).over("start_ms", "provider")
    keys = pl.DataFrame(
        [(start, provider, rank) for (start, provider), rank in first_rank.items()],
        schema={"start_ms": pl.Int64, "provider": pl.String, "first": pl.Int64},
        orient="row",
    )
    ranked = rows.with_columns(rank=rank).join(
        keys, on=["start_ms", "provider"], how="left", maintain_order="left", validate="m:1"
    )
    names = rows["provider"].unique().sort()
    code_of = {name: int(tag_key(f"provider:{name}")) for name in names}
    provider_U = rows["provider"].replace_strict(code_of, return_dtype=pl.UInt64).to_numpy()
    rank_U = (ranked["rank"] + ranked["first"]).cast(pl.UInt64).to_numpy()
    offset_U = spread_offsets_ms(rank_U, provider_U, np.uint64(tag_key(f"run:{run_id}")), window_ms)
    local_ms = pl.col("start_ms") + pl.col("tz_offset").cast(pl.Int64) * MINUTE_MS
    return rows.with_columns(
        campaign_id=pl.lit(plan.campaign, pl.String),
        channel=pl.lit(plan.channel, pl.String),
        slot_local=local_ms.cast(pl.Datetime("ms")),
        send_at=(pl.col("start_ms") + pl.Series(offset_U)).cast(pl.Datetime("ms", "UTC")),
        urgency=pl.lit(None, pl.String),
        bundle_id=pl.lit(plan.policy.bundle_id, pl.String),
    )
