"""World `types`: the hour that suits a mail depends on what kind of mail it is, and most opens are of the other kind.

Order mail is mostly opened within minutes whatever the hour, since its owner waits for it. Promos are read at leisure:
looks at lunch and in the evening count, those between meetings hardly do. Triggered mail is read at any look. Most
mail here is of orders and triggers, so a history pooled over types misleads about promos, whose truth is stated.
"""

from dataclasses import dataclass

import numpy as np

from sto_engine.simulate.attention import draw_appeal
from sto_engine.simulate.columns import Floats
from sto_engine.simulate.habits import DAY_H, bump, draw_rates
from sto_engine.simulate.looks import Looks
from sto_engine.simulate.people import People
from sto_engine.simulate.scene import PROMO, TRANSACTIONAL, Period, Scene, Sends, at_home, no_defects

AT_ONCE_H, _AT_ONCE = 0.1, 0.75
_LUNCH, _EVENING = (12.5, 1.2), (20.5, 2.0)


@dataclass(frozen=True)
class ByType:
    """Looks that count for promos and looks at all, of U people, and how many order mails they wait for, [U]."""

    leisure: Looks
    looks: Looks
    waits_U: Floats

    def open_probability(self, window_h: int, day: int | None = None) -> Floats:
        """See `Mechanism`."""
        return self.leisure.open_probability(window_h)

    def draw_opens(self, rng: np.random.Generator, sends: Sends) -> Floats:
        """See `Mechanism`."""
        age_N, is_promo_N = np.empty(len(sends)), sends.type_N == PROMO
        for looks, rows in ((self.leisure, np.flatnonzero(is_promo_N)), (self.looks, np.flatnonzero(~is_promo_N))):
            part = sends.take(rows)
            age_N[rows] = looks.draw_ages(rng, part.user_N, part.week_hour_N, part.appeal_N)
        is_awaited_N = (sends.type_N == TRANSACTIONAL) & (rng.random(len(age_N)) < self.waits_U[sends.user_N])
        return np.where(is_awaited_N, rng.exponential(AT_ONCE_H, len(age_N)), age_N)


def draw(rng: np.random.Generator, people: People, period: Period) -> Scene:
    """Lookers, more or less strict about when they read promos."""
    users = len(people)
    rate_UH, appeal_U = draw_rates(rng, people), draw_appeal(rng, users)
    hour = np.arange(0.5, DAY_H)
    free_24 = bump(hour, *_LUNCH) / bump(hour, *_LUNCH).max() + bump(hour, *_EVENING) / bump(hour, *_EVENING).max()
    strict_U1 = rng.beta(4.0, 1.5, users)[:, None]
    counts_UH = (1 - strict_U1) + strict_U1 * np.tile(np.clip(free_24, 0.02, 1.0), 7)
    waits_U = rng.beta(_AT_ONCE * 8, (1 - _AT_ONCE) * 8, users)
    mechanism = ByType(Looks(rate_UH * counts_UH, appeal_U), Looks(rate_UH, appeal_U), waits_U)
    return Scene(mechanism, at_home(people), no_defects(people))
