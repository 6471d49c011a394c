"""A simulated customer data platform: 5,849 campaigns in half a year, each sent on one day, and who clicked.

    logit P(click) = own level + appeal of the campaign + day for everyone + day for his segment + day of his own

The effects of the day are mild (odds times 1.2 to 1.5 at best) and drift: what suits everyone turns slowly through the
week, and two people in five change their own day once. Campaigns go out on random days, so mail of any day may be
compared with that of another. U users, N mails; days are counted from START, a Monday.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_decisions.baselines import Floats
from sto_decisions.known import Ints

CAMPAIGNS, DAYS, MAILS = 5_849, 180, 120
START = date(2026, 1, 5)
BASE, SPREAD, APPEAL = 0.03, 0.8, 0.5
COMMON, SEGMENT, OWN = 0.15, 0.2, 0.4
CHANGES, TURN_DAYS = 0.4, 120.0
SEGMENTS, WEEK = 3, 7
SEND_HOUR, NULLS, OPENS = 10, 0.1, 2.0


@dataclass(frozen=True)
class Customers:
    """What is true of them: level, segment, their own day before and after the day on which it changes."""

    level_U: Floats
    segment_U: Ints
    own_U2: Ints
    change_U: Floats

    def logits(self, user_N: Ints, day_N: Ints, weekday_N: Ints) -> Floats:
        """Of a click on a mail without any appeal of its own, around a day, on a weekday, float64 [N]."""
        own_N = self.own_U2[user_N, (day_N >= self.change_U[user_N]).astype(np.int64)]
        common_N = COMMON * _wave(weekday_N - 1 - day_N / TURN_DAYS)
        segment_N = SEGMENT * _wave(weekday_N - 2.5 * self.segment_U[user_N])
        return np.asarray(self.level_U[user_N] + common_N + segment_N + OWN * _wave(weekday_N - own_N))

    def chances(self, day: int) -> Floats:
        """P(click) of an ordinary mail on each weekday around a day, float64 [U, 7]."""
        users = len(self.level_U)
        user_N, weekday_N = np.repeat(np.arange(users), WEEK), np.tile(np.arange(WEEK), users)
        logit_N = self.logits(user_N, np.full(len(user_N), day), weekday_N)
        return np.asarray(1 / (1 + np.exp(-logit_N))).reshape(users, WEEK)


def _wave(days: NDArray[Any]) -> Floats:
    """1 on the day itself, -1 half a week away."""
    return np.asarray(np.cos(2 * np.pi * days / WEEK))


@dataclass(frozen=True)
class Sender:
    """His customers, what he knows of them, and his mails by user, campaign, day and whether clicked."""

    customers: Customers
    people: pl.DataFrame
    user_N: Ints
    campaign_N: Ints
    day_N: Ints
    click_N: NDArray[np.bool_]
    open_N: NDArray[np.bool_]


def make_sender(users: int, seed: int, campaigns: int = CAMPAIGNS) -> Sender:
    """The same for the same arguments."""
    rng = np.random.default_rng([seed, 5849])
    level_U = np.log(BASE / (1 - BASE)) + SPREAD * rng.standard_normal(users)
    segment_U = np.searchsorted(np.quantile(level_U, [1 / 3, 2 / 3]), level_U)
    changes_U = rng.random(users) < CHANGES
    customers = Customers(
        level_U,
        segment_U.astype(np.int64),
        rng.integers(0, WEEK, (users, 2)),
        np.where(changes_U, rng.uniform(0, DAYS, users), np.inf),
    )
    mails_U = rng.gamma(2.0, 0.5, users)
    user_N = rng.choice(users, campaigns * MAILS, p=mails_U / mails_U.sum())
    campaign_N = np.repeat(np.arange(campaigns), MAILS)
    day_N = rng.integers(0, DAYS, campaigns)[campaign_N]
    _, once = np.unique(campaign_N * users + user_N, return_index=True)  # nobody gets a campaign twice
    user_N, campaign_N, day_N = user_N[once], campaign_N[once], day_N[once]
    logit_N = customers.logits(user_N, day_N, day_N % WEEK) + APPEAL * rng.standard_normal(campaigns)[campaign_N]
    click_N = rng.random(len(user_N)) < 1 / (1 + np.exp(-logit_N))
    open_N = click_N | (rng.random(len(user_N)) < 1 / (1 + np.exp(-logit_N - OPENS)))
    return Sender(customers, _people(customers, mails_U, rng), user_N, campaign_N, day_N, click_N, open_N)


def _people(customers: Customers, mails_U: Floats, rng: np.random.Generator) -> pl.DataFrame:
    """The snapshot: engagement goes with the level, churn risk against it, value with neither."""
    users, level_U = len(customers.level_U), (customers.level_U - customers.level_U.mean()) / SPREAD
    rank_U = (level_U + 0.7 * rng.standard_normal(users)).argsort().argsort() / users
    columns = {
        "engagement_score": np.round(100 * rank_U, 1),
        "frequency": np.round(mails_U * rng.uniform(0.8, 1.25, users), 2),
        "churn_risk": np.round(1 / (1 + np.exp(1 + level_U + rng.standard_normal(users))), 3),
        "clv": np.round(rng.lognormal(6.2, 0.8, users), 2),
    }
    frame = pl.DataFrame({"user_id": np.arange(users, dtype=np.uint64), "timezone": ["UTC"] * users})
    known = {name: pl.Series(x).set(pl.Series(rng.random(users) < NULLS), None) for name, x in columns.items()}
    return frame.with_columns(**known)


def write_sender(sender: Sender, folder: Path) -> tuple[Path, Path]:
    """events.parquet and people.parquet, as a sender would hand them over."""
    first_ms = int(datetime(START.year, START.month, START.day, SEND_HOUR, tzinfo=UTC).timestamp() * 1000)
    sent_N = first_ms + sender.day_N * 86_400_000
    minutes_N = 5 + sender.user_N * 7919 % 180
    kinds = (("send", np.ones(len(sent_N), np.bool_), 0), ("open", sender.open_N, 0), ("click", sender.click_N, 2))
    parts = []
    for kind, rows_N, later in kinds:
        wait_N = 0 if kind == "send" else (minutes_N[rows_N] + later) * 60_000
        parts.append(
            pl.DataFrame(
                {
                    "user_id": sender.user_N[rows_N].astype(np.uint64),
                    "campaign_id": sender.campaign_N[rows_N].astype(np.uint64),
                    "event_ts": pl.Series(sent_N[rows_N] + wait_N).cast(pl.Datetime("ms", "UTC")),
                }
            ).with_columns(event_type=pl.lit(kind), campaign_type=pl.lit("promo"))
        )
    events, people = folder / "events.parquet", folder / "people.parquet"
    pl.concat(parts).write_parquet(events)
    sender.people.write_parquet(people)
    return events, people


def date_of(day: int) -> date:
    return START + timedelta(days=day)
