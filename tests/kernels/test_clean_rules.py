"""What the cleaning rules drop, their limits, floods of acts and acts before their send."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleaning import assert_same, cleaned, mails
from journals import MONDAY_MS, Row, random_journal
from sto_kernels import naive_history
from sto_kernels.clean_walk import clean
from sto_kernels.journal import (
    BOUNCE,
    CLICK,
    DAY_MS,
    EARLY_ACTS,
    FAST_CLICKS,
    FLAGGED_ACTS,
    FLOOD,
    FLOODED_ACTS,
    HOUR_MS,
    HUMAN,
    MACHINE_ACTS,
    OPEN,
    ORPHAN_ACTS,
    PREFETCHED_ACTS,
    SCANNED_ACTS,
    SCANNER,
    SEND,
    Rules,
)

MINUTE_MS = 60_000
NEVER = 2**62
LIMITS = st.builds(
    Rules,
    duplicate_ms=st.sampled_from([0, 5000, 60_000]),
    bounces=st.booleans(),
    scanner_share=st.sampled_from([0.0, 0.3, 1.0]),
    prefetch_share=st.sampled_from([0.0, 0.35, 1.0]),
    fast_click_ms=st.sampled_from([0, 3000, 20_000]),
    invalid_sends=st.sampled_from([1, 12, NEVER]),
    flood_acts=st.sampled_from([1, 2, 3, NEVER]),
    flood_days=st.sampled_from([1, 2]),
    flood_share=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    shift_share=st.sampled_from([0.0, 0.3, 1.0]),
)


@given(seed=st.integers(0, 100_000), label=st.sampled_from(["none", "click"]), rules=LIMITS)
@settings(max_examples=80, deadline=None)
def test_the_walk_is_its_twin_for_any_limits_of_the_rules(seed: int, label: str, rules: Rules) -> None:
    events, zones = random_journal(np.random.default_rng(seed), 12, days=20)
    window = MONDAY_MS, MONDAY_MS + 18 * DAY_MS
    assert_same(clean(events, zones, *window, label, rules), naive_history.clean(events, zones, *window, label, rules))


def test_the_machine_acts_are_those_of_the_rules_together() -> None:
    events, zones = random_journal(np.random.default_rng(5), 400, days=20)
    dropped = clean(events, zones, 0, 2**60, rules=Rules(flood_acts=2, flood_days=1)).dropped_D
    by_rule = dropped[[FLAGGED_ACTS, PREFETCHED_ACTS, SCANNED_ACTS, FAST_CLICKS, FLOODED_ACTS]]
    assert by_rule.min() > 0
    assert dropped[MACHINE_ACTS] == by_rule.sum()


def opens_of_a_day(count: int, day: int, campaign: int = 1) -> list[Row]:
    return [Row(OPEN, day * DAY_MS + i * MINUTE_MS, campaign) for i in range(count)]


@pytest.mark.parametrize(
    ("days", "on_a_day", "elsewhere", "machine"),
    [(2, 50, 99, FLOOD), (2, 50, 100, HUMAN), (2, 49, 0, HUMAN), (1, 500, 0, HUMAN), (3, 400, 9, FLOOD)],
)
def test_who_acts_mostly_on_days_of_fifty_acts_is_no_person(
    days: int, on_a_day: int, elsewhere: int, machine: int
) -> None:
    few = [Row(OPEN, (10 + i // 2) * DAY_MS + i, 1000 + i) for i in range(elsewhere)]
    full = [row for day in range(days) for row in opens_of_a_day(on_a_day, 2 + day, day)]
    found = cleaned([*mails(5), *full, *few])
    acts = days * on_a_day + elsewhere
    assert found.machine_U[0] == machine
    assert len(found.utc_A) == (0 if machine == FLOOD else acts)
    assert found.dropped_D[FLOODED_ACTS] == found.dropped_D[MACHINE_ACTS] == (acts if machine == FLOOD else 0)
    assert (found.latency_S >= 0).any() == (machine != FLOOD)


def test_a_flood_is_counted_by_days_over_all_campaigns_with_duplicates_but_without_flagged_rows() -> None:
    bursts = [Row(OPEN, day * DAY_MS + i * 1000, c) for day in (5, 6) for c in range(5) for i in range(10)]
    found = cleaned(bursts)
    assert (found.machine_U[0], found.dropped_D[FLOODED_ACTS]) == (FLOOD, 10)
    assert cleaned([replace(row, machine=True) for row in bursts]).machine_U[0] == HUMAN


def test_a_link_scanner_is_no_flood_and_keeps_the_acts_of_its_owner() -> None:
    scans = [Row(CLICK, day * DAY_MS + 5000 + i, day) for day in range(5) for i in range(60)]
    found = cleaned([*mails(5, HOUR_MS), *scans])
    assert (found.machine_U[0], len(found.utc_A)) == (SCANNER, 5)


def test_an_open_before_the_first_send_of_its_campaign_is_told_from_one_without_any() -> None:
    rows = [Row(OPEN, 0), Row(SEND, HOUR_MS), Row(OPEN, 0, 2), Row(CLICK, 1, 3), Row(SEND, 2, 3), Row(OPEN, 3, 3)]
    found = cleaned(rows)
    assert (found.dropped_D[EARLY_ACTS], found.dropped_D[ORPHAN_ACTS]) == (2, 1)
    assert len(found.utc_A) == 3


def test_a_bounced_send_is_no_send_for_the_opens_before_it() -> None:
    found = cleaned([Row(OPEN, 0), Row(SEND, 1), Row(BOUNCE, 2), Row(SEND, 0, 2)])
    assert (found.dropped_D[EARLY_ACTS], found.dropped_D[ORPHAN_ACTS]) == (0, 1)


def test_a_click_flagged_as_a_machines_makes_no_scanner_of_its_owner() -> None:
    clicks = [Row(CLICK, day * DAY_MS + 10_000, day, machine=True) for day in range(10)]
    found = cleaned([*mails(10, HOUR_MS), *clicks])
    assert found.machine_U[0] == HUMAN
    assert (len(found.utc_A), found.dropped_D[FLAGGED_ACTS]) == (10, 10)


def test_every_rule_has_a_limit_at_which_it_never_fires() -> None:
    events, zones = random_journal(np.random.default_rng(1), 300, days=20)
    off = Rules(0, False, 1.0, 1.0, 0, NEVER, NEVER, 1, 0.5, 1.0)
    found = clean(replace(events, machine_N=np.zeros(len(events.ts_N), np.bool_)), zones, 0, 2**60, rules=off)
    assert found.machine_U.max() == 0
    assert not found.invalid_U.any()
    assert not found.shift_U.any()
    assert found.dropped_D.sum() == found.dropped_D[[ORPHAN_ACTS, EARLY_ACTS]].sum()
