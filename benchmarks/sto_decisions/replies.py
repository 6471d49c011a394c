"""Real mail with an answer: does the probability that a policy states rank the mails that were answered in time higher?

Data set `rlists_dev`: answers on mailing lists, and whether their recipient replied to them within 14 days ("open").
From 2006 on, and only mails that came at least three hours after the recipient's own (else he still sits there).
Policies learn from the first 70 % of the mails and state P(answer within two hours) for every hour of the day as of
that moment; the rest of the mails, of users known by then, are ranked by it: AUC of an answer within 2 h, and within
24 h beside it. A rank is the user's level more than the hour's; nobody chose these hours, and an answer is more than an
open.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from sto_decisions import engine
from sto_decisions.baselines import Floats, count, per_user
from sto_decisions.known import HOURS, MINUTE_MS, Bools, Ints
from sto_decisions.records import Cell, Record, Values, make_record

NAME = "rlists_dev"
FIRST_YEAR, MIN_LAG_MIN, TRAIN_SHARE = 2006, 180, 0.7
# the mails of one person are years apart: all of them are history, and the labels of three years make a training set
SETTINGS = ("model.history_days=7300", "train.label_days=1460")
OURS = ("attention", "boosted", "seed_boosted")
USER_PRIOR_SENDS, HOUR_PRIOR_SENDS = 5.0, 50.0
WITHIN_H = {"2h": 2, "24h": 24}


@dataclass(frozen=True)
class Mails:
    """N mails: user (row of `users`), local hour, answered within 2 and 24 h; those before the split come first."""

    users: pl.DataFrame
    user_N: Ints
    hour_N: Ints
    answered: dict[str, Bools]
    is_before_N: Bools


Chances = Callable[[Mails], Floats]


def run_replies(folder: Path, threads: int) -> list[Record]:
    """The records of every policy on the mails of a folder with events.parquet and send_context.parquet."""
    events = late_mails(folder)
    split = split_day(events)
    mails = make_mails(events, split)
    with TemporaryDirectory(prefix="sto-decisions-") as name:
        job = engine.Job(Path(name) / "store", Path(name), split, threads, 0)
        events.write_parquet(job.folder / "events.parquet")
        engine.make_store(job.store, [job.folder / "events.parquet"], None)
        results = {policy: _attempt(chances, mails) for policy, chances in _policies(job).items()}
    stated = [found for found, _ in results.values() if not isinstance(found, Exception)]
    judged_N = ~mails.is_before_N & np.all([np.isfinite(p_N) for p_N in stated], axis=0)
    cell = Cell("replies", NAME, f"until {split}", 0, len(mails.users))
    return [
        _record(cell, policy, found, seconds, mails, judged_N, threads) for policy, (found, seconds) in results.items()
    ]


def late_mails(folder: Path) -> pl.DataFrame:
    """Sends of the chosen years and lags, with their opens: rows of the event table."""
    events = pl.read_parquet(folder / "events.parquet")
    context = pl.read_parquet(folder / "send_context.parquet").filter(pl.col("lag_min") >= MIN_LAG_MIN)
    sends = events.filter((pl.col("event_type") == "send") & (pl.col("event_ts").dt.year() >= FIRST_YEAR))
    mails = sends.join(context, on="campaign_id", how="semi").select("user_id", "campaign_id")
    return events.join(mails, on=["user_id", "campaign_id"], how="semi", maintain_order="left")


def split_day(events: pl.DataFrame) -> date:
    """The UTC midnight before which 70 % of the mails came."""
    sent = events.filter(pl.col("event_type") == "send")["event_ts"].sort()
    moment = sent[int(TRAIN_SHARE * len(sent))]
    return date(moment.year, moment.month, moment.day) + timedelta(days=1)


def make_mails(events: pl.DataFrame, split: date) -> Mails:
    """One row a mail; an answer belongs to its only mail, since every mail is a campaign of its own."""
    at = datetime(split.year, split.month, split.day, tzinfo=UTC)
    keys = ["user_id", "campaign_id"]
    answers = events.filter(pl.col("event_type") == "open").group_by(keys).agg(pl.col("event_ts").min().alias("answer"))
    sends = events.filter(pl.col("event_type") == "send").unique(keys, keep="first", maintain_order=True)
    users = sends.select("user_id").unique().sort("user_id").with_row_index("user")
    rows = sends.join(answers, on=keys, how="left", maintain_order="left").join(
        users, on="user_id", maintain_order="left"
    )
    waited = pl.col("answer") - pl.col("event_ts")
    local_ms = pl.col("event_ts").dt.epoch("ms") + pl.col("tz_offset").cast(pl.Int64) * MINUTE_MS
    is_answered = {h: (waited <= timedelta(hours=hours)).fill_null(False) for h, hours in WITHIN_H.items()}
    rows = rows.select("user", hour=local_ms // 3_600_000 % HOURS, before=pl.col("event_ts") < at, **is_answered)
    answered = {h: rows[h].to_numpy() for h in WITHIN_H}
    return Mails(
        users, rows["user"].to_numpy().astype(np.int64), rows["hour"].to_numpy(), answered, rows["before"].to_numpy()
    )


def _policies(job: engine.Job) -> dict[str, Chances]:
    plain: dict[str, Chances] = {
        "rate_of_hour": rate_of_hour,
        "rate_of_user": rate_of_user,
        "rate_of_both": rate_of_both,
    }
    return {**plain, **{engine.PREFIX + name: partial(_ours, name, job) for name in OURS}}


def rate_of_hour(mails: Mails) -> Floats:
    """Share of answers at the mail's local hour, over everyone before the split."""
    before_N = mails.is_before_N
    sends_24 = count(mails.hour_N[before_N])
    answers_24 = count(mails.hour_N[before_N & mails.answered["2h"]])
    rate = answers_24.sum() / sends_24.sum()
    return np.asarray((answers_24 + HOUR_PRIOR_SENDS * rate) / (sends_24 + HOUR_PRIOR_SENDS))[mails.hour_N]


