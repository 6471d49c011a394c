"""`score`: plan, lock, phases 0, A and B with their records, commit. A killed run goes on from its records.

prepare   open inputs, refuse what cannot be run, name the run by its inputs (run_id)
phase 0   sums of every bucket -> priors.json; where slots are short, demand of every bucket -> pre-flight
phase A   staged rows and counts of every bucket
rounds    prices and slots for everyone, where slots are short (rounds.py)
phase B   one shard a bucket
commit    identity checked, manifest.json last
"""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sto_engine.assign.spread import SpreadPlan, plan_spread
from sto_engine.assign.spread_window import window_minutes
from sto_engine.bucket_counts import BucketCounts
from sto_engine.bucket_work import KEEP_BYTES, BucketWork, Kept, as_staged
from sto_engine.capacity_report import load_before, plan_block, summary_blocks
from sto_engine.config import Config
from sto_engine.errors import FingerprintMismatch
from sto_engine.executor import Executor, Threads
from sto_engine.files import canonical_json, folder_lock, write_atomic
from sto_engine.ingest.store import Store
from sto_engine.models.bandit import Bandit
from sto_engine.models.day_of_week import DayOfWeek
from sto_engine.output import manifest as runs
from sto_engine.output.load import Load, load_csv
from sto_engine.output.report import metrics, spread_summary, summarise
from sto_engine.phases import Phases, Placed, StagedAll
from sto_engine.plan import Plan
from sto_engine.prepare import Prepared, ScoreRequest, prepare, scratch
from sto_engine.progress import Progress
from sto_engine.rounds import Priced, Rounds, bins_of, preflight
from sto_engine.slots import window_mask

LOAD_CSV = "load.csv"

__all__ = ["ScoreRequest", "ScoreResult", "run_score"]


@dataclass(frozen=True)
class ScoreResult:
    """`run_dir` is None for a dry run; `complete_before` says that there was nothing left to do."""

    run_dir: Path | None
    complete_before: bool
    summary: dict[str, Any]


def run_score(
    request: ScoreRequest, config: Config, progress: Progress, executor: Executor | None = None
) -> ScoreResult:
    """Choose and write a slot for every recipient; see `ScoreRequest` for the inputs.

    `executor` runs the buckets (None: threads of this process) and changes no byte. One on other machines needs the
    store, what else the request names and `out` under the same paths there.
    Raises a StoError of the family that fits: inputs missing (66), data or a bundle that break their contract (65),
    a configuration that cannot be run (78), outputs that cannot be written (73, 74), another run in the way (75).
    """
    executor = executor or Threads(request.threads)
    prepared = prepare(request, config, progress, executor.on_gpu)
    if request.dry_run:
        return ScoreResult(None, False, _dry_run(prepared, request, progress, executor))
    run = runs.make_folder(request.out / f"run={prepared.run_id}")
    with folder_lock(run, "run folder"):
        done = _complete(run, progress)
        if done is not None:
            return ScoreResult(run, True, done)
        return ScoreResult(run, False, _run(run, prepared, request, progress, executor))


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


def _dry_run(prepared: Prepared, request: ScoreRequest, progress: Progress, executor: Executor) -> dict[str, Any]:
    """All but the shards, nothing written under --out: the summary that the run would have."""
    with TemporaryDirectory(prefix="sto-engine-", dir=scratch(prepared.plan, executor)) as folder:
        decided = _decide(Path(folder), prepared, request, progress, executor)
        return _summary(prepared, decided, decided.expected_load)


def _run(
    run: Path, prepared: Prepared, request: ScoreRequest, progress: Progress, executor: Executor
) -> dict[str, Any]:
    decided = _decide(run, prepared, request, progress, executor)
    clock = time.monotonic()
    placed = decided.place_all()
    decided.timings["spread"] = time.monotonic() - clock
    summary = _summary(prepared, decided, placed.load)
    _check_identity(summary)
    _check_inputs(prepared, request)
    files = {**placed.files, LOAD_CSV: _write_load(run, decided, placed.load)}
    _commit(run, prepared, decided, summary, files)
    return summary


@dataclass(frozen=True)
class Decided:
    """Everything but the second that each recipient is sent at."""

    phases: Phases
    staged: StagedAll
    spread: SpreadPlan
    minutes: int
    notes: list[str]
    timings: dict[str, float]
    priced: Priced | None = None
    bandit: dict[str, Any] | None = None

    @property
    def counts(self) -> BucketCounts:
        """Those of the final slots."""
        return self.staged.counts if self.priced is None else self.priced.counts

    @property
    def expected_load(self) -> Load:
        return load_before(self.counts.spread, self.spread.bins)

    @property
    def load_before(self) -> Load:
        """As if nothing were short; only where something may be."""
        return load_before(self.staged.counts.spread, self.spread.bins)

    @property
    def capacities(self) -> Load:
        return self.priced.market.capacities() if self.priced is not None else {}

    def place_all(self) -> Placed:
        if self.priced is None:
            return self.phases.place_all(self.staged, self.spread, self.staged.records, as_staged, {})
        priced = self.priced
        return self.phases.place_all(self.staged, self.spread, priced.counted, priced.final, priced.slots)


