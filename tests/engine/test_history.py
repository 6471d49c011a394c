"""What of a history counts: which events, at which local hour, with which weight."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from histories import CONFIG, ORIGIN, Row, before, known, mail, opens, people, store_of
from sto_engine.config import load_config
from sto_engine.history.profile import Profile, build_profile
from sto_engine.history.rates import campaign_rates, look_up
from sto_engine.history.sample import Campaigns, bucket_campaigns
from sto_engine.ingest.store import Store
from sto_engine.models.counts import Weights, bucket_counts
from sto_engine.slots import grid_of
from sto_kernels.journal import Counts

FADE = np.exp(-np.arange(24) / 8.0)


def profile_of(store: Store, slots: int = 24, half_life_days: float | None = None) -> Profile:
    return build_profile(known(store), grid_of(slots), half_life_days)


def counts_of(store: Store, half_life_days: float | None = None, has_sends: bool = True) -> Counts:
    """Counts where every campaign appeals alike and mail of every type fades alike."""
    bucket = known(store)
    ones, span = np.ones(len(bucket.campaign_key_C)), (bucket.start_ms, bucket.end_ms)
    weights = Weights(ones, ones, np.tile(FADE, (3, 1)), np.ones(3))
    return bucket_counts(bucket.cleaned, len(bucket.users), weights, span, has_sends, half_life_days)


def test_history_ends_before_the_origin_and_begins_history_days_earlier(tmp_path: Path) -> None:
    least = timedelta(milliseconds=1)
    at = [ORIGIN, ORIGIN - least, ORIGIN - timedelta(days=90), ORIGIN - timedelta(days=90) - least]
    store = store_of([Row(1, "open", t, n) for n, t in enumerate(at)], tmp_path)
    bucket = known(store)
    epoch_ms = [int(t.timestamp() * 1000) for t in at]
    assert sorted(bucket.cleaned.utc_A.tolist()) == sorted(epoch_ms[1:3])
    assert profile_of(store).acts_U.tolist() == [2]
    shorter = known(store, config=load_config(None, ["model.history_days=30"]))
    assert shorter.cleaned.utc_A.tolist() == [epoch_ms[1]]


def test_acts_fall_into_the_local_slot_of_their_day_across_daylight_saving(tmp_path: Path) -> None:
    winter, summer = datetime(2026, 3, 1, 15, 40, tzinfo=UTC), datetime(2026, 3, 20, 15, 40, tzinfo=UTC)
    rows = [Row(1, "open", winter, 1), Row(1, "open", summer, 2)]
    store = store_of(rows, tmp_path, people([1], timezone="America/New_York"))
    assert np.flatnonzero(profile_of(store).acts_US[0]).tolist() == [10, 11]
    assert np.flatnonzero(profile_of(store, 48).acts_US[0]).tolist() == [21, 23]
    assert np.flatnonzero(counts_of(store).acts_U24[0]).tolist() == [10, 11]


def test_an_events_own_offset_counts_where_the_profile_has_no_zone(tmp_path: Path) -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    profile = profile_of(store_of([Row(1, "open", noon, 1, offset=345), Row(1, "open", noon, 2)], tmp_path))
    assert profile.users["zone"].to_list() == ["345"]
    assert profile.acts_US[0].nonzero()[0].tolist() == [17]
    assert profile.acts_US[0, 17] == 2


def test_a_shift_that_most_recent_rows_state_moves_a_user_and_a_rare_one_does_not(tmp_path: Path) -> None:
    rows = []
    for day in range(1, 30):
        rows += [Row(1, "send", before(day, 11), day), Row(1, "open", before(day, 12), day, offset=540)]
        offset = 540 if day == 5 else 0
        rows += [Row(2, "send", before(day, 11), day), Row(2, "open", before(day, 12), day, offset=offset)]
    bucket = known(store_of(rows, tmp_path, people([1, 2], timezone="Etc/UTC")))
    assert dict(zip(bucket.users["user_id"], bucket.cleaned.shift_U.tolist(), strict=True)) == {1: 540, 2: 0}


def test_weights_halve_with_each_half_life(tmp_path: Path) -> None:
    store = store_of([Row(1, "open", before(20), 1), *mail(2, before(20), 0.5)], tmp_path)
    assert profile_of(store, half_life_days=10).acts_US.sum() == pytest.approx(0.5, rel=0.01)
    plain, faded = counts_of(store), counts_of(store, 10)
    assert faded.acts_U24.sum() == pytest.approx(plain.acts_U24.sum() / 4, rel=0.01)
    assert faded.opens_U48.sum() == pytest.approx(plain.opens_U48.sum() / 4, rel=0.01)
    assert faded.exposure_U48.sum() == pytest.approx(plain.exposure_U48.sum() / 4, rel=0.01)


def test_a_mail_is_at_risk_from_its_send_to_its_open_and_no_longer_than_a_day(tmp_path: Path) -> None:
    sent = before(30, 8)  # a Monday
    store = store_of([*mail(1, sent, 2.5), *mail(2, sent)], tmp_path)
    bucket, counts = known(store), counts_of(store)
    row = {user: number for number, user in enumerate(bucket.users["user_id"])}
    opened, unopened = counts.exposure_U48[row[1]], counts.exposure_U48[row[2]]
    np.testing.assert_allclose(opened[[8, 9, 10]], FADE[:3] * [1, 1, 0.5], rtol=0.02)
    assert opened.sum() == pytest.approx(opened[[8, 9, 10]].sum())
    # mail of an hour counts as sent a quarter past it: the last quarter of its day falls into the hour of the send
    expected_24 = FADE.copy()
    expected_24[0] = 0.75 * FADE[0] + 0.25 * FADE[23]
    np.testing.assert_allclose(np.roll(unopened[:24], -8), expected_24, rtol=1e-5)
    assert unopened[24:].sum() == 0
    assert (counts.opens_U48[row[1], 10], counts.opens_U48.sum()) == (1, 1)


def test_without_any_send_every_hour_is_an_hour_at_risk_and_every_act_an_open(tmp_path: Path) -> None:
    counts = counts_of(store_of(opens(1, 9, 14), tmp_path), has_sends=False)
    np.testing.assert_allclose(counts.exposure_U48[0], np.repeat([90 * 5 / 7, 90 * 2 / 7], 24), rtol=1e-6)
    assert (counts.opens_U48[0, 9], counts.opens_U48[0, 33]) == (10, 4)


def test_users_who_refuse_profiling_have_no_events(tmp_path: Path) -> None:
    store = store_of(opens(1, 20, 9) + opens(2, 6, 9), tmp_path, people([1, 2], consent_profiling=[False, None]))
    profile = profile_of(store)
    assert dict(zip(profile.users["user_id"], profile.acts_U.tolist(), strict=True)) == {1: 0, 2: 9}


def test_campaign_sums_count_sends_seen_that_long_and_opens_within(tmp_path: Path) -> None:
    ages = [(100.0, 0.5), (100.0, 30.0), (100.0, 5.0), (23.0, 0.5), (1.5, 1.0)]
    rows = []
    for user, (age_h, wait_h) in enumerate(ages):
        sent = ORIGIN - timedelta(hours=age_h)
        rows += [Row(user, "send", sent, 5), Row(user, "open", sent + timedelta(hours=wait_h), 5)]
    found = bucket_campaigns(known(store_of(rows, tmp_path)))
    # seen for 2 h: all but the last; for 24 h: the first three
    assert found.sums_C4.sum(axis=0).tolist() == [4, 2, 3, 2]
    assert found.hour_C.tolist() == [1, 20, 22]
    assert len(set(found.key_C.tolist())) == 1


def sums(hour_C: np.ndarray, type_C: np.ndarray, sends: int, opens_C: np.ndarray) -> Campaigns:
    """One row a campaign."""
    counts = np.stack([np.full(len(opens_C), sends), np.round(opens_C), np.full(len(opens_C), sends), opens_C], axis=1)
    return Campaigns(
        np.arange(len(opens_C), dtype=np.uint64),
        hour_C.astype(np.int8),
        type_C.astype(np.int8),
        counts.astype(np.int64),
    )


def test_campaigns_of_one_hour_differ_by_their_opens_alone() -> None:
    factor = np.tile([0.5, 1.0, 2.0], 20)
    found = sums(np.full(60, 10), np.zeros(60), 100_000, 100_000 * 0.1 * factor)
    key, rate2, rate24 = campaign_rates(found)
    assert key.tolist() == list(range(60))
    np.testing.assert_allclose(rate2[1::3] / rate2[::3], 2, rtol=0.02)
    np.testing.assert_allclose(rate24[2::3] / rate24[1::3], 2, rtol=0.02)


def test_few_sends_say_little_of_a_campaign() -> None:
    rng = np.random.default_rng(0)
    many, few = (sums(np.full(80, 10), np.zeros(80), n, rng.poisson(0.1 * n, 80)) for n in (10_000, 20))
    assert campaign_rates(many)[1].std() < 0.05
    assert campaign_rates(few)[1].std() < 0.3


def test_what_an_hour_earns_is_not_the_appeal_of_its_campaigns() -> None:
    """Mail of the evening is opened three times as often whatever it says."""
    hour = np.tile([9, 20], 60)
    found = sums(hour, np.zeros(120), 20_000, 20_000 * np.where(hour == 20, 0.15, 0.05))
    rate2 = campaign_rates(found)[1]
    assert rate2[1::2].mean() / rate2[::2].mean() < 2


def test_a_campaign_that_is_not_known_has_the_appeal_of_a_mean_one() -> None:
    known_K, rate_K = np.array([3, 5, 9], np.uint64), np.array([0.5, 2.0, 3.0])
    assert look_up(np.array([5, 4, 9, 10], np.uint64), known_K, rate_K).tolist() == [2, 1, 3, 1]
    assert look_up(np.array([5], np.uint64), known_K[:0], rate_K[:0]).tolist() == [1]


def test_a_history_without_campaigns_has_no_rates() -> None:
    none = sums(np.zeros(0), np.zeros(0), 0, np.zeros(0))
    assert [len(found) for found in campaign_rates(none)] == [0, 0, 0]
    unseen = sums(np.full(5, 3), np.arange(5) % 3, 0, np.zeros(5))
    assert all(np.isfinite(found).all() for found in campaign_rates(unseen))


def test_the_default_window_is_ninety_days() -> None:
    assert CONFIG.model.history_days == 90
    assert CONFIG.model.half_life_days is None
