"""`bench ingest`: the shipped command from raw files to a committed store, beside engines that only write by bucket.

Every turn is a whole process, start and imports included, into a fresh folder. Ours checks every footer, type and row,
keeps bad rows aside, hashes ids and the files it wrote; the peers read, take a bucket of the id and write.
"""

import json
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from sto_bench.contest import GateFailed, Missing
from sto_pipeline import processes
from sto_pipeline.cases import Case
from sto_pipeline.contest import Entrant, Turn
from sto_pipeline.made import Work, engine

NOTES = {
    "ours": "sto-engine ingest: validation, quarantine, sha256 of inputs and outputs, atomic commit",
    "polars": "scan, sink_parquet(PartitionBy(bucket)); no validation",
    "duckdb": "COPY ... (PARTITION_BY bucket); no validation",
}


def entrants(case: Case, peers: list[str], work: Work) -> list[Entrant]:
    """Ours first; the sender is simulated before the first clock starts."""
    files = work.world(case.users) / "events"
    rows = sum(pq.read_metadata(path).num_rows for path in files.glob("*.parquet"))
    return [
        Entrant(
            name,
            name == "ours",
            partial(_turn, name, case, files, rows, work),
            case.rounds if name == "ours" else case.peer_rounds,
            NOTES[name],
        )
        for name in ("ours", *peers)
    ]


def _turn(name: str, case: Case, files: Path, rows: int, work: Work) -> Turn:
    out = Path(tempfile.mkdtemp(dir=work.root)) / "out"
    try:
        if name == "ours":
            options = ["--threads", str(work.threads), "--set", f"store.buckets={case.buckets}"]
            ended = engine("ingest", str(files), "--store", str(out), *options)
        else:
            ended = _peer(name, case, files, out, work.threads)
        _check(name, out, rows)
        return Turn(ended.seconds, ended.core_s, rows, ended.peak_mib)
    finally:
        shutil.rmtree(out.parent)


def _peer(name: str, case: Case, files: Path, out: Path, threads: int) -> processes.Ended:
    request = {
        "impl": name,
        "files": f"{files}/*.parquet",
        "out": str(out),
        "buckets": case.buckets,
        "threads": threads,
    }
    command = [sys.executable, "-m", "sto_pipeline.ingest_child", json.dumps(request)]
    ended = processes.run(command, {"POLARS_MAX_THREADS": str(threads)})
    said = ended.out.strip()
    if said:
        raise Missing(said)
    return ended


def _check(name: str, out: Path, rows: int) -> None:
    """No row is lost or doubled, by the footers of what was written."""
    pattern = "gen-*/*.parquet" if name == "ours" else "**/*.parquet"
    found = sum(pq.read_metadata(path).num_rows for path in out.glob(pattern))
    if name == "ours":
        found += sum(pq.read_metadata(path).num_rows for path in out.glob("quarantine/*.parquet"))
    if found != rows:
        raise GateFailed(f"{rows} rows must have been written; found {found}")
