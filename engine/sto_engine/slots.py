"""The slot grid: local time <-> slot, when slots start, and which of them a campaign may use.

A slot is an index 0..S-1 in the recipient's local time: 24 hours or 48 half-hours of one day, 168 hours or 7 days of a
week (Monday first). A slot that crosses midnight belongs to the day it starts on. On the day a clock is put forward the
slots that never happen do not exist; on the day it is put back a slot is taken the first time it happens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from sto_engine.errors import ConfigError
from sto_engine.zones import at, load_zone

DAY_MIN = 1440
MINUTE_MS = 60_000


@dataclass(frozen=True)
class SlotGrid:
    """`slots` of a run: 24, 48, 168 or 7."""

    slots: int

    @property
    def days(self) -> int:
        """Local days that the grid covers."""
        return 7 if self.slots in (168, 7) else 1

    @property
    def minutes(self) -> int:
        """Length of a slot in minutes."""
        return self.days * DAY_MIN // self.slots

    @property
    def send_minutes(self) -> int:
        """Minutes from the start of a slot on in which its mail may go out: day slots are an hour of their day."""
        return min(self.minutes, 60)

    def days_ahead(self, day: date) -> NDArray[np.int64]:
        """Local days from `day` on until each slot, int64 [S]; 0 on grids of one day."""
        if self.days == 1:
            return np.zeros(self.slots, np.int64)
        return (np.arange(self.slots) * 7 // self.slots - day.weekday()) % 7

    def slot_at(self, day: date, minute: int) -> int:
        """The slot that holds this minute of the local day `day`."""
        if self.days == 1:
            return minute // self.minutes
        return day.weekday() if self.slots == 7 else day.weekday() * 24 + minute // 60


@dataclass(frozen=True)
class SlotTimes:
    """Slots of one zone and date: UTC start (ms), whether it happens, offset at its start (minutes); all [S]."""

    start_ms: NDArray[np.int64]
    exists: NDArray[np.bool_]
    offset_min: NDArray[np.int16]


def grid_of(slots: int) -> SlotGrid:
    """The grid of that many slots; ConfigError (78) for any but 24, 48, 168 and 7."""
    if slots not in (24, 48, 168, 7):
        raise ConfigError(f"slots.grid must be 24, 48, 168 or 7; found {slots}")
    return SlotGrid(slots)


def local_slot(grid: SlotGrid, utc_ms: NDArray[np.int64], offset_min: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Slot of the local time of each moment (ms since the epoch, offset in minutes) -> uint8, same shape."""
    minute = utc_ms // MINUTE_MS + offset_min.astype(np.int64)
    if grid.days == 7:
        minute = minute + 3 * DAY_MIN  # the epoch was a Thursday
    return np.asarray(minute % (grid.days * DAY_MIN) // grid.minutes, dtype=np.uint8)


def slot_times(grid: SlotGrid, day: date, zone: str | int, day_clock: str = "10:00") -> SlotTimes:
    """When each slot of the local day `day` (of the seven days from it on multi-day grids) starts in `zone`.

    `zone` is an IANA name or an offset in minutes. Slots of the 7-day grid start at `day_clock`.
    """
    walls = [_wall(grid, day, slot, day_clock) for slot in range(grid.slots)]
    starts = [_start(wall, zone) for wall in walls]
    return SlotTimes(
        start_ms=np.array([start for start, _, _ in starts], np.int64),
        exists=np.array([exists for _, exists, _ in starts], np.bool_),
        offset_min=np.array([offset for _, _, offset in starts], np.int16),
    )


def _wall(grid: SlotGrid, day: date, slot: int, day_clock: str) -> datetime:
    midnight = datetime(day.year, day.month, day.day)
    if grid.days == 1:
        return midnight + timedelta(minutes=slot * grid.minutes)
    per_day, ahead = grid.slots // 7, int(grid.days_ahead(day)[slot])
    minute = parse_clock(day_clock) if per_day == 1 else slot % per_day * grid.minutes
    return midnight + timedelta(days=ahead, minutes=minute)


def _start(wall: datetime, zone: str | int) -> tuple[int, bool, int]:
    """UTC start in ms, whether the wall time happens (it survives a round trip), and the offset in minutes."""
    if isinstance(zone, int):
        return _ms(wall - timedelta(minutes=zone)), True, zone
    info = load_zone(zone)
    offset = wall.replace(tzinfo=info, fold=0).utcoffset()
    assert offset is not None
    start_ms, offset_min = _ms(wall - offset), int(offset.total_seconds() // 60)
    back = at(start_ms).astimezone(info).replace(tzinfo=None)
    return start_ms, back == wall, offset_min


def _ms(utc: datetime) -> int:
    return (utc.replace(tzinfo=UTC) - at(0)) // timedelta(milliseconds=1)


def parse_clock(text: str) -> int:
    """Minutes since midnight of "HH:MM", 24:00 included; ConfigError (78) for anything else."""
    hours, colon, minutes = text.partition(":")
    if colon and len(hours) == 2 and len(minutes) == 2 and (hours + minutes).isascii() and (hours + minutes).isdigit():
        total = int(hours) * 60 + int(minutes)
        if int(minutes) < 60 and total <= DAY_MIN:
            return total
    raise ConfigError(f'a time of day must be "HH:MM" from 00:00 to 24:00; found "{text}"')


def parse_quiet(text: str) -> tuple[int, int]:
    """Start and end in minutes of "22:00-07:00" (it may cross midnight); ConfigError (78) for anything else."""
    start, dash, end = text.partition("-")
    if not dash:
        raise ConfigError(f'quiet hours must be "HH:MM-HH:MM"; found "{text}"')
    return parse_clock(start), parse_clock(end)


def parse_hours(text: str) -> list[tuple[int, int]]:
    """Starts and ends in minutes of "08:00-12:00,18:00-02:00"; ConfigError (78) for anything else.

    Spaces around hours do not matter. A range from an hour to itself says nothing, so it is refused.
    """
    ranges = [parse_quiet("-".join(end.strip() for end in part.split("-"))) for part in text.split(",")]
    if any(start % DAY_MIN == end % DAY_MIN and (start, end) != (0, DAY_MIN) for start, end in ranges):
        raise ConfigError(f'allowed hours must not start where they end; found "{text}"; all day is "00:00-24:00"')
    return ranges


def tidy_hours(text: str) -> str | None:
    """Allowed hours as the store keeps them, without spaces; None for text that is none."""
    try:
        parse_hours(text)
    except ConfigError:
        return None
    return "".join(text.split())


def hours_mask(grid: SlotGrid, text: str) -> NDArray[np.bool_]:
    """Slots that lie wholly inside the allowed hours of one recipient (`parse_hours`), bool [S].

    Day slots (grid 7) are sent at one clock time and stay open.
    """
    inside = np.logical_or.reduce([_minutes(start, end, empty=False) for start, end in parse_hours(text)])
    return _whole_slots(grid, inside)


def window_mask(grid: SlotGrid, start: str, end: str, quiet: Sequence[str] = ()) -> NDArray[np.bool_]:
    """Slots that lie wholly inside the send window and wholly outside quiet hours, bool [S].

    A window whose start equals its end is empty of limits (all day); one whose start is later crosses midnight. Day
    slots (grid 7) are sent at one clock time and stay open.
    """
    closed = ~_minutes(parse_clock(start), parse_clock(end), empty=True)
    for text in quiet:
        closed |= _minutes(*parse_quiet(text), empty=False)
    return _whole_slots(grid, ~closed)


def _whole_slots(grid: SlotGrid, open_M: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Slots each of whose minutes of the day is open, bool [S]; day slots all are."""
    if grid.slots == 7:
        return np.ones(7, np.bool_)
    return np.tile(open_M.reshape(DAY_MIN // grid.minutes, grid.minutes).all(axis=1), grid.days)


def _minutes(start: int, end: int, empty: bool) -> NDArray[np.bool_]:
    """Minutes of the day within [start, end), circular; `empty` is what start == end means."""
    minute = np.arange(DAY_MIN)
    start, end = start % DAY_MIN, end if end == DAY_MIN else end % DAY_MIN
    if start == end or (start == 0 and end == DAY_MIN):
        return np.full(DAY_MIN, empty or end == DAY_MIN)
    inside = (minute >= start) & (minute < end) if start < end else (minute >= start) | (minute < end)
    return np.asarray(inside)


def open_mask(times: SlotTimes, not_before_ms: int | None) -> NDArray[np.bool_]:
    """Slots that happen and start no earlier than `not_before_ms`, bool [S]."""
    if not_before_ms is None:
        return times.exists
    return np.asarray(times.exists & (times.start_ms >= not_before_ms))
