"""Slots and zones against the standard library's zoneinfo, hour by hour over whole years."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sto_engine.errors import BadData, ConfigError
from sto_engine.slots import grid_of, local_slot, open_mask, parse_clock, slot_times, window_mask
from sto_engine.zones import event_offsets, is_zone, load_zone, region_of, standard_offset, zone_offsets

ZONES = (
    "America/New_York",
    "America/St_Johns",
    "Europe/Berlin",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "Africa/Cairo",
    "America/Havana",
    "Pacific/Kiritimati",
    "Africa/Casablanca",
)


def minutes(delta: timedelta | None) -> int:
    assert delta is not None
    return int(delta.total_seconds() // 60)


@pytest.mark.parametrize("name", ZONES)
def test_offsets_are_those_of_zoneinfo_every_quarter_of_an_hour(name: str) -> None:
    zone: ZoneInfo = load_zone(name)
    start = datetime(2025, 12, 20, tzinfo=UTC)
    moments = [start + timedelta(minutes=15 * i) for i in range(4 * 24 * 390)]
    utc_ms = np.array([int(m.timestamp()) * 1000 for m in moments], np.int64)
    expected = [minutes(m.astimezone(zone).utcoffset()) for m in moments]
    np.testing.assert_array_equal(zone_offsets(name, utc_ms), expected)


@pytest.mark.parametrize("slots", [24, 48])
@pytest.mark.parametrize("name", ZONES)
def test_slots_start_where_zoneinfo_puts_them_every_day_of_a_year(name: str, slots: int) -> None:
    zone, grid = load_zone(name), grid_of(slots)
    for ordinal in range(date(2026, 1, 1).toordinal(), date(2027, 1, 1).toordinal()):
        day = date.fromordinal(ordinal)
        times = slot_times(grid, day, name)
        for slot in range(slots):
            wall = datetime(day.year, day.month, day.day) + timedelta(minutes=slot * grid.minutes)
            start = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
            assert times.start_ms[slot] == int(start.timestamp()) * 1000
            assert times.exists[slot] == (start.astimezone(zone).replace(tzinfo=None) == wall)
        starts = times.start_ms[times.exists]
        assert (np.diff(starts) > 0).all()
        offset = times.offset_min[times.exists]
        assert local_slot(grid, starts, offset).tolist() == np.flatnonzero(times.exists).tolist()


def test_a_gap_masks_its_slots_and_an_overlap_is_taken_once() -> None:
    spring = slot_times(grid_of(24), date(2026, 3, 8), "America/New_York")
    assert np.flatnonzero(~spring.exists).tolist() == [2]
    autumn = slot_times(grid_of(24), date(2026, 11, 1), "America/New_York")
    assert autumn.exists.all()
    assert autumn.start_ms[2] - autumn.start_ms[1] == 2 * 3_600_000
    howe = slot_times(grid_of(48), date(2026, 10, 4), "Australia/Lord_Howe")
    assert np.flatnonzero(~howe.exists).tolist() == [4]


@pytest.mark.parametrize("slots", [168, 7])
def test_week_grids_cover_the_seven_days_from_the_date_by_weekday(slots: int) -> None:
    day = date(2026, 3, 5)
    times = slot_times(grid_of(slots), day, "America/New_York", "10:30")
    zone = load_zone("America/New_York")
    for slot in range(slots):
        local = datetime.fromtimestamp(times.start_ms[slot] / 1000, zone)
        assert 0 <= (local.date() - day).days < 7
        assert local.weekday() == slot * 7 // slots
        if times.exists[slot]:
            assert (local.hour, local.minute) == ((10, 30) if slots == 7 else (slot % 24, 0))
    assert (~times.exists).sum() == (1 if slots == 168 else 0)


def test_fixed_offsets_of_quarter_hours_work() -> None:
    times = slot_times(grid_of(24), date(2026, 1, 1), 345)
    assert times.start_ms[0] == int(datetime(2025, 12, 31, 18, 15, tzinfo=UTC).timestamp()) * 1000
    assert times.exists.all()


def test_events_of_many_zones_get_their_own_offset() -> None:
    zones, rng = ["Europe/Berlin", "345", "-300"], np.random.default_rng(0)
    zone_N = rng.integers(0, 3, 200).astype(np.int32)
    utc_ms = rng.integers(1_600_000_000_000, 1_780_000_000_000, 200)
    found = event_offsets(zones, zone_N, utc_ms)
    for zone, ms, offset in zip(zone_N, utc_ms, found, strict=True):
        if zone == 0:
            assert offset == minutes(datetime.fromtimestamp(ms / 1000, load_zone("Europe/Berlin")).utcoffset())
        else:
            assert offset == int(zones[zone])


CLOCK = st.integers(0, 95).map(lambda q: f"{q // 4:02d}:{q % 4 * 15:02d}")


@pytest.mark.parametrize("slots", [24, 48, 168])
@given(start=CLOCK, end=CLOCK, quiet=st.lists(st.tuples(CLOCK, CLOCK), max_size=2))
def test_a_slot_is_open_when_each_of_its_minutes_is(
    slots: int, start: str, end: str, quiet: list[tuple[str, str]]
) -> None:
    def within(minute: int, a: str, b: str) -> bool:
        low, high = parse_clock(a), parse_clock(b)
        return low <= minute < high if low <= high else minute >= low or minute < high

    def is_open(minute: int) -> bool:
        inside = start == end or within(minute, start, end)
        return inside and not any(within(minute, a, b) for a, b in quiet)

    grid = grid_of(slots)
    length = grid.minutes
    expected = [all(is_open((slot * length + m) % 1440) for m in range(0, length, 15)) for slot in range(slots)]
    assert window_mask(grid, start, end, [f"{a}-{b}" for a, b in quiet]).tolist() == expected


def test_the_whole_day_is_open_by_default_and_day_slots_always() -> None:
    assert window_mask(grid_of(24), "00:00", "24:00").all()
    assert not window_mask(grid_of(24), "00:00", "24:00", ["00:00-24:00"]).any()
    assert window_mask(grid_of(7), "09:00", "10:00").all()


def test_not_before_closes_slots_that_start_earlier() -> None:
    times = slot_times(grid_of(24), date(2026, 1, 1), "UTC")
    limit = int(datetime(2026, 1, 1, 11, 30, tzinfo=UTC).timestamp()) * 1000
    assert np.flatnonzero(open_mask(times, limit)).tolist() == list(range(12, 24))


@pytest.mark.parametrize("text", ["9:00", "24:01", "12:60", "noon", "", "12"])
def test_times_that_are_no_times_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="HH:MM"):
        parse_clock(text)


@pytest.mark.parametrize("name", ["Europe/Berln", "../../etc/passwd", "", "europe/berlin"])
def test_unknown_zones_are_refused_with_the_nearest(name: str) -> None:
    assert not is_zone(name)
    with pytest.raises(BadData, match="nearest known"):
        load_zone(name)


def test_an_unknown_grid_is_refused() -> None:
    with pytest.raises(ConfigError, match="24, 48, 168 or 7"):
        grid_of(12)


def test_regions_go_by_the_standard_offset() -> None:
    july = int(datetime(2026, 7, 1, tzinfo=UTC).timestamp()) * 1000
    assert standard_offset("America/New_York", july) == -300
    assert [region_of(offset) for offset in (-300, -150, 0, 150, 165)] == [
        "americas",
        "europe",
        "europe",
        "europe",
        "asia",
    ]
