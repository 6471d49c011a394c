"""The nightly run of one bucket, as pure functions: phase A (choice) and phase B (spread).

Everything about a user lies in his bucket (view.py reads it), so these return Arrow tables and small counts; who runs
them, and how their results reach the disk, is decided elsewhere. U users of the bucket, S slots.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from sto_engine.assign.resources import BIN_MS
from sto_engine.assign.spread import Ranks, SpreadPlan, send_times
from sto_engine.bucket_counts import BucketCounts
from sto_engine.choose import NOWHERE, choose
from sto_engine.entry import Entry, census_of, enter
from sto_engine.history.bucket import Bucket
from sto_engine.history.days import day_counts
from sto_engine.models.dump import feature_table
from sto_engine.models.policy import Utilities
from sto_engine.plan import Plan
from sto_engine.settle import stage_offers
from sto_engine.view import BucketView

MINUTE_MS = 60_000


@dataclass(frozen=True)
class Staged:
    """Phase A of one bucket: rows to send in (h, user_id) order, rows not to send, and what was counted."""

    rows: pa.Table
    suppressed: pa.Table
    counts: BucketCounts
    p_open_US: NDArray[np.float32] | None
    features: pa.Table | None = None


def stage_bucket(
    plan: Plan,
    priors: Mapping[str, NDArray[Any]],
    seen: BucketView,
    entry: Entry | None = None,
    mean_weight: float = 1.0,
) -> Staged:
    """Phase A: utilities -> mask, arm and provisional slot of every recipient who is not suppressed.

    `entry` is what the pre-flight has seen of the bucket, if it has. Where slots are short the rows carry what prices
    ask for; `mean_weight` stands for weights that nobody knows.
    """
    counts, entry = BucketCounts(audience=len(seen.reason)), entry or enter(plan, seen)
    reason = seen.reason.clone().scatter(seen.reason.is_null().arg_true(), entry.late)
    gone = pl.DataFrame([seen.user_id, reason.alias("reason")]).drop_nulls("reason")
    counts.suppressed.update(dict(gone["reason"].value_counts().iter_rows()))
    counts.days.update(day_counts(entry.mailed.users["country"], entry.mailed.days, plan.date, plan.config))
    utilities, in_time_M = _utilities(plan, priors, seen, entry), entry.in_time_M
    features = _features(plan, priors, entry.mailed, entry.late.is_null()) if plan.dump_features else None
    if not in_time_M.all():
        utilities = utilities.of(in_time_M)
    chosen = choose(plan, entry, utilities, _last_slots(plan, seen, entry.users), counts)
    rows = chosen.rows
    if plan.is_priced:
        counts.census = census_of(plan, entry, entry.pinned_U, rows["slot"].to_numpy())
        rows = stage_offers(plan, entry, chosen, utilities.p_open_US, mean_weight)
    return Staged(rows.to_arrow(), gone.to_arrow(), counts, utilities.p_open_US, features)


def _utilities(plan: Plan, priors: Mapping[str, NDArray[Any]], seen: BucketView, entry: Entry) -> Utilities:
    """What the policy says of everyone who is mailed; a channel on which he cannot be reached brings nothing."""
    found = plan.policy.utilities(entry.mailed, priors, plan.date)
    reach_US = plan.options.each_slot(seen.reach_MC())
    if reach_US is None:
        return found
    p_US = None if found.p_open_US is None else found.p_open_US * reach_US
    return replace(found, utility_US=found.utility_US * reach_US, p_open_US=p_US)


def _last_slots(plan: Plan, seen: BucketView, users: pl.DataFrame) -> NDArray[np.uint8]:
    """Each user's slot of the last run, NOWHERE for none; only where `assign.keep_gain` asks."""
    if seen.past is None or not plan.config.assign.keep_gain:
        return np.full(len(users), NOWHERE, np.uint8)
    last = seen.past.slots.unique("user_id", keep="first", maintain_order=True)
    joined = users.select("user_id").join(last, on="user_id", how="left", maintain_order="left")
    if plan.options.several:
        place = {name: c * plan.grid.slots for c, name in enumerate(plan.channels)}
        first = joined["channel"].replace_strict(place, default=None, return_dtype=pl.Int64)
        return (first + joined["slot"]).fill_null(NOWHERE).to_numpy().astype(np.uint8)
    return joined["slot"].fill_null(NOWHERE).to_numpy().astype(np.uint8)


def _features(plan: Plan, priors: Mapping[str, NDArray[Any]], known: Bucket, in_time: pl.Series) -> pa.Table:
    """What was counted of everyone who gets an assignment, in the same order."""
    weighed_by, half_life_days = plan.policy.weighed_by(priors), plan.config.model.half_life_days
    return feature_table(known, weighed_by, half_life_days, plan.store.id_type, in_time.to_numpy())


def place_bucket(plan: Plan, rows: pl.DataFrame, spread: SpreadPlan, ranks: Ranks, run_id: str) -> pl.DataFrame:
    """Phase B: the assignments of one bucket, `send_at` by the golden-ratio rank within (UTC start, provider)."""
    kind = rows["provider"].dtype
    assert isinstance(kind, pl.Enum)
    options, option_U = plan.options, rows["slot"].to_numpy()
    names, lane_CP = options.lanes(kind.categories.to_list())
    channel_U = options.channel_of(option_U)
    lane_U = lane_CP[channel_U, rows["provider"].to_physical().to_numpy()]
    send_ms_U = send_times(spread, ranks, rows["start_ms"].to_numpy(), lane_U.astype(np.uint32), names, run_id)
    local_ms = pl.col("start_ms") + pl.col("tz_offset").cast(pl.Int64) * MINUTE_MS
    return rows.with_columns(
        pl.col("provider", "arm", "reason").cast(pl.String),
        campaign_id=pl.lit(plan.campaign, pl.String),
        channel=pl.Series(options.channels, dtype=pl.String).gather(channel_U),
        slot=pl.Series(options.slot_of(option_U)),
        preferred_slot=pl.Series(options.slot_of(rows["preferred_slot"].to_numpy())),
        lane=pl.Series(names, dtype=pl.String).gather(lane_U),
        slot_local=local_ms.cast(pl.Datetime("ms")),
        send_at=pl.Series(send_ms_U).cast(pl.Datetime("ms", "UTC")),
        urgency=pl.col("urgency").cast(pl.String) if "urgency" in rows.columns else pl.lit(None, pl.String),
        bundle_id=pl.lit(plan.policy.bundle_id, pl.String),
    )


def load_of(placed: pl.DataFrame) -> list[tuple[int, str, int]]:
    """Sends of each quarter-hour and lane, as written."""
    at = placed["send_at"].dt.epoch("ms") // BIN_MS * BIN_MS
    found = placed.select(at.alias("at"), "lane").group_by("at", "lane").len().sort("at", "lane")
    return list(found.iter_rows())
