"""World `blend`: every user belongs to one of several other worlds, and the sender cannot tell to which."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sto_engine.simulate import attention, dirty, drift, send_hour, sparse
from sto_engine.simulate.columns import Floats, Ints
from sto_engine.simulate.habits import WEEK_H
from sto_engine.simulate.people import People
from sto_engine.simulate.scene import Defects, Mechanism, Period, Residence, Scene, Sends

_PARTS: tuple[tuple[Callable[[np.random.Generator, People, Period], Scene], float], ...] = (
    (attention.draw, 0.3),
    (send_hour.draw, 0.2),
    (sparse.draw, 0.15),
    (dirty.draw, 0.2),
    (drift.draw, 0.15),
)


@dataclass(frozen=True)
class Mixture:
    """The mechanism of each part, the part of each of U users and the user's number within it, [U]."""

    parts: tuple[Mechanism, ...]
    part_U: Ints
    number_U: Ints

    def open_probability(self, window_h: int, day: int | None = None) -> Floats:
        """See `Mechanism`."""
        p_UH = np.empty((len(self.part_U), WEEK_H))
        for index, part in enumerate(self.parts):
            p_UH[self.part_U == index] = part.open_probability(window_h, day)
        return p_UH

    def draw_opens(self, rng: np.random.Generator, sends: Sends) -> Floats:
        """See `Mechanism`."""
        age_N, part_N = np.empty(len(sends)), self.part_U[sends.user_N]
        inside = replace(sends, user_N=self.number_U[sends.user_N])
        for index, part in enumerate(self.parts):
            rows = np.flatnonzero(part_N == index)
            age_N[rows] = part.draw_opens(rng, inside.take(rows))
        return age_N


def draw(rng: np.random.Generator, people: People, period: Period) -> Scene:
    """One scene for each part, joined in the order of the users."""
    part_U = rng.choice(len(_PARTS), len(people), p=[share for _, share in _PARTS])
    order = np.argsort(part_U, kind="stable")
    place_U = np.empty_like(order)
    place_U[order] = np.arange(len(order))
    scenes = [make(rng, people.take(np.flatnonzero(part_U == i)), period) for i, (make, _) in enumerate(_PARTS)]
    first = np.searchsorted(part_U[order], np.arange(len(_PARTS)))
    return Scene(
        Mixture(tuple(scene.mechanism for scene in scenes), part_U, place_U - first[part_U]),
        Residence.join([scene.residence for scene in scenes]).take(place_U),
        Defects.join([scene.defects for scene in scenes]).take(place_U),
    )
