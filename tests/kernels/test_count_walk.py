"""The counting walks against their twins, against sums by hand, and against the recipe's script."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journals import MONDAY_MS, Row, in_zone, journal, random_journal
from sto_kernels import count_walk, naive_counts
from sto_kernels.clean_walk import clean
from sto_kernels.journal import DAY_MS, HOUR_MS, NO_TIME, OPEN, SEND, Cleaned, Counts

CAMPAIGNS = 4
DECAY = np.exp(-np.arange(24) / 8.0)
ORIGIN_MS = MONDAY_MS + 60 * DAY_MS


def cleaned_world(seed: int, users: int = 15) -> Cleaned:
    events, zones = random_journal(np.random.default_rng(seed), users)
    return clean(events, zones, MONDAY_MS, MONDAY_MS + 90 * DAY_MS)


def rates(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0.5, 2, CAMPAIGNS), rng.uniform(0.5, 2, CAMPAIGNS)


def one_user(rows: list[Row], origin_ms: int = ORIGIN_MS, half_life_ms: float = 0) -> Counts:
    """Counts of a user of UTC with rate 3 for both windows."""
    cleaned = clean(journal(rows), in_zone(1), MONDAY_MS, MONDAY_MS + 90 * DAY_MS)
    three = np.full(CAMPAIGNS, 3.0)
    kernel = count_walk.unopened_kernel(DECAY)
    return count_walk.count(cleaned, 1, three, three, DECAY, kernel, origin_ms, half_life_ms)


@given(seed=st.integers(0, 10_000), half_life_days=st.sampled_from([0, 20]), origin_h=st.integers(0, 90 * 24))
@settings(max_examples=40, deadline=None)
def test_counts_are_those_of_the_twin(seed: int, half_life_days: int, origin_h: int) -> None:
    cleaned, users, kernel = cleaned_world(seed), 15, count_walk.unopened_kernel(DECAY)
    rest = (*rates(seed), DECAY, kernel, MONDAY_MS + origin_h * HOUR_MS, half_life_days * DAY_MS)
    found, expected = count_walk.count(cleaned, users, *rest), naive_counts.count(cleaned, users, *rest)
    for field in fields(Counts):
        ours, theirs = getattr(found, field.name), getattr(expected, field.name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7, err_msg=field.name)


@given(seed=st.integers(0, 10_000), origin_h=st.integers(0, 91 * 24))
@settings(max_examples=40, deadline=None)
def test_campaign_sums_and_age_decay_are_those_of_the_twin(seed: int, origin_h: int) -> None:
    cleaned, origin_ms = cleaned_world(seed), MONDAY_MS + origin_h * HOUR_MS
    bad_U = np.random.default_rng(seed).random(15) < 0.3
    sums_C4 = count_walk.campaign_sums(cleaned, bad_U, origin_ms, CAMPAIGNS)
    np.testing.assert_array_equal(sums_C4, naive_counts.campaign_sums(cleaned, bad_U, origin_ms, CAMPAIGNS))
    rest = 10, rates(seed)[1], origin_ms
    ours, theirs = count_walk.age_decay(cleaned, *rest), naive_counts.age_decay(cleaned, *rest)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_the_split_of_the_users_changes_no_bit() -> None:
    events, zones = random_journal(np.random.default_rng(1), 40)
    kernel = count_walk.unopened_kernel(DECAY)

    def counts(first: int, last: int) -> Counts:
        part = replace(events, start_U=events.start_U[first : last + 1])
        where = replace(zones, zone_U=zones.zone_U[first:last], own_U=zones.own_U[first:last])
        cleaned = clean(part, where, MONDAY_MS, MONDAY_MS + 90 * DAY_MS)
        return count_walk.count(cleaned, last - first, *rates(1), DECAY, kernel, ORIGIN_MS, 9 * DAY_MS)

    whole, parts = counts(0, 40), [counts(0, 13), counts(13, 14), counts(14, 40)]
    for field in fields(Counts):
        joined = np.concatenate([getattr(part, field.name) for part in parts])
        assert joined.tobytes() == getattr(whole, field.name).tobytes()


def test_an_open_counts_at_the_hour_it_happened_and_its_send_at_its_own() -> None:
    counts = one_user([Row(SEND, 10 * HOUR_MS), Row(OPEN, 13 * HOUR_MS + HOUR_MS // 2)])
    assert np.flatnonzero(counts.opens_U48[0]).tolist() == [13]
    assert np.flatnonzero(counts.opens24_U24[0]).tolist() == [10]
    assert counts.opens2_U24.sum() == 0
    assert counts.sends24_U24[0, 10] == 3
    assert counts.seen_U24[0, 10] == 1
    expected = 3 * np.array([1, DECAY[1], DECAY[2], DECAY[3] / 2])
    np.testing.assert_allclose(counts.exposure_U48[0, 10:14], expected, rtol=1e-6)
    assert counts.exposure_U48.sum() == pytest.approx(expected.sum(), rel=1e-6)
    assert counts.log_latency_U[0] == pytest.approx(np.log(3.5))


def test_an_unopened_send_stands_for_one_at_a_quarter_past() -> None:
    counts = one_user([Row(SEND, 4 * DAY_MS + 10 * HOUR_MS)])  # Friday: the night is a Saturday's
    assert counts.exposure_U48[0, 10] == pytest.approx(3 * 0.75)
    assert counts.exposure_U48[0, 24 + 10] == pytest.approx(3 * 0.25 * DECAY[23])
    assert counts.exposure_U48[0, :24].nonzero()[0].tolist() == list(range(10, 24))
    assert counts.exposure_U48[0, 24:].nonzero()[0].tolist() == list(range(11))


def test_nothing_at_or_after_the_origin_counts() -> None:
    rows = [Row(SEND, 10 * HOUR_MS), Row(OPEN, 13 * HOUR_MS), Row(SEND, 40 * HOUR_MS, campaign=2)]
    counts = one_user(rows, MONDAY_MS + 13 * HOUR_MS)
    assert counts.sent_U[0] == 1
    assert counts.opened_U[0] == counts.acts_U[0] == counts.opens_U48.sum() == 0
    assert counts.last_act_U[0] == NO_TIME
    expected = 3 * DECAY[:3].sum()
    assert counts.exposure_U48.sum() == pytest.approx(expected, rel=1e-6)


def test_a_half_life_weighs_arrays_by_the_age_of_send_and_act() -> None:
    rows = [Row(SEND, 10 * HOUR_MS), Row(OPEN, 12 * HOUR_MS)]
    whole = one_user(rows, MONDAY_MS + 60 * HOUR_MS)
    faded = one_user(rows, MONDAY_MS + 60 * HOUR_MS, 50 * HOUR_MS)
    np.testing.assert_allclose(faded.exposure_U48, whole.exposure_U48 / 2, rtol=1e-6)
    np.testing.assert_allclose(faded.opens_U48, whole.opens_U48 / 2)
    np.testing.assert_allclose(faded.acts_U24, whole.acts_U24 * 2 ** (-48 / 50), rtol=1e-6)
    assert (faded.sent_U[0], faded.opened_U[0], faded.acts_U[0]) == (1, 1, 1)


def test_the_unopened_kernel_holds_a_day_of_decay_per_row() -> None:
    kernel = count_walk.unopened_kernel(np.ones(24))
    assert kernel.dtype == np.float32
    np.testing.assert_allclose(kernel.sum(1), 24, rtol=1e-6)


@pytest.mark.parametrize("users", [0, 3])
def test_a_bucket_without_a_row_counts_nothing(users: int) -> None:
    cleaned = clean(journal(*[[] for _ in range(users)]), in_zone(users), 0, ORIGIN_MS)
    kernel = count_walk.unopened_kernel(DECAY)
    counts = count_walk.count(cleaned, users, np.ones(0), np.ones(0), DECAY, kernel, ORIGIN_MS)
    assert counts.exposure_U48.shape == (users, 48)
    assert sum(getattr(counts, f.name).sum() for f in fields(Counts) if f.name != "last_act_U") == 0
    assert count_walk.campaign_sums(cleaned, np.zeros(users, np.bool_), ORIGIN_MS, 0).shape == (0, 4)
    np.testing.assert_allclose(count_walk.age_decay(cleaned, users, np.ones(0), ORIGIN_MS), np.maximum(DECAY, 1e-3))


def test_codes_that_the_tables_do_not_hold_are_refused() -> None:
    cleaned, kernel = cleaned_world(0), count_walk.unopened_kernel(DECAY)
    with pytest.raises(ValueError, match="campaign_S must be in"):
        count_walk.count(cleaned, 15, np.ones(2), np.ones(2), DECAY, kernel, ORIGIN_MS)
    with pytest.raises(ValueError, match="grouped by ascending user"):
        count_walk.count(cleaned, 3, np.ones(4), np.ones(4), DECAY, kernel, ORIGIN_MS)
