"""`bandit update`: outcomes of every recipient as of a midnight, and what they teach of everyone, as files.

    sums       campaign sums and sample of every bucket   -> the tables of models.bandit_fit
    outcomes   mature sends and hits of every bucket       -> a file a bucket
    commit     content by its hash, state.json last

A pure function of the events in [through - history_days, through), so it is exact whatever order or how often they
came, and running it again, or from nothing, gives the same bytes. Appeal of campaigns crosses buckets, so that one new
event may move a digit anywhere: where the store has changed everything is counted anew. A killed update goes on from
its records.
"""

import datetime as dt
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sto_engine.bandit_runs import Run, open_runs, realised
from sto_engine.bucket_work import KEEP_BYTES, PRIORS, BucketWork, Kept
from sto_engine.config import Config
from sto_engine.engine_code import code_facts
from sto_engine.errors import BadData, ConfigError, InputMissing, OutputFailed, UsageError
from sto_engine.executor import Executor, Threads
from sto_engine.files import canonical_json, folder_lock, sync, write_atomic
from sto_engine.history.days import calendar_facts
from sto_engine.ingest.calendar_file import with_calendar
from sto_engine.ingest.store import Store
from sto_engine.models import bandit_state as states
from sto_engine.models.bandit import Bandit
from sto_engine.models.bandit_fit import Learnt, learnt_of
from sto_engine.models.bundle import load_bundle
from sto_engine.models.registry import make_policy
from sto_engine.output import manifest as runs
from sto_engine.output.manifest import Record
from sto_engine.output.shards import write_shard
from sto_engine.phases import Phases
from sto_engine.plan import Plan
from sto_engine.progress import Progress
from sto_engine.records import Records
from sto_engine.slots import grid_of
from sto_engine.view import look
from sto_engine.zones import midnight_ms

OUTCOMES, REGRET, MOST_COHORTS = "outcomes", "regret.json", 20


@dataclass(frozen=True)
class Counting(BucketWork):
    """Phase 0 of a run, and outcomes in place of assignments."""

    def count(self, priors: dict[str, np.ndarray[Any, Any]], bucket: int) -> Record:
        """The file of a bucket, and what it holds."""
        seen, _ = self.kept.pop(bucket)
        known, policy = (seen or look(self.plan, bucket)).known, self.plan.policy
        assert isinstance(policy, Bandit)
        outcomes = policy.outcomes(known, learnt_of(priors, "the tables of this update"))
        table = states.outcomes_table(known.users, outcomes, self.plan.store.id_type)
        name, row_group = states.outcomes_name(bucket), self.plan.config.output.row_group
        with runs.attempt(self.run) as made:
            made.files[name] = write_shard(made.path(name), table, row_group, arrow_types=True)
            sums = (float(x.sum(dtype=np.float64)) for x in (outcomes.sends_US, outcomes.hits_US))
            return made.record(users=table.num_rows, sends=policy.mature(known), sums=list(sums))


def update(
    store: Path,
    state: Path,
    as_of: dt.date | None,
    bundle: Path | None,
    config: Config,
    threads: int,
    progress: Progress,
    executor: Executor | None = None,
    past: Sequence[Path] = (),
) -> dict[str, Any]:
    """Bring `state` up to the midnight `as_of` (UTC; default: the one after the store's newest event).

    What the runs `past` came to is told, and stands in regret.json beside state.json.

    Raises ConfigError (78) for settings that are no bandit's, InputMissing (66) and BadData (65) for inputs that are
    missing or contradict each other, CannotCreate (73), OutputFailed (74), TryLater (75) where another update runs.
    """
    plan = _plan(store, as_of, bundle, config)
    inputs, executor = _inputs(plan), executor or Threads(threads)
    found = open_runs(past, plan.store.buckets) if past else []
    runs.make_folder(state)
    with folder_lock(state, "bandit state"):
        before = states.read_state(state)
        if before is not None and before.meta["inputs"] == inputs and _is_whole(before):
            _clear(state, before.content.name, None)
            runs_told = _regret(plan, state, found, executor)
            return {**_report(before.meta), "up_to_date": True, "changed_buckets": 0, **runs_told}
        meta = _counted(plan, state, inputs, executor, progress)
        was = before.meta["files"] if before is not None else {}
        changed = sum(was.get(name) != sha for name, sha in meta["files"].items() if name.startswith(OUTCOMES))
        runs_told = _regret(plan, state, found, executor)
        return {**_report(meta), "up_to_date": False, "changed_buckets": changed, **runs_told}


def _regret(plan: Plan, state: Path, past: list[Run], executor: Executor) -> dict[str, Any]:
    """What past runs came to, where any are asked about."""
    if not past:
        return {}
    told = {"through": plan.date.isoformat(), "runs": realised(plan, past, executor)}
    write_atomic(state / REGRET, canonical_json(told))
    return {"runs": told["runs"]}


def _plan(path: Path, as_of: dt.date | None, bundle_path: Path | None, config: Config) -> Plan:
    store = Store.open(path)
    if config.model.policy not in (None, "bandit") or config.model.preset is not None:
        raise ConfigError(f'bandit update is for model.policy = "bandit"; found "{config.model.policy}"')
    if store.newest_event_ms is None and as_of is None:
        raise UsageError("the store has no events, so there is no default date; pass --as-of YYYY-MM-DD")
    newest = dt.datetime.fromtimestamp((store.newest_event_ms or 0) / 1000, dt.UTC).date()
    day = as_of or newest + dt.timedelta(days=1)
    config = with_calendar(config)
    config = config.model_copy(update={"model": config.model.model_copy(update={"policy": "bandit"})})
    policy = make_policy(config, load_bundle(bundle_path) if bundle_path is not None else None)
    return Plan(store, config, policy, grid_of(config.slots.grid), day, midnight_ms(day))


