"""One turn of one contestant of `features`, in a process of its own: the gate's sender first, then the case, timed.

    python -m sto_pipeline.features_child '{"impl": ..., "gate": DIR, "store": DIR, "threads": 2, "answer": FILE}'

Prints one JSON line: seconds, events, peak_mib, totals, stages; or {"missing": reason}.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from sto_bench import machine
from sto_bench.contest import Missing
from sto_pipeline import answers
from sto_pipeline.events import user_ids

ENVIRONMENT = {"ours": {"POLARS_MAX_THREADS": "1"}, "polars-bucket": {"POLARS_MAX_THREADS": "1"}}


def environment(impl: str, threads: int) -> dict[str, str]:
    """Whoever works on several buckets at a time gives each one thread."""
    return ENVIRONMENT.get(impl, {"POLARS_MAX_THREADS": str(threads)})


def main(request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return _ours(request) if request["impl"] == "ours" else _peer(request)
    except Missing as error:
        return {"missing": str(error)}


def _ours(request: Mapping[str, Any]) -> dict[str, Any]:
    from sto_engine.memory import keep_freed_memory
    from sto_pipeline.features_ours import Ours

    keep_freed_memory()  # as the nightly job does
    ours = Ours(request["threads"])
    ours.run(Path(request["gate"]), keep=True)
    answers.save(Path(request["answer"]), ours.dense())
    ours.kept.clear()
    totals, stages = dict[str, float](), dict[str, float]()

    def timed() -> None:
        found = ours.run(Path(request["store"]))
        totals.update(found[0])
        stages.update(found[1])

    return {**_measured(timed, request), "totals": totals, "stages": stages}


def _peer(request: Mapping[str, Any]) -> dict[str, Any]:
    peer = _build(request["impl"], request["threads"])
    gate = peer.run(Path(request["gate"]))
    ids = np.sort(user_ids(int(request["gate_users"])))
    seen = pl.concat([gate["profile"]["user_id"], gate["acts"]["user_id"]]).unique().sort().to_numpy()
    answers.save(Path(request["answer"]), answers.of_frames(gate, ids[np.isin(ids, seen)]))
    del gate
    store, totals, frames = Path(request["store"]), dict[str, float](), list[Any]()
    if request["impl"] == "polars-bucket":
        report = _measured(lambda: totals.update(peer.consume(store)), request)
    else:
        report = _measured(lambda: frames.append(peer.run(store)), request)
        totals = answers.totals_of_frames(frames[0])
    return {**report, "totals": totals, "stages": {}}


def _build(impl: str, threads: int) -> Any:
    if impl == "duckdb":
        from sto_pipeline.features_duckdb import DuckDb

        return DuckDb(threads)
    if impl == "chdb":
        from sto_pipeline.features_chdb import Chdb

        return Chdb(threads)
    from sto_pipeline.features_polars import BucketPolars, WholePolars

    return BucketPolars(threads) if impl == "polars-bucket" else WholePolars(threads)


def _measured(run: Callable[[], Any], request: Mapping[str, Any]) -> dict[str, Any]:
    """Wall and CPU seconds of `run`, and the peak of this process while it ran."""
    machine.reset_peak()
    began, cpu = time.perf_counter(), time.process_time()
    run()
    seconds, core_s = time.perf_counter() - began, time.process_time() - cpu
    peak_mib = machine.peak_mib()
    events = sum(pq.read_metadata(path).num_rows for path in Path(request["store"]).glob("gen-*/*.parquet"))
    return {"seconds": seconds, "core_s": core_s, "peak_mib": peak_mib, "events": events}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
