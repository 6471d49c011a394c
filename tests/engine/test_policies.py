"""Policies on histories whose answer is known by construction."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from histories import ORIGIN, Row, before, column, decide, known, mail, opens, people, store_of
from sto_engine.config import Config, load_config
from sto_engine.errors import ConfigError
from sto_engine.history.profile import build_profile
from sto_engine.ingest.store import Store
from sto_engine.models.bundle import Bundle, load_bundle
from sto_engine.models.features import build_features, know
from sto_engine.models.histogram import ahead, smooth
from sto_engine.models.priors import from_tensors
from sto_engine.models.registry import make_policy
from sto_engine.progress import Silent
from sto_engine.slots import grid_of
from sto_engine.train_job import train

HOURS = (8, 13, 19)
AT_ONCE = 999  # opens within minutes what comes at 19:00, and nothing else


def configured(policy: str, *keys: str) -> Config:
    return load_config(None, [f"model.policy={policy}", *keys])


@pytest.fixture(scope="module")
def clocks(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """300 users mailed at all hours; user u looks into his inbox at HOURS[u % 3] of most days, and at no other hour."""
    rng, rows = np.random.default_rng(0), []
    for user in range(300):
        for day in range(2 + user % 2, 91, 2):
            sent, look = int(rng.integers(0, 24)), HOURS[user % 3] + rng.uniform(0.05, 0.95)
            wait = (look - sent) % 24
            rows += mail(user, before(day, sent), wait if rng.random() < 0.8 else None)
    for day in range(2, 91, 2):
        sent = (7, 10, 13, 16, 19, 22)[day // 2 % 6]
        rows += mail(AT_ONCE, before(day, sent), 0.1 if sent == 19 else None)
    return store_of(rows, tmp_path_factory.mktemp("clocks"))


@pytest.fixture(scope="module")
def clock_bundle(clocks: Store, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("clocks") / "bundle"
    config = load_config(None, ["train.trees=60", "train.min_child_weight=20"])
    train(clocks.path, path, ORIGIN.date(), config, 2, 0, None, Silent())
    return load_bundle(path)


@pytest.mark.parametrize("slots", [24, 48])
@pytest.mark.parametrize("policy", ["histogram", "attention", "boosted"])
def test_who_opens_only_at_one_hour_gets_a_slot_whose_two_hours_hold_it(
    clocks: Store, clock_bundle: Bundle, policy: str, slots: int
) -> None:
    bundle = clock_bundle if policy == "boosted" else None
    found = decide(clocks, configured(policy, f"slots.grid={slots}"), bundle)
    hour_U = found["slot"].to_numpy() * 24 / slots
    want_U = np.array([HOURS[user % 3] if user != AT_ONCE else 19 for user in found["user_id"]])
    held_U = (hour_U <= want_U + 0.5) & (want_U < hour_U + 2)
    assert held_U.mean() > 0.98
    assert held_U[found["user_id"].to_list().index(AT_ONCE)]
    assert found["reason"].unique().to_list() == ["histogram" if policy == "histogram" else "model"]
    assert found["n_eff"].min() >= 5


@pytest.mark.parametrize("policy", ["attention", "boosted"])
def test_chances_are_those_that_the_world_was_made_of(clocks: Store, clock_bundle: Bundle, policy: str) -> None:
    found = decide(clocks, configured(policy), clock_bundle if policy == "boosted" else None)
    p_US = found.filter(pl.col("user_id") != AT_ONCE)["p_open"].to_numpy()
    assert p_US.shape == (300, 24)
    assert ((p_US > 0) & (p_US < 1)).all()
    # of 24 send hours, the two before his hour are opened within two hours: 0.8 * 2 / 24 of all sends
    assert p_US.mean() == pytest.approx(0.8 * 2 / 24, rel=0.3)
    assert np.median(p_US.max(axis=1)) > 0.4
    assert np.median(p_US.min(axis=1)) < 0.03


def test_the_same_opens_after_other_send_hours_mean_another_habit(tmp_path: Path) -> None:
    """Both open ten mails at 9:00 and ten at 20:00: who was mailed just before an hour let others lie there."""
    rows = []
    for day in range(2, 22):
        rows += mail(1, before(day, 8), 1.5 if day % 2 else 12.5)
        rows += mail(2, before(day, 19), 1.5 if day % 2 else 14.5)
    store = store_of(rows, tmp_path)
    acts_U24 = build_profile(known(store), grid_of(24)).acts_US
    np.testing.assert_array_equal(acts_U24[0], acts_U24[1])
    p = {user: np.array(p) for user, p in column(decide(store, configured("attention")), "p_open").items()}
    assert p[1][19] > 1.2 * p[1][8]
    assert p[2][8] > 1.2 * p[2][19]


def test_mail_of_ten_that_is_read_at_eight_in_the_evening_goes_out_before_eight(tmp_path: Path) -> None:
    rows = [row for user in range(40) for day in range(1, 41) for row in mail(user, before(day + 1, 10), 10.4)]
    found = decide(store_of(rows, tmp_path), configured("attention"))
    assert set(found["slot"]) <= {19, 20}


def test_few_opens_fall_back_to_the_cohort_and_none_anywhere_to_the_control_time(tmp_path: Path) -> None:
    recipients = people([1, 2, 3, 4], signup_source=["web", "web", "web", "shop"])
    rows = opens(1, 20.2, 30) + opens(2, 6.2, 4) + opens(3, 6.2, 5) + [Row(4, "send", before(2))]
    found = decide(store_of(rows, tmp_path / "a", recipients), configured("histogram"))
    assert column(found, "reason") == {1: "histogram", 2: "cohort", 3: "histogram", 4: "global"}
    slot = column(found, "slot")
    assert slot[2] in (19, 20)
    assert slot[3] in (5, 6)
    for policy in ("histogram", "attention"):
        found = decide(store_of([Row(9, "send", before(1))], tmp_path / policy), configured(policy))
        assert column(found, "reason") == {9: "fallback"}


def test_recipients_without_events_have_the_slot_of_their_cohort(tmp_path: Path) -> None:
    rows = [row for user in (1, 2) for day in range(1, 60) for row in mail(user, before(day, 6 * user), 0.5)]
    recipients = people([1, 2, 3, 4, 5], signup_source=["web", "shop", "web", "shop", "fair"])
    for policy, own in (("histogram", "histogram"), ("attention", "model")):
        found = decide(store_of(rows, tmp_path / policy, recipients), configured(policy))
        assert column(found, "reason") == {1: own, 2: own, 3: "cohort", 4: "cohort", 5: "global"}
        assert column(found, "n_eff")[3] == 0


def test_flagged_and_prefetched_opens_count_for_nobody(tmp_path: Path) -> None:
    """A client that opens within a minute of most mails is a machine; his clicks and the flag's rows are not opens."""
    rows = [row for day in range(1, 21) for row in mail(1, before(day, 3), 0.01)]
    rows += [Row(2, "open", before(day, 3), day, machine=True) for day in range(1, 21)]
    rows += [row for day in range(1, 21) for row in mail(3, before(day, 12), 0.5)]
    bucket = known(store_of(rows, tmp_path))
    assert bucket.cleaned.machine_U.tolist() == [bucket.users["user_id"][u] == 1 for u in range(3)]
    assert set(bucket.users["user_id"].gather(np.unique(bucket.cleaned.user_A))) == {3}
    found = decide(store_of(rows, tmp_path / "b"), configured("histogram"))
    reason, slot = column(found, "reason"), column(found, "slot")
    assert reason == {1: "cohort", 2: "cohort", 3: "histogram"}
    assert slot[1] == slot[2] == slot[3]


