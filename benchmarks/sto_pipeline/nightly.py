"""`bench score`: the nightly command from a compacted store and a trained bundle to committed assignments, by stage.

Every turn is a whole process into a fresh folder. Its stages are those of the run's own summary; `start` is what the
process took besides: imports, the bundle, the plan.
"""

import json
import shutil
import tempfile
from functools import partial
from pathlib import Path

from sto_bench.contest import GateFailed
from sto_pipeline.cases import Case
from sto_pipeline.contest import Entrant, Turn
from sto_pipeline.made import Work, engine

NOTE = "sto-engine score --bundle (boosted): all phases, start and imports included"


def entrants(case: Case, peers: list[str], work: Work) -> list[Entrant]:
    """Ours alone: nobody else has this job."""
    store, bundle = work.world_store(case.users, case.buckets), work.bundle(case.users)
    return [Entrant("ours", True, partial(_turn, case, store, bundle, work), case.rounds, NOTE)]


def _turn(case: Case, store: Path, bundle: Path, work: Work) -> Turn:
    out = Path(tempfile.mkdtemp(dir=work.root))
    try:
        options = ["--bundle", str(bundle), "--threads", str(work.threads)]
        ended = engine("score", "--store", str(store), "--out", str(out), *options)
        (run,) = out.glob("run=*")
        summary = json.loads((run / "summary.json").read_text())
        _check(case, run, summary)
        stages = {name: float(seconds) for name, seconds in summary["timings_s"].items()}
        stages["start"] = ended.seconds - sum(stages.values())
        return Turn(ended.seconds, ended.core_s, case.users, ended.peak_mib, stages)
    finally:
        shutil.rmtree(out)


def _check(case: Case, run: Path, summary: dict[str, dict[str, int]]) -> None:
    """The run is committed, and everybody has an assignment or a reason."""
    counts = summary["counts"]
    if not (run / "manifest.json").exists() or counts["assigned"] + counts["suppressed"] != case.users:
        raise GateFailed(f"{case.users} recipients must be assigned or suppressed; found {counts}")
