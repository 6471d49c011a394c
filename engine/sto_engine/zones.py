"""Time zones from the `tzdata` package alone: the same offsets on every machine, whatever its system knows.

A zone is an IANA name, or a fixed offset in minutes; as text, an offset is written as its digits ("345", "-300").
"""

import difflib
import functools
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from zoneinfo import ZoneInfo

import numpy as np
import tzdata
from numpy.typing import NDArray

from sto_engine.errors import BadData

HOUR_MS = 3_600_000
MIN_OFFSET, MAX_OFFSET = -720, 840
REGIONS = ("americas", "europe", "asia")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def tzdata_version() -> str:
    """IANA version of the zone data in use, such as "2026b"."""
    return str(tzdata.IANA_VERSION)


@functools.cache
def _names() -> frozenset[str]:
    return frozenset(resources.files("tzdata").joinpath("zones").read_text().split())


@functools.cache
def known_zones() -> dict[str, str]:
    """Every zone by its name without case."""
    return {name.casefold(): name for name in _names()}


def is_zone(name: str) -> bool:
    """Whether `name` is a zone of the `tzdata` package (exact spelling)."""
    return name in _names()


@functools.cache
def known_countries() -> frozenset[str]:
    """ISO 3166 codes of two letters, as the zone data list them."""
    text = resources.files("tzdata").joinpath("zoneinfo", "iso3166.tab").read_text(encoding="utf-8")
    return frozenset(line[:2] for line in text.splitlines() if not line.startswith("#"))


@functools.cache
def load_zone(name: str) -> ZoneInfo:
    """The zone `name`; BadData (65) names the nearest known zone for an unknown one."""
    if not is_zone(name):
        near = difflib.get_close_matches(name, sorted(_names()), n=1, cutoff=0.0)
        raise BadData(f'time zone must be an IANA name; found "{name}"; nearest known: "{near[0]}"')
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def parse_zone(text: str) -> str | int:
    """A fixed offset in minutes for digits, else the name itself."""
    return int(text) if text.lstrip("-").isdigit() else text


def midnight_ms(day: date) -> int:
    """The UTC midnight at which a day begins, in milliseconds since the epoch."""
    return (day - _EPOCH.date()).days * 24 * HOUR_MS


def at(utc_ms: int) -> datetime:
    """The UTC time of a millisecond since the epoch, exact."""
    return _EPOCH + timedelta(milliseconds=int(utc_ms))


def _offset(zone: ZoneInfo, utc_ms: int) -> int:
    offset = at(utc_ms).astimezone(zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds() // 60)


@functools.lru_cache(maxsize=4096)
def _transitions(name: str, first_hour: int, hours: int) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
    """Moments (ms) within the range from which a new offset holds, after the offset at its start.

    Steps of 12 hours find every change but two within half a day, which no zone has had since 1970; each is then
    bisected to the minute.
    """
    zone, start, stop = load_zone(name), first_hour * HOUR_MS, (first_hour + hours) * HOUR_MS
    moments, offsets = [start], [_offset(zone, start)]
    for low in range(start, stop, 12 * HOUR_MS):
        high, before, after = low + 12 * HOUR_MS, offsets[-1], _offset(zone, low + 12 * HOUR_MS)
        if after == before:
            continue
        while high - low > 60_000:
            middle = (low + high) // 120_000 * 60_000
            low, high = (middle, high) if _offset(zone, middle) == before else (low, middle)
        moments.append(high)
        offsets.append(after)
    return np.array(moments, np.int64), np.array(offsets, np.int16)


def _range(utc_ms: NDArray[np.int64]) -> tuple[int, int]:
    """First hour and number of hours, in whole blocks of 366 days, that hold all times: few ranges, few look-ups."""
    first = int(utc_ms.min()) // (HOUR_MS * 8784) * 8784
    return first, (int(utc_ms.max()) // (HOUR_MS * 8784) + 1) * 8784 - first


def zone_offsets(name: str, utc_ms: NDArray[np.int64]) -> NDArray[np.int16]:
    """Offset from UTC in minutes of zone `name` at each time (ms since the epoch), int16, same shape."""
    if not utc_ms.size:
        return np.zeros(utc_ms.shape, np.int16)
    moments, offsets = _transitions(name, *_range(utc_ms))
    return np.asarray(offsets[np.searchsorted(moments, utc_ms, side="right") - 1])


def event_offsets(zones: Sequence[str], zone_N: NDArray[np.int32], utc_ms_N: NDArray[np.int64]) -> NDArray[np.int16]:
    """Offset in minutes of each event: `zone_N` indexes `zones` (names, or offsets as text) -> int16 [N]."""
    out = np.zeros(len(zone_N), np.int16)
    order = np.argsort(zone_N, kind="stable")
    edges = np.searchsorted(zone_N[order], np.arange(len(zones) + 1))
    for index, text in enumerate(zones):
        rows, zone = order[edges[index] : edges[index + 1]], parse_zone(text)
        out[rows] = zone if isinstance(zone, int) else zone_offsets(zone, utc_ms_N[rows])
    return out


def standard_offset(zone: str | int, utc_ms: int) -> int:
    """Offset in minutes without daylight saving of a zone at a time."""
    if isinstance(zone, int):
        return zone
    moment = at(utc_ms).astimezone(load_zone(zone))
    offset, saving = moment.utcoffset(), moment.dst()
    assert offset is not None
    return int((offset - (saving or timedelta())).total_seconds() // 60)


def region_of(offset_min: int) -> str:
    """Band of the standard offset: below -2:30, to +2:30, above."""
    return "americas" if offset_min < -150 else "europe" if offset_min <= 150 else "asia"


def zone_table(zones: Sequence[str], first_ms: int, last_ms: int) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
    """When the clocks of zones change within a time range, as tables for kernels.

    Returns moments int64 [Z, K] (ms), from each of which on the next offset holds, padded with 2^62, and offsets in
    minutes int16 [Z, K + 1]; a fixed offset has no moments.
    """
    edge_ms = np.array([first_ms, last_ms], np.int64)
    changes = [_changes(parse_zone(text), edge_ms) for text in zones]
    width = max((len(moments) for moments, _ in changes), default=0)
    moments_ZK = np.full((len(zones), width), 2**62, np.int64)
    offsets_ZK = np.zeros((len(zones), width + 1), np.int16)
    for row, (moments, offsets) in enumerate(changes):
        moments_ZK[row, : len(moments)] = moments
        offsets_ZK[row, : len(offsets)] = offsets
        offsets_ZK[row, len(offsets) :] = offsets[-1]
    return moments_ZK, offsets_ZK


def _changes(zone: str | int, edge_ms: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
    if isinstance(zone, int):
        return np.zeros(0, np.int64), np.array([zone], np.int16)
    first, hours = _range(edge_ms)
    moments, offsets = _transitions(zone, first, hours)
    keep = (moments[1:] > edge_ms[0]) & (moments[1:] <= edge_ms[1])
    before = int(np.searchsorted(moments[1:], edge_ms[0], side="right"))
    return moments[1:][keep], offsets[before : before + int(keep.sum()) + 1]
