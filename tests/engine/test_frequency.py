"""Caps and gaps against plain Python over each user's sends, and against a recount of what a night would add."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sto_engine.assign.frequency import Blocked, blocked, check_frequency
from sto_engine.assign.window import ZoneSlots
from sto_engine.config import Config, load_config
from sto_engine.errors import ConfigError
from sto_engine.tables import CAMPAIGN_ENUM, EVENT_ENUM
from sto_kernels.frequency import NO_CAP, Limits, close_slots

HOUR = 3_600_000
DAY = 24 * HOUR
ORIGIN = datetime(2026, 4, 1, tzinfo=UTC)
ORIGIN_MS = int(ORIGIN.timestamp() * 1000)
CUTOFF_MS = ORIGIN_MS - 6 * HOUR
# zones at +5:30 and -12:00, of 24 hours each
ZONES_MS = np.array([[ORIGIN_MS + h * HOUR + shift for h in range(24)] for shift in (-5 * HOUR - HOUR // 2, 12 * HOUR)])


def settings_of(**keys: object) -> Config:
    return load_config(None, [f"frequency.{key}={value}" for key, value in keys.items() if value is not None])


def zones_of(zone_U: Sequence[int]) -> ZoneSlots:
    shape = ZONES_MS.shape
    every = np.ones(shape, np.bool_)
    zone = np.array(zone_U, np.int32)
    return ZoneSlots(zone, ZONES_MS, np.zeros(shape, np.int16), every, every, np.ones(24, np.bool_))


def with_h(frame: pl.DataFrame, same: bool = False) -> pl.DataFrame:
    """The rows with their h; h rises with the id here, or is one for two ids each."""
    return frame.with_columns(h=pl.col("user_id") // 2 if same else pl.col("user_id"))


def people(caps: Sequence[float | None]) -> pl.DataFrame:
    """Users 10, 11, ... with their own caps."""
    ids = pl.Series("user_id", range(10, 10 + len(caps)), dtype=pl.UInt64)
    return pl.DataFrame([ids, pl.Series("frequency_cap", caps, dtype=pl.Float64)])


def events(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Rows of `user`, `at` (ms) and, where given, kind, type, channel and campaign."""
    times = pl.Series([row["at"] for row in rows], dtype=pl.Int64).cast(pl.Datetime("ms", "UTC"))
    return pl.DataFrame(
        {
            "user_id": pl.Series([row["user"] for row in rows], dtype=pl.UInt64),
            "campaign_id": pl.Series([row.get("campaign", 1) for row in rows], dtype=pl.UInt64),
            "event_type": pl.Series([row.get("kind", "send") for row in rows], dtype=EVENT_ENUM),
            "event_ts": times,
            "campaign_type": pl.Series([row.get("type") for row in rows], dtype=CAMPAIGN_ENUM),
            "bounce_type": pl.Series([row.get("bounce") for row in rows], dtype=pl.String),
            "channel": pl.Series([row.get("channel") for row in rows], dtype=pl.String),
        }
    )


def planned(rows: Sequence[tuple[int, int]]) -> pl.DataFrame:
    """Sends of earlier runs: (user, ms)."""
    return pl.DataFrame(
        {
            "user_id": pl.Series([user for user, _ in rows], dtype=pl.UInt64),
            "send_at_ms": pl.Series([at for _, at in rows], dtype=pl.Int64),
        }
    )


def found(
    config: Config,
    caps: Sequence[float | None],
    rows: Sequence[dict[str, Any]] = (),
    past: Sequence[tuple[int, int]] | None = None,
    zone_U: Sequence[int] | None = None,
    same: bool = False,
) -> Blocked | None:
    return blocked(
        with_h(people(caps), same),
        with_h(events(rows), same),
        None if past is None else with_h(planned(past), same),
        zones_of(zone_U or [0] * len(caps)),
        HOUR,
        config.frequency,
        ("email",),
        CUTOFF_MS,
    )


