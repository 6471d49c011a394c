"""What is settled of a recipient before any model is asked: his clock, his allowed slots, his arm, a random slot.

The pre-flight counts it before anyone is scored, phase A goes on from it. U users who are mailed and have a slot left.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.assign import arms, cold_start
from sto_engine.assign.census import Census, priced_providers, take_census
from sto_engine.assign.channels import lane_of
from sto_engine.assign.frequency import blocked, both
from sto_engine.assign.resources import BIN_MS
from sto_engine.assign.window import ZoneSlots, own_hours, shifted_zones, without_slot, zone_slots
from sto_engine.errors import ConfigError
from sto_engine.history.bucket import Bucket
from sto_engine.plan import Plan
from sto_engine.slots import MINUTE_MS
from sto_engine.tables import EMAIL, encode
from sto_engine.view import BucketView

PINNED = np.array([arms.CONTROL, arms.RANDOM, arms.EXPLORE], np.uint8)


@dataclass(frozen=True)
class Entry:
    """Mailed recipients of a bucket (`mailed`) and those of them who have a slot left (`in_time_M`): rows U of `users`,
    `zones`, `arm_U` and `random_U`, a slot that is read of the random arm.

    `late` is why the others have none, String [M]. `draw` are the slots that the model arm draws for those who explore,
    None where nobody does; `office_U` are offices without a history, whose slot is looked for in `hours_S`.
    """

    mailed: Bucket
    late: pl.Series
    users: pl.DataFrame
    zones: ZoneSlots
    allowed_US: NDArray[np.bool_]
    arm_U: NDArray[np.uint8]
    random_U: NDArray[np.uint8]
    draw: cold_start.Draw | None
    office_U: NDArray[np.bool_]
    hours_S: NDArray[np.bool_]

    @property
    def in_time_M(self) -> NDArray[np.bool_]:
        return np.asarray(self.late.is_null().to_numpy())

    @property
    def pinned_U(self) -> NDArray[np.bool_]:
        """Users whose slot the experiment or a draw gives, bool [U]."""
        pinned_U = np.isin(self.arm_U, PINNED)
        return pinned_U if self.draw is None else pinned_U | self.draw.drawn_U

    def own_chances(self, slot_U: NDArray[np.uint8], chance_U: NDArray[Any]) -> NDArray[Any]:
        """P(slot_U) in the model arm, where the model, without draws of explorers, takes it with `chance_U`."""
        draw = self.draw
        return chance_U if draw is None else cold_start.mixed(draw.share_U, draw.target_US, slot_U, chance_U)


def enter(plan: Plan, seen: BucketView) -> Entry:
    """Masks and arms of a bucket; pure."""
    mailed = seen.mailed()
    users = mailed.users
    names = shifted_zones(users["zone"], mailed.cleaned.shift_U, plan.date)
    zones = zone_slots(names, plan.grid, plan.date, plan.config, plan.not_before_ms, plan.horizon_days)
    zones = plan.options.over(zones)
    zones = zones.with_hours(plan.options.repeat(own_hours(users["allowed_hours"], plan.grid)))
    zones = zones.with_reach(plan.options.each_slot(seen.reach_MC()))
    late = without_slot(zones)
    zones, late = _without_closed_days(plan, mailed, zones, late)
    if seen.sends is not None:
        zones, late = _capped(plan, seen, users, zones, late)
    in_time = late.is_null()
    if not in_time.all():
        users, zones = users.filter(in_time), zones.of(in_time.to_numpy())
    allowed_US = zones.allowed_US()
    arm_U = arms.draw_arms(users, plan.config.experiment, allowed_US[:, plan.control_slot])
    random_U, h_U = np.zeros(len(users), np.uint8), users["h"].to_numpy()
    drawn = arm_U == arms.RANDOM
    random_U[drawn] = arms.random_slots(h_U[drawn], allowed_US[drawn], plan.seed, plan.occasion)
    settings, model_U = plan.config.cold_start, (arm_U == arms.MODEL) | (arm_U == arms.OUTSIDE)
    hours_S = plan.options.repeat(cold_start.office_hours(settings, plan.grid))
    known = cold_start.newness(mailed, settings).of(in_time.to_numpy())
    draw = cold_start.draw(settings, hours_S, known, allowed_US, model_U, (h_U, plan.seed, plan.occasion))
    return Entry(mailed, late, users, zones, allowed_US, arm_U, random_U, draw, known.office_U, hours_S)


def given_slots(plan: Plan, entry: Entry, slot_U: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`slot_U` but for users of the control and random arm and those who have a draw."""
    if entry.draw is not None:
        slot_U = np.where(entry.draw.drawn_U, entry.draw.slot_U, slot_U)
    slot_U = np.where(entry.arm_U == arms.CONTROL, np.uint8(plan.control_slot), slot_U)
    return np.where(entry.arm_U == arms.RANDOM, entry.random_U, slot_U)