def _inputs(plan: Plan) -> dict[str, Any]:
    """What the state depends on."""
    return {
        "store": plan.store.fingerprint(),
        "through": plan.date.isoformat(),
        "terms": states.terms_of(plan.config, plan.policy.bundle_id),
        "code": dict(code_facts()),
        **calendar_facts(plan.config),
    }


def _counted(plan: Plan, state: Path, inputs: dict[str, Any], executor: Executor, progress: Progress) -> dict[str, Any]:
    """Count, and commit; the body of state.json."""
    work = runs.make_folder(state / f"update={hashlib.sha256(canonical_json(inputs)).hexdigest()[:16]}")
    _clear(state, None, work.name)
    counting = Counting(plan, work, "", kept=Kept(KEEP_BYTES))
    phases = Phases(counting, executor, progress)
    priors = phases.priors()
    records = phases.record(OUTCOMES, partial(counting.count, priors))
    os.replace(work / PRIORS, work / states.PRIORS)
    files = {states.PRIORS: hashlib.sha256((work / states.PRIORS).read_bytes()).hexdigest()}
    totals = {"users": 0, "sends": 0}
    for record in records:
        files |= record["files"]
        totals = {name: n + record[name] for name, n in totals.items()}
    if Store.open(plan.store.path).fingerprint() != inputs["store"]:
        raise BadData(f"store {plan.store.path} changed while it was counted; run the command again")
    meta = _meta(plan, inputs, files, records, totals)
    _commit(state, work, meta)
    return meta


def _meta(
    plan: Plan, inputs: dict[str, Any], files: dict[str, str], records: Records, totals: dict[str, int]
) -> dict[str, Any]:
    exposure, hits = (sum(record["sums"][row] for record in records) for row in (0, 1))
    body = {
        "state_version": states.STATE_VERSION,
        "through": inputs["through"],
        "content": hashlib.sha256(canonical_json(files)).hexdigest()[:16],
        "inputs": inputs,
        "terms": inputs["terms"],
        "sources": states.sources_of(plan.store),
        "buckets": plan.store.buckets,
        "id_type": plan.store.id_type,
        "files": files,
        **totals,
        "exposure": round(exposure, 3),
        "hits": round(hits, 3),
    }
    body = json.loads(canonical_json(body))
    return {**body, "seal": states.seal(body)}


def _commit(state: Path, work: Path, meta: dict[str, Any]) -> None:
    """The content by its name, then state.json, then what is no longer named goes."""
    content = state / f"content={meta['content']}"
    shutil.rmtree(work / runs.STAGING, ignore_errors=True)
    try:
        if not runs.files_match(content, meta["files"]):
            shutil.rmtree(content, ignore_errors=True)
            for folder in (work / OUTCOMES, work):
                sync(folder)
            os.replace(work, content)
            sync(state)
    except OSError as error:
        raise OutputFailed(f"bandit state {state} cannot be written: {error.strerror}; check the disk") from error
    write_atomic(state / states.STATE, canonical_json(meta))
    _clear(state, content.name, None)


def _clear(state: Path, content: str | None, work: str | None) -> None:
    """Drop former contents (with `content`: all but that) and the work of other updates."""
    for folder in [*state.glob("content=*"), *state.glob("update=*")]:
        is_former = folder.name.startswith("content=") and content is not None and folder.name != content
        if is_former or (folder.name.startswith("update=") and folder.name != work):
            shutil.rmtree(folder, ignore_errors=True)


def _is_whole(state: states.State) -> bool:
    return runs.files_match(state.content, state.meta["files"])


def _report(meta: dict[str, Any]) -> dict[str, Any]:
    names = ("through", "users", "sends", "exposure", "hits", "content")
    return {name: meta[name] for name in names}


def describe(path: Path) -> dict[str, Any]:
    """What a state holds. InputMissing (66) where there is none, BadData (65) where it is not whole."""
    state = states.read_state(path)
    if state is None:
        raise InputMissing(f"{path} holds no {states.STATE}; make one with: sto-engine bandit update --state {path}")
    learnt = learnt_of(state.tensors, f"bandit state {path}")
    terms = state.meta["terms"]
    fitted = {
        "prior": terms["bandit.prior"],
        "strength": round(learnt.memory.strength, 3),
        "discount": learnt.memory.discount,
        "level_strength": round(learnt.level_strength, 3),
        "changed_share": round(learnt.change_share, 4),
        "cohorts": _best_cohorts(learnt),
    }
    return {**_report(state.meta), "label": terms["model.label"], "grid": terms["slots.grid"], **fitted}


def _best_cohorts(learnt: Learnt) -> dict[str, Any]:
    """Of cohorts with means of their own: the best slot and the chance of a hit there, the likeliest first."""
    if learnt.mean_CS is None:
        return {}
    best_C = learnt.mean_CS.max(axis=1)[: len(learnt.cohort_names)]
    slot_C = learnt.mean_CS.argmax(axis=1)
    order = np.argsort(-best_C, kind="stable")[:MOST_COHORTS]
    return {learnt.cohort_names[c]: {"slot": int(slot_C[c]), "chance": round(float(best_C[c]), 5)} for c in order}
