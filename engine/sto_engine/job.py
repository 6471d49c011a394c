"""`score`: plan, lock, phases 0, A and B with their records, commit. A killed run goes on from its records.

prepare   open inputs, refuse what cannot be run, name the run by its inputs (run_id)
phase 0   sums of every bucket -> priors.json
phase A   staged rows and counts of every bucket
rounds    none yet: prices under capacity belong here
phase B   one shard a bucket
commit    identity checked, manifest.json last
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sto_engine.cluster import run_buckets
from sto_engine.config import Config
from sto_engine.errors import FingerprintMismatch
from sto_engine.files import canonical_json, folder_lock, write_atomic
from sto_engine.ingest.store import Store
from sto_engine.output import manifest as runs
from sto_engine.output.report import add_up, metrics, spread_summary, summarise
from sto_engine.phases import Phases
from sto_engine.prepare import Prepared, ScoreRequest, prepare
from sto_engine.progress import Progress
from sto_engine.score import BucketCounts

__all__ = ["ScoreRequest", "ScoreResult", "run_score"]


@dataclass(frozen=True)
class ScoreResult:
    """`run_dir` is None for a dry run; `complete_before` says that there was nothing left to do."""

    run_dir: Path | None
    complete_before: bool
    summary: dict[str, Any]


def run_score(request: ScoreRequest, config: Config, progress: Progress) -> ScoreResult:
    """Choose and write a slot for every recipient; see `ScoreRequest` for the inputs.

    Raises a StoError of the family that fits: inputs missing (66), data or a bundle that break their contract (65),
    a configuration that cannot be run (78), outputs that cannot be written (73, 74), another run in the way (75).
    """
    prepared = prepare(request, config, progress)
    if request.dry_run:
        return ScoreResult(None, False, _dry_run(prepared, request, progress))
    run = runs.make_folder(request.out / f"run={prepared.run_id}")
    with folder_lock(run, "run folder"):
        done = _complete(run, progress)
        if done is not None:
            return ScoreResult(run, True, done)
        return ScoreResult(run, False, _run(run, prepared, request, progress))


def _complete(run: Path, progress: Progress) -> dict[str, Any] | None:
    """The summary of a run that is already whole; a committed run with a damaged shard is taken apart and redone."""
    manifest = runs.read_manifest(run)
    if manifest is None:
        return None
    if runs.files_match(run, manifest.get("files", {"": ""})):
        runs.clean_up(run)
        summary: dict[str, Any] = manifest["summary"]
        return summary
    progress.warn("damaged_run", detail="a shard does not match the manifest; the run is written again")
    (run / runs.MANIFEST).unlink()
    return None


def _dry_run(prepared: Prepared, request: ScoreRequest, progress: Progress) -> dict[str, Any]:
    """Phases 0 and A in memory, nothing written: the summary that the run would have."""
    phases = Phases(prepared.plan, None, prepared.run_id, request.threads, progress)
    priors = phases.priors()
    progress.start("choose", len(phases.buckets))
    counts: dict[int, BucketCounts] = {}
    for bucket, staged in run_buckets(lambda b: phases.stage(priors, b).counts, phases.buckets, request.threads):
        counts[bucket] = staged
        progress.advance("choose")
    return _summary(prepared, [counts[b] for b in phases.buckets], {}, phases.window_ms)


def _run(run: Path, prepared: Prepared, request: ScoreRequest, progress: Progress) -> dict[str, Any]:
    phases = Phases(prepared.plan, run, prepared.run_id, request.threads, progress, request.dump_scores)
    timings, clock = {}, time.monotonic()
    priors = phases.priors()
    timings["priors"], clock = time.monotonic() - clock, time.monotonic()
    staged = phases.stage_all(priors)
    timings["choose"], clock = time.monotonic() - clock, time.monotonic()
    files = phases.place_all(staged)
    timings["spread"] = time.monotonic() - clock
    counts = [record.counts for record in staged]
    summary = _summary(prepared, counts, {k: round(v, 3) for k, v in timings.items()}, phases.window_ms)
    _check_identity(summary)
    _check_inputs(prepared, request)
    _commit(run, prepared, summary, files)
    return summary


def _summary(
    prepared: Prepared, counts: list[BucketCounts], timings: dict[str, float], window_ms: int
) -> dict[str, Any]:
    plan = prepared.plan
    head = {
        "version": prepared.facts["code"]["version"],
        "run_id": prepared.run_id,
        "date": plan.date.isoformat(),
        "policy": plan.policy.name,
    }
    quarantined = sum(prepared.quarantined.values())
    body = summarise(head, add_up(counts), quarantined, plan.grid.slots, prepared.warnings)
    return {**body, "spread": spread_summary(counts, window_ms), "timings_s": timings}


def _check_identity(summary: dict[str, Any]) -> None:
    """Nobody is lost: audience = assigned + suppressed + quarantined, or the run is not committed."""
    counts = summary["counts"]
    accounted = counts["assigned"] + counts["suppressed"] + counts["quarantined"]
    if counts["audience"] != accounted:
        raise RuntimeError(f"audience of {counts['audience']} rows, but {accounted} accounted for: {counts}")


def _check_inputs(prepared: Prepared, request: ScoreRequest) -> None:
    """The inputs that name the run are still the ones that were read."""
    now = Store.open(request.store).fingerprint()
    was = prepared.facts["store"]
    changed = sorted(key for key in was if now.get(key) != was[key])
    if changed:
        raise FingerprintMismatch(
            f"store {request.store} changed while it was being scored ({', '.join(changed)}); run the command again"
        )


def _commit(run: Path, prepared: Prepared, summary: dict[str, Any], files: dict[str, str]) -> None:
    """summary.json and metrics.prom, then the manifest, which is the commit point and holds no clock."""
    write_atomic(run / "summary.json", canonical_json(summary))
    write_atomic(run / "metrics.prom", metrics(summary, prepared.quarantined).encode())
    timeless = {key: value for key, value in summary.items() if key != "timings_s"}
    body = {**prepared.facts, "run_id": prepared.run_id, "files": files, "summary": timeless}
    write_atomic(run / runs.MANIFEST, canonical_json(body))
    runs.clean_up(run)
