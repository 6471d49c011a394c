"""Which slots a recipient may get, and when they start: one small table per zone, gathered per user.

What holds for one recipient alone is a mask beside it: his own hours (`user_US`), and what further rules leave
(`left_US`); both None where they close nothing. U users, S slots, Z distinct zones of the bucket.
"""

import functools
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.config import Config
from sto_engine.errors import BadData, ConfigError
from sto_engine.slots import SlotGrid, hours_mask, open_mask, slot_times, tidy_hours, window_mask
from sto_engine.tables import encode
from sto_engine.zones import HOUR_MS, MAX_OFFSET, MIN_OFFSET, event_offsets, midnight_ms, parse_zone

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ZoneSlots:
    """Slot tables of a bucket: `zone_U` indexes `names_Z` and the rows of the [Z, S] tables."""

    zone_U: NDArray[np.int32]
    start_ms_ZS: NDArray[np.int64]
    offset_min_ZS: NDArray[np.int16]
    exists_ZS: Mask
    open_ZS: Mask
    window_S: Mask
    user_US: Mask | None = None
    left_US: Mask | None = None
    names_Z: tuple[str, ...] = ()
    reach_US: Mask | None = None

    def allowed_US(self) -> Mask:
        """Slots that exist on the day, start late enough, lie inside the send window and the user's own hours, and
        that no further rule closes, bool [U, S]."""
        return _also(_also(np.asarray(self.allowed_ZS[self.zone_U]), self.user_US), self.left_US)

    def n_allowed_U(self) -> NDArray[np.int64]:
        """How many slots are allowed to each user, int64 [U]."""
        if self.user_US is None and self.left_US is None:
            return np.asarray(self.allowed_ZS.sum(axis=1)[self.zone_U])
        return np.asarray(self.allowed_US().sum(axis=1))

    def hours_US(self) -> Mask:
        """Slots that exist and lie inside the send window and the user's own hours, whatever else closes them."""
        return _also(np.asarray(np.logical_and(self.exists_ZS, self.window_S)[self.zone_U]), self.user_US)

    def exists_US(self) -> Mask:
        """Slots that exist on the day, on a channel that reaches the user, bool [U, S]."""
        return _also(np.asarray(self.exists_ZS[self.zone_U]), self.reach_US)

    @property
    def allowed_ZS(self) -> Mask:
        """Slots that a zone's clock and the send window leave; users may have fewer."""
        return np.logical_and(self.open_ZS, self.window_S)

    @property
    def all_allowed(self) -> bool:
        """Whether every user may get every slot."""
        return bool(self.allowed_ZS.all()) and all(mask is None or mask.all() for mask in (self.user_US, self.left_US))

    def of(self, rows_U: Mask) -> "ZoneSlots":
        """The same tables for some of the users."""
        names = ("user_US", "left_US", "reach_US")
        own = {name: mask[rows_U] for name in names if (mask := getattr(self, name)) is not None}
        return replace(self, zone_U=self.zone_U[rows_U], **own)

    def with_hours(self, user_US: Mask | None) -> "ZoneSlots":
        """With the users' own hours (`own_hours`) in force."""
        return replace(self, user_US=user_US)

    def with_reach(self, reach_US: Mask | None) -> "ZoneSlots":
        """With the slots of channels on which users cannot be reached closed to them, after `with_hours`."""
        if reach_US is None:
            return self
        return replace(self, user_US=_also(reach_US, self.user_US), reach_US=reach_US)

    def with_closed(self, closed_US: Mask) -> "ZoneSlots":
        """With further slots closed to single users, bool [U, S], besides those that are."""
        return replace(self, left_US=_also(~closed_US, self.left_US))

    def in_window_U(self) -> Mask:
        """Whether the send window and the user's own hours alone leave him a slot, bool [U]."""
        if self.user_US is not None:
            return np.asarray(self.hours_US().any(axis=1))
        some_Z = np.asarray(np.logical_and(self.exists_ZS, self.window_S).any(axis=1))
        return np.asarray(some_Z[self.zone_U])

    def start_ms(self, slot_U: NDArray[np.uint8]) -> NDArray[np.int64]:
        return np.asarray(self.start_ms_ZS[self.zone_U, slot_U])

    def offset_min(self, slot_U: NDArray[np.uint8]) -> NDArray[np.int16]:
        return np.asarray(self.offset_min_ZS[self.zone_U, slot_U])