def rate_of_user(mails: Mails) -> Floats:
    """Share of answers of the recipient before the split, shrunk to that of everyone; NaN for unknown users."""
    sends_U, answers_U = _tallies(mails)
    rate = answers_U.sum() / sends_U.sum()
    p_U = (answers_U + USER_PRIOR_SENDS * rate) / (sends_U + USER_PRIOR_SENDS)
    return np.asarray(np.where(sends_U > 0, p_U, np.nan)[mails.user_N])


def rate_of_both(mails: Mails) -> Floats:
    """The two above as odds, multiplied: the user's level and everyone's hour."""
    hour_N, user_N = rate_of_hour(mails), rate_of_user(mails)
    return np.asarray(hour_N / (1 - hour_N) * user_N / (1 - user_N))


def _tallies(mails: Mails) -> tuple[Floats, Floats]:
    before_N, users = mails.is_before_N, len(mails.users)
    answered_N = before_N & mails.answered["2h"]
    sends_U = per_user(mails.user_N[before_N], mails.hour_N[before_N], users).sum(axis=1)
    return sends_U, per_user(mails.user_N[answered_N], mails.hour_N[answered_N], users).sum(axis=1)


def _ours(name: str, job: engine.Job, mails: Mails) -> Floats:
    """P of the engine at each mail's local hour, as of the split; NaN for users whom it did not know."""
    run = engine.run(name, replace(job, folder=job.folder / name), SETTINGS, dump_scores=True)
    scores = pl.read_parquet(run / "scores" / "*.parquet")
    rows = mails.users.join(scores, on="user_id", how="left", maintain_order="left")
    nothing = pl.lit([float("nan")] * HOURS, pl.List(pl.Float32))
    p_U24 = rows.select(pl.col("p_open").fill_null(nothing).list.to_array(HOURS))["p_open"].to_numpy()
    return np.asarray(p_U24[mails.user_N, mails.hour_N], np.float64)


def _attempt(chances: Chances, mails: Mails) -> tuple[Floats | Exception, float]:
    began = time.monotonic()
    try:
        found: Floats | Exception = chances(mails)
    except Exception as error:
        found = error
    return found, time.monotonic() - began


def _record(
    cell: Cell, policy: str, found: Floats | Exception, seconds: float, mails: Mails, judged_N: Bools, threads: int
) -> Record:
    name = policy.removeprefix(engine.PREFIX)
    settings = [*engine.SETTINGS[name].overrides, *SETTINGS] if policy.startswith(engine.PREFIX) else []
    make = partial(make_record, cell, policy, seconds=seconds, threads=threads, settings=settings)
    if isinstance(found, Exception):
        return make(None, failure=found)
    values: Values = {}
    for horizon, answered_N in mails.answered.items():
        values[f"auc_{horizon}"], values[f"auc_{horizon}_se"] = auc(found[judged_N], answered_N[judged_N])
        values[f"rate_{horizon}"] = round(float(answered_N[judged_N].mean()), 5)
    return make(values, judged=int(judged_N.sum()))


def auc(p_N: Floats, label_N: Bools) -> tuple[float | None, float | None]:
    """Chance that an answered mail ranks above another, ties half, and its standard error (Hanley and McNeil, 1982)."""
    yes, no = int(label_N.sum()), int((~label_N).sum())
    if not yes or not no:
        return None, None
    ranks = pl.Series(p_N).rank("average").to_numpy()
    a = (float(ranks[label_N].sum()) - yes * (yes + 1) / 2) / (yes * no)
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    variance = (a * (1 - a) + (yes - 1) * (q1 - a * a) + (no - 1) * (q2 - a * a)) / (yes * no)
    return round(a, 5), round(max(variance, 0.0) ** 0.5, 5)