def _without_closed_days(plan: Plan, mailed: Bucket, zones: ZoneSlots, late: pl.Series) -> tuple[ZoneSlots, pl.Series]:
    """Without the slots of the local dates on which the calendar lets nobody be mailed; `no_send_day` where they were
    the last."""
    grid, days = plan.grid, mailed.days
    if days is None or not days.closed_RD.any():
        return zones, late
    dates = [plan.date + timedelta(days=number) for number in range(grid.days)]
    closed_UD = np.stack([days.is_closed_U(day) for day in dates], axis=1)
    zones = zones.with_closed(closed_UD[:, grid.days_ahead(plan.date)])
    closed = pl.when(pl.Series(zones.n_allowed_U() == 0)).then(pl.lit("no_send_day"))
    return zones, pl.select(pl.coalesce(late, closed)).to_series().cast(pl.String)


def _capped(
    plan: Plan, seen: BucketView, users: pl.DataFrame, zones: ZoneSlots, late: pl.Series
) -> tuple[ZoneSlots, pl.Series]:
    """The slots that frequency caps and gaps leave, and who has none because of them."""
    assert seen.sends is not None
    past = seen.past.sends if seen.past is not None else None
    slot_ms, frequency, options = plan.grid.send_minutes * MINUTE_MS, plan.config.frequency, plan.options
    closed = blocked(users, seen.sends, past, zones, slot_ms, frequency, plan.channels, plan.told_ms)
    nobody = users.with_columns(frequency_cap=pl.lit(None, pl.Float64))
    for channel, cap in sorted(frequency.channels.items()):
        if channel in plan.channels:
            own, block = frequency.model_copy(update={"cap": cap, "min_gap_hours": 0.0}), options.block(zones, channel)
            found = blocked(nobody, seen.sends, past, block, slot_ms, own, (channel,), plan.told_ms)
            closed = both(closed, found and found.on(options.columns(channel), options.size))
    if closed is None:
        return zones, late
    reasons = closed.reasons(zones.allowed_US())
    return zones.with_closed(closed.closed_US), pl.select(pl.coalesce(late, reasons)).to_series()


def demand(plan: Plan, seen: BucketView, entry: Entry) -> Census:
    """What a bucket wants of the limits, before it is scored: explorers count as free, since they are not drawn yet."""
    fixed_U = entry.pinned_U & (entry.arm_U != arms.EXPLORE)
    slot_U = given_slots(plan, entry, entry.random_U)
    census = census_of(plan, entry, fixed_U, slot_U)
    census.weights = known_weights(plan, entry.users)
    census.past.update(past_load(plan, seen))
    return census


def census_of(plan: Plan, entry: Entry, fixed_U: NDArray[np.bool_], slot_U: NDArray[np.uint8]) -> Census:
    names, name_U = encode(entry.users["provider"])
    providers, place = priced_providers(names, plan.config.capacity.limited_providers)
    provider_U = np.array([place[name] for name in names], np.int32)[name_U]
    return take_census(entry.zones, provider_U, providers, fixed_U, slot_U)


def weights_of(plan: Plan, users: pl.DataFrame) -> NDArray[np.float64] | None:
    """The recipients' weights, NaN where unknown, float64 [U]; None without `capacity.weight`.

    Raises ConfigError (78) for a column that is not there or holds no numbers.
    """
    column = plan.config.capacity.weight
    if column is None:
        return None
    if column not in users.columns or not users[column].dtype.is_numeric():
        known = sorted(name for name in users.columns if users[name].dtype.is_numeric() and name != "h")
        raise ConfigError(
            f'capacity.weight must be a column of numbers of the recipients; found "{column}"; known: '
            f"{', '.join(known)}; keep more by recipients.keep"
        )
    weight_U = users[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
    return np.where(np.isfinite(weight_U), np.maximum(weight_U, 0.0), np.nan)


def known_weights(plan: Plan, users: pl.DataFrame) -> tuple[float, int]:
    """The sum of the known weights and their number."""
    weight_U = weights_of(plan, users)
    if weight_U is None:
        return 0.0, 0
    known_U = weight_U[~np.isnan(weight_U)]
    return float(np.cumsum(known_U)[-1]) if len(known_U) else 0.0, len(known_U)


def past_load(plan: Plan, seen: BucketView) -> dict[tuple[int, str], int]:
    """What earlier runs send in each quarter-hour, by lane."""
    if seen.past is None:
        return {}
    keys = pl.col("send_at_ms") // BIN_MS * BIN_MS, pl.col("channel").fill_null(EMAIL), pl.col("provider")
    loads: Counter[tuple[int, str]] = Counter()
    for at, channel, name, n in seen.past.sends.group_by(keys).len().sort(pl.all()).iter_rows():
        loads[at, lane_of(channel, name, plan.options.several)] += n
    return loads
