"""Invented recipients: two-peak activity over the day, what a sender would know of them, and how they answer.

Made in blocks with a seed each, so the first n recipients are the same however many are asked for. The features have
the spreads of real ones (shares, rates, latencies, decayed counts; NaN where nothing is known), because the cost of a
forest depends on how many different cuts its trees make. The values mean nothing beyond that.
U users, S slots, C cross features, F user features.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
BLOCK_USERS = 8192
COHORTS = 72
USER_FEATURES = (
    *("log_sends", "log_opens", "open_rate", "latency_median_min", "latency_p90_min", "mobile_share", "tablet_share"),
    *("tz_offset_min", "last_open_days", "tenure_days", "opens_per_week", "log_clv", "churn_risk", "promo_share"),
    *("weekend_share", "histogram_entropy", "click_rate"),
    # 23 of the 24 hours: the last follows from the others
    *(f"share_{hour:02d}" for hour in range(23)),
)
CROSS_FEATURES = (
    *("slot_rate", "near_rate", "cohort_rate", "slot_sends", "slot_last_open_days"),
    *("near_share", "slot_log_odds", "slot_click_rate"),
)
SLOT_FEATURES = ("hour_sin", "hour_cos", "hour", "weekday", "weekend", "holiday")


@dataclass(frozen=True)
class Block:
    """Recipients as a sender knows them, and `p_US`, the truth: chance of an open at each slot."""

    user_FU: F32
    cross_CSU: F32
    p_US: F64
    base_SU: F32


def slot_hours(slots: int) -> tuple[F64, NDArray[np.int64]]:
    """Start (local hour) and weekday of each slot: a Wednesday's for 24 and 48 slots, a week's from Monday for 168."""
    days = 7 if slots == 168 else 1
    per_day = slots // days
    slot_S = np.arange(slots, dtype=np.int64)
    hour_S = (slot_S % per_day).astype(np.float64) * (24.0 / per_day)
    return hour_S, slot_S // per_day if days == 7 else np.full_like(slot_S, 2)


def slot_rows(hour_N: F64, weekday_N: NDArray[np.int64], holiday_N: NDArray[np.bool_]) -> F32:
    """Slot features of given hours and days, float32 [N, 6]."""
    angle_N = hour_N * (2 * np.pi / 24)
    columns = [np.sin(angle_N), np.cos(angle_N), hour_N, weekday_N, weekday_N >= 5, holiday_N]
    return np.stack(columns, axis=1).astype(np.float32)


def make_block(seed: int, block: int, slots: int) -> Block:
    """Block number `block` of the recipients of a seed: BLOCK_USERS of them."""
    rng, users = np.random.default_rng([seed, block]), BLOCK_USERS
    hour_S, weekday_S = slot_hours(slots)
    taste = _Taste(rng, users)
    act_US = taste.activity(hour_S + 12.0 / len(set(hour_S)), weekday_S >= 5)
    sends_US, opens_US = _history(rng, taste, act_US, hour_S)
    cross_CSU, rate_US = _cross(rng, taste, sends_US, opens_US, hour_S)
    base_SU = (0.6 * np.log(rate_US) - 0.4).T.astype(np.float32)
    user_FU = _user(rng, taste, sends_US.sum(axis=1), opens_US.sum(axis=1))
    p_US = np.clip(taste.keen_U[:, None] * act_US * np.exp(-taste.latency_U / 240)[:, None], 0, 0.95)
    return Block(user_FU, cross_CSU, p_US, np.ascontiguousarray(base_SU))


class _Taste:
    """What drives each recipient: two peaks of the day, keenness, delay, cohort."""

    def __init__(self, rng: np.random.Generator, users: int) -> None:
        self.peak_KU = np.stack([rng.normal(8.2, 2.1, users), rng.normal(20.1, 2.4, users)]) % 24
        self.width_KU = rng.lognormal(0.6, 0.35, (2, users))
        share_U = rng.beta(1.3, 1.4, users)
        self.weight_KU = np.stack([share_U, 1 - share_U])
        self.weekend_U = rng.lognormal(-0.1, 0.3, users)
        self.keen_U = rng.beta(1.1, 3.2, users)
        self.latency_U = rng.lognormal(3.6 - 1.4 * self.keen_U, 0.7)
        self.cohort_U = rng.integers(0, COHORTS, users)

    def activity(self, hour_S: F64, is_weekend_S: NDArray[np.bool_]) -> F64:
        """Attention of each recipient at each hour, [U, S], about 1 in the mean."""
        apart_KUS = np.abs(hour_S - self.peak_KU[:, :, None])
        apart_KUS = np.minimum(apart_KUS, 24 - apart_KUS) / self.width_KU[:, :, None]
        act_US: F64 = (self.weight_KU[:, :, None] * np.exp(-0.5 * apart_KUS**2)).sum(axis=0) + 0.03
        act_US *= np.where(is_weekend_S, self.weekend_U[:, None], 1.0)
        act_US /= act_US.mean(axis=1, keepdims=True)
        return act_US


def _history(rng: np.random.Generator, taste: _Taste, act_US: F64, hour_S: F64) -> tuple[F64, F64]:
    """Decayed sends and opens of each slot, [U, S]: fractions, since an old send counts less than a new one."""
    plan_S = np.exp(-0.5 * ((hour_S - 12.5) / 4.5) ** 2) + 0.06
    total_U = rng.gamma(1.6, 28.0, len(act_US)) + 1.0
    sent_US = rng.poisson(total_U[:, None] * plan_S / plan_S.sum())
    opened_US = rng.binomial(sent_US, np.clip(taste.keen_U[:, None] * act_US, 0, 0.95))
    decay_US = rng.uniform(0.35, 1.0, act_US.shape)
    return sent_US * decay_US, opened_US * decay_US


def _cross(rng: np.random.Generator, taste: _Taste, sends_US: F64, opens_US: F64, hour_S: F64) -> tuple[F32, F64]:
    """Cross features float32 [8, S, U], and the smoothed rate [U, S] that the base margin is made of."""
    near_sends_US, near_opens_US = _near(sends_US), _near(opens_US)
    near_US = (near_opens_US + 0.9) / (near_sends_US + 6.0)
    # one table for every seed: cohorts are a property of the sender, not of the sample
    table_CS = np.random.default_rng(7).beta(2.0, 9.0, (COHORTS, 1)) * (1 + 0.5 * np.cos((hour_S - 19) * np.pi / 12))
    opens_U = opens_US.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        share_US = near_opens_US / opens_U
    rate_US = (opens_US + 0.6) / (sends_US + 4.0)
    mean_US = (opens_U + 0.6) / (sends_US.sum(axis=1, keepdims=True) + 4.0)
    gone_US = rng.exponential(25.0 / (taste.keen_U[:, None] + 0.1), opens_US.shape)
    columns = (
        *(rate_US, near_US, table_CS[taste.cohort_U], sends_US, np.where(opens_US > 0, gone_US, np.nan)),
        *(share_US, np.log(rate_US / mean_US), rate_US * rng.beta(1.5, 9.0, rate_US.shape)),
    )
    return np.stack([column.T for column in columns]).astype(np.float32), near_US


def _near(count_US: F64) -> F64:
    """Counts summed over a slot and half of its neighbours, around the clock."""
    return count_US + 0.5 * (np.roll(count_US, 1, axis=1) + np.roll(count_US, -1, axis=1))


def _user(rng: np.random.Generator, taste: _Taste, sends_U: F64, opens_U: F64) -> F32:
    """User features float32 [40, U] in the order of USER_FEATURES."""
    users, keen_U, seen_U = len(sends_U), taste.keen_U, opens_U > 0
    acts_HU = rng.poisson(taste.activity(np.arange(24.0), np.zeros(24, bool)).T * (opens_U / 6))
    with np.errstate(divide="ignore", invalid="ignore"):
        share_HU = acts_HU / acts_HU.sum(axis=0)
        entropy_U = -(share_HU * np.log(share_HU, where=share_HU > 0, out=np.zeros_like(share_HU))).sum(axis=0)
    latency_U = np.where(seen_U, taste.latency_U * rng.lognormal(0, 0.3, users), np.nan)
    columns = (
        *(np.log1p(sends_U), np.log1p(opens_U), (opens_U + 1) / (sends_U + 8)),
        *(latency_U, latency_U * rng.uniform(2, 7, users), rng.beta(2, 1.6, users), rng.beta(1, 8, users)),
        *(rng.choice([-480, -300, 0, 60, 120, 180, 330, 480, 540], users),),
        *(np.where(seen_U, rng.exponential(18 / (keen_U + 0.15)), np.nan), rng.exponential(420, users)),
        *(opens_U / rng.uniform(2, 13, users), _partly(rng, rng.normal(4.6, 1.1, users))),
        _partly(rng, 1 - keen_U * rng.random(users)),
        *(rng.beta(5, 2, users), taste.weekend_U * rng.lognormal(0, 0.2, users), entropy_U),
        *(keen_U * rng.beta(1.5, 8, users), *share_HU[:23]),
    )
    return np.stack(columns).astype(np.float32)


def _partly(rng: np.random.Generator, value_U: F64) -> F64:
    """A field that senders fill for most of their recipients only."""
    return np.where(rng.random(len(value_U)) < 0.3, np.nan, value_U)
