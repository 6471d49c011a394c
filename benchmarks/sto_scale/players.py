"""Who takes part: an entrant of the contest of processes, and figures that are no time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from sto_pipeline.contest import Entrant, Turn
from sto_scale.commands import Ran

Figures = dict[str, float]


@dataclass
class Player:
    """`figures` are those of the last turn: bytes and counts, by name."""

    entrant: Entrant
    figures: Figures = field(default_factory=dict)


def player(name: str, is_ours: bool, rounds: int, note: str, turn: Callable[[Figures], Turn]) -> Player:
    """A player whose `turn` also fills the figures."""
    figures: Figures = {}
    return Player(Entrant(name, is_ours, partial(turn, figures), rounds, note), figures)


def as_turn(ran: Ran, work: int, seconds: float | None = None) -> Turn:
    """The turn of a command: all its seconds, or those of its work alone with `start` among the stages."""
    ended, stages = ran.ended, dict(ran.stages)
    if seconds is not None:
        stages["start"] = ended.seconds - seconds
    return Turn(ended.seconds if seconds is None else seconds, ended.core_s, work, ended.peak_mib, stages)
