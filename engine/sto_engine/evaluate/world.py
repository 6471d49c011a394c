"""`evaluate world`: what assignments are worth by the truth of the simulated world that their history came from.

A mail counts at the weekday and hour that it has for its recipient in his *true* zone, so a wrong zone costs what it
would cost. Compared with three others on the same users and day: everyone at 10:00 true local time, everyone at the
one hour that the truth says is best, and everyone at his own best hour (the oracle). Where mail may wait for days, the
common hour is one of all these days (24 and above: of later ones), and so is everyone's own.

    captured = (ours - fixed) / (oracle - fixed)

A simulated sender shows whether the engine does what it should. It is no evidence of what timing is worth to anyone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.errors import BadData, UsageError
from sto_engine.evaluate.assignments import Sent, read_sent
from sto_engine.evaluate.measures import Floats, calibration, captured, equal_groups, slot_shape
from sto_engine.evaluate.truth import DAY_H, HORIZONS, WEEK_H, Truth, read_truth
from sto_engine.tables import ARMS, encode
from sto_engine.zones import HOUR_MS, event_offsets

FIXED_HOUR = 10
MINUTE_MS = 60_000
EVERYONE = "all"
NOTE = "a simulated sender whose truth is known: shows what the engine does, never evidence of lift"
NO_LIFT = (
    "no lift exists within {horizon}: no hour of this world beats {fixed}:00 for anyone, so captured is not defined"
)


@dataclass(frozen=True)
class Worth:
    """Chances of an open of each judged user, float64 [U]: at our hour, the fixed, the best common and his best one."""

    common_hour: int
    ours_U: Floats
    fixed_U: Floats
    common_U: Floats
    best_U: Floats

    def captured(self, mine_U: NDArray[np.bool_] | slice = slice(None)) -> dict[str, float | None]:
        return captured(self.ours_U[mine_U], self.fixed_U[mine_U], self.best_U[mine_U])


def evaluate_world(world: Path, run: Path, arm: str = "model") -> dict[str, Any]:
    """Judge the assignments of `run` (see `read_sent`) by the truth of the folder `world`.

    Raises InputMissing (66) and BadData (65) for inputs that are missing or do not fit each other, UsageError (2) for
    an arm that nobody is in.
    """
    return {"note": NOTE, "world": str(world), "run": str(run), **judge(read_truth(world), read_sent(run), arm)}


def judge(truth: Truth, sent: Sent, arm: str = "model") -> dict[str, Any]:
    """Figures of the eligible users of an arm ("all" for everyone): see the module and the keys of the result."""
    rows = _with_truth(truth, sent)
    judged = _of_arm(rows.filter(pl.col("eligible")), sent, arm)
    hour_U, first_hour, day = true_hours(judged, sent.day)
    row_U = judged["truth_row"].to_numpy()
    worth = {
        h: _worth(truth.chances(h, first_hour is not None, row_U), hour_U, first_hour, sent.days) for h in HORIZONS
    }
    slot_U = judged["slot"].fill_null(pl.Series(hour_U % DAY_H)).to_numpy()
    groups = {
        reason: (judged["reason"] == reason).to_numpy() for reason in judged["reason"].drop_nulls().unique().sort()
    }
    figures = {f"within_{horizon}": _figures(worth[horizon]) for horizon in HORIZONS}
    return {
        "arm": arm,
        "date": day.isoformat() if day is not None else None,
        "users": _coverage(truth, rows, len(judged)),
        **figures,
        "slots": slot_shape(slot_U, sent.slots, sent.allowed_S),
        "calibration": calibration(judged["p_open"].cast(pl.Float64).to_numpy(), worth["2h"].ours_U),
        "by_reason": _by_group(groups, worth),
        "by_n_eff": _by_group(dict(equal_groups(judged["n_eff"].to_numpy())), worth),
        "by_slot": {str(slot): int(n) for slot, n in enumerate(np.bincount(slot_U, minlength=sent.slots))},
        "warnings": [
            NO_LIFT.format(horizon=horizon, fixed=FIXED_HOUR)
            for horizon in HORIZONS
            if figures[f"within_{horizon}"]["captured_percent"] is None
        ],
    }


def _with_truth(truth: Truth, sent: Sent) -> pl.DataFrame:
    """Rows with the columns of the truth, null for users that it does not know; ids of two types meet as text."""
    rows, users = sent.rows, truth.users
    if rows.schema["user_id"] != users.schema["user_id"]:
        rows, users = (table.with_columns(pl.col("user_id").cast(pl.String)) for table in (rows, users))
    joined = rows.join(users, on="user_id", how="left", maintain_order="left")
    if joined["truth_row"].null_count() == len(joined):
        raise BadData(
            f"{sent.name} and {truth.path} must be of the same users; found none of its {len(joined)} users in the "
            "truth; pass the --world that the run's history was simulated in"
        )
    return joined


def _of_arm(rows: pl.DataFrame, sent: Sent, arm: str) -> pl.DataFrame:
    has_arms = bool(sent.rows["arm"].is_not_null().any())
    if arm not in (*ARMS, EVERYONE):
        raise UsageError(f'--arm must be one of {", ".join((*ARMS, EVERYONE))}; found "{arm}"')
    is_everyone = arm == EVERYONE or (arm == "model" and not has_arms)
    kept = rows if is_everyone else rows.filter(pl.col("arm") == arm)
    if not len(kept):
        found = ", ".join(rows["arm"].drop_nulls().unique().sort()) or "no arms"
        raise UsageError(f'--arm "{arm}" must have eligible users in {sent.name}; found none (there: {found})')
    return kept


def true_hours(rows: pl.DataFrame, day: date | None) -> tuple[NDArray[np.int64], int | None, date | None]:
    """True local hour of each mail: of the week [U], with the week's hour at which the judged day begins and the day.

    The day is the run's, else the one on which most mails arrive. Rows without send_at have an hour of the day of the
    truth, and neither a first hour nor a day.
    """
    if rows["send_at_ms"].null_count():
        minute_U = (rows["slot"] * 60 - rows["tz_offset"] + rows["true_offset"].cast(pl.Int64)).to_numpy()
        return minute_U // 60 % DAY_H, None, None
    zones, zone_U = encode(rows["true_timezone"])
    time_U = rows["send_at_ms"].to_numpy()
    local_U = time_U + event_offsets(zones, zone_U, time_U).astype(np.int64) * MINUTE_MS
    if day is None:
        days, counts = np.unique(local_U // (DAY_H * HOUR_MS), return_counts=True)
        day = datetime.fromtimestamp(int(days[counts.argmax()]) * 86_400, UTC).date()
    return (local_U // HOUR_MS + 72) % WEEK_H, day.weekday() * DAY_H, day  # the epoch was a Thursday


def _worth(p_UH: NDArray[np.float32], hour_U: NDArray[np.int64], first_hour: int | None, days: int) -> Worth:
    """Others choose among the hours of all days on which mail may go out; the fixed hour is that of the first."""
    open_UH = p_UH[:, ((first_hour or 0) + np.arange(days * DAY_H)) % p_UH.shape[1]]
    common = int(open_UH.sum(axis=0, dtype=np.float64).argmax())
    ours_U = p_UH[np.arange(len(p_UH)), hour_U]
    columns = (ours_U, open_UH[:, FIXED_HOUR], open_UH[:, common], open_UH.max(axis=1))
    return Worth(common, *(np.asarray(column, np.float64) for column in columns))


def _figures(worth: Worth) -> dict[str, float | int | None]:
    ours, fixed, common, best = (
        float(column.sum()) for column in (worth.ours_U, worth.fixed_U, worth.common_U, worth.best_U)
    )
    return {
        "ours": round(ours, 2),
        f"fixed_{FIXED_HOUR}": round(fixed, 2),
        "oracle_common_hour": worth.common_hour,
        "oracle_common": round(common, 2),
        "oracle": round(best, 2),
        "regret_per_user": round((best - ours) / len(worth.ours_U), 6),
        "regret_percent": round(100 * (best - ours) / best, 2) if best > 0 else None,
        **worth.captured(),
    }


def _coverage(truth: Truth, rows: pl.DataFrame, judged: int) -> dict[str, float | int | None]:
    """Who was mailed, of all arms: eligible users, others, and ids that the truth does not know."""
    eligible, mailed = int(truth.users["eligible"].sum()), int(rows["eligible"].fill_null(False).sum())
    unknown = rows["truth_row"].null_count()
    return {
        "judged": judged,
        "eligible": eligible,
        "eligible_mailed": mailed,
        "coverage": round(mailed / eligible, 6) if eligible else None,
        "ineligible_mailed": len(rows) - unknown - mailed,
        "unknown_ids": unknown,
    }


def _by_group(groups: Mapping[str, NDArray[np.bool_]], worth: Mapping[str, Worth]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "users": int(mine_U.sum()),
            **{f"captured_{h}": worth[h].captured(mine_U)["captured_percent"] for h in HORIZONS},
        }
        for name, mine_U in groups.items()
    }
