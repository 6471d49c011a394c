"""When people of a kind are at their mail, and how where they live and came from says which kind they are.

U users, K kinds, H = 168 hours of the week, Monday first. Worlds share what a day of each kind looks like; how mail
comes to be opened is each world's own.
"""

import numpy as np

from sto_engine.simulate.columns import Floats, Ints
from sto_engine.simulate.people import REGIONS, SOURCES, People

DAY_H, WEEK_H = 24, 168
# typical days: (peak hour, width in hours, share of looks); commuter, office, evening, night, all-day
DAYS = (
    ((7.5, 1.0, 0.6), (18.0, 1.5, 0.4)),
    ((9.5, 1.5, 0.5), (13.5, 1.5, 0.5)),
    ((12.5, 1.0, 0.2), (20.0, 1.5, 0.8)),
    ((22.5, 1.5, 0.7), (1.0, 1.5, 0.3)),
    ((10.0, 3.0, 0.4), (16.0, 4.0, 0.6)),
)
OFFICE, ALL_DAY = 1, 4
PEAKS_K2 = np.array([[peak for peak, _, _ in day] for day in DAYS])
_KIND_SHARES = np.array([0.25, 0.25, 0.28, 0.08, 0.14])
# how much likelier a kind is than on average: a region and a source say a little, an office address a lot
_REGION_TILT = np.array([[1.5, 1.0, 0.7, 0.8, 1.1], [0.7, 1.2, 1.4, 0.6, 1.0], [0.9, 0.7, 1.0, 2.4, 0.9]])
_SOURCE_TILT = np.array(
    [[0.7, 0.9, 1.4, 1.5, 1.0], [1.3, 0.7, 1.2, 0.6, 1.1], [1.5, 1.0, 0.8, 0.9, 1.0], [0.7, 1.7, 0.6, 1.0, 1.0]]
)
_OFFICE_TILT = np.array([[1.0, 1.0, 1.0, 1.0, 1.0], [0.5, 6.0, 0.25, 0.2, 0.8]])


def _kind_edges() -> Floats:
    """Cumulative shares of the kinds in each cohort, [regions, sources, b2b, K]."""
    tilt = _REGION_TILT[:, None, None] * _SOURCE_TILT[None, :, None] * _OFFICE_TILT[None, None]
    share = _KIND_SHARES * tilt
    assert share.shape == (len(REGIONS), len(SOURCES), 2, len(DAYS))
    return np.asarray(np.cumsum(share / share.sum(axis=-1, keepdims=True), axis=-1))


_KIND_EDGES = _kind_edges()


def draw_kinds(rng: np.random.Generator, people: People) -> Ints:
    """The kind of each person, index into DAYS, by the shares of the cohort; [U]."""
    edges_UK = _KIND_EDGES[people.region_U, people.source_U, people.b2b_U.astype(np.int64)]
    kind_U = (rng.random(len(people))[:, None] >= edges_UK[:, :-1]).sum(axis=1)
    return np.asarray(kind_U, np.int64)


def bump(hour: Floats, peak: float | Floats, width: float) -> Floats:
    """A peak on the circle of the day, summing to one over the last axis."""
    apart = (hour - peak + 12) % DAY_H - 12
    weight = 1.0 / (1.0 + (apart / width) ** 4)
    return np.asarray(weight / weight.sum(axis=-1, keepdims=True))


_HOURS = np.arange(0.5, DAY_H)
SHAPES_K24 = np.array(
    [np.sum([share * bump(_HOURS, peak, width) for peak, width, share in day], axis=0) for day in DAYS]
)


def draw_rates(rng: np.random.Generator, people: People) -> Floats:
    """Looks per hour of the week: a main habit, a personal shift, a blend of a second habit, other weekends; [U, H]."""
    users = len(people)
    main, second = draw_kinds(rng, people), draw_kinds(rng, people)
    blend_U = rng.beta(1.0, 5.0, users)
    week_U24 = (1 - blend_U)[:, None] * SHAPES_K24[main] + blend_U[:, None] * SHAPES_K24[second]
    week_U24 = shift(week_U24, rng.normal(0, 1.2, users))
    weekend_U24 = 0.5 * shift(week_U24, np.full(users, 1.5)) + 0.5 * SHAPES_K24[ALL_DAY]
    looks_U1, floor = rng.lognormal(np.log(2.2), 0.6, users)[:, None], 0.05 / DAY_H
    week_U24, weekend_U24 = looks_U1 * (week_U24 + floor), looks_U1 * (0.8 * weekend_U24 + floor)
    return np.concatenate([np.tile(week_U24, 5), np.tile(weekend_U24, 2)], axis=1)


def shift(day_U24: Floats, hours_U: Floats) -> Floats:
    """Each user's day moved later by a fractional number of hours, circular."""
    whole_U = np.floor(hours_U).astype(np.int64)
    part_U1 = (hours_U - whole_U)[:, None]
    index_U24 = (np.arange(DAY_H) - whole_U[:, None]) % DAY_H
    now = np.take_along_axis(day_U24, index_U24, axis=1)
    before = np.take_along_axis(day_U24, (index_U24 - 1) % DAY_H, axis=1)
    return np.asarray((1 - part_U1) * now + part_U1 * before)
