"""`explain`: why a user gets his slot tonight, by the functions that the nightly run itself calls, for him alone.

The user's data come from his own bucket; what is usual for everyone is what the run's phase 0 would hand over.
"""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.assign.cold_start import within
from sto_engine.assign.spread_window import window_minutes
from sto_engine.assign.window import shifted_zones
from sto_engine.bucket_work import BucketWork
from sto_engine.choose import FALLBACK, reason_codes
from sto_engine.config import Config
from sto_engine.entry import enter
from sto_engine.errors import ConfigError, Unavailable
from sto_engine.executor import Threads
from sto_engine.explain.curves import curves, known_of, numbers, usual
from sto_engine.explain.margin import Compared, margin_parts
from sto_engine.explain.user import Person, about, find_person, history, utc
from sto_engine.models.boosted import Boosted
from sto_engine.models.features import Known, build_features
from sto_engine.models.policy import Utilities
from sto_engine.phases import Phases
from sto_engine.plan import Plan
from sto_engine.prepare import ScoreRequest, prepare
from sto_engine.progress import Progress
from sto_engine.score import Staged, stage_bucket
from sto_engine.slots import MINUTE_MS, parse_clock
from sto_engine.tables import REASONS
from sto_engine.view import BucketView, look
from sto_engine.zones import at

Row = dict[str, Any]


def explain_user(request: ScoreRequest, user_id: str, config: Config, progress: Progress) -> dict[str, Any]:
    """Everything that led to the slot which `score`, asked for by `request`, gives the user; nothing is written.

    Raises what `score` raises for inputs that are missing or do not fit, UsageError (2) for an id of another type than
    the store's, InputMissing (66) for a user whom the store does not hold.
    """
    prepared = prepare(request, config, progress)
    plan, warnings = prepared.plan, list(prepared.warnings)
    if plan.options.several:
        raise ConfigError(f"explain shows one channel; found {', '.join(plan.channels)}; pass one of them by --channel")
    person = find_person(plan, user_id)
    warnings += _notes(plan, person)
    alone = replace(plan, audience=person.audience)
    with TemporaryDirectory(prefix="sto-engine-") as folder:
        work = BucketWork(alone, Path(folder), prepared.run_id)
        priors = Phases(work, Threads(request.threads), progress).priors()
    seen = look(alone, person.bucket)
    staged = stage_bucket(alone, priors, seen)
    utilities = plan.policy.utilities(person.known, priors, plan.date)
    clock = shifted_zones(person.known.users["zone"], person.known.cleaned.shift_U, plan.date)
    (allowed_S, suits_S), known = _open_slots(alone, seen), known_of(plan, person.known, priors)
    row = _row(staged)
    compared = _compared(row, utilities, suits_S) if row is not None else None
    warnings += _held(plan, row) if row is not None else []
    return {
        "user": about(person, user_id, clock[0], config),
        "decision": _decision(plan, staged, compared, utilities),
        "window": {**config.window.model_dump(mode="json"), "allowed_slots": int(allowed_S.sum())},
        "history": history(person, known),
        "priors": usual(plan, known),
        "slots": {
            "local": [_clock(plan, slot) for slot in range(plan.grid.slots)],
            "allowed": allowed_S.tolist(),
            "utility": numbers(utilities.utility_US[0]),
            "p_open": None if utilities.p_open_US is None else numbers(utilities.p_open_US[0]),
            **curves(plan, person.known, priors, known),
        },
        "contributions": _contributions(plan, known, compared, warnings),
        "warnings": warnings,
    }


