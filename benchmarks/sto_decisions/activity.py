"""Real activity without mail: of the hours a policy picks from 90 days, how often is the person there in the next 28?

Data set `gitact_dev`: commits of people with their own UTC offset, every one an act. Policies decide for users with at
least 5 acts in the 90 days before an as-of date; a slot is worth the share of the user's active days, of the 28 days
after it, on which he acts within [slot, slot + 2 h) of his local time. Users without an active day then are not judged.
Nobody was mailed at these hours: it says when people are at their desk, and nothing of opens.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from sto_decisions import engine
from sto_decisions.baselines import FIXED_HOUR, Floats, per_user, raw_slots, smoothed_slots, two_hours
from sto_decisions.known import HOURS, MINUTE_MS, Ints
from sto_decisions.records import Cell, Record, Values, make_record

NAME = "gitact_dev"
HISTORY_DAYS, AHEAD_DAYS, MIN_ACTS = 90, 28, 5
FIRST, LAST, STEP_MONTHS = date(2013, 1, 1), date(2026, 7, 1), 3
OURS = ("histogram", "attention")
RAW, SMOOTHED = "raw_histogram", "smoothed_histogram"
# differences that are reported, paired over the same users and dates
AGAINST = (RAW, SMOOTHED, f"{engine.PREFIX}histogram")
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Panel:
    """The users of one as-of date: ids and row numbers, acts by local hour before it, worth of every slot after it."""

    day: date
    users: pl.DataFrame
    acts_U24: Floats
    worth_U24: Floats


def as_of_dates() -> list[date]:
    """Every quarter of the data."""
    months = range(FIRST.year * 12 + FIRST.month - 1, LAST.year * 12 + LAST.month, STEP_MONTHS)
    return [date(month // 12, month % 12 + 1, 1) for month in months]


def run_activity(folder: Path, dates: Sequence[date], threads: int) -> list[Record]:
    """The records of every policy over all dates; `folder` holds events.parquet of the event table, of acts only."""
    events = local_acts(pl.read_parquet(folder / "events.parquet"))
    with TemporaryDirectory(prefix="sto-decisions-") as name:
        job = engine.Job(Path(name) / "store", Path(name), dates[0], threads, 0)
        engine.make_store(job.store, [folder / "events.parquet"], None)
        panels = [panel for day in dates if len((panel := make_panel(events, day)).users)]
        results = {policy: _attempt(decide, panels) for policy, decide in _policies(job).items()}
    users = int(events["user_id"].n_unique())
    cell = Cell("activity", NAME, f"{HISTORY_DAYS} d, {len(panels)} dates", 0, users)
    return [_record(cell, policy, results, panels, threads) for policy in results]


def local_acts(events: pl.DataFrame) -> pl.DataFrame:
    """user_id, event_ts and the local `day` (since the epoch) and `hour` of every act, by the offset of the event."""
    local_ms = pl.col("event_ts").dt.epoch("ms") + pl.col("tz_offset").cast(pl.Int64) * MINUTE_MS
    return events.select("user_id", "event_ts", day=local_ms // DAY_MS, hour=local_ms // 3_600_000 % HOURS)


def make_panel(events: pl.DataFrame, day: date) -> Panel:
    """Users with enough acts before `day` 00:00 UTC and an active day after it."""
    at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    before = events.filter(pl.col("event_ts").is_between(at - timedelta(HISTORY_DAYS), at, closed="left"))
    after = events.filter(pl.col("event_ts").is_between(at, at + timedelta(AHEAD_DAYS), closed="left"))
    enough = before.group_by("user_id").len().filter(pl.col("len") >= MIN_ACTS)
    users = enough.join(after, on="user_id", how="semi").select("user_id").sort("user_id").with_row_index("user")
    mine = before.join(users, on="user_id", how="inner")
    acts_U24 = per_user(mine["user"].to_numpy().astype(np.int64), mine["hour"].to_numpy(), len(users))
    return Panel(day, users, acts_U24, worth(after.join(users, on="user_id", how="inner"), len(users)))


def worth(acts: pl.DataFrame, users: int) -> Floats:
    """Share of each user's active local days on which he acts within two hours of each slot, [U, 24].

    Two hours from 23 reach into the next day.
    """
    days = acts.select("user", "day").unique()
    own = acts.select("user", "day", slot="hour")
    earlier = acts.select("user", day=pl.col("day") - (pl.col("hour") == 0), slot=(pl.col("hour") - 1) % HOURS)
    hits = pl.concat([own, earlier]).unique().join(days, on=["user", "day"], how="semi")
    hits_U24 = per_user(hits["user"].to_numpy().astype(np.int64), hits["slot"].to_numpy(), users)
    return np.asarray(hits_U24 / np.bincount(days["user"].to_numpy(), minlength=users)[:, None])


Decide = Callable[[Panel], Ints]


def _policies(job: engine.Job) -> dict[str, Decide]:
    plain: dict[str, Decide] = {
        "fixed_10": lambda panel: np.full(len(panel.users), FIXED_HOUR),
        "best_global_hour": lambda panel: np.full(len(panel.users), two_hours(panel.acts_U24).sum(axis=0).argmax()),
        RAW: lambda panel: raw_slots(panel.acts_U24),
        SMOOTHED: lambda panel: smoothed_slots(panel.acts_U24, np.zeros(len(panel.users), np.int64)),
    }
    return {**plain, **{engine.PREFIX + name: partial(_ours, name, job) for name in OURS}}


def _ours(name: str, job: engine.Job, panel: Panel) -> Ints:
    """The slots that the engine gives the users of a panel, in their order."""
    audience = job.folder / "audience.parquet"
    panel.users.select("user_id").write_parquet(audience)
    today = engine.Job(job.store, job.folder, panel.day, job.threads, job.seed)
    sent = engine.decide(name, today, audience=audience)
    slots = panel.users.join(sent.rows.select("user_id", "slot"), on="user_id", how="left", maintain_order="left")[
        "slot"
    ]
    if slots.null_count():
        raise ValueError(f"{name} left {slots.null_count()} of {len(slots)} users of {panel.day} without a slot")
    return slots.to_numpy().astype(np.int64)


Result = tuple[list[Floats] | Exception, float]


def _attempt(decide: Decide, panels: Sequence[Panel]) -> Result:
    """What the chosen slots are worth to each user of each panel, or what went wrong; and the seconds it took."""
    began = time.monotonic()
    try:
        found: list[Floats] | Exception = [p.worth_U24[np.arange(len(p.users)), decide(p)] for p in panels]
    except Exception as error:
        found = error
    return found, time.monotonic() - began


def _record(cell: Cell, policy: str, results: dict[str, Result], panels: Sequence[Panel], threads: int) -> Record:
    worths, seconds = results[policy]
    name = policy.removeprefix(engine.PREFIX)
    settings = engine.SETTINGS[name].overrides if policy.startswith(engine.PREFIX) else ()
    make = partial(make_record, cell, policy, seconds=seconds, threads=threads, settings=settings)
    if isinstance(worths, Exception):
        return make(None, failure=worths)
    ids = np.concatenate([panel.users["user_id"].to_numpy() for panel in panels])
    mine, values = np.concatenate(worths), Values()
    values["window_2h"], values["window_2h_se"] = clustered(mine, ids)
    for other in AGAINST:
        theirs = results.get(other, (ValueError(), 0.0))[0]
        if other != policy and not isinstance(theirs, Exception):
            values[f"minus_{other}"], values[f"minus_{other}_se"] = clustered(mine - np.concatenate(theirs), ids)
    return make(values, judged=len(mine))


def clustered(value_N: Floats, user_N: Ints) -> tuple[float, float]:
    """Mean and its standard error, rows of one user taken as one draw."""
    mean = float(value_N.mean())
    _, index_N = np.unique(user_N, return_inverse=True)
    residual_U = np.bincount(index_N, weights=value_N - mean)
    return round(mean, 5), round(float(np.sqrt(np.square(residual_U).sum())) / len(value_N), 5)
