"""World `send_hour`: the hour at which a mail is sent decides whether it is opened; when it is opened says nothing.

P(opened at all | user, send hour) is a logit: the user's level plus a smooth preference over the day, which is flatter
at weekends. The delay is drawn from one mixture for everyone and every hour, so P(within L) = P(at all) * F(L).
U users, H = 168 hours of the week (Monday first). This world breaks the model of looks: opens do not show when the
user reads, and a mail is not opened the likelier the sooner the next look comes.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from sto_engine.simulate.columns import Floats
from sto_engine.simulate.habits import DAY_H, PEAKS_K2, WEEK_H, draw_kinds
from sto_engine.simulate.people import People
from sto_engine.simulate.scene import Period, Scene, Sends, at_home, no_defects

# delays in hours: (share, median, spread of the logarithm)
DELAYS = ((0.6, 0.4, 1.0), (0.4, 5.0, 1.2))


@dataclass(frozen=True)
class SendHour:
    """P(opened at all | sent in each hour of the week), [U, H]."""

    opened_UH: Floats

    def open_probability(self, window_h: int, day: int | None = None) -> Floats:
        """See `Mechanism`."""
        return self.opened_UH * delay_share(window_h)

    def draw_opens(self, rng: np.random.Generator, sends: Sends) -> Floats:
        """See `Mechanism`."""
        chance_N = self.opened_UH[sends.user_N, sends.week_hour_N.astype(np.int64)] * sends.appeal_N
        return np.where(rng.random(len(chance_N)) < np.minimum(chance_N, 1), _draw_delays(rng, len(chance_N)), np.inf)


def delay_share(hours: float) -> float:
    """The share of opens that come within `hours`."""
    return sum(share * NormalDist(np.log(median), spread).cdf(np.log(hours)) for share, median, spread in DELAYS)


def _draw_delays(rng: np.random.Generator, n: int) -> Floats:
    is_late_N = (rng.random(n) >= DELAYS[0][0]).astype(np.int64)
    _, median_2, spread_2 = np.array(DELAYS).T
    return np.asarray(median_2[is_late_N] * np.exp(spread_2[is_late_N] * rng.standard_normal(n)))


def draw(rng: np.random.Generator, people: People, period: Period) -> Scene:
    """A preference of one daily and one half-daily wave; the hour it peaks at follows the person's kind."""
    users = len(people)
    is_second_U = (rng.random(users) < 0.3).astype(np.int64)
    peak_U = PEAKS_K2[draw_kinds(rng, people), is_second_U] + rng.normal(0, 1.0, users)
    daily_U, half_U = rng.gamma(4.0, 0.17, users), rng.normal(0.25, 0.15, users)
    turn_UH = 2 * np.pi * (np.arange(WEEK_H) + 0.5 - peak_U[:, None]) / DAY_H
    wave_UH = daily_U[:, None] * np.cos(turn_UH) + half_U[:, None] * np.cos(2 * turn_UH)
    calm_H = np.where(np.arange(WEEK_H) < 5 * DAY_H, 1.0, 0.6)
    level_U = rng.normal(-2.1, 0.9, users)
    opened_UH = 1 / (1 + np.exp(-(level_U[:, None] + calm_H * wave_UH)))
    return Scene(SendHour(opened_UH), at_home(people), no_defects(people))
