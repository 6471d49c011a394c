"""Appeal apart from the hour, and types of mail apart from each other, on histories whose answer is known."""

import numpy as np
import pytest

from sto_engine.history.rates import Appeal, fit_appeal, hour_harmonics
from sto_engine.models.fit_types import FOLLOW_PRIOR, fit_types, follow
from sto_kernels.journal import DAY_MS, HOUR_MS, PROMO, TRANSACTIONAL, Cleaned

HOUR_EFFECT = hour_harmonics() @ np.array([-0.3, 0.1, 0.05, 0.0])
START = 20_000 * DAY_MS


def mailed(hours: np.ndarray, appeal: np.ndarray, kinds: np.ndarray, sends: int, seed: int = 0) -> Appeal:
    rng = np.random.default_rng(seed)
    opens = rng.poisson(sends * 0.1 * np.exp(HOUR_EFFECT[hours] + appeal))
    keys = np.arange(len(hours), dtype=np.uint64)
    return fit_appeal(keys, hours.astype(np.int8), kinds.astype(np.int8), np.full(len(hours), sends), opens)


def test_appeal_is_told_from_the_hour_although_each_campaign_has_one_hour() -> None:
    rng = np.random.default_rng(1)
    hours, appeal = rng.choice([2, 8, 10, 13, 18, 22], 240), rng.normal(0, 0.3, 240)
    found = mailed(hours, appeal, np.zeros(240), 3000)
    assert np.corrcoef(np.log(found.rate_G), appeal)[0, 1] > 0.95
    tried = np.unique(hours)
    expected = HOUR_EFFECT[tried] - HOUR_EFFECT[tried].mean()
    np.testing.assert_allclose(found.hour_24[tried] - found.hour_24[tried].mean(), expected, atol=0.15)


def test_a_campaign_sent_at_all_hours_shows_the_hours_alone() -> None:
    rng = np.random.default_rng(2)
    key = np.zeros(24, np.uint64)
    opens = rng.poisson(20_000 * 0.1 * np.exp(HOUR_EFFECT))
    found = fit_appeal(key, np.arange(24, dtype=np.int8), np.zeros(24, np.int8), np.full(24, 20_000), opens)
    np.testing.assert_allclose(found.hour_24, HOUR_EFFECT - HOUR_EFFECT.mean(), atol=0.03)
    assert len(found.rate_G) == 1


def test_few_sends_are_shrunk_and_none_is_no_error() -> None:
    appeal = np.array([1.0, 1.0, *[0.0] * 60])
    hours = np.full(62, 10)
    large, small = mailed(hours, appeal, np.zeros(62), 5000), mailed(hours, appeal, np.zeros(62), 3)
    assert abs(np.log(large.rate_G[0]) - 1) < 0.2
    assert np.abs(np.log(small.rate_G)).max() < 0.5
    none = np.zeros(0, np.int64)
    empty = fit_appeal(none.astype(np.uint64), none.astype(np.int8), none.astype(np.int8), none, none)
    assert len(empty.rate_G) == 0
    three = np.arange(3)
    never = fit_appeal(three.astype(np.uint64), np.full(3, 9, np.int8), np.zeros(3, np.int8), 50 + three, 0 * three)
    assert np.isfinite(never.rate_G).all()


@pytest.mark.parametrize(("power", "low", "high"), [(0.0, 0.0, 0.1), (0.5, 0.4, 0.6), (1.0, 0.9, 1.0)])
def test_follow_is_the_power_of_attention_that_opens_were_drawn_with(power: float, low: float, high: float) -> None:
    rng = np.random.default_rng(3)
    rate = rng.gamma(0.7, 1.0, (3000, 48)) + 0.05
    exposure = rng.gamma(2.0, 1.0, (3000, 48))
    share = exposure * rate**power
    opens = np.stack([rng.multinomial(5, row / row.sum()) for row in share])
    assert low <= follow(opens.astype(np.float32), exposure.astype(np.float32), rate) <= high


def test_too_few_opens_leave_a_type_following() -> None:
    opens = np.zeros((2, 48), np.float32)
    opens[0, 3] = 1
    assert follow(opens, np.ones((2, 48), np.float32), np.ones((2, 48))) == pytest.approx(1, abs=1 / FOLLOW_PRIOR)


def history(users: int, at_once: bool) -> Cleaned:
    """Promos of 10:00 are opened at each user's own hour; order mail of any hour at once, or at that hour too."""
    rng = np.random.default_rng(4)
    habit = rng.integers(12, 23, users)
    user = np.repeat(np.arange(users), 20)
    is_order = np.tile(np.arange(20) % 2 == 1, users)
    hour = np.where(is_order, rng.integers(0, 24, len(user)), 10)
    local = START + np.tile(np.arange(20), users) * 2 * DAY_MS + hour * HOUR_MS + rng.integers(0, HOUR_MS, len(user))
    look = (habit[user] * HOUR_MS - local % DAY_MS) % DAY_MS + rng.integers(0, HOUR_MS // 2, len(user))
    latency = np.where(is_order & at_once, rng.integers(1000, 600_000, len(user)), look)
    latency = np.where(rng.random(len(user)) < 0.4, latency, -1)
    kind = np.where(is_order, TRANSACTIONAL, PROMO).astype(np.int8)
    none, n = np.zeros(0, np.int64), len(user)
    return Cleaned(
        *(user.astype(np.int32), local, local, latency, kind.astype(np.int32), kind, np.full(n, -1)),
        *(none.astype(np.int32), none, none, none.astype(bool)),
        *(np.zeros(users, np.int8), np.zeros(users, bool), np.zeros(users, np.int16), np.zeros(4, np.int64)),
    )


@pytest.mark.parametrize(("at_once", "low", "high"), [(True, 0.0, 0.35), (False, 0.6, 1.0)])
def test_order_mail_opened_at_once_says_little_of_when_people_look(at_once: bool, low: float, high: float) -> None:
    users, one = 400, np.ones(2)
    types = fit_types(history(users, at_once), users, (one, one), np.zeros(users, np.int32), 1, START + 60 * DAY_MS)
    assert types.target == PROMO
    assert types.follow_T[PROMO] == 1
    assert low <= types.follow_T[TRANSACTIONAL] <= high
    assert (types.decay_T24[TRANSACTIONAL, 3] < 0.05) == at_once
