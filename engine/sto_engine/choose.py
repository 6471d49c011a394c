"""The choice of every recipient who is mailed, as if nothing were short: slot, arm, propensity, and what prices need.

U users, S slots.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.assign import arms, cold_start
from sto_engine.assign.gain import gain_of
from sto_engine.assign.regret import regret_of
from sto_engine.assign.urgent import urgencies, with_urgency
from sto_engine.assign.window import ZoneSlots
from sto_engine.assign.worth import worth_US
from sto_engine.bucket_counts import BucketCounts, count, tally
from sto_engine.contest import Contest, contest_of, model_chances
from sto_engine.entry import Entry, given_slots
from sto_engine.models.policy import Utilities
from sto_engine.plan import Plan
from sto_engine.tables import ARMS, REASONS, encode

FALLBACK = REASONS.index("fallback")
NOWHERE = 255


@dataclass(frozen=True)
class Chosen:
    """Columns of the staged rows; `worth_US` (with what holds a slot, before masks but for office hours) is None where
    nobody asks, and so is `explore_US`, the chances of the explore arm, and `contest`, where nothing is drawn."""

    rows: pl.DataFrame
    worth_US: NDArray[np.float32] | None
    explore_US: NDArray[np.float64] | None
    contest: Contest | None = None


def choose(plan: Plan, entry: Entry, utilities: Utilities, last_U: NDArray[np.uint8], counts: BucketCounts) -> Chosen:
    """Masked choice of every user; `last_U` is his slot of the last run (NOWHERE: none)."""
    zones, arm_U, control = entry.zones, entry.arm_U, plan.control_slot
    reason_U = reason_codes(utilities.reason_U)
    utility_US = _sane(utilities.utility_US, entry.allowed_US, reason_U, plan, counts)
    suits_US = _suits(entry, reason_U)
    best_US = utility_US if suits_US is None else np.where(suits_US, utility_US, -np.inf)
    preferred_U = best_US.argmax(axis=1).astype(np.uint8)
    worth = _worths(plan, utilities, reason_U, zones)
    follows_U = _follows(entry) & (reason_U != FALLBACK)
    model_slot_U, wanted = _held(plan, worth, suits_US, preferred_U, last_U, reason_U)
    if wanted is not worth:
        counts.held.update(_kept(preferred_U[follows_U], model_slot_U[follows_U], last_U[follows_U]))
    slot_U = given_slots(plan, entry, model_slot_U)
    known = _known_worths(plan, utilities, worth, reason_U, zones)
    explore_US = _explore(plan, entry, known, slot_U)
    contest = contest_of(entry.allowed_US, utilities, suits_US, reason_U != FALLBACK, (worth, wanted))
    _tell_worth(plan, entry, utilities, known, contest, (model_slot_U, follows_U), counts)
    _tell_given(entry, reason_U, counts)
    own_U = entry.own_chances(slot_U, model_chances(plan, contest, slot_U, model_slot_U))
    chance_U = arms.propensities(slot_U, own_U, control, zones.n_allowed_U(), arm_U, plan.config.experiment, explore_US)
    names, provider_U = encode(entry.users["provider"])
    count(plan.options, counts, zones, slot_U, arm_U, reason_U, (names, provider_U))
    counts.preferred.update(tally(plan.options.slot_of(preferred_U[arm_U == arms.MODEL]), range(256)))
    p_US, n_users = utilities.p_open_US, len(arm_U)
    rows = entry.users.select("h", "user_id", pl.col("provider").cast(pl.Enum(names))).with_columns(
        slot=pl.Series(slot_U),
        start_ms=pl.Series(zones.start_ms(slot_U)),
        tz_offset=pl.Series(zones.offset_min(slot_U)),
        arm=pl.Series(arms.ARM_NAMES, dtype=pl.Enum(ARMS)).gather(arm_U),
        reason=pl.Series(REASONS, dtype=pl.Enum(REASONS)).gather(reason_U),
        propensity=pl.Series(chance_U),
        p_open=_nullable(None if p_US is None else p_US[np.arange(n_users), slot_U], n_users),
        p_control=_nullable(None if p_US is None else p_US[:, control], n_users),
        preferred_slot=pl.Series(preferred_U),
        n_eff=pl.Series(np.asarray(utilities.n_eff_U, np.float32)),
    )
    rows = with_urgency(rows, utilities)
    counts.urgency.update(urgencies(rows))
    return Chosen(rows, _soft(plan, wanted, entry, suits_US), explore_US, contest)


def _known_worths(
    plan: Plan,
    utilities: Utilities,
    worth: NDArray[np.float32] | None,
    reason_U: NDArray[np.uint8],
    zones: ZoneSlots,
) -> NDArray[np.float32] | None:
    """Worths as the policy knows them: of one that draws, its means, since a draw flatters the slot that it picks."""
    if worth is None or utilities.belief is None or utilities.p_open_US is None:
        return worth
    return _worths(plan, replace(utilities, utility_US=utilities.p_open_US, measure="chance"), reason_U, zones)


def _tell_worth(
    plan: Plan,
    entry: Entry,
    utilities: Utilities,
    known: NDArray[np.float32] | None,
    contest: Contest | None,
    model: tuple[NDArray[np.uint8], NDArray[np.bool_]],
    counts: BucketCounts,
) -> None:
    """What the window costs those who follow the model, and what draws do; `model` are its slots and who follows."""
    zones, p_US = entry.zones, utilities.p_open_US
    if known is not None and not zones.hours_US().all():
        masks = zones.exists_US(), zones.hours_US()
        counts.gain = gain_of(known, *masks, plan.control_slot, *model, p_US is not None)
    if contest is not None and p_US is not None:
        counts.regret = regret_of(p_US, contest.suits_US, *model)


def _suits(entry: Entry, reason_U: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """Slots that the model looks among, bool [U, S], None for all: those allowed; of offices without a history of their
    own, who are told `b2b`, those in office hours where there are any."""
    office_U = entry.office_U & (reason_U != FALLBACK)
    office_U[office_U] = (entry.allowed_US[office_U] & entry.hours_S).any(axis=1)
    reason_U[office_U] = REASONS.index("b2b")
    if not office_U.any():
        return None if entry.zones.all_allowed else entry.allowed_US
    return cold_start.within(entry.allowed_US, office_U, entry.hours_S)


def _follows(entry: Entry) -> NDArray[np.bool_]:
    """Who gets the slot that the model chooses, bool [U]."""
    model_U = (entry.arm_U == arms.MODEL) | (entry.arm_U == arms.OUTSIDE)
    return np.asarray(model_U if entry.draw is None else model_U & ~entry.draw.drawn_U)


def _tell_given(entry: Entry, reason_U: NDArray[np.uint8], counts: BucketCounts) -> None:
    """The reasons of slots that the model has not chosen; who explores as a newcomer or by epsilon is counted."""
    for arm, name in ((arms.CONTROL, "control"), (arms.RANDOM, "random"), (arms.EXPLORE, "explore")):
        reason_U[entry.arm_U == arm] = REASONS.index(name)
    if entry.draw is not None:
        reason_U[entry.draw.drawn_U] = REASONS.index("explore")
        counts.cold.update(entry.draw.counts())


def _soft(
    plan: Plan, wanted: NDArray[np.float32] | None, entry: Entry, suits_US: NDArray[np.bool_] | None
) -> NDArray[np.float32] | None:
    """Worths for prices: allowed slots that do not suit bring nothing, and are there for want of others."""
    if wanted is None or suits_US is None or suits_US is entry.allowed_US or not plan.is_priced:
        return wanted
    return np.asarray(np.where(entry.allowed_US & ~suits_US, np.float32(0), wanted))


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
    return np.where(fallback_U[:, None], _nearness(plan), utility_US)


def _nearness(plan: Plan) -> NDArray[np.float32]:
    """Less the further a slot lies from the control time, around the clock, on later days and channels, float32 [S]."""
    grid = plan.grid
    per_day = grid.slots // grid.days
    apart_S = np.abs(np.arange(grid.slots) - plan.control_slot) % per_day
    near_S = -np.minimum(apart_S, per_day - apart_S) - per_day * grid.days_ahead(plan.date)
    later_S = np.repeat(np.arange(len(plan.channels)) * grid.slots, grid.slots)
    return np.asarray(plan.options.repeat(near_S) - later_S, np.float32)


def _worths(
    plan: Plan, utilities: Utilities, reason_U: NDArray[np.uint8], zones: ZoneSlots
) -> NDArray[np.float32] | None:
    """Expected opens of every slot where something asks for them: prices, gains, explorers, or a narrow window.

    Users without data are worth the same anywhere, but for a trace that leads them to the control time.
    """
    config = plan.config
    asked = plan.is_priced or config.assign.min_gain or config.assign.keep_gain or config.experiment.explore_share
    if not asked and zones.hours_US().all():
        return None
    worth = worth_US(utilities)
    fallback_U = reason_U == FALLBACK
    if fallback_U.any():
        worth = np.where(fallback_U[:, None], np.float32(1e-6) * _nearness(plan), worth)
    return worth


def _held(
    plan: Plan,
    worth: NDArray[np.float32] | None,
    suits_US: NDArray[np.bool_] | None,
    preferred_U: NDArray[np.uint8],
    last_U: NDArray[np.uint8],
    reason_U: NDArray[np.uint8],
) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
    """The model's slots where `assign.min_gain` and `assign.keep_gain` hold a user back, and `worth` with what does.

    A slot that holds is worth its gain more: the default slot by `min_gain`, the last run's by `keep_gain`.
    """
    gains = plan.config.assign
    if worth is None or not (gains.min_gain or gains.keep_gain):
        return preferred_U, worth
    # explorers and the window's cost go by what slots are worth without it
    wanted, rows, with_data_U = worth.copy(), np.arange(len(worth)), reason_U != FALLBACK
    wanted[with_data_U, plan.control_slot] += np.float32(gains.min_gain)
    again_U = with_data_U & (last_U != NOWHERE)
    wanted[rows[again_U], last_U[again_U]] += np.float32(gains.keep_gain)
    best_US = wanted if suits_US is None else np.where(suits_US, wanted, -np.inf)
    held_U = best_US.argmax(axis=1).astype(np.uint8)
    # a bonus that changes nothing must not change ties either
    better_U = wanted[rows, held_U] > wanted[rows, preferred_U]
    return np.where(better_U & with_data_U, held_U, preferred_U), wanted


def _kept(preferred_U: NDArray[np.uint8], slot_U: NDArray[np.uint8], last_U: NDArray[np.uint8]) -> dict[str, int]:
    """How many are held at the slot of the last run, and how many at the default slot."""
    moved_U, again_U = slot_U != preferred_U, slot_U == last_U
    return {"kept": int((moved_U & again_U).sum()), "default": int((moved_U & ~again_U).sum())}


def _explore(
    plan: Plan, entry: Entry, worth: NDArray[np.float32] | None, slot_U: NDArray[np.uint8]
) -> NDArray[np.float64] | None:
    """Chances of the explore arm; its slots are written to `slot_U`."""
    if not plan.config.experiment.explore_share or worth is None:
        return None
    chance_US = arms.explore_chances(worth, entry.allowed_US)
    drawn_U = entry.arm_U == arms.EXPLORE
    h_U = entry.users["h"].to_numpy()
    slot_U[drawn_U] = arms.explore_slots(h_U[drawn_U], chance_US[drawn_U], plan.seed, plan.occasion)
    return chance_US


def _nullable(values: NDArray[np.float32] | None, length: int) -> pl.Series:
    if values is None:
        return pl.Series([None] * length, dtype=pl.Float32)
    return pl.Series(np.ascontiguousarray(values, dtype=np.float32))
