"""From staged rows to offers, and from slots to rows again: what prices need of a bucket and what they change in it.

Beside each row stand the worths of his slots and, where the policy has them, his chances of an open, as codes of two
bytes a slot (sto_kernels.offers). U users, S slots.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import polars.selectors as cs
import pyarrow as pa
from numpy.typing import NDArray

from sto_engine.assign import arms, cold_start
from sto_engine.assign.market import Market
from sto_engine.assign.urgent import urgencies
from sto_engine.assign.window import ZoneSlots, zone_slots
from sto_engine.bucket_counts import BucketCounts, count
from sto_engine.choose import Chosen
from sto_engine.contest import CONTEST, model_chances, staged_contest
from sto_engine.entry import PINNED, Entry, weights_of
from sto_engine.plan import Plan
from sto_engine.tables import ARMS, REASONS
from sto_kernels.offers import NONE, Offers, offers_of
from sto_kernels.prices import NO_SLOT, Floats, choose

LEAST_WEIGHT = 1e-3


def stage_offers(
    plan: Plan,
    entry: Entry,
    chosen: Chosen,
    p_open_US: NDArray[np.float32] | None,
    mean_weight: float,
) -> pl.DataFrame:
    """The rows with zone, worths and chances. A weight counts in units of the mean one, at least 1e-3 of it."""
    rows, worth_US = chosen.rows, chosen.worth_US
    assert worth_US is not None
    weight_U = weights_of(plan, entry.users)
    if weight_U is not None:
        weight_U = np.where(np.isnan(weight_U), 1.0, np.maximum(weight_U / mean_weight, LEAST_WEIGHT))
    group_U, h_U = np.zeros(len(rows), np.int32), rows["h"].to_numpy()
    finite_US = entry.allowed_US & np.isfinite(worth_US)
    finite_US[~finite_US.any(axis=1)] = entry.allowed_US[~finite_US.any(axis=1)]
    worth_US = np.where(np.isfinite(worth_US), worth_US, np.float32(0))
    worth = offers_of(worth_US, finite_US, group_U, h_U, None if weight_U is None else weight_U.astype(np.float32))
    names_Z = entry.zones.names_Z
    rows = rows.with_columns(
        pl.Series("zone", list(names_Z), dtype=pl.Enum(names_Z)).gather(entry.zones.zone_U),
        pl.Series("worth", worth.code_US),
        pl.Series("low", worth.low_U),
        pl.Series("step", worth.step_U),
    )
    if chosen.explore_US is not None:  # worths would do, but for weights and what holds a slot
        rows = rows.with_columns(pl.Series("explore", chosen.explore_US.astype(np.float32)))
    if entry.draw is not None:
        rows = rows.with_columns(pl.Series("share", entry.draw.share_U), pl.Series("target", entry.draw.target_US))
    if chosen.contest is not None:
        rows = rows.with_columns(**chosen.contest.staged(weight_U))
    if p_open_US is None:
        return rows
    chance = offers_of(p_open_US, np.isfinite(p_open_US), group_U, h_U)
    return rows.with_columns(
        pl.Series("p", chance.code_US), pl.Series("p_low", chance.low_U), pl.Series("p_step", chance.step_U)
    )


@dataclass(frozen=True)
class StagedBucket:
    """Staged rows of a bucket as phase A wrote them, and their offers."""

    rows: pl.DataFrame
    zones: ZoneSlots
    wishes: Offers
    pinned_U: NDArray[np.bool_]

    @property
    def slot_U(self) -> NDArray[np.uint8]:
        """Slots as if nothing were short."""
        return self.rows["slot"].to_numpy()

    def offers(self) -> Offers:
        """What may be chosen: users whose slot the experiment gives have no other."""
        code_US = self.wishes.code_US
        if self.pinned_U.any():
            code_US = code_US.copy()
            pinned = np.flatnonzero(self.pinned_U)
            given_U = code_US[pinned, self.slot_U[pinned]]
            code_US[pinned] = NONE
            code_US[pinned, self.slot_U[pinned]] = given_U
        wishes = self.wishes
        return Offers(code_US, wishes.low_U, wishes.step_U, wishes.group_U, wishes.h_U)


def read_bucket(plan: Plan, market: Market, table: pa.Table) -> StagedBucket:
    """A bucket of staged rows in terms of the market."""
    rows = pl.from_arrow(table)
    assert isinstance(rows, pl.DataFrame)
    kind, zone_kind = rows["provider"].dtype, rows["zone"].dtype
    assert isinstance(kind, pl.Enum)
    assert isinstance(zone_kind, pl.Enum)
    zones = zone_slots(zone_kind.categories, plan.grid, plan.date, plan.config, plan.not_before_ms, plan.horizon_days)
    zones = plan.options.over(zones)
    zones = replace(zones, zone_U=rows["zone"].to_physical().to_numpy().astype(np.int32))
    provider_U = rows["provider"].to_physical().to_numpy()
    group_U = market.groups_U(zones, kind.categories.to_list(), provider_U)
    columns = rows["low"].to_numpy(), rows["step"].to_numpy()
    wishes = Offers(codes(table, "worth", plan.options.size), *columns, group_U, rows["h"].to_numpy())
    # draws of the model arm have the reason that the explore arm has
    pinned_U = np.isin(_arm_codes(rows["arm"]), PINNED) | (rows["reason"].cast(pl.String) == "explore").to_numpy()
    rows = rows.drop("worth", "p", "explore", "target", cs.starts_with(CONTEST), strict=False)
    return StagedBucket(rows, zones, wishes, pinned_U)


def codes(table: pa.Table, name: str, slots: int) -> NDArray[Any]:
    """A column of a number a slot, [U, S]."""
    column = table[name].combine_chunks()
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(-1, slots)


@dataclass(frozen=True)
class Moves:
    """Recipients who do not get the slot that they would have had; expected opens of all without and with limits."""

    moved: int = 0
    opens_before: float = 0.0
    opens_after: float = 0.0

    def __add__(self, other: "Moves") -> "Moves":
        return Moves(
            self.moved + other.moved,
            self.opens_before + other.opens_before,
            self.opens_after + other.opens_after,
        )


@dataclass(frozen=True)
class Settled:
    """Rows to send and rows that were left out (user_id), after prices; what moved, and what that costs."""

    rows: pl.DataFrame
    left_out: pl.DataFrame
    counts: BucketCounts
    moves: Moves


@dataclass(frozen=True)
class Noise:
    """What a choice by prices is drawn with."""

    cost_GS: Floats
    run_key: NDArray[np.uint64]
    eps: float
    none: float


def settle(
    plan: Plan, market: Market, staged: StagedBucket, table: pa.Table, slot_U: NDArray[np.uint8], noise: Noise
) -> Settled:
    """The rows with their final slots, and what that changes: time, chance of an open, propensity; counts anew."""
    rows, zones = staged.rows, staged.zones
    sent_U = slot_U != NO_SLOT
    at_U = np.where(sent_U, slot_U, 0)
    moved_U = (slot_U != staged.slot_U) & sent_U
    model_U = _model_slots(market, staged, slot_U, noise)
    arm_U = _arm_codes(rows["arm"])
    cost_US = noise.cost_GS[staged.wishes.group_U]
    own_U = model_chances(plan, staged_contest(table, plan.options.size), at_U, model_U, cost_US)
    own_U = _own_chances(table, rows, at_U, own_U, plan.options.size)
    chance_U = arms.propensities(
        *(at_U, own_U, plan.control_slot, _n_allowed(staged), arm_U, plan.config.experiment),
        codes(table, "explore", plan.options.size) if "explore" in table.column_names else None,
    )
    rows = rows.with_columns(
        slot=pl.Series(at_U.astype(np.uint8)),
        start_ms=pl.Series(zones.start_ms(at_U)),
        tz_offset=pl.Series(zones.offset_min(at_U)),
        propensity=pl.Series(chance_U),
        p_open=_chances(plan, rows, table, at_U, moved_U),
    )
    counts = BucketCounts()
    names = rows["provider"].dtype.categories.to_list()  # type: ignore[attr-defined]
    reason_U = rows["reason"].cast(pl.Enum(REASONS)).to_physical().to_numpy()
    provider_U = rows["provider"].to_physical().to_numpy().astype(np.int32)
    kept = zones.of(sent_U)
    sent = at_U[sent_U].astype(np.uint8), arm_U[sent_U], reason_U[sent_U], (names, provider_U[sent_U])
    count(plan.options, counts, kept, *sent)
    left = pl.Series(~sent_U)
    counts.urgency.update(urgencies(rows.filter(~left)))
    before, after = staged.rows["p_open"].sum(), rows["p_open"].filter(~left).sum()
    moves = Moves(int(moved_U.sum()), float(before or 0.0), float(after or 0.0))
    return Settled(rows.filter(~left), rows.filter(left).select("user_id"), counts, moves)


def _model_slots(market: Market, staged: StagedBucket, slot_U: NDArray[np.uint8], noise: Noise) -> NDArray[np.uint8]:
    """The slot that the model gives, or would have given, where the experiment decided, uint8 [U]."""
    model_U = slot_U.copy()
    pinned = np.flatnonzero(staged.pinned_U)
    if len(pinned):
        wishes = staged.wishes.take(pinned)
        model_U[pinned] = choose(wishes, noise.cost_GS, noise.run_key, noise.eps, noise.none).slot_U
    return model_U


def _own_chances(
    table: pa.Table, rows: pl.DataFrame, slot_U: NDArray[np.uint8], chance_U: NDArray[Any], slots: int
) -> NDArray[Any]:
    """P(slot_U) in the model arm: `chance_U` where nobody explores."""
    if "target" not in table.column_names:
        return chance_U
    return cold_start.mixed(rows["share"].to_numpy(), codes(table, "target", slots), slot_U, chance_U)


def _n_allowed(staged: StagedBucket) -> NDArray[np.int64]:
    return np.asarray((staged.wishes.code_US != NONE).sum(axis=1).astype(np.int64))


def _arm_codes(arm: pl.Series) -> NDArray[np.uint8]:
    """Codes of `arms`, uint8 [U]; no arm is OUTSIDE."""
    code_A = np.array([*map(arms.ARM_NAMES.index, ARMS), arms.OUTSIDE], np.uint8)
    return np.asarray(code_A[arm.cast(pl.Enum(ARMS)).to_physical().fill_null(len(ARMS)).to_numpy()])


def _chances(
    plan: Plan, rows: pl.DataFrame, table: pa.Table, slot_U: NDArray[np.uint8], moved_U: NDArray[np.bool_]
) -> pl.Series:
    """P(open) of the slots: of those who moved from the codes, of others as phase A wrote it."""
    if "p" not in table.column_names:
        return rows["p_open"]
    moved = np.flatnonzero(moved_U)
    code_U = codes(table, "p", plan.options.size)[moved, slot_U[moved]].astype(np.float32)
    p_U = rows["p_low"].to_numpy()[moved] + rows["p_step"].to_numpy()[moved] * code_U
    return rows["p_open"].scatter(moved, p_U)
