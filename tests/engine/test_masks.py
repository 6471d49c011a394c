"""Slots of single recipients: their own hours, what further rules close, and the reasons of those who get none."""

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from histories import people, store_of
from inputs import read, write
from sto_engine.assign.window import ZoneSlots, own_hours, window_never_opens, without_slot, zone_slots
from sto_engine.config import load_config
from sto_engine.errors import BadData, ConfigError
from sto_engine.slots import grid_of, hours_mask, parse_hours, tidy_hours

DAY = date(2026, 3, 8)  # New York has no 02:00
HOURS = grid_of(24)
CLOCK = st.integers(0, 95).map(lambda q: f"{q // 4:02d}:{q % 4 * 15:02d}")
RANGES = st.lists(st.tuples(CLOCK, CLOCK).filter(lambda ends: ends[0] != ends[1]), min_size=1, max_size=3)


def slots_of(zones: list[str], *keys: str, hours: list[str | None] | None = None, at_hour: int | None = None):
    not_before = None if at_hour is None else int(datetime(2026, 3, 8, at_hour, tzinfo=UTC).timestamp()) * 1000
    found = zone_slots(pl.Series(zones, dtype=pl.String), HOURS, DAY, load_config(None, keys), not_before)
    return found if hours is None else found.with_hours(own_hours(pl.Series(hours, dtype=pl.String), HOURS))


def allowed(zones: ZoneSlots) -> list[list[int]]:
    rows = zones.allowed_US()
    assert zones.n_allowed_U().tolist() == rows.sum(axis=1).tolist()
    assert zones.all_allowed == bool(rows.all())
    return [np.flatnonzero(row).tolist() for row in rows]


@pytest.mark.parametrize("slots", [24, 48, 168])
@given(ranges=RANGES)
def test_a_slot_is_the_recipients_own_when_each_of_its_minutes_lies_in_one_of_his_ranges(
    slots: int, ranges: list[tuple[str, str]]
) -> None:
    def minutes(a: str, b: str) -> set[int]:
        low, high = (int(clock[:2]) * 60 + int(clock[3:]) for clock in (a, b))
        return set(range(low, high)) if low < high else {*range(low, 1440), *range(high)}

    open_minutes = set().union(*(minutes(a, b) for a, b in ranges))
    grid = grid_of(slots)
    wanted = [
        {m % 1440 for m in range(slot * grid.minutes, (slot + 1) * grid.minutes)} <= open_minutes
        for slot in range(slots)
    ]
    text = " , ".join(f"{a} - {b}" for a, b in ranges)
    assert hours_mask(grid, text).tolist() == wanted
    assert tidy_hours(text) == ",".join(f"{a}-{b}" for a, b in ranges)


def test_day_slots_stay_open_whatever_the_hours() -> None:
    assert hours_mask(grid_of(7), "03:00-03:30").all()


NO_HOURS = (
    *("08:00", "8:00-9:00", "08:00-12:00,", ",", "-", "mornings", "08:00-12:00;18:00-20:00", "08:00-12:00-13:00"),
    *("08:00-08:00", "24:00-00:00", "08:00-25:00", "²²:00-23:00"),
)


@pytest.mark.parametrize("text", NO_HOURS)
def test_hours_that_are_none_are_refused(text: str) -> None:
    assert tidy_hours(text) is None
    with pytest.raises(ConfigError):
        parse_hours(text)


def test_all_day_is_written_with_its_two_midnights() -> None:
    assert hours_mask(HOURS, "00:00-24:00").all()
    assert np.flatnonzero(hours_mask(HOURS, "22:00-02:00")).tolist() == [0, 1, 22, 23]


def test_own_hours_narrow_the_window_and_null_leaves_it() -> None:
    zones = ["UTC", "UTC", "America/New_York"]
    found = slots_of(zones, "window.end=20:00", hours=["18:00-22:00,08:00-09:00", None, "01:00-04:00"])
    assert allowed(found) == [[8, 18, 19], list(range(20)), [1, 3]]
    assert [np.flatnonzero(row).tolist() for row in found.hours_US()] == allowed(found)


def test_nobodys_hours_are_no_mask() -> None:
    assert own_hours(pl.Series([None, None], dtype=pl.String), HOURS) is None
    assert own_hours(pl.Series([], dtype=pl.String), HOURS) is None
    assert allowed(slots_of(["UTC"], hours=[None])) == [list(range(24))]
    assert slots_of(["UTC"], hours=[None]).all_allowed


