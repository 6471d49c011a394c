"""`bench features`: ours and the general engines, each turn in a process of its own, on the same sorted files."""

import json
import sys
import tempfile
from functools import partial
from pathlib import Path

from sto_bench.contest import Missing
from sto_pipeline import answers, processes
from sto_pipeline.cases import GATE, Case
from sto_pipeline.contest import Entrant, Turn
from sto_pipeline.features_child import environment
from sto_pipeline.features_ours import twins
from sto_pipeline.made import Work

NOTES = {
    "ours": "cleaning, machine and zone rules included; page checksums verified",
    "polars": "one streaming query over all files",
    "polars-bucket": "a query a bucket, two at a time",
    "duckdb": "whole dataset, tables in memory",
    "chdb": "whole dataset, tables in memory",
}


def entrants(case: Case, peers: list[str], work: Work) -> list[Entrant]:
    """Ours first; everything is made before the first clock starts."""
    gate, store = work.store(GATE), work.store(case)
    truth, _ = twins(gate)
    return [
        Entrant(
            name,
            name == "ours",
            partial(_turn, name, gate, store, truth, work.threads),
            case.rounds if name == "ours" else case.peer_rounds,
            NOTES[name],
        )
        for name in ("ours", *peers)
    ]


def _turn(impl: str, gate: Path, store: Path, truth: answers.Dense, threads: int) -> Turn:
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.npz"
        request = {"impl": impl, "gate": str(gate), "store": str(store), "threads": threads, "answer": str(answer)}
        request["gate_users"] = GATE.users
        command = [sys.executable, "-m", "sto_pipeline.features_child", json.dumps(request)]
        ended = processes.run(command, environment(impl, threads))
        found = json.loads(ended.out.splitlines()[-1])
        if "missing" in found:
            raise Missing(found["missing"])
        answers.check(answer, truth)
    work, peak_mib = int(found["events"]), float(found["peak_mib"])
    return Turn(float(found["seconds"]), float(found["core_s"]), work, peak_mib, found["stages"], found["totals"])
