"""A mail is seen at the owner's next look into the inbox, and is the staler the later that is.

Looks come as a Poisson process whose rate (per hour) depends on the local hour of the week: l(t). At the first look
after delivery, at age a, the mail is opened with probability q * exp(-a / TAU); otherwise it is never opened. So

    P(open within L | sent at s) = q * integral_0^L  l(s+a) exp(-Lambda(s, s+a)) exp(-a / TAU) da

which, with l constant over each hour, is a finite sum. R rows (a user, or one state of a user), N sends, H = 168
hours of the week (Monday first).
"""

from dataclasses import dataclass

import numpy as np

from sto_engine.simulate.columns import Floats, Ints
from sto_engine.simulate.habits import WEEK_H

TAU_H = 16.0


@dataclass(frozen=True)
class Looks:
    """Looks per hour of the week [R, H], above zero everywhere, and the chance that a mail just come is opened [R]."""

    rate_RH: Floats
    appeal_R: Floats

    def open_probability(self, window_h: int) -> Floats:
        """P(open within `window_h` hours | sent at the start of each hour of the week), exact, float64 [R, H].

        The window of L hours is its first hour and, if nothing was seen in that, the window of L - 1 that follows.
        """
        both_RH = self.rate_RH + 1 / TAU_H
        kept_RH = np.exp(-both_RH)
        first_RH = self.rate_RH / both_RH * (1 - kept_RH)
        total_RH = np.zeros_like(first_RH)
        for _ in range(window_h):
            total_RH = first_RH + kept_RH * np.roll(total_RH, -1, axis=1)
        return np.asarray(self.appeal_R[:, None] * total_RH)

    def draw_ages(self, rng: np.random.Generator, row_N: Ints, week_hour_N: Floats, appeal_N: Floats) -> Floats:
        """Age in hours at which each of N sends is opened, inf where it is not, float64 [N].

        `week_hour_N` is the local hour of the week of the send, with its fraction; `appeal_N` multiplies the row's.
        """
        age_N = self._first_looks(rng, row_N, week_hour_N)
        chance_N = np.minimum(self.appeal_R[row_N] * appeal_N, 1) * np.exp(-age_N / TAU_H)
        return np.where(rng.random(len(row_N)) < chance_N, age_N, np.inf)

    def _first_looks(self, rng: np.random.Generator, row_N: Ints, week_hour_N: Floats) -> Floats:
        """Hours from each send to the next look, by inverting the looks expected since Monday.

        The shares of the week's looks before each hour, plus the row's number, ascend over the whole table: one
        search finds the hour for all sends.
        """
        sum_RH = np.cumsum(self.rate_RH, axis=1)
        total_R = sum_RH[:, -1]
        share_RH = (sum_RH - self.rate_RH) / total_R[:, None]
        start_RH = np.arange(len(total_R))[:, None] + share_RH
        cell_N = row_N * WEEK_H + week_hour_N.astype(np.int64)
        rate, share, start = self.rate_RH.ravel(), share_RH.ravel(), start_RH.ravel()
        total_N = total_R[row_N]
        passed_N = share[cell_N] + (week_hour_N % 1) * rate[cell_N] / total_N
        weeks_N, part_N = np.divmod(passed_N + rng.exponential(size=len(row_N)) / total_N, 1)
        # a part that rounds up to one would be found in the next row
        found_N = np.minimum(np.searchsorted(start, row_N + part_N, side="right") - 1, row_N * WEEK_H + WEEK_H - 1)
        hour_N = found_N % WEEK_H + (part_N - share[found_N]) * total_N / rate[found_N]
        return np.maximum(weeks_N * WEEK_H + hour_N - week_hour_N, 0)
