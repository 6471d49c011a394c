"""The cleaning walk against its twin, rule by rule, and against the recipe's script where that is at hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleaning import assert_same, cleaned, mails
from journals import MONDAY_MS, Row, in_zone, journal, random_journal
from sto_kernels import naive_history
from sto_kernels.clean_walk import clean
from sto_kernels.journal import (
    BOUNCE,
    BOUNCED_SENDS,
    CLICK,
    COMPLAINT,
    CONVERSION,
    DAY_MS,
    DELIVERED,
    DUPLICATE_ROWS,
    HOUR_MS,
    HUMAN,
    MACHINE_ACTS,
    OPEN,
    ORPHAN_ACTS,
    PREFETCH,
    SCANNER,
    SEND,
    TRANSACTIONAL,
    UNSUBSCRIBE,
)

SECOND_MS, MINUTE_MS = 1000, 60_000


@given(
    seed=st.integers(0, 100_000), label=st.sampled_from(["none", "click", "conversion"]), first_day=st.integers(0, 40)
)
@settings(max_examples=60, deadline=None)
def test_the_walk_is_its_twin(seed: int, label: str, first_day: int) -> None:
    events, zones = random_journal(np.random.default_rng(seed), 12)
    window = MONDAY_MS + first_day * DAY_MS, MONDAY_MS + (first_day + 45) * DAY_MS
    assert_same(clean(events, zones, *window, label), naive_history.clean(events, zones, *window, label))


def test_an_act_belongs_to_the_last_send_before_it_in_its_campaign() -> None:
    found = cleaned([Row(SEND, 0), Row(SEND, DAY_MS), Row(OPEN, DAY_MS + HOUR_MS), Row(SEND, 0, 2)])
    assert found.latency_S.tolist() == [-1, HOUR_MS, -1]


def test_the_latency_is_that_of_the_first_act() -> None:
    found = cleaned([Row(SEND, 0), Row(OPEN, HOUR_MS), Row(CLICK, 2 * HOUR_MS), Row(OPEN, 3 * HOUR_MS)], "click")
    assert (found.latency_S[0], found.label_S[0], len(found.utc_A)) == (HOUR_MS, 2 * HOUR_MS, 3)


@pytest.mark.parametrize(("gap_ms", "acts"), [(4999, 1), (5000, 2)])
def test_an_open_within_five_seconds_of_another_is_a_duplicate(gap_ms: int, acts: int) -> None:
    found = cleaned([Row(SEND, 0), Row(OPEN, HOUR_MS), Row(OPEN, HOUR_MS + gap_ms)])
    assert len(found.utc_A) == acts
    assert found.dropped_D[DUPLICATE_ROWS] == 2 - acts


def test_a_duplicate_is_measured_from_the_row_before_even_if_that_was_one() -> None:
    opens = [Row(OPEN, HOUR_MS + i * 4000) for i in range(5)]
    assert cleaned([Row(SEND, 0), *opens]).dropped_D[DUPLICATE_ROWS] == 4


def test_clicks_are_never_duplicates() -> None:
    clicks = [Row(CLICK, HOUR_MS + i * 100) for i in range(3)]
    assert len(cleaned([Row(SEND, 0), *clicks]).utc_A) == 3


def test_delivered_starts_the_clock_of_its_send() -> None:
    found = cleaned([Row(SEND, 0), Row(DELIVERED, MINUTE_MS), Row(DELIVERED, HOUR_MS), Row(OPEN, 2 * HOUR_MS)])
    assert found.utc_S.tolist() == [MONDAY_MS + MINUTE_MS]
    assert found.latency_S.tolist() == [2 * HOUR_MS - MINUTE_MS]


def test_delivered_without_a_send_acts_as_one() -> None:
    found = cleaned([Row(DELIVERED, 0), Row(OPEN, HOUR_MS), Row(DELIVERED, DAY_MS)])
    assert found.latency_S.tolist() == [HOUR_MS, -1]


def test_an_act_between_send_and_delivery_has_latency_zero() -> None:
    assert cleaned([Row(SEND, 0), Row(OPEN, SECOND_MS), Row(DELIVERED, MINUTE_MS)]).latency_S.tolist() == [0]


def test_a_bounced_send_was_never_sent() -> None:
    rows = [Row(SEND, 0), Row(SEND, DAY_MS), Row(DELIVERED, DAY_MS + 1), Row(BOUNCE, DAY_MS + MINUTE_MS)]
    found = cleaned([*rows, Row(OPEN, 2 * DAY_MS)])
    assert found.utc_S.tolist() == [MONDAY_MS]
    assert found.latency_S.tolist() == [2 * DAY_MS]
    assert found.dropped_D[BOUNCED_SENDS] == 1


def test_a_bounce_after_the_next_send_drops_that_one_only() -> None:
    found = cleaned([Row(BOUNCE, 0), Row(SEND, 1), Row(SEND, DAY_MS), Row(BOUNCE, 2 * DAY_MS), Row(BOUNCE, 3 * DAY_MS)])
    assert found.utc_S.tolist() == [MONDAY_MS + 1]


@pytest.mark.parametrize(("fast", "machine"), [(3, HUMAN), (4, SCANNER)])
def test_clicks_within_seconds_on_many_sends_make_a_link_scanner(fast: int, machine: int) -> None:
    clicks = [Row(CLICK, day * DAY_MS + 14_000, day) for day in range(fast)]
    late = [Row(OPEN, 6 * DAY_MS + 29_999, 6), Row(OPEN, 7 * DAY_MS + 30_000, 7)]
    found = cleaned([*mails(10), *clicks, *late])
    assert found.machine_U[0] == machine
    assert (found.latency_S >= 0).sum() == (1 if machine == SCANNER else fast + 2)


def test_a_click_within_three_seconds_is_nobodys() -> None:
    found = cleaned([Row(SEND, 0), Row(CLICK, 2999), Row(SEND, 0, 2), Row(CLICK, 3000, 2)])
    assert found.latency_S.tolist() == [-1, 3000]
    assert found.dropped_D[MACHINE_ACTS] == 1


def test_early_opens_on_many_promos_make_a_prefetching_client_whose_clicks_count() -> None:
    found = cleaned([*mails(3, 179_999), Row(CLICK, HOUR_MS, 0), Row(OPEN, HOUR_MS, 9)], "click")
    assert found.machine_U[0] == PREFETCH
    assert found.latency_S.tolist() == [HOUR_MS, -1, -1]
    assert len(found.utc_A) == 1  # nor does the open without a send


def test_order_mail_that_is_opened_at_once_makes_no_machine() -> None:
    assert cleaned(mails(5, 60_000, type=TRANSACTIONAL)).machine_U[0] == HUMAN


def test_a_flagged_open_is_no_persons_and_no_sign_of_prefetching_but_a_sign_of_life() -> None:
    rows = [replace(r, machine=r.kind == OPEN) for r in mails(12, 60_000)]
    found = cleaned(rows)
    assert (found.machine_U[0], found.invalid_U[0]) == (HUMAN, False)
    assert len(found.utc_A) == 0
    assert found.dropped_D[MACHINE_ACTS] == 12


@pytest.mark.parametrize(("sends", "invalid"), [(11, False), (12, True)])
def test_an_address_that_never_gave_a_sign_is_invalid(sends: int, invalid: bool) -> None:
    delivered = [Row(DELIVERED, r.ts + 1, r.campaign) for r in mails(sends)]
    assert cleaned([*mails(sends), *delivered]).invalid_U[0] == invalid


@pytest.mark.parametrize("kind", [UNSUBSCRIBE, COMPLAINT, CONVERSION])
def test_other_events_are_signs_of_life_but_no_acts(kind: int) -> None:
    found = cleaned([*mails(12), Row(kind, HOUR_MS, 0)], "conversion")
    assert not found.invalid_U[0]
    assert len(found.utc_A) == 0
    assert found.latency_S.max() == -1
    assert found.label_S[0] == (HOUR_MS if kind == CONVERSION else -1)


def test_opens_without_a_send_are_acts_and_clicks_without_one_are_not() -> None:
    found = cleaned([Row(OPEN, HOUR_MS), Row(CLICK, 2 * HOUR_MS)])
    assert found.utc_A.tolist() == [MONDAY_MS + HOUR_MS]
    assert found.dropped_D[ORPHAN_ACTS] == 2


def away(days: list[int], stated: list[int]) -> list[Row]:
    sends = [Row(SEND, day * DAY_MS, day) for day in days]
    opens = [Row(OPEN, day * DAY_MS + HOUR_MS, day, stated=s) for day, s in zip(days, stated, strict=True)]
    return sends + opens


def test_a_shift_that_recent_acts_agree_on_is_accepted_always_if_he_never_lived_in_his_zone() -> None:
    found = cleaned(away([60, 70, 80], [120, 120, 60]), offset_min=60)
    assert found.shift_U[0] == 60
    assert ((found.local_S - found.utc_S) == 120 * MINUTE_MS).all()
    assert ((found.local_A - found.utc_A) == 120 * MINUTE_MS).all()


def test_a_relocation_holds_from_three_days_before_it_was_seen() -> None:
    found = cleaned(away([40, 50, 60, 76, 77, 80, 85], [0, 0, 0, -300, -300, -300, -300])[:-1] + mails(1))
    assert found.shift_U[0] == -300
    since = MONDAY_MS + 76 * DAY_MS + HOUR_MS - 3 * DAY_MS
    assert ((found.local_S != found.utc_S) == (found.utc_S >= since)).all()


def test_old_or_rare_shifts_are_not_accepted() -> None:
    assert cleaned(away([5, 6, 80], [120, 120, 0])).shift_U[0] == 0
    assert cleaned(away([80, 81, 82, 83], [120, 0, 0, 0])).shift_U[0] == 0


def test_of_equal_shifts_the_smallest_is_accepted() -> None:
    rows = [Row(SEND, 0), Row(SEND, 0, 2), Row(OPEN, HOUR_MS, stated=120), Row(OPEN, HOUR_MS, 2, stated=-120)]
    assert cleaned([replace(r, ts=r.ts + 80 * DAY_MS) for r in rows]).shift_U[0] == -120


def test_shifts_can_be_switched_off() -> None:
    assert cleaned(away([60, 70, 80], [120, 120, 120]), shifts=False).shift_U[0] == 0


def test_who_goes_by_his_own_offset_has_no_shift_and_the_zones_time_only_where_a_row_states_none() -> None:
    rows = [
        Row(SEND, 0, stated=120),
        Row(DELIVERED, MINUTE_MS),
        Row(SEND, DAY_MS),
        Row(OPEN, DAY_MS + HOUR_MS, stated=90),
    ]
    found = cleaned(rows, offset_min=60, own=True)
    assert ((found.local_S - found.utc_S) // MINUTE_MS).tolist() == [120, 60]
    assert ((found.local_A - found.utc_A) // MINUTE_MS).tolist() == [90]
    assert found.shift_U[0] == 0


def test_rows_outside_the_window_do_not_exist() -> None:
    events = journal([Row(SEND, 0), Row(OPEN, HOUR_MS), Row(OPEN, HOUR_MS + 1000), Row(OPEN, 3 * HOUR_MS)])
    found = clean(events, in_zone(1), MONDAY_MS + HOUR_MS + 1, MONDAY_MS + 3 * HOUR_MS)
    assert (len(found.utc_S), found.utc_A.tolist()) == (0, [MONDAY_MS + HOUR_MS + 1000])


@pytest.mark.parametrize("users", [0, 1, 3])
def test_users_without_rows_are_known_all_the_same(users: int) -> None:
    world = journal(*[[] for _ in range(users)]), in_zone(users), 0, 2**60
    found = clean(*world)
    assert_same(found, naive_history.clean(*world))
    assert len(found.machine_U) == users


def test_rows_outside_any_user_are_not_read() -> None:
    events, zones = random_journal(np.random.default_rng(3), 9)
    part = replace(events, start_U=events.start_U[3:7])
    where = replace(zones, zone_U=zones.zone_U[3:6], own_U=zones.own_U[3:6])
    assert_same(clean(part, where, 0, 2**60), naive_history.clean(part, where, 0, 2**60))


def test_wrong_input_is_refused() -> None:
    events, zones = random_journal(np.random.default_rng(0), 3)
    backwards = replace(events, ts_N=events.ts_N[::-1].copy())
    for bad, what in (
        (backwards, "sorted by campaign"),
        (replace(events, kind_N=events.kind_N + np.int8(8)), "kind_N must be in"),
        (replace(events, ts_N=events.ts_N[1:]), "one length"),
        (replace(events, start_U=events.start_U + 1), "start_U must ascend"),
        (replace(events, stated_N=np.full(len(events.ts_N), 2000, np.int16)), "minutes within a day"),
    ):
        with pytest.raises(ValueError, match=what):
            clean(bad, zones, 0, 2**60)
    with pytest.raises(ValueError, match="zone_U must be in"):
        clean(events, replace(zones, zone_U=zones.zone_U + np.int32(3)), 0, 2**60)
    with pytest.raises(ValueError, match="label must be one of"):
        clean(events, zones, 0, 2**60, "opens")
    with pytest.raises(TypeError):
        clean(replace(events, campaign_N=events.campaign_N.astype(np.int64)), zones, 0, 2**60)
