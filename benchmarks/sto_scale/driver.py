"""`driver`: seconds and memory of the driver of `score` at thousands of buckets, whose work is stubs (stub.py)."""

import json
import sys
from functools import partial
from pathlib import Path

from sto_bench.contest import GateFailed
from sto_pipeline import processes
from sto_pipeline.contest import Turn
from sto_pipeline.made import Work
from sto_scale.cases import Case
from sto_scale.commands import TIMEOUT_S
from sto_scale.cost import Lab, make_store
from sto_scale.players import Figures, Player, player
from sto_scale.stub import stretch

NOTE = "every bucket has the record of one of so many recipients; prepare to commit, in one process"


def players(case: Case, work: Work) -> list[Player]:
    """One player: a bucket of `users` recipients is scored before the first clock starts."""
    one = Case(f"{case.name}_one", "cost", case.users, 1, "test", base=case.base)
    lab, templates = Lab(one, work), work.root / f"scale-templates-u{case.users}.json"
    make_store(lab)
    if case.parts == ("score",):
        _child(lab, "capture", lab.store, templates)
    stretched = lab.scratch("stretched")
    stretch(lab.store, stretched, case.buckets, case.generations)
    return [player("driver", True, case.rounds, NOTE, partial(_turn, case, lab, stretched, templates))]


def _turn(case: Case, lab: Lab, store: Path, templates: Path, figures: Figures) -> Turn:
    ended = _child(lab, "drive" if case.parts == ("score",) else "open", store, templates)
    found = json.loads(ended.out)
    if (
        found["buckets"] != case.buckets
        or found.get("audience", case.users * case.buckets) != case.users * case.buckets
    ):
        raise GateFailed(f"{case.buckets} buckets of {case.users} recipients are wanted; found {found}")
    figures.update(found["figures"])
    return Turn(found["seconds"], ended.core_s, case.users * case.buckets, ended.own_mib, found["stages"])


def _child(lab: Lab, what: str, store: Path, templates: Path) -> processes.Ended:
    request = {
        "what": what,
        "store": str(store),
        "bundle": str(lab.bundle()),
        "out": str(lab.scratch("runs")),
        "templates": str(templates),
    }
    environment = {"POLARS_MAX_THREADS": str(lab.work.threads)}
    return processes.run([sys.executable, "-m", "sto_scale.driver_child", json.dumps(request)], environment, TIMEOUT_S)
