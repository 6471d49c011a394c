"""Which slots a recipient may get, and when they start: one small table per zone, gathered per user.

U users, S slots, Z distinct zones of the bucket.
"""

import functools
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.config import Config
from sto_engine.slots import SlotGrid, open_mask, slot_times, window_mask
from sto_engine.tables import encode
from sto_engine.zones import HOUR_MS, MAX_OFFSET, MIN_OFFSET, event_offsets, midnight_ms, parse_zone


@dataclass(frozen=True)
class ZoneSlots:
    """Slot tables of a bucket: `zone_U` indexes the rows of the [Z, S] tables."""

    zone_U: NDArray[np.int32]
    start_ms_ZS: NDArray[np.int64]
    offset_min_ZS: NDArray[np.int16]
    exists_ZS: NDArray[np.bool_]
    open_ZS: NDArray[np.bool_]
    window_S: NDArray[np.bool_]

    def allowed_US(self) -> NDArray[np.bool_]:
        """Slots that exist on the day, start late enough and lie inside the send window, bool [U, S]."""
        return np.asarray(self.allowed_ZS[self.zone_U])

    def n_allowed_U(self) -> NDArray[np.int64]:
        """How many slots are allowed to each user, int64 [U]."""
        return np.asarray(self.allowed_ZS.sum(axis=1)[self.zone_U])

    @property
    def allowed_ZS(self) -> NDArray[np.bool_]:
        return np.logical_and(self.open_ZS, self.window_S)

    def of(self, rows_U: NDArray[np.bool_]) -> "ZoneSlots":
        """The same tables for some of the users."""
        return replace(self, zone_U=self.zone_U[rows_U])

    def in_window_U(self) -> NDArray[np.bool_]:
        """Whether the send window alone leaves the user a slot, bool [U]."""
        some_Z = np.asarray(np.logical_and(self.exists_ZS, self.window_S).any(axis=1))
        return np.asarray(some_Z[self.zone_U])

    def start_ms(self, slot_U: NDArray[np.uint8]) -> NDArray[np.int64]:
        return np.asarray(self.start_ms_ZS[self.zone_U, slot_U])

    def offset_min(self, slot_U: NDArray[np.uint8]) -> NDArray[np.int16]:
        return np.asarray(self.offset_min_ZS[self.zone_U, slot_U])


# every bucket has the same zones; the arrays are only read
_slot_times = functools.lru_cache(maxsize=4096)(slot_times)


def zone_slots(zones: pl.Series, grid: SlotGrid, day: date, config: Config, not_before_ms: int | None) -> ZoneSlots:
    """The slot tables of the zones named in `zones` (IANA names or minutes as text, one a user)."""
    names, zone_U = encode(zones)
    times = [_slot_times(grid, day, parse_zone(name), config.experiment.control_time) for name in names]
    shape = (len(names), grid.slots)
    return ZoneSlots(
        zone_U=zone_U,
        start_ms_ZS=np.array([t.start_ms for t in times], np.int64).reshape(shape),
        offset_min_ZS=np.array([t.offset_min for t in times], np.int16).reshape(shape),
        exists_ZS=np.array([t.exists for t in times], np.bool_).reshape(shape),
        open_ZS=np.array([open_mask(t, not_before_ms) for t in times], np.bool_).reshape(shape),
        window_S=window_mask(grid, config.window.start, config.window.end, config.window.quiet),
    )


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
