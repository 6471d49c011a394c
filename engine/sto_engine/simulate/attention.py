"""World `attention`: a mail is seen at the owner's next look into the inbox, and is the staler the later that is.

Looks come as a Poisson process whose rate (per hour) depends on the local hour of the week: l(t). At the first look
after delivery, at age a, the mail is opened with probability q * exp(-a / TAU); otherwise it is never opened. So

    P(open within L | sent at s) = q * integral_0^L  l(s+a) exp(-Lambda(s, s+a)) exp(-a / TAU) da

which, with l constant over each hour, is a finite sum. U users, H = 168 hours of the week (Monday first), N sends.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TAU_H = 16.0
WEEK_H = 168
Floats = NDArray[np.float64]

# typical days: (peak hour, width in hours, share of looks); commuter, office, evening, night, all-day
_DAYS = (
    ((7.5, 1.0, 0.6), (18.0, 1.5, 0.4)),
    ((9.5, 1.5, 0.5), (13.5, 1.5, 0.5)),
    ((12.5, 1.0, 0.2), (20.0, 1.5, 0.8)),
    ((22.5, 1.5, 0.7), (1.0, 1.5, 0.3)),
    ((10.0, 3.0, 0.4), (16.0, 4.0, 0.6)),
)
_DAY_SHARES = (0.25, 0.25, 0.28, 0.08, 0.14)


@dataclass(frozen=True)
class Readers:
    """Looks per hour of the week [U, H] and the appeal of mail to each user [U]."""

    rate_UH: Floats
    appeal_U: Floats


def draw_readers(rng: np.random.Generator, users: int) -> Readers:
    """Readers with a main habit, a personal shift, a blend of a second habit, and other weekends."""
    hour = np.arange(0.5, 24)
    shapes = np.array(
        [np.sum([share * _bump(hour, peak, width) for peak, width, share in day], axis=0) for day in _DAYS]
    )
    main, second = (rng.choice(len(_DAYS), users, p=_DAY_SHARES) for _ in range(2))
    blend_U = rng.beta(1.0, 5.0, users)
    week_U24 = (1 - blend_U)[:, None] * shapes[main] + blend_U[:, None] * shapes[second]
    week_U24 = _shift(week_U24, rng.normal(0, 1.2, users))
    weekend_U24 = 0.5 * _shift(week_U24, np.full(users, 1.5)) + 0.5 * shapes[4]
    floor = 0.05 / 24
    looks_U = rng.lognormal(np.log(2.2), 0.6, users)
    days = [week_U24] * 5 + [weekend_U24 * 0.8] * 2
    rate_UH = np.concatenate([looks_U[:, None] * (day + floor) for day in days], axis=1)
    return Readers(rate_UH, rng.beta(1.6, 3.2, users))


def _bump(hour: Floats, peak: float, width: float) -> Floats:
    apart = (hour - peak + 12) % 24 - 12
    weight = 1.0 / (1.0 + (apart / width) ** 4)
    return np.asarray(weight / weight.sum())


def _shift(day_U24: Floats, hours_U: Floats) -> Floats:
    """Each user's day moved later by a fractional number of hours, circular."""
    whole_U = np.floor(hours_U).astype(np.int64)
    part_U = (hours_U - whole_U)[:, None]
    index_U24 = (np.arange(24)[None, :] - whole_U[:, None]) % 24
    now = np.take_along_axis(day_U24, index_U24, axis=1)
    before = np.take_along_axis(day_U24, (index_U24 - 1) % 24, axis=1)
    return np.asarray((1 - part_U) * now + part_U * before)


def open_probability(readers: Readers, window_h: int) -> Floats:
    """P(open within `window_h` hours | sent at the start of each hour of the week), exact, float64 [U, H]."""
    total_UH, unseen_UH = np.zeros_like(readers.rate_UH), np.ones_like(readers.rate_UH)
    for age in range(window_h):
        rate_UH = np.roll(readers.rate_UH, -age, axis=1)
        both_UH = rate_UH + 1 / TAU_H
        total_UH += unseen_UH * np.exp(-age / TAU_H) * rate_UH / both_UH * -np.expm1(-both_UH)
        unseen_UH *= np.exp(-rate_UH)
    return np.asarray(readers.appeal_U[:, None] * total_UH)


def draw_opens(
    rng: np.random.Generator, readers: Readers, user_N: NDArray[np.int64], week_hour_N: Floats, appeal_N: Floats
) -> Floats:
    """Age in hours at which each of N sends is opened, inf where it is not, float64 [N].

    `week_hour_N` is the local hour of the week of the send, with its fraction; `appeal_N` multiplies the user's.
    """
    first_N = np.floor(week_hour_N).astype(np.int64)
    part_N = week_hour_N - first_N
    target_N = rng.exponential(size=len(user_N))
    age_N = np.full(len(user_N), np.inf)
    passed_N, start_N = np.zeros(len(user_N)), np.zeros(len(user_N))
    for step in range(73):
        length_N = 1 - part_N if step == 0 else np.ones(len(user_N))
        rate_N = readers.rate_UH[user_N, (first_N + step) % WEEK_H]
        gain_N = rate_N * length_N
        hit_N = np.isinf(age_N) & (passed_N + gain_N >= target_N)
        age_N[hit_N] = start_N[hit_N] + (target_N[hit_N] - passed_N[hit_N]) / rate_N[hit_N]
        passed_N, start_N = passed_N + gain_N, start_N + length_N
    chance_N = np.clip(readers.appeal_U[user_N] * appeal_N, 0, 1) * np.exp(-age_N / TAU_H)
    return np.where(rng.random(len(user_N)) < chance_N, age_N, np.inf)