def test_who_refuses_profiling_teaches_nobody_and_gets_the_slot_of_his_cohort(tmp_path: Path) -> None:
    others = [row for user in (2, 3) for day in range(1, 60) for row in mail(user, before(day, 6), 0.5 + user)]
    own = [row for day in range(1, 60) for row in mail(1, before(day, 20), 0.5)]
    recipients = people([1, 2, 3, 4], consent_profiling=[False, True, True, None])
    stores = [store_of(rows, tmp_path / str(len(rows)), recipients) for rows in (others, others + own)]
    for policy in ("histogram", "attention"):
        config = configured(policy)
        without, with_his = (decide(store, config) for store in stores)
        assert with_his.equals(without)
        utility = column(with_his, "utility")
        assert utility[1] == utility[4]
        assert column(with_his, "reason")[1] == "cohort"
        assert column(with_his, "n_eff")[1] == 0


def test_policies_that_do_not_exist_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match='nearest: "day_of_week"'):
        make_policy(configured("day_of_weak"), None)


def test_a_label_that_a_policy_does_not_know_is_refused() -> None:
    for policy in ("attention", "histogram"):
        with pytest.raises(ConfigError, match="knows opens"):
            make_policy(configured(policy, "model.label=click"), None)
    with pytest.raises(ConfigError, match="bundle trained for it"):
        make_policy(load_config(None, ["model.label=conversion"]), None)


