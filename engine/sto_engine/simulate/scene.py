"""What a world draws for a chunk of users, in one form, so that mailings, events and truth are written once for all.

U users, N sends, H = 168 hours of the week in the recipient's true local time, Monday first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sto_engine.simulate.columns import Bools, Columns, Floats, Ints
from sto_engine.simulate.people import People

PROMO, TRIGGER, TRANSACTIONAL = 0, 1, 2


@dataclass(frozen=True)
class Period:
    """The days of a history, the UTC midnights (ms) at both ends, and the holiday weeks, [countries, whole weeks]."""

    days: int
    start_ms: int
    end_ms: int
    is_holiday: Bools


@dataclass(frozen=True)
class Sends(Columns):
    """N mails: to whom, on which day of the history, at which true local hour of the week (with its fraction).

    `appeal_N` multiplies the chance that its recipient opens a mail; `type_N` is PROMO, TRIGGER or TRANSACTIONAL.
    """

    user_N: Ints
    day_N: Ints
    week_hour_N: Floats
    appeal_N: Floats
    type_N: Ints


class Mechanism(Protocol):
    """How U people come to open mail: one definition behind the truth that is stated and the opens that are drawn."""

    def open_probability(self, window_h: int, day: int | None = None) -> Floats:
        """P(open within the window | a promo of ordinary appeal sent at the start of each hour), float64 [U, H].

        As it is on a day of the period, None for the end of it. It changes at most from week to week of the period.
        """

    def draw_opens(self, rng: np.random.Generator, sends: Sends) -> Floats:
        """Age in hours at which each mail is opened by its recipient, inf where it never is; float64 [N]."""


@dataclass(frozen=True)
class Residence(Columns):
    """Where people really are: zones (index into ZONE_NAMES) before and from the day of a move, and when it shows.

    `seen_day_U` is the day from which their devices report the new zone. Days count from the start of the history.
    """

    home_U: Ints
    now_U: Ints
    moved_day_U: Ints
    seen_day_U: Ints

    def zones(self, day: int | Ints) -> Ints:
        """Where each is on a day, or on a day of his own."""
        return np.where(day >= self.moved_day_U, self.now_U, self.home_U)


@dataclass(frozen=True)
class Defects(Columns):
    """What spoils the record, by user: the address is dead, the client prefetches, a scanner clicks, rows go astray."""

    dead_U: Bools
    prefetch_U: Bools
    scanner_U: Bools
    astray_U: Bools


@dataclass(frozen=True)
class Scene:
    """All that the sender does not know of the U users of a chunk."""

    mechanism: Mechanism
    residence: Residence
    defects: Defects


@dataclass(frozen=True)
class World:
    """A kind of sender: its people, campaigns relative to the usual, service mails a campaign, share of newcomers."""

    about: str
    draw: Callable[[np.random.Generator, People, Period], Scene]
    campaigns: float = 1.0
    service: float = 0.12
    newcomers: float = 0.04


def at_home(people: People) -> Residence:
    """Everyone lives where the profile says."""
    never = np.zeros(len(people), np.int64)
    return Residence(people.zone_U, people.zone_U, never, never)


def no_defects(people: People) -> Defects:
    """A clean record."""
    none = np.zeros(len(people), np.bool_)
    return Defects(none, none, none, none)
