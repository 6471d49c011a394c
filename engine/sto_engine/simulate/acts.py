"""What the record holds of each mail: the send, what its owner did, what machines did, and what became of the rows.

N acts. Machines act within seconds or minutes at any hour; rows are lost, doubled and mis-timed only for users whose
record goes astray.
"""

from dataclasses import dataclass, replace

import numpy as np

from sto_engine.simulate.columns import Bools, Columns, Floats, Ints
from sto_engine.simulate.scene import Defects

SEND, OPEN, CLICK = 0, 1, 2
HOUR_MS = 3_600_000
_CLICKS = 0.15
_PREFETCHED, _SCANNED = 0.95, 0.7
_LOST = np.array([0.02, 0.04, 0.0])
_EARLY, _DOUBLED, _REPEATED = 0.005, 0.02, 0.02


@dataclass(frozen=True)
class Acts(Columns):
    """Rows of the record: number of the mail, SEND, OPEN or CLICK, time (UTC, ms), whether the owner did it."""

    mail_N: Ints
    kind_N: Ints
    ms_N: Ints
    owner_N: Bools


def draw_acts(rng: np.random.Generator, user_M: Ints, sent_M: Ints, age_M: Floats, defects: Defects) -> Acts:
    """The record of M mails to users `user_M`, sent at `sent_M` (UTC, ms), opened at the ages `age_M` (hours)."""
    acts = Acts.join(
        [
            _acts(np.arange(len(sent_M)), SEND, sent_M, False),
            *_owner_acts(rng, sent_M, age_M),
            *_prefetches(rng, np.flatnonzero(defects.prefetch_U[user_M]), sent_M),
            *_scans(rng, np.flatnonzero(defects.scanner_U[user_M]), sent_M),
        ]
    )
    return _spoil(rng, acts, defects.astray_U[user_M[acts.mail_N]], sent_M) if defects.astray_U.any() else acts


def in_time_order(acts: Acts) -> Acts:
    """The same rows, the earliest first."""
    return acts.take(np.argsort(acts.ms_N, kind="stable"))


def _acts(mail_N: Ints, kind: int, ms_N: Ints, by_owner: bool) -> Acts:
    return Acts(mail_N, np.full(len(mail_N), kind), ms_N, np.full(len(mail_N), by_owner))


def _owner_acts(rng: np.random.Generator, sent_M: Ints, age_M: Floats) -> list[Acts]:
    opened = np.flatnonzero(np.isfinite(age_M))
    open_ms = sent_M[opened] + np.maximum((age_M[opened] * HOUR_MS).astype(np.int64), 1_000)
    clicked = np.flatnonzero(rng.random(len(opened)) < _CLICKS)
    click_ms = open_ms[clicked] + rng.integers(5_000, 180_000, len(clicked))
    return [_acts(opened, OPEN, open_ms, True), _acts(opened[clicked], CLICK, click_ms, True)]


def _prefetches(rng: np.random.Generator, mail_N: Ints, sent_M: Ints) -> list[Acts]:
    """Opens that a client makes on its own, whatever the hour."""
    mail_N = mail_N[rng.random(len(mail_N)) < _PREFETCHED]
    return [_acts(mail_N, OPEN, sent_M[mail_N] + rng.integers(2_000, 180_000, len(mail_N)), False)]


def _scans(rng: np.random.Generator, mail_N: Ints, sent_M: Ints) -> list[Acts]:
    """A scanner fetches the mail and follows a link within seconds."""
    mail_N = mail_N[rng.random(len(mail_N)) < _SCANNED]
    open_ms = sent_M[mail_N] + rng.integers(500, 5_000, len(mail_N))
    click_ms = open_ms + rng.integers(200, 5_000, len(mail_N))
    return [_acts(mail_N, OPEN, open_ms, False), _acts(mail_N, CLICK, click_ms, False)]


def _spoil(rng: np.random.Generator, acts: Acts, is_astray_N: Bools, sent_M: Ints) -> Acts:
    """Lose some rows, put some opens before their send, and write some rows twice, at once or seconds later."""

    def some(share: float | Floats) -> Bools:
        return is_astray_N & (rng.random(len(acts)) < share)

    is_early_N = some(_EARLY) & (acts.kind_N == OPEN)
    before_N = sent_M[acts.mail_N] - rng.integers(1_000, 90_000, len(acts))
    acts = replace(acts, ms_N=np.where(is_early_N, before_N, acts.ms_N))
    kept, doubled, repeated = (
        acts.take(~some(_LOST[acts.kind_N])),
        acts.take(some(_DOUBLED)),
        acts.take(some(_REPEATED)),
    )
    late = replace(repeated, ms_N=repeated.ms_N + rng.integers(1_000, 5_000, len(repeated)))
    return Acts.join([kept, doubled, late])