def test_opens_within_a_day_are_a_label_of_attention(clocks: Store) -> None:
    two, day = (decide(clocks, configured("attention", f"model.label=open_{h}h"))["p_open"].to_numpy() for h in (2, 24))
    assert (day >= two).all()
    assert day.mean() > 4 * two.mean()


def test_the_weight_of_a_day_moves_the_choice_and_not_the_chances(clocks: Store, clock_bundle: Bundle) -> None:
    for policy, bundle in (("attention", None), ("boosted", clock_bundle)):
        plain, mixed = (decide(clocks, configured(policy, f"model.w24={w}"), bundle) for w in (0, 5))
        np.testing.assert_array_equal(plain["p_open"].to_numpy(), mixed["p_open"].to_numpy())
        assert not plain["utility"].equals(mixed["utility"])


def test_half_hour_slots_have_the_features_of_their_hour(clocks: Store) -> None:
    bucket, policy = known(clocks), make_policy(configured("attention"), None)
    seen = know(bucket, from_tensors(policy.reduce([policy.sums(bucket, 1)]), "here"))
    hours, halves = build_features(seen, 2, 24), build_features(seen, 2, 48)
    assert halves.cross_XSU.shape == (7, 48, 301)
    np.testing.assert_allclose(halves.cross_XSU[2:, ::2], hours.cross_XSU[2:], atol=1e-6)
    np.testing.assert_allclose(halves.cross_XSU[2:, 1::2], hours.cross_XSU[2:], atol=1e-6)
    np.testing.assert_allclose(halves.user_FU[1:], hours.user_FU[1:], atol=1e-5, equal_nan=True)
    # a mail of the first half hour leaves 7.5 minutes earlier than one of the hour, and its chances differ little
    assert np.abs(halves.cross_XSU[0, ::2] - hours.cross_XSU[0]).mean() < 0.4


def test_smoothing_keeps_the_sum_and_the_centre() -> None:
    counts = np.zeros((1, 24), np.float32)
    counts[0, 23] = 8
    out = smooth(counts)
    assert out.sum() == pytest.approx(8)
    assert out[0].argmax() == 23
    assert out[0, 0] == pytest.approx(out[0, 22])
    np.testing.assert_allclose(ahead(counts.astype(float))[0, [22, 23]], [8, 8])


def test_nothing_of_the_day_itself_is_history(tmp_path: Path) -> None:
    rows = [row for day in range(1, 40) for row in mail(1, before(day, 9), 0.5)]
    later = [Row(1, "open", ORIGIN + timedelta(hours=h), 77, offset=540) for h in range(24)]
    a, b = (store_of(r, tmp_path / str(len(r))) for r in (rows, rows + later))
    for policy in ("histogram", "attention"):
        assert decide(a, configured(policy)).equals(decide(b, configured(policy)))
