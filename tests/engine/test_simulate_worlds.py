"""The truth of a world is the frequency of the opens that it draws, and each world has what it is there for."""

import numpy as np
import polars as pl
import pytest

from sto_engine.simulate import WORLDS
from sto_engine.simulate.acts import CLICK, OPEN, SEND, draw_acts
from sto_engine.simulate.habits import ALL_DAY, DAYS, OFFICE, draw_kinds
from sto_engine.simulate.looks import Looks
from sto_engine.simulate.people import COUNTRIES, People, draw_people
from sto_engine.simulate.scene import PROMO, TRANSACTIONAL, TRIGGER, Defects, Period, Scene, Sends, no_defects

PERIOD = Period(90, 0, 90 * 86_400_000, np.random.default_rng(9).random((len(COUNTRIES), 12)) < 0.2)


def scene_of(name: str, users: int, seed: int = 0) -> tuple[People, Scene]:
    rng = np.random.default_rng(seed)
    people = draw_people(rng, users)
    return people, WORLDS[name].draw(rng, people, PERIOD)


def repeated(user: int, hour: float, n: int, day: int = 90, kind: int = PROMO) -> Sends:
    return Sends(np.full(n, user), np.full(n, day), np.full(n, float(hour)), np.ones(n), np.full(n, kind))


@pytest.mark.parametrize("window", [2, 24])
@pytest.mark.parametrize("name", sorted(WORLDS))
def test_stated_probabilities_are_the_frequency_of_drawn_opens(name: str, window: int) -> None:
    _, scene = scene_of(name, 60)
    rng, n = np.random.default_rng(1), 40_000
    truth_UH = scene.mechanism.open_probability(window)
    likely = np.argsort(truth_UH.max(axis=1))[-30::5]
    cells = [(user, int(hour)) for user in likely for hour in (truth_UH[user].argmax(), rng.integers(168))]
    for user, hour in [*cells, (int(likely[0]), 167), (int(likely[1]), 130)]:
        p = truth_UH[user, hour]
        found = (scene.mechanism.draw_opens(rng, repeated(user, hour, n)) <= window).mean()
        assert abs(found - p) < 5 * np.sqrt(p * (1 - p) / n) + 1e-9


def test_the_sum_over_hours_is_the_integral_of_the_process() -> None:
    rate = np.random.default_rng(1).uniform(0, 0.5, (1, 168))
    step, hour = 1e-4, 100
    age = np.arange(step / 2, 2, step)
    look = rate[0, (hour + age).astype(int) % 168]
    integral = (look * np.exp(-np.cumsum(look) * step) * np.exp(-age / 16)).sum() * step * 0.7
    assert Looks(rate, np.array([0.7])).open_probability(2)[0, hour] == pytest.approx(integral, rel=1e-3)


def test_looks_that_start_within_an_hour_follow_the_same_process() -> None:
    looks = Looks(np.random.default_rng(1).uniform(0.01, 0.5, (3, 168)), np.ones(3))
    rng, n = np.random.default_rng(2), 40_000
    for row, hour in ((0, 12.25), (1, 167.75), (2, 99.5)):
        age = looks.draw_ages(rng, np.full(n, row), np.full(n, hour), np.full(n, 1.0))
        first, part = int(hour), hour % 1
        seen = looks.rate_RH[row, first] * (1 - part) + looks.rate_RH[row, (first + 1) % 168] * part
        stale = np.exp(-0.5 / 16)  # half an hour on average
        assert (age <= 1).mean() == pytest.approx((1 - np.exp(-seen)) * stale, abs=0.02)
        assert age.min() >= 0


def test_weekends_differ_from_weekdays() -> None:
    p_UH = scene_of("attention", 200)[1].mechanism.open_probability(2)
    np.testing.assert_allclose(p_UH[:, :24], p_UH[:, 24:48])
    assert (p_UH[:, :24].argmax(axis=1) != p_UH[:, 120:144].argmax(axis=1)).mean() > 0.5


def test_an_office_address_says_office_hours_and_a_region_says_a_little() -> None:
    rng = np.random.default_rng(3)
    people = draw_people(rng, 40_000)
    kind_U = draw_kinds(rng, people)
    assert (kind_U[people.b2b_U] == OFFICE).mean() > 0.5
    assert (kind_U[~people.b2b_U] == OFFICE).mean() < 0.35
    share_by_region = [np.bincount(kind_U[people.region_U == r], minlength=len(DAYS)) for r in range(3)]
    shares = np.array([count / count.sum() for count in share_by_region])
    assert np.ptp(shares, axis=0).max() > 0.05
    assert shares[:, ALL_DAY].min() > 0.05


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_people_differ_in_the_hour_that_suits_them(name: str) -> None:
    p_UH = scene_of(name, 2000)[1].mechanism.open_probability(2)[:, :24]
    own, common = p_UH.max(axis=1).mean(), p_UH.mean(axis=0).max()
    assert own > 1.25 * common
    assert np.bincount(p_UH.argmax(axis=1), minlength=24).max() < 0.4 * len(p_UH)


def test_in_send_hour_the_delay_says_nothing_of_the_hour() -> None:
    _, scene = scene_of("send_hour", 300)
    p2_UH, p24_UH = scene.mechanism.open_probability(2), scene.mechanism.open_probability(24)
    np.testing.assert_allclose(p2_UH / p24_UH, np.full_like(p2_UH, (p2_UH / p24_UH)[0, 0]))
    rng, user = np.random.default_rng(0), int(p24_UH.max(axis=1).argmax())
    ages = [scene.mechanism.draw_opens(rng, repeated(user, hour, 60_000)) for hour in (3, 14)]
    medians = [np.median(age[np.isfinite(age)]) for age in ages]
    assert medians[0] == pytest.approx(medians[1], rel=0.08)


