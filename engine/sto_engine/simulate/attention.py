"""World `attention`: people look into the inbox at hours of their own, and open what is fresh when they look."""

from dataclasses import dataclass

import numpy as np

from sto_engine.simulate.columns import Floats
from sto_engine.simulate.habits import draw_rates
from sto_engine.simulate.looks import Looks
from sto_engine.simulate.people import People
from sto_engine.simulate.scene import Period, Scene, Sends, at_home, no_defects


@dataclass(frozen=True)
class Attention:
    """The looks of U people, one row each, the same all through the history."""

    looks: Looks

    def open_probability(self, window_h: int, day: int | None = None) -> Floats:
        """See `Mechanism`."""
        return self.looks.open_probability(window_h)

    def draw_opens(self, rng: np.random.Generator, sends: Sends) -> Floats:
        """See `Mechanism`."""
        return self.looks.draw_ages(rng, sends.user_N, sends.week_hour_N, sends.appeal_N)


def draw_appeal(rng: np.random.Generator, users: int) -> Floats:
    """The chance that each person opens ordinary mail that has just come, [U]."""
    return rng.beta(1.6, 3.2, users)


def draw(rng: np.random.Generator, people: People, period: Period) -> Scene:
    """Lookers with stable habits."""
    looks = Looks(draw_rates(rng, people), draw_appeal(rng, len(people)))
    return Scene(Attention(looks), at_home(people), no_defects(people))