def closed_hours(config: Config, rows: Sequence[dict[str, Any]], cap: float | None = None) -> list[int]:
    """Hours of the first zone that are closed to the one user 10."""
    result = found(config, [cap], rows)
    return [] if result is None else np.flatnonzero(result.closed_US[0]).tolist()


def at(slot: int, days: float = 0.0) -> int:
    """The start of a slot of the first zone, `days` before."""
    return int(ZONES_MS[0, slot] - days * DAY)


ROW = st.fixed_dictionaries(
    {
        "user": st.integers(9, 13),
        "at": st.integers(-10 * 48, -1).map(lambda half: ORIGIN_MS + half * HOUR // 2),
        "kind": st.sampled_from(("send", "send", "send", "open", "bounce", "delivered")),
        "type": st.sampled_from((None, "promo", "trigger", "transactional")),
        "channel": st.sampled_from((None, "email", "push")),
    }
)
PAST = st.tuples(st.integers(9, 13), st.integers(-16, 300).map(lambda half: ORIGIN_MS + half * HOUR // 2))
CAP = st.sampled_from((None, 0.0, 0.9, 1.0, 2.7, 5.0, -1.0, float("nan"), float("inf")))


def counted(user: int, rows: Sequence[dict[str, Any]], past: Sequence[tuple[int, int]]) -> list[int]:
    """Times that count for a user, in plain words."""
    told = [
        row["at"]
        for row in rows
        if row["user"] == user
        and row["kind"] == "send"
        and row["type"] != "transactional"
        and row["channel"] in (None, "email")
    ]
    return sorted(told + [at for who, at in past if who == user and at >= CUTOFF_MS])


def cap_of(own: float | None, cap: int | None) -> float:
    if own is not None and own >= 0:
        return own if own == float("inf") else int(own)
    return float("inf") if cap is None else cap


@settings(deadline=None, max_examples=300)
@given(
    rows=st.lists(ROW, max_size=25),
    past=st.lists(PAST, max_size=8),
    caps=st.lists(CAP, min_size=4, max_size=4),
    zone_U=st.lists(st.integers(0, 1), min_size=4, max_size=4),
    cap=st.sampled_from((None, 1, 2, 4)),
    days=st.integers(1, 5),
    gap=st.sampled_from((0.0, 0.5, 6.0, 30.0)),
    same=st.booleans(),
)
def test_the_closed_slots_are_those_of_a_plain_count(
    rows: list[dict[str, Any]],
    past: list[tuple[int, int]],
    caps: list[float | None],
    zone_U: list[int],
    cap: int | None,
    days: int,
    gap: float,
    same: bool,
) -> None:
    result = found(settings_of(cap=cap, days=days, min_gap_hours=gap), caps, rows, past, zone_U, same)
    result = result or Blocked(np.zeros((4, 24), np.bool_), np.zeros((4, 24), np.bool_))
    for u, (own, zone) in enumerate(zip(caps, zone_U, strict=True)):
        sends, limit = counted(10 + u, rows, past), cap_of(own, cap)
        for slot, start in enumerate(ZONES_MS[zone].tolist()):
            recent = sum(t + days * DAY > start for t in sends)
            assert result.capped_US[u, slot] == (recent >= limit)
            near = any(start - gap * HOUR < t < start + HOUR + gap * HOUR for t in sends) if gap else False
            assert result.near_US[u, slot] == near
            if not result.closed_US[u, slot]:
                _recount(sends, start, limit, days, gap)


def _recount(sends: list[int], start: int, limit: float, days: int, gap: float) -> None:
    """Whatever moment of an open slot is taken, no days that hold it have too many and nothing is too near."""
    for moment in (start, start + HOUR - 1):
        every = sorted([*sends, moment])
        for first in every:
            within = [t for t in every if first <= t < first + days * DAY]
            assert moment not in within or len(within) <= limit
        assert all(abs(t - moment) >= gap * HOUR for t in sends)


@pytest.mark.parametrize("cap", [None, float("nan"), -3.0])
def test_without_a_cap_or_gap_nothing_is_counted(cap: float | None) -> None:
    rows = [{"user": 10, "at": at(12, days=0.5)}] * 9
    assert found(load_config(None), [cap], rows, [(10, ORIGIN_MS)]) is None


def test_limits_that_close_nothing_are_none_too() -> None:
    assert found(settings_of(cap=2, min_gap_hours=1), [None], [{"user": 10, "at": at(12, days=3)}]) is None
    assert found(settings_of(cap=1), []) is None


def test_the_cap_closes_the_slots_before_the_cap_th_newest_send_is_old_enough() -> None:
    rows = [{"user": 10, "at": at(9, days=7)}, {"user": 10, "at": at(15, days=2)}]
    assert closed_hours(settings_of(cap=2), rows) == list(range(9))
    assert closed_hours(settings_of(cap=1), rows) == list(range(24))
    assert closed_hours(settings_of(cap=3), rows) == []


def test_the_oldest_send_that_can_matter_does() -> None:
    assert closed_hours(settings_of(cap=1), [{"user": 10, "at": at(0, days=7) + 1}]) == [0]
    assert closed_hours(settings_of(cap=1), [{"user": 10, "at": at(0, days=7)}]) == []
    far = settings_of(cap=1, days=1, min_gap_hours=240)
    assert closed_hours(far, [{"user": 10, "at": at(0, days=10) + 1}]) == [0]
    assert closed_hours(far, [{"user": 10, "at": at(0, days=10)}]) == []


def test_the_own_cap_of_a_recipient_goes_before() -> None:
    rows = [{"user": 10, "at": at(20, days=6)}]
    assert closed_hours(settings_of(cap=1), rows, cap=2.9) == []
    assert closed_hours(settings_of(), rows, cap=1.0) == list(range(24))
    assert closed_hours(settings_of(), [], cap=0.5) == list(range(24))


def test_the_gap_holds_for_every_moment_of_a_slot_and_on_both_sides() -> None:
    config = settings_of(min_gap_hours=3)
    result = found(config, [None], [], [(10, at(12))])
    assert result is not None
    # 12:00 lies three hours after the end of 8-9 and three hours before the start of 15
    assert np.flatnonzero(result.near_US[0]).tolist() == list(range(9, 15))
    assert not result.capped_US.any()


@pytest.mark.parametrize(
    ("row", "counts"),
    [
        ({}, True),
        ({"kind": "delivered"}, False),
        ({"kind": "open"}, False),
        ({"type": "transactional"}, False),
        ({"type": "trigger"}, True),
        ({"channel": "push"}, False),
        ({"channel": "email"}, True),
    ],
)
def test_which_events_count(row: dict[str, Any], counts: bool) -> None:
    assert bool(closed_hours(settings_of(cap=1), [{"user": 10, "at": at(0, days=1), **row}])) == counts


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_a_send_that_bounced_counts(kind: str) -> None:
    sent = {"user": 10, "at": at(0, days=1)}
    assert closed_hours(settings_of(cap=1), [sent, {**sent, "kind": "bounce", "bounce": kind}]) == list(range(24))
    assert closed_hours(settings_of(cap=2), [sent, {**sent, "kind": "bounce", "bounce": kind}]) == []


def test_sends_of_one_campaign_at_two_times_are_two_messages() -> None:
    rows = [{"user": 10, "at": at(0, days=1) + minute, "campaign": 5} for minute in (0, 60_000)]
    assert closed_hours(settings_of(cap=2), rows) == list(range(24))


def test_plans_count_from_the_cutoff_on() -> None:
    config = settings_of(cap=1)
    assert found(config, [None], [], [(10, CUTOFF_MS - 1)]) is None
    result = found(config, [None], [], [(10, CUTOFF_MS)])
    assert result is not None
    assert result.capped_US.all()


def test_events_without_a_channel_column_all_count() -> None:
    rows = events([{"user": 10, "at": at(0, days=1), "channel": "push"}]).drop("channel")
    users, frequency = with_h(people([None])), settings_of(cap=1).frequency
    result = blocked(users, with_h(rows), None, zones_of([0]), HOUR, frequency, ("email",), CUTOFF_MS)
    assert result is not None


def test_the_order_of_events_and_strangers_among_them_change_nothing() -> None:
    rng = np.random.default_rng(0)
    rows = [{"user": int(rng.integers(5, 40)), "at": int(ORIGIN_MS - rng.integers(1, 9 * DAY))} for _ in range(400)]
    config = settings_of(cap=9, min_gap_hours=2)
    whole = found(config, [None] * 20, rows, zone_U=[0, 1] * 10)
    turned = found(config, [None] * 20, rows[::-1], zone_U=[0, 1] * 10)
    assert whole is not None
    assert turned is not None
    assert 0.1 < whole.closed_US.mean() < 0.9
    np.testing.assert_array_equal(whole.capped_US, turned.capped_US)
    np.testing.assert_array_equal(whole.near_US, turned.near_US)


def test_a_stranger_of_the_same_hash_does_not_count() -> None:
    rows = [{"user": 11, "at": at(0, days=1)}]
    assert found(settings_of(cap=1), [None], rows, same=True) is None
    assert found(settings_of(cap=1), [None, None], rows, same=True) is not None


def test_the_reason_is_the_cap_where_it_suffices_and_the_gap_where_it_does_not() -> None:
    def slots(*closed: int) -> list[bool]:
        return [slot in closed for slot in range(3)]

    capped = np.array([slots(0, 1, 2), slots(0), slots(), slots(0), slots(0, 1), slots(0, 1, 2)])
    near = np.array([slots(0, 1, 2), slots(1, 2), slots(0, 1, 2), slots(1), slots(2), slots()])
    allowed = np.array([[True] * 3] * 4 + [[True, True, False], [False] * 3])
    expected = ["frequency_cap", "min_gap", "min_gap", None, "frequency_cap", None]
    assert Blocked(capped, near).reasons(allowed).to_list() == expected


@pytest.mark.parametrize(
    ("keys", "name"),
    [(["frequency.cap=3", "frequency.days=31"], "frequency.days"), (["frequency.min_gap_hours=721"], "min_gap_hours")],
)
def test_limits_longer_than_events_are_kept_are_refused(keys: list[str], name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}.*store\.retention_days = 30"):
        check_frequency(load_config(None, [*keys, "store.retention_days=30"]))
    check_frequency(load_config(None, keys))
    check_frequency(load_config(None, [*keys, "store.retention_days=40"]))


def test_days_without_a_cap_need_no_events() -> None:
    check_frequency(load_config(None, ["frequency.days=31", "store.retention_days=30"]))


def test_the_kernel_takes_nobody_and_users_without_sends() -> None:
    limits = Limits(DAY, HOUR, HOUR)
    none = np.zeros(0, np.int64)
    capped, near = close_slots(np.zeros(1, np.int64), none, none, np.zeros(0, np.int32), ZONES_MS, limits)
    assert capped.shape == near.shape == (0, 24)
    caps = np.array([1, NO_CAP, 0], np.int64)
    capped, near = close_slots(np.zeros(4, np.int64), none, caps, np.zeros(3, np.int32), ZONES_MS, limits)
    assert capped.any(axis=1).tolist() == [False, False, True]
    assert not near.any()


def test_a_slot_that_begins_exactly_the_days_after_a_send_is_open() -> None:
    sent = ORIGIN - timedelta(days=7) + timedelta(hours=3, minutes=30)
    hour = (int(sent.timestamp() * 1000) + 7 * DAY - ZONES_MS[0, 0]) // HOUR
    assert closed_hours(settings_of(cap=1), [{"user": 10, "at": int(sent.timestamp() * 1000)}]) == list(range(hour))
