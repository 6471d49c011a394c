"""World `sparse`: little mail, few opens, and people who check their inbox once to three times a day by the clock.

A check happens on a day with a probability of its own, at a time drawn evenly from a narrow span around its hour. Mail
is opened, or not, at the first check after it came, however old it is (up to four days); the later checks of a day
are the more tired ones. The spans of a day do not overlap, so the probabilities are finite sums:

    P(open within L | sent at s) = sum_j  P(no check between s and span j) * P(check j after s, by s + L) * q_j

This breaks the model of looks: they are nearly certain and nearly on the minute, and staleness does not matter.
U users, N sends, J = 3 checks a day, H = 168 hours of the week (Monday first), W = 2 (weekday, weekend).
"""

from dataclasses import dataclass

import numpy as np

from sto_engine.simulate.columns import Floats, Ints
from sto_engine.simulate.habits import DAY_H, PEAKS_K2, WEEK_H, draw_kinds
from sto_engine.simulate.people import People
from sto_engine.simulate.scene import Period, Scene, Sends, at_home, no_defects

TIRED_J = (1.0, 0.75, 0.5)
_DAYS_AHEAD = 4
_APART_H = 2.0


@dataclass(frozen=True)
class Routine:
    """Middle of each check's span and its half width (hours), P(it happens), P(open at it); checks in order.

    middle_WUJ, happens_WUJ [W, U, J]; half_UJ, opens_UJ [U, J].
    """

    middle_WUJ: Floats
    happens_WUJ: Floats
    half_UJ: Floats
    opens_UJ: Floats

    def open_probability(self, window_h: int, day: int | None = None) -> Floats:
        """See `Mechanism`."""
        users = len(self.half_UJ)
        start_H = np.arange(WEEK_H, dtype=np.float64)
        total_UH, unseen_UH = np.zeros((users, WEEK_H)), np.ones((users, WEEK_H))
        for ahead in range(1 + -(-window_h // DAY_H)):
            weekend_H, clock_H = _day_and_clock(start_H, ahead)
            for j in range(len(TIRED_J)):
                low_UH = (self.middle_WUJ[weekend_H, :, j] - self.half_UJ[:, j]).T
                width_U1 = 2 * self.half_UJ[:, j, None]
                happens_UH = self.happens_WUJ[weekend_H, :, j].T
                gone_UH = np.clip((clock_H - low_UH) / width_U1, 0, 1)
                by_end_UH = np.clip((clock_H + window_h - low_UH) / width_U1, 0, 1)
                total_UH += unseen_UH * happens_UH * (by_end_UH - gone_UH) * self.opens_UJ[:, j, None]
                unseen_UH *= 1 - happens_UH * (1 - gone_UH)
        return total_UH

    def draw_opens(self, rng: np.random.Generator, sends: Sends) -> Floats:
        """See `Mechanism`."""
        n, user_N = len(sends), sends.user_N
        age_N, is_seen_N = np.full(n, np.inf), np.zeros(n, np.bool_)
        for ahead in range(_DAYS_AHEAD):
            weekend_N, clock_N = _day_and_clock(sends.week_hour_N, ahead)
            for j in range(len(TIRED_J)):
                time_N = self.middle_WUJ[weekend_N, user_N, j] + self.half_UJ[user_N, j] * rng.uniform(-1, 1, n)
                happens_N = rng.random(n) < self.happens_WUJ[weekend_N, user_N, j]
                is_first_N = ~is_seen_N & happens_N & (time_N > clock_N)
                is_open_N = is_first_N & (rng.random(n) < self.opens_UJ[user_N, j] * sends.appeal_N)
                age_N[is_open_N] = (time_N - clock_N)[is_open_N]
                is_seen_N |= is_first_N
        return age_N


def _day_and_clock(week_hour_N: Floats, ahead: int) -> tuple[Ints, Floats]:
    """Whether the day that comes `ahead` days later is of the weekend, and the send's time on that day's clock."""
    day_N = (week_hour_N // DAY_H).astype(np.int64)
    return ((day_N + ahead) % 7 >= 5).astype(np.int64), week_hour_N - (day_N + ahead) * DAY_H


def draw(rng: np.random.Generator, people: People, period: Period) -> Scene:
    """One to three check times out of both peaks of the person's kind and the first of another kind of the cohort."""
    users = len(people)
    peaks_UJ = np.column_stack([PEAKS_K2[draw_kinds(rng, people)], PEAKS_K2[draw_kinds(rng, people), 0]])
    hours_UJ = peaks_UJ + rng.normal(0, 0.6, (users, 3))
    middle_UJ = _spread_out(hours_UJ)
    count_U1 = 1 + (rng.random(users)[:, None] >= np.array([0.45, 0.85])).sum(axis=1, keepdims=True)
    # which of the three are kept differs by person, else everyone with one check would have the earliest
    rank_UJ = rng.random((users, 3)).argsort(axis=1)
    happens_UJ = np.where(rank_UJ < count_U1, rng.beta(6.0, 2.0, (users, 3)), 0.0)
    opens_UJ = rng.beta(1.3, 5.0, users)[:, None] * np.array(TIRED_J)
    routine = Routine(
        middle_WUJ=np.stack([middle_UJ, np.minimum(middle_UJ + 1.0, DAY_H - 1.0)]),
        happens_WUJ=np.stack([happens_UJ, 0.6 * happens_UJ]),
        half_UJ=np.repeat(rng.uniform(0.08, 0.7, (users, 1)), 3, axis=1),
        opens_UJ=opens_UJ,
    )
    return Scene(routine, at_home(people), no_defects(people))


def _spread_out(hours_UJ: Floats) -> Floats:
    """The hours in order, inside the day and at least `_APART_H` apart, so that their spans cannot overlap."""
    hours_UJ = np.sort(hours_UJ % DAY_H, axis=1)
    hours_UJ[:, 0] = np.clip(hours_UJ[:, 0], 1, DAY_H - 2 - 2 * _APART_H)
    for j in (1, 2):
        late = DAY_H - 2 - (2 - j) * _APART_H
        hours_UJ[:, j] = np.clip(hours_UJ[:, j], hours_UJ[:, j - 1] + _APART_H, late)
    return hours_UJ
