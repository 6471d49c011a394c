"""World `drift`: lookers whose habit is not what it was, while the sender's table still says what it said.

Some take a job with other hours in one week of the history, some move to another zone (the profile keeps the old one;
their devices show the new one some days later), some slide slowly into another habit. In the holiday weeks of their
country all look as on weekends. The truth is the habit after the history. Clocks change within the 90 days to
20 April in Europe and the Americas, in this world as in all others.

A habit is a mix of an old and a new one: (1 - a) * old + a * new, with a in quarters. Each mix that a user passes
through is a row of the looks. U users, W weeks of the history and the one after, R rows, N sends, H = 168 hours.
"""

from dataclasses import dataclass

import numpy as np

from sto_engine.simulate.attention import draw_appeal
from sto_engine.simulate.columns import Bools, Floats, Ints
from sto_engine.simulate.habits import DAY_H, draw_rates
from sto_engine.simulate.looks import Looks
from sto_engine.simulate.people import COUNTRY_OF_ZONE, ZONE_SHARES, People
from sto_engine.simulate.scene import Period, Residence, Scene, Sends, no_defects

STABLE, NEW_JOB, MOVED, SLOW = range(4)
_FATE_SHARES = (0.4, 0.22, 0.13, 0.25)
_QUARTERS = 4


@dataclass(frozen=True)
class Drift:
    """Looks of every state [R], and the state of each user in each week, [U, W]; the last week is the truth's."""

    looks: Looks
    row_UW: Ints

    def open_probability(self, window_h: int, day: int | None = None) -> Floats:
        """See `Mechanism`."""
        row_U = self.row_UW[:, -1 if day is None else self._week(day)]
        return Looks(self.looks.rate_RH[row_U], self.looks.appeal_R[row_U]).open_probability(window_h)

    def draw_opens(self, rng: np.random.Generator, sends: Sends) -> Floats:
        """See `Mechanism`; the habit is that of the day of the send."""
        row_N = self.row_UW[sends.user_N, self._week(sends.day_N)]
        return self.looks.draw_ages(rng, row_N, sends.week_hour_N, sends.appeal_N)

    def _week(self, day: int | Ints) -> Ints:
        return np.asarray(np.clip(np.asarray(day) // 7, 0, self.row_UW.shape[1] - 1), np.int64)


def draw(rng: np.random.Generator, people: People, period: Period) -> Scene:
    """Lookers, each with a fate."""
    users, weeks = len(people), period.days // 7 + 1
    fate_U = rng.choice(len(_FATE_SHARES), users, p=_FATE_SHARES)
    change_U = (rng.uniform(0.25, 0.85, users) * period.days).astype(np.int64)
    is_holiday_UW = np.zeros((users, weeks), np.bool_)
    is_holiday_UW[:, :-1] = period.is_holiday[COUNTRY_OF_ZONE[people.zone_U], : weeks - 1]
    row_UW, user_R, mix_R, is_holiday_R = _states(_mixes(fate_U, change_U, weeks), is_holiday_UW)
    rate_RH = _mixed(draw_rates(rng, people), draw_rates(rng, people), user_R, mix_R)
    week_end_RH = np.concatenate([np.tile(rate_RH[:, 5 * DAY_H : 6 * DAY_H], 5), rate_RH[:, 5 * DAY_H :]], axis=1)
    rate_RH = np.where(is_holiday_R[:, None], week_end_RH, rate_RH)
    looks = Looks(rate_RH, draw_appeal(rng, users)[user_R])
    return Scene(Drift(looks, row_UW), _moves(rng, people, fate_U == MOVED, change_U), no_defects(people))


def _mixes(fate_U: Ints, change_U: Ints, weeks: int) -> Ints:
    """Quarters of the new habit in each week, [U, W]: none, all from the week of a new job, or ever more."""
    week_W = np.arange(weeks)
    has_job_UW = (fate_U == NEW_JOB)[:, None] & (week_W * 7 >= change_U[:, None])
    slow_W = np.round(_QUARTERS * week_W / max(weeks - 1, 1)).astype(np.int64)
    return np.where((fate_U == SLOW)[:, None], slow_W, _QUARTERS * has_job_UW)


def _states(mix_UW: Ints, is_holiday_UW: Bools) -> tuple[Ints, Ints, Ints, Bools]:
    """Each user's distinct states as rows: the row of each week [U, W]; user, quarters and holiday of each row [R]."""
    users, weeks = mix_UW.shape
    kinds = 2 * (_QUARTERS + 1)
    code_UW = np.arange(users)[:, None] * kinds + 2 * mix_UW + is_holiday_UW
    code_R, row = np.unique(code_UW, return_inverse=True)
    return row.reshape(users, weeks), code_R // kinds, code_R % kinds // 2, code_R % 2 == 1


def _mixed(old_UH: Floats, new_UH: Floats, user_R: Ints, mix_R: Ints) -> Floats:
    part_R1 = (mix_R / _QUARTERS)[:, None]
    return np.asarray((1 - part_R1) * old_UH[user_R] + part_R1 * new_UH[user_R])


def _moves(rng: np.random.Generator, people: People, is_moved_U: Bools, day_U: Ints) -> Residence:
    """Those who move live in a zone drawn anew from that day; devices take up to twelve days to say so."""
    users = len(people)
    now_U = np.where(is_moved_U, rng.choice(len(ZONE_SHARES), users, p=ZONE_SHARES), people.zone_U)
    return Residence(people.zone_U, now_U, day_U, day_U + rng.integers(0, 13, users))
