"""`bench outcomes`: `bandit update` from a compacted store to a committed state, as a process of its own.

Everything is counted, as on the first night of a bandit and on every night on which the store has changed; the rate is
in outcomes, sends that are mature.
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

NOTE = "sto-engine bandit update (contextual): reading, cleaning, counting, fits and commit, start and imports included"


def entrants(case: Case, peers: list[str], work: Work) -> list[Entrant]:
    """Ours alone: nobody else has this job."""
    store = work.world_store(case.users, case.buckets)
    return [Entrant("ours", True, partial(_turn, case, store, work), case.rounds, NOTE)]


def _turn(case: Case, store: Path, work: Work) -> Turn:
    out = Path(tempfile.mkdtemp(dir=work.root))
    try:
        ended = engine("bandit", "update", "--store", str(store), "--state", str(out / "state"))
        told = json.loads((out / "state" / "state.json").read_text())
        if not 0 < told["users"] <= case.users or not 0 < told["hits"] <= told["sends"]:
            raise GateFailed(f"outcomes of 1 to {case.users} users, some of them hits, must be counted; found {told}")
        return Turn(ended.seconds, ended.core_s, int(told["sends"]), ended.peak_mib)
    finally:
        shutil.rmtree(out)
