"""Invented P(open) by hour of users whose habits are known to nobody: the worths of the cases, float32 [U, 24]."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SLOTS = 24
HOURS = np.arange(SLOTS)
BLOCK = 100_000
SHARED, SHARED_SHARE = 48, 0.4
# leaves of a small forest differ by about this in the logit
LOGIT_STEPS = 12


def worths(curves: str, users: int, seed: int) -> NDArray[np.float32]:
    """Worth of each (user, slot); `curves` is habit, ties or gbdt. Every block of users is drawn by itself."""
    shared = _shared(np.random.default_rng([seed, users, 1]))
    worth_US = np.empty((users, SLOTS), np.float32)
    for block, first in enumerate(range(0, users, BLOCK)):
        rng = np.random.default_rng([seed, users, 2, block])
        part_US = worth_US[first : first + BLOCK]
        p_US = _habits(rng, len(part_US))
        if curves == "ties":
            cold = rng.random(len(p_US)) < SHARED_SHARE
            p_US[cold] = shared[rng.integers(0, SHARED, int(cold.sum()))]
        p_US = np.clip(p_US, 0.003, 0.95)
        if curves == "gbdt":
            logit_US = np.log(p_US / (1 - p_US))
            p_US = 1 / (1 + np.exp(-np.round(logit_US * LOGIT_STEPS) / LOGIT_STEPS))
        part_US[:] = p_US
    return worth_US


def _bump(hour: float, width: float) -> Floats:
    away = np.abs(HOURS - hour)
    return np.asarray(np.exp(-0.5 * (np.minimum(away, SLOTS - away) / width) ** 2))


def _population() -> Floats:
    curve = 0.35 + 0.9 * _bump(9, 2.0) + 0.45 * _bump(13, 2.0) + 0.8 * _bump(20, 2.2)
    return np.asarray(curve / curve.mean())


def _habits(rng: np.random.Generator, users: int) -> Floats:
    """The population's curve times a bump at the hour of a habit, strong or weak."""
    centre = (rng.choice([8, 9, 10, 13, 19, 20, 21, 23], users) + rng.normal(0, 1.2, users)) % SLOTS
    width, strength = rng.uniform(1.2, 4, users), rng.gamma(1.5, 0.5, users)
    away = np.abs(HOURS - centre[:, None])
    habit = np.exp(-0.5 * (np.minimum(away, SLOTS - away) / width[:, None]) ** 2)
    return np.asarray(rng.beta(2, 8, users)[:, None] * _population() * (1 + strength[:, None] * habit))


def _shared(rng: np.random.Generator) -> Floats:
    """The curves of cohorts, float64 [48, 24]."""
    return np.asarray(0.18 * _population() * np.exp(0.25 * rng.standard_normal((SHARED, SLOTS))))
