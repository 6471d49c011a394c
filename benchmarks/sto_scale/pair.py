"""`pair`: one command by threads and by a Ray of its own with as many CPUs, interleaved, the start of each told apart.

The work rate is recipients by the seconds from the first phase to the last word of the log; `start` among the stages
is everything else: imports, and for Ray its start and end.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from sto_bench.contest import Missing
from sto_pipeline.contest import Turn
from sto_pipeline.made import Work
from sto_pipeline.processes import ChildFailed
from sto_scale.cases import Case
from sto_scale.commands import Ran, command, worked_s
from sto_scale.cost import Lab, make_store, score, shards
from sto_scale.players import Figures, Player, as_turn, player

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
    try:
        ran = _RUN[part](lab, figures, *BY[by])
    except ChildFailed as error:
        if "Ray" in str(error) and "install" in str(error):
            raise Missing(str(error)) from error
        raise
    figures["driver_mib"] = ran.ended.own_mib
    return as_turn(ran, lab.case.users, worked_s(ran.ended.err))


def _score(lab: Lab, figures: Figures, *more: str) -> Ran:
    ran = score(lab, *more)
    figures.update(shards(lab.case, Path(ran.result["run"])))
    return ran


def _train(lab: Lab, figures: Figures, *more: str) -> Ran:
    out = lab.scratch("bundle")
    ran = command("train", "--store", str(lab.store), "--bundle", str(out), "--force", *lab.threads, *more)
    figures["rows"] = ran.result["rows"]
    return ran


_RUN: dict[str, Callable[..., Ran]] = {"score": _score, "train": _train}
