"""`pair`: one command by threads and by a Ray of its own with as many CPUs, interleaved, the start of each told apart.

The work rate is recipients by the seconds from the first phase to the last word of the log; `start` among the stages
is everything else: imports, and for Ray its start and end.
"""

from collections.abc import Callable
from functools import partial

from sto_pipeline.contest import Turn
from sto_pipeline.made import Work
from sto_scale.cases import Case
from sto_scale.commands import worked_s
from sto_scale.cost import Lab, make_store, run_score, run_train
from sto_scale.players import Figures, Player, player

BY = {"threads": (), "ray": ("--cluster", "local")}
NOTES = {"threads": "threads of one process", "ray": "--cluster local: tasks of a Ray on this machine"}


def players(case: Case, work: Work) -> list[Player]:
    """Ray first: it is ours to judge; the store is there before the first clock starts."""
    lab = Lab(case, work)
    make_store(lab)
    lab.bundle()
    (part,) = case.parts
    return [player(by, True, case.rounds, NOTES[by], partial(_turn, lab, part, by)) for by in ("ray", "threads")]


def _turn(lab: Lab, part: str, by: str, figures: Figures) -> Turn:
    return _RUN[part](lab, figures, *BY[by], of=lambda ran: worked_s(ran.ended.err))


_RUN: dict[str, Callable[..., Turn]] = {"score": run_score, "train": run_train}
