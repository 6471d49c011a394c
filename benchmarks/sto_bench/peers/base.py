"""What the peers share: finding their library, rows, own training data, and from margins to a choice."""

import importlib
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sto_bench.contest import Choice, Missing, Scorer
from sto_bench.recipients import F32
from sto_bench.worlds import World

OWN_ROWS = 100_000


class Build(Protocol):
    """How a peer is made: raises Missing where its library or device is not there."""

    def __call__(self, world: World, threads: int, include_expansion: bool = False) -> Scorer: ...


@dataclass(frozen=True)
class Peer:
    """`is_same_model`: it scores the case's own forest, so its answers are checked against XGBoost's."""

    name: str
    build: Build
    is_same_model: bool
    include_expansion: bool = False


def library(name: str, install: str) -> Any:
    """The imported library; Missing says how to get it. Untyped on purpose: peers are not installed where types run."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Missing(f"{name} cannot be imported ({error}); pip install {install}") from error


class RowScorer(Scorer):
    """A peer that scores rows: all slots of a user, then of the next.

    The rows are made in `load`, outside the clock, unless `include_expansion`; then `score` makes them.
    """

    def __init__(self, world: World, include_expansion: bool) -> None:
        self.world, self.include_expansion = world, include_expansion
        self.users = 0
        self.rows_PF: F32 = np.empty((0, 0), np.float32)
        self.base_P: F32 | None = None

    def load(self, users: int) -> None:
        self.users = users
        self._expand()

    def _expand(self) -> None:
        self.rows_PF, self.base_P = self.world.rows(slice(0, self.users)), self.world.base(slice(0, self.users))

    def score(self) -> Choice:
        if self.include_expansion:
            self._expand()
        return choose(self.margins(), self.world.case.slots)

    def margins(self) -> NDArray[Any]:
        """Margins (or any score with the same order) of the loaded rows, [P] or [P, 1]."""
        raise NotImplementedError


def choose(margin_P: NDArray[Any], slots: int) -> Choice:
    """The first best slot of each user and its margin."""
    margin_US = margin_P.reshape(-1, slots)
    slot_U = margin_US.argmax(axis=1)
    return Choice(slot_U, margin_US[np.arange(len(slot_U)), slot_U])


def plus_base(margin_P: NDArray[Any], base_P: F32 | None) -> NDArray[Any]:
    """Add the base margin, for peers that know none."""
    return margin_P if base_P is None else margin_P.reshape(-1) + base_P