def _also(mask_US: Mask, other_US: Mask | None) -> Mask:
    return mask_US if other_US is None else np.logical_and(mask_US, other_US)


# every bucket has the same zones; the arrays are only read
_slot_times = functools.lru_cache(maxsize=4096)(slot_times)


def zone_slots(
    zones: pl.Series, grid: SlotGrid, day: date, config: Config, not_before_ms: int | None, horizon_days: int = 7
) -> ZoneSlots:
    """The slot tables of the zones named in `zones` (IANA names or minutes as text, one a user).

    Slots of local days from `day` + `horizon_days` on do not exist.
    """
    names, zone_U = encode(zones)
    times = [_slot_times(grid, day, parse_zone(name), config.experiment.control_time) for name in names]
    shape, within_S = (len(names), grid.slots), grid.days_ahead(day) < horizon_days
    return ZoneSlots(
        names_Z=tuple(names),
        zone_U=zone_U,
        start_ms_ZS=np.array([t.start_ms for t in times], np.int64).reshape(shape),
        offset_min_ZS=np.array([t.offset_min for t in times], np.int16).reshape(shape),
        exists_ZS=np.array([t.exists for t in times], np.bool_).reshape(shape) & within_S,
        open_ZS=np.array([open_mask(t, not_before_ms) for t in times], np.bool_).reshape(shape) & within_S,
        window_S=_window_S(config, grid),
    )


def own_hours(hours: pl.Series, grid: SlotGrid) -> Mask | None:
    """Slots inside the `allowed_hours` of each recipient, bool [U, S]; no hours, no limit; None where nobody has any.

    Raises BadData (65) for hours that ingest would not have let through.
    """
    if hours.null_count() == len(hours):
        return None
    texts, text_U = encode(hours.fill_null(""))
    return np.array([_hours_S(text, grid) for text in texts], np.bool_)[text_U]


def _hours_S(text: str, grid: SlotGrid) -> Mask:
    if not text:
        return np.ones(grid.slots, np.bool_)
    if tidy_hours(text) is None:
        raise BadData(
            f'recipients.allowed_hours must be hours such as "08:00-12:00,18:00-22:00"; the store has "{text}"; '
            "ingest the recipients anew"
        )
    return hours_mask(grid, text)


def without_slot(zones: ZoneSlots) -> pl.Series:
    """Why a user gets no slot, String [U]; null where one is left.

    `window_closed`: the send window and his own hours alone leave none; `no_slot_left`: with the day's clock, or
    further rules, none is left.
    """
    none_U = pl.Series(zones.n_allowed_U() == 0)
    closed = pl.when(pl.Series(zones.in_window_U())).then(pl.lit("no_slot_left")).otherwise(pl.lit("window_closed"))
    return pl.select(pl.when(none_U).then(closed)).to_series().cast(pl.String)


def window_never_opens(config: Config, grid: SlotGrid) -> None:
    """Raise ConfigError (78) where send window and quiet hours together leave no slot of the day."""
    if _window_S(config, grid).any():
        return
    window = config.window
    quiet = f" and window.quiet = {list(window.quiet)}" if window.quiet else ""
    raise ConfigError(
        f"window.start, window.end and window.quiet must leave at least one whole slot of {grid.minutes} minutes; "
        f'found window.start = "{window.start}", window.end = "{window.end}"{quiet}, which leave none; '
        "widen the window or shorten the quiet hours"
    )


def _window_S(config: Config, grid: SlotGrid) -> Mask:
    return window_mask(grid, config.window.start, config.window.end, config.window.quiet)


def shifted_zones(zones: pl.Series, shift_U: NDArray[np.int16], day: date) -> pl.Series:
    """The zones by whose clock users are mailed: where a shift was accepted, the offset of the day plus the shift."""
    moved = np.flatnonzero(shift_U)
    if not len(moved):
        return zones
    names, zone_U = encode(zones.gather(moved))
    noon_ms = np.full(len(moved), midnight_ms(day) + 12 * HOUR_MS)
    offset_U = event_offsets(names, zone_U, noon_ms).astype(np.int64) + shift_U[moved]
    offset_U = np.clip(offset_U, MIN_OFFSET, MAX_OFFSET)
    return zones.scatter(moved, pl.Series([str(offset) for offset in offset_U.tolist()], dtype=pl.String))
