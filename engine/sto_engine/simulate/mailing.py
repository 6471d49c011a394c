"""What is mailed to whom and when: campaigns by the policy of the history, service mail when something happens.

N mails, C campaigns, U users. Policies know the zone of the profile, so hours here are the profile's local ones.
"""

from dataclasses import dataclass, replace

import numpy as np

from sto_engine.simulate.columns import Columns, Floats, Ints
from sto_engine.simulate.habits import DAY_H
from sto_engine.simulate.scene import PROMO, TRANSACTIONAL, TRIGGER

HISTORIES = {
    "few": "each campaign at one of a few hours of the day",
    "fixed": "everything at 10:00",
    "uniform": "every hour of the day equally",
    "optimiser": "an earlier optimiser: each user near the hour of his opens in a warm-up",
}
SEND_HOURS, _SEND_HOUR_SHARES = (8, 10, 13, 18), (0.2, 0.45, 0.15, 0.2)
FIXED_HOUR = 10
SERVICE_IDS = {TRIGGER: (1_000_001, 3), TRANSACTIONAL: (2_000_001, 2)}
WARM_UP = 0.3
TYPE_APPEAL = np.array([1.0, 1.3, 1.8])
# campaigns of some weekdays are duller; the truth is that of an ordinary campaign on any day
_WEEKDAY_APPEAL = np.array([1.05, 1.12, 1.1, 1.05, 0.96, 0.84, 0.88])
_SPREAD_H = 0.25


@dataclass(frozen=True)
class Campaigns(Columns):
    """Every campaign of the history: its day, the hour that policy `few` gives it, its appeal; [C]."""

    day_C: Ints
    hour_C: Ints
    appeal_C: Floats


@dataclass(frozen=True)
class Mail(Columns):
    """N mails: recipient, campaign id, type, day of the history, local hour of the day with its fraction, appeal."""

    user_N: Ints
    campaign_N: Ints
    type_N: Ints
    day_N: Ints
    hour_N: Floats
    appeal_N: Floats


def draw_campaigns(rng: np.random.Generator, days: int, per_day: float, first_weekday: int) -> Campaigns:
    """At least one campaign, in the order of their days; `first_weekday` is that of day 0, Monday 0."""
    n = max(1, round(days * per_day))
    day_C = np.sort(rng.integers(0, days, n))
    appeal_C = draw_appeals(rng, first_weekday + day_C)
    return Campaigns(day_C, rng.choice(SEND_HOURS, n, p=_SEND_HOUR_SHARES), appeal_C)


def draw_appeals(rng: np.random.Generator, weekday_C: Ints) -> Floats:
    """How much likelier than an ordinary one each campaign is opened, [C]; weekdays are counted on from a Monday."""
    return np.asarray(rng.lognormal(-0.06, 0.35, len(weekday_C)) * _WEEKDAY_APPEAL[weekday_C % 7])


def draw_mail(
    rng: np.random.Generator, campaigns: Campaigns, history: str, service: float, joined_day_U: Ints, days: int
) -> Mail:
    """The mail of each user from the day after he joined: a share of the campaigns, and `service` mails a campaign."""
    reach_U = rng.uniform(0.4, 0.9, len(joined_day_U))
    mail = Mail.join(
        [_promos(rng, campaigns, history, reach_U), _service(rng, len(campaigns) * service * reach_U, days)]
    )
    return mail.take(mail.day_N > joined_day_U[mail.user_N])


def _promos(rng: np.random.Generator, campaigns: Campaigns, history: str, reach_U: Floats) -> Mail:
    user_N, index_N = np.nonzero(rng.random((len(reach_U), len(campaigns))) < reach_U[:, None])
    hour_N = campaigns.hour_C[index_N]
    if history == "fixed":
        hour_N = np.full_like(hour_N, FIXED_HOUR)
    elif history in ("uniform", "optimiser"):
        hour_N = rng.integers(0, DAY_H, len(hour_N))
    hour = hour_N + rng.uniform(0, _SPREAD_H, len(hour_N))
    type_N = np.full(len(user_N), PROMO)
    return Mail(user_N, index_N + 1, type_N, campaigns.day_C[index_N], hour, campaigns.appeal_C[index_N])


def _service(rng: np.random.Generator, mean_U: Floats, days: int) -> Mail:
    """Mail that follows what someone did: orders by day, triggers at any hour; few ids, sent again and again."""
    user_N = np.repeat(np.arange(len(mean_U)), rng.poisson(mean_U * rng.gamma(2.0, 0.5, len(mean_U))))
    n = len(user_N)
    is_order_N = rng.random(n) < 0.6
    first, count = np.array([SERVICE_IDS[TRIGGER], SERVICE_IDS[TRANSACTIONAL]]).T[:, is_order_N.astype(np.int64)]
    type_N = np.where(is_order_N, TRANSACTIONAL, TRIGGER)
    hour_N = np.where(is_order_N, rng.triangular(6, 15, 30, n) % DAY_H, rng.uniform(0, DAY_H, n))
    return Mail(user_N, first + rng.integers(0, count), type_N, rng.integers(0, days, n), hour_N, TYPE_APPEAL[type_N])


def is_after_warm_up(mail: Mail, days: int) -> Ints:
    """Numbers of the campaign mails that an optimiser times with what it has learnt."""
    return np.flatnonzero((mail.type_N == PROMO) & (mail.day_N >= WARM_UP * days))


def learnt_hours(rng: np.random.Generator, mail: Mail, age_N: Floats, users: int) -> Ints:
    """The hour that an optimiser takes each user's mail to be opened at, as such products do it, [U].

    A count of the hours of his opens, smoothed over the neighbours, with the counts of all as one open more.
    """
    opened = np.flatnonzero(np.isfinite(age_N))
    hour = (mail.hour_N[opened] + age_N[opened]).astype(np.int64) % DAY_H
    count_U24 = np.bincount(mail.user_N[opened] * DAY_H + hour, minlength=users * DAY_H).reshape(users, DAY_H)
    smooth_U24 = 0.5 * count_U24 + 0.25 * (np.roll(count_U24, 1, axis=1) + np.roll(count_U24, -1, axis=1))
    everyone_24 = smooth_U24.sum(axis=0) / max(smooth_U24.sum(), 1)
    noise_U24 = rng.normal(0, 0.02, (users, DAY_H))
    return np.asarray(np.argmax(smooth_U24 + everyone_24 + noise_U24, axis=1), np.int64)


def retimed(rng: np.random.Generator, mail: Mail, hour_U: Ints) -> Mail:
    """The same mail within an hour or two of each user's hour, on the same day."""
    hour_N = (hour_U[mail.user_N] + np.round(rng.normal(0, 1.0, len(mail)))) % DAY_H
    return replace(mail, hour_N=hour_N + rng.uniform(0, _SPREAD_H, len(mail)))