def test_hours_that_no_ingest_would_let_through_name_the_column() -> None:
    with pytest.raises(BadData, match="allowed_hours"):
        own_hours(pl.Series([None, "evenings"]), HOURS)


def test_closed_slots_add_up_and_go_with_their_users() -> None:
    found = slots_of(["UTC", "UTC", "Asia/Tokyo"], "window.start=06:00", hours=["05:00-08:00", None, None])
    for slots in ([6], [7, 23]):
        closed_US = np.zeros((3, 24), np.bool_)
        closed_US[[0, 2], slots[0]] = True
        closed_US[2, slots[-1]] = True
        found = found.with_closed(closed_US)
    assert allowed(found) == [[], list(range(6, 24)), [slot for slot in range(8, 23)]]
    assert np.flatnonzero(found.hours_US()[0]).tolist() == [6, 7]
    kept = found.of(np.array([False, True, True]))
    assert allowed(kept) == allowed(found)[1:]
    last = np.array([9, 9], np.uint8)
    np.testing.assert_array_equal(kept.start_ms(last), found.start_ms(np.array([0, 9, 9], np.uint8))[1:])


def test_reasons_tell_what_leaves_no_slot() -> None:
    hours = [None, "02:00-06:00", "08:15-08:45", "06:00-10:00", "06:00-10:00", "20:00-21:00"]
    found = slots_of(["UTC"] * 6, "window.start=06:00", hours=hours, at_hour=9)
    closed_US = np.zeros((6, 24), np.bool_)
    closed_US[4, 9] = True
    closed_US[5] = True
    expected = [None, "window_closed", "window_closed", None, "no_slot_left", "no_slot_left"]
    assert without_slot(found.with_closed(closed_US)).to_list() == expected


def test_without_own_hours_reasons_are_those_of_the_zone() -> None:
    early = slots_of(["UTC", "Pacific/Kiritimati"], "window.end=09:00", at_hour=5)
    assert without_slot(early).to_list() == [None, "no_slot_left"]
    shut = slots_of(["UTC"], "window.start=09:00", "window.end=10:00", 'window.quiet=["08:00-11:00"]')
    assert without_slot(shut).to_list() == ["window_closed"]


@pytest.mark.parametrize(
    "keys",
    [
        ("window.start=09:00", "window.end=10:00", 'window.quiet=["08:00-11:00"]'),
        ("window.start=22:00", "window.end=04:00", 'window.quiet=["20:00-01:00", "01:00-06:00"]'),
        ("window.start=09:15", "window.end=10:45"),
    ],
)
def test_a_window_without_a_single_slot_is_refused_by_name(keys: tuple[str, ...]) -> None:
    config = load_config(None, keys)
    with pytest.raises(ConfigError, match="must leave at least one whole slot") as error:
        window_never_opens(config, HOURS)
    assert all(part in str(error.value) for part in (config.window.start, config.window.end, *config.window.quiet))
    assert "60 minutes" in str(error.value)


def test_a_window_with_a_single_slot_is_fine() -> None:
    config = load_config(None, ["window.start=09:15", "window.end=10:45"])
    window_never_opens(config, grid_of(48))
    window_never_opens(load_config(None), HOURS)


@pytest.mark.parametrize("name", ["allowed_hours", "Contact Hours"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".ndjson"])
def test_hours_come_through_ingest_and_what_is_none_is_null_and_counted(tmp_path: Path, name: str, suffix: str) -> None:
    texts = ["08:00-12:00, 18:00-22:00", "evenings", None, "22:00-02:00", "08:00-08:00", "null"]
    frame = pl.DataFrame({"user_id": range(6), name: texts}, schema_overrides={"user_id": pl.UInt64})
    found = read(write(frame, tmp_path / f"r{suffix}"), table="recipients")
    expected = ["08:00-12:00,18:00-22:00", None, None, "22:00-02:00", None, None]
    assert found.good["allowed_hours"].to_list() == expected
    assert found.nulled == {"allowed_hours": 2}
    assert not len(found.bad)


def test_the_store_keeps_the_hours_of_each_recipient(tmp_path: Path) -> None:
    store = store_of([], tmp_path, people([1, 2], allowed_hours=["08:00-12:00", None]))
    kept = store.read_recipients(0)
    assert kept is not None
    assert dict(kept.select("user_id", "allowed_hours").iter_rows()) == {1: "08:00-12:00", 2: None}