def test_in_sparse_mail_is_opened_at_a_few_times_of_the_clock() -> None:
    _, scene = scene_of("sparse", 50)
    rng = np.random.default_rng(0)
    user = int(scene.mechanism.open_probability(24).max(axis=1).argmax())
    times = np.concatenate(
        [
            hour + (age := scene.mechanism.draw_opens(rng, repeated(user, hour, 5000)))[np.isfinite(age)]
            for hour in range(24)
        ]
    )
    used = np.bincount((times % 24 * 6).astype(int), minlength=144) > 0
    assert used.sum() <= 3 * 10  # three spans of at most 84 minutes, in ten-minute cells


def test_in_types_order_mail_is_opened_at_once_and_promos_wait_for_leisure() -> None:
    _, scene = scene_of("types", 400)
    rng, users = np.random.default_rng(0), np.arange(400).repeat(24 * 5)
    hour = np.tile(np.arange(24.0).repeat(5), 400)

    def rate(kind: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        sends = Sends(users, np.full(len(users), 90), hour, np.ones(len(users)), np.full(len(users), kind))
        age = scene.mechanism.draw_opens(rng, sends)
        return np.array([(age[hour == h] < 2).mean() for h in range(24)])

    promo, trigger, order = rate(PROMO), rate(TRIGGER), rate(TRANSACTIONAL)
    assert order.min() > 0.6
    assert promo[9] < 0.6 * trigger[9]
    assert promo[19] / promo[9] > 1.5 * trigger[19] / trigger[9]


def test_in_drift_the_habit_of_many_is_no_longer_what_it_was() -> None:
    people, scene = scene_of("drift", 600)
    rng, n = np.random.default_rng(0), 4000
    truth_UH = scene.mechanism.open_probability(2)
    user = np.argsort(truth_UH.max(axis=1))[-40:]
    hour = truth_UH[user].argmax(axis=1)
    now, then = (
        np.array(
            [
                (scene.mechanism.draw_opens(rng, repeated(u, h, n, day=day)) <= 2).mean()
                for u, h in zip(user, hour, strict=True)
            ]
        )
        for day in (90, 0)
    )
    assert 0.2 < (then < 0.7 * now).mean() < 0.8
    moved = scene.residence.home_U != scene.residence.now_U
    assert 0.05 < moved.mean() < 0.2
    np.testing.assert_array_equal(scene.residence.home_U, people.zone_U)
    assert (scene.residence.seen_day_U >= scene.residence.moved_day_U)[moved].all()


def test_in_dirty_some_profiles_have_the_wrong_zone() -> None:
    people, scene = scene_of("dirty", 4000)
    assert (scene.residence.now_U != people.zone_U).mean() == pytest.approx(0.08, abs=0.02)


def test_a_blend_has_every_mechanism() -> None:
    _, scene = scene_of("blend", 3000)
    assert 0.01 < scene.defects.dead_U.mean() < 0.05
    assert (scene.residence.home_U != scene.residence.now_U).any()
    ratio = scene.mechanism.open_probability(2)[:, 10] / np.maximum(scene.mechanism.open_probability(24)[:, 10], 1e-12)
    assert np.isclose(ratio, np.median(ratio[np.isclose(ratio, 0.68, atol=0.1)]), atol=1e-6).mean() > 0.1


def flagged(field: str, users: int) -> Defects:
    none = no_defects(draw_people(np.random.default_rng(0), users))
    return Defects(**{**vars(none), field: np.ones(users, np.bool_)})


@pytest.mark.parametrize(("field", "kind", "within_s"), [("prefetch_U", OPEN, 180), ("scanner_U", CLICK, 10)])
def test_machines_act_at_once_beside_their_owners(field: str, kind: int, within_s: int) -> None:
    rng, sent = np.random.default_rng(0), np.full(1000, 10**9)
    age = np.where(np.arange(1000) < 100, 5.0, np.inf)
    acts = draw_acts(rng, np.zeros(1000, np.int64), sent, age, flagged(field, 1))
    after_s = (acts.ms_N - 10**9) / 1000
    machine = (acts.kind_N == kind) & ~acts.owner_N
    assert machine.sum() > 600
    assert 0 < after_s[machine].min() <= after_s[machine].max() <= within_s
    assert ((acts.kind_N == OPEN) & acts.owner_N).sum() == 100


def test_rows_go_astray_by_the_stated_shares() -> None:
    rng, n = np.random.default_rng(0), 100_000
    sent = np.arange(n) * 1000 + 10**9
    acts = draw_acts(rng, np.zeros(n, np.int64), sent, np.full(n, 1.0), flagged("astray_U", 1))
    rows = pl.DataFrame({"mail": acts.mail_N, "kind": acts.kind_N, "ms": acts.ms_N})
    assert rows.is_duplicated().mean() == pytest.approx(0.04, abs=0.01)
    for kind, lost in ((SEND, 0.02), (OPEN, 0.04)):
        there = rows.filter(pl.col("kind") == kind)["mail"].n_unique() / n
        assert there == pytest.approx(1 - lost, abs=0.005)
    opens = rows.filter(pl.col("kind") == OPEN)
    early = (opens["ms"].to_numpy() < sent[opens["mail"].to_numpy()]).mean()
    assert early == pytest.approx(0.005, abs=0.002)