def _open_slots(plan: Plan, seen: BucketView) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Slots that the one user of the audience may get, or could if he were not suppressed, and those among which the
    model looks: an office without a history keeps office hours."""
    entry = enter(plan, replace(seen, reason=pl.Series([None], dtype=pl.String)))
    if not len(entry.users):
        return np.zeros(plan.grid.slots, np.bool_), np.zeros(plan.grid.slots, np.bool_)
    return entry.allowed_US[0], within(entry.allowed_US, entry.office_U, entry.hours_S)[0]


def _notes(plan: Plan, person: Person) -> list[str]:
    notes = []
    if plan.is_priced:
        notes.append("this run has limits of capacity: score may move the user to another slot, or widen its window")
    if person.listed is False:
        notes.append("the recipients do not list this user: score leaves him out unless --audience names him")
    if person.row["consent_profiling"] is False:
        notes.append("the user does not consent to profiling: nothing that he did counts")
    return notes


def _held(plan: Plan, row: Row) -> list[str]:
    """What `assign.min_gain` or `assign.keep_gain` does to one who follows the model, or a draw to one who explores."""
    if row["reason"] == "explore" and row["arm"] != "explore":
        return ["the user explores tonight, by cold_start.burst_campaigns or epsilon: the slot is drawn, not chosen"]
    if row["arm"] not in (None, "model") or row["slot"] == row["preferred_slot"]:
        return []
    slot, best = _clock(plan, row["slot"]), _clock(plan, row["preferred_slot"])
    return [f"assign.min_gain or assign.keep_gain holds the user at {slot}: {best} does not bring that much more"]


def _row(staged: Staged) -> Row | None:
    """The staged row of the user; None for one who is not mailed."""
    rows = pl.from_arrow(staged.rows)
    assert isinstance(rows, pl.DataFrame)
    return rows.row(0, named=True) if len(rows) else None


def _compared(row: Row, utilities: Utilities, suits_S: NDArray[np.bool_]) -> Compared:
    """The model's slot and the next best; without a history there is none: the slot is the one nearest the control."""
    chosen, utility_S = int(row["preferred_slot"]), utilities.utility_US[0]
    others_S = suits_S.copy()
    others_S[chosen] = False
    ranked = np.isfinite(utility_S[suits_S]).all() and reason_codes(utilities.reason_U)[0] != FALLBACK
    if not others_S.any() or not ranked:
        return Compared(chosen, None)
    return Compared(chosen, int(np.where(others_S, utility_S, -np.inf).argmax()))


def _decision(plan: Plan, staged: Staged, compared: Compared | None, utilities: Utilities) -> dict[str, Any]:
    """What `score` writes of the user, beside the model's slot and the runner-up."""
    head = {"date": plan.date.isoformat(), "policy": plan.policy.name, "bundle_id": plan.policy.bundle_id}
    row = _row(staged)
    if row is None or compared is None:
        return {**head, "suppressed": staged.suppressed["reason"][0].as_py(), "slot": None}
    p_S = None if utilities.p_open_US is None else utilities.p_open_US[0]
    minutes, _ = window_minutes({}, {}, plan.config.spread, plan.grid.send_minutes)
    return {
        **head,
        "suppressed": None,
        "slot": row["slot"],
        "slot_local": _local(plan, row["slot"]),
        "send_from": utc(row["start_ms"]),
        "send_before": utc(row["start_ms"] + minutes * MINUTE_MS),
        "arm": row["arm"],
        "reason": row["reason"],
        "propensity": round(row["propensity"], 6),
        "p_open": _at(p_S, row["slot"]),
        "control_slot": plan.control_slot,
        "p_control": _at(p_S, plan.control_slot),
        "model_slot": compared.chosen,
        "model_reason": REASONS[reason_codes(utilities.reason_U)[0]],
        "model_p_open": _at(p_S, compared.chosen),
        "runner_up": compared.runner_up,
        "runner_up_p_open": _at(p_S, compared.runner_up),
        "lead": _lead(utilities.utility_US[0], compared),
        "n_eff": round(row["n_eff"], 3),
    }


def _at(p_S: NDArray[np.float32] | None, slot: int | None) -> float | None:
    return None if p_S is None or slot is None else numbers(p_S[[slot]])[0]


def _lead(utility_S: NDArray[np.float32], compared: Compared) -> float | None:
    """By how much the utility of the model's slot exceeds that of the runner-up."""
    if compared.runner_up is None:
        return None
    return numbers(np.array([float(utility_S[compared.chosen]) - float(utility_S[compared.runner_up])]))[0]


def _clock(plan: Plan, slot: int) -> str:
    """Local time of the start of a slot; with its date where there are several days."""
    grid = plan.grid
    if grid.days == 1:
        return str(at(slot * grid.minutes * MINUTE_MS).strftime("%H:%M"))
    minute = parse_clock(plan.config.experiment.control_time) if grid.slots == 7 else slot % 24 * 60
    day = plan.date + timedelta(days=int(grid.days_ahead(plan.date)[slot]))
    return f"{day}T{minute // 60:02d}:{minute % 60:02d}"


def _local(plan: Plan, slot: int) -> str:
    clock = _clock(plan, slot)
    return clock if "T" in clock else f"{plan.date}T{clock}"


def _contributions(
    plan: Plan, known: Known | None, compared: Compared | None, warnings: list[str]
) -> dict[str, Any] | None:
    """Parts of the margins of `boosted`; without XGBoost a warning, and the rest is still explained."""
    if known is None or compared is None or not isinstance(plan.policy, Boosted):
        return None
    features = build_features(known, plan.date, plan.grid.slots, plan.policy.kind)
    try:
        return margin_parts(plan.policy.bundle, features, compared)
    except Unavailable as error:
        warnings.append(str(error))
        return None