def _decide(run: Path, prepared: Prepared, request: ScoreRequest, progress: Progress, executor: Executor) -> Decided:
    """Phases 0 and A and the rounds."""
    plan, laps = prepared.plan, _Laps()
    work = BucketWork(plan, run, prepared.run_id, request.dump_scores, Kept(KEEP_BYTES))
    phases = Phases(work, executor, progress)
    priors = phases.priors()
    laps.end("priors")
    bandit = plan.policy.told(priors) if isinstance(plan.policy, Bandit) else None
    if not plan.is_priced:
        staged = phases.stage_all(priors)
        laps.end("choose")
        minutes, _ = window_minutes({}, {}, plan.config.spread, plan.grid.send_minutes)
        spread = _spread(plan, staged.counts, minutes)
        return Decided(phases, staged, spread, minutes, [], laps.seconds, bandit=bandit)
    census = phases.demand()
    preflight(plan, census, progress)
    laps.end("pre-flight")
    staged = phases.stage_all(priors, census.mean_weight)
    laps.end("choose")
    priced = Rounds(plan, run, executor, progress, staged, census.past).price()
    laps.end("prices")
    spread = _spread(plan, priced.counts, priced.window_minutes)
    for note in priced.notes:
        progress.info("capacity", detail=note)
    return Decided(phases, staged, spread, priced.window_minutes, priced.notes, laps.seconds, priced, bandit)


def _spread(plan: Plan, counts: BucketCounts, minutes: int) -> SpreadPlan:
    return plan_spread(counts.spread, minutes, bins_of(minutes), plan.config.spread.avoid_minutes)


class _Laps:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self._last, self.seconds = time.monotonic(), dict[str, float]()

    def end(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name], self._last = now - self._last, now


def _summary(prepared: Prepared, decided: Decided, load: Load) -> dict[str, Any]:
    plan, total = prepared.plan, decided.counts
    head = {
        "version": prepared.facts["code"]["version"],
        "run_id": prepared.run_id,
        "date": plan.date.isoformat(),
        "policy": plan.policy.name,
    }
    quarantined = sum(prepared.quarantined.values())
    window = plan.config.window
    within_S = plan.grid.days_ahead(plan.date) < plan.horizon_days
    open_slots = int((window_mask(plan.grid, window.start, window.end, window.quiet) & within_S).sum())
    body = summarise(head, total, quarantined, plan.grid.slots, open_slots, [*prepared.warnings, *decided.notes])
    if plan.options.several:
        body["by_channel"] = {name: total.channel[name] for name in plan.channels}
    if decided.priced is not None:
        body |= summary_blocks(decided.priced, decided.load_before, load)
    if decided.bandit is not None:
        body["bandit"] = {**decided.bandit, **total.regret.summary()}
    if isinstance(plan.policy, DayOfWeek):
        body["best_day"] = plan.policy.told()
    timings = {name: round(seconds, 3) for name, seconds in decided.timings.items()}
    return {**body, "spread": spread_summary(total, decided.minutes), "timings_s": timings}


def _write_load(run: Path, decided: Decided, load: Load) -> str:
    """load.csv, and its sha256."""
    before = load if decided.priced is None else decided.load_before
    body = load_csv(before, load, decided.capacities)
    write_atomic(run / LOAD_CSV, body)
    return hashlib.sha256(body).hexdigest()


def _check_identity(summary: dict[str, Any]) -> None:
    """Nobody is lost: audience = assigned + suppressed + quarantined, or the run is not committed."""
    counts = summary["counts"]
    accounted = counts["assigned"] + counts["suppressed"] + counts["quarantined"]
    if counts["audience"] != accounted:
        raise RuntimeError(f"audience of {counts['audience']} rows, but {accounted} accounted for: {counts}")
    if summary["capacity"]["violations"]:
        raise RuntimeError(f"{summary['capacity']['violations']} messages above the limits, as they were written")


def _check_inputs(prepared: Prepared, request: ScoreRequest) -> None:
    """The inputs that name the run are still the ones that were read."""
    now = Store.open(request.store).fingerprint()
    was = prepared.facts["store"]
    changed = sorted(key for key in was if now.get(key) != was[key])
    if changed:
        raise FingerprintMismatch(
            f"store {request.store} changed while it was being scored ({', '.join(changed)}); run the command again"
        )


def _commit(run: Path, prepared: Prepared, decided: Decided, summary: dict[str, Any], files: dict[str, str]) -> None:
    """summary.json and metrics.prom, then the manifest, which is the commit point and holds no clock."""
    write_atomic(run / "summary.json", canonical_json(summary))
    write_atomic(run / "metrics.prom", metrics(summary, prepared.quarantined).encode())
    timeless = {key: value for key, value in summary.items() if key != "timings_s"}
    body = {**prepared.facts, "run_id": prepared.run_id, "files": files, "summary": timeless}
    if decided.priced is not None:
        body["plan"] = plan_block(decided.priced)
    runs.sync_names(run)
    write_atomic(run / runs.MANIFEST, canonical_json(body))
    runs.clean_up(run)
