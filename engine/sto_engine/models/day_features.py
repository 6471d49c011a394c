"""The feature contracts of the best day: names and order are what a bundle is held to.

seed_best_day   the field's plain recipe: engagement, open rate, frequency, churn, CLV; the day's number
day_of_week     the same and recency; day and weekend; cross: this user on this day

Cross features are logarithms of a rate on the day over the user's own rate, so that they say nothing of how active he
is: opens and clicks of mail sent on that day, shrunk to his rate, and attention's P(open within 24 h) at the control
time, centred over the week. What is not known is NaN, never 0. U users, 7 days (Monday 0), as slots of the 7-day grid.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.config import Config
from sto_engine.history.bucket import DAY_MS, Bucket
from sto_engine.models.engagement import engagement_scores
from sto_engine.models.features import chances, know
from sto_engine.models.priors import Priors
from sto_engine.slots import parse_clock
from sto_kernels.lanes import Floats

PLAIN = ("engagement", "open_rate", "frequency", "churn_risk", "clv")
PLAIN_SLOT = ("day",)
OWN = (*PLAIN, "last_act_days")
OWN_SLOT = ("day", "weekend")
OWN_CROSS = ("day_opens", "day_clicks", "day_sends", "attention_day")
OWN_FEATURES = (*OWN, *OWN_SLOT, *OWN_CROSS)
PLAIN_FEATURES = (*PLAIN, *PLAIN_SLOT)
MONOTONE = tuple(int(name in ("day_opens", "day_clicks", "attention_day")) for name in OWN_FEATURES)
DAYS = 7
# a mail is judged a day after it was sent
SEEN_MS = DAY_MS
RATE, RATE_WEIGHT = 0.1, 10.0
CLICK_RATE, CLICK_WEIGHT = 0.02, 20.0
DAY_WEIGHT = 8.0


@dataclass(frozen=True)
class DayCounts:
    """Mail of each user by the local weekday it was sent on, and what came of it within a day; float64 [U, 7]."""

    sends_U7: Floats
    opens_U7: Floats
    clicks_U7: Floats


def day_counts(bucket: Bucket) -> DayCounts:
    """Sends that a day has passed since; clicks need a bucket that was cleaned with them."""
    cleaned, users = bucket.cleaned, len(bucket.users)
    seen_S = bucket.end_ms - cleaned.utc_S >= SEEN_MS
    cell_S = (cleaned.user_S.astype(np.int64) * DAYS + weekdays(cleaned.local_S))[seen_S]
    waits = (cleaned.latency_S[seen_S], cleaned.label_S[seen_S])
    hits = [(wait_S >= 0) & (wait_S < SEEN_MS) for wait_S in waits]
    tables = (np.bincount(cell_S, x, users * DAYS).reshape(users, DAYS) for x in (None, *hits))
    return DayCounts(*(table.astype(np.float64) for table in tables))


def weekdays(local_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Monday 0; the epoch was a Thursday."""
    return np.asarray((local_ms // DAY_MS + 3) % DAYS)


def plain_users(bucket: Bucket, counts: DayCounts, config: Config) -> Floats:
    """Rows of OWN, of which PLAIN are the first five, float64 [6, U]."""
    cleaned, users = bucket.cleaned, bucket.users
    acts_U = np.bincount(cleaned.user_A, minlength=len(users)).astype(np.float64)
    last_U = np.full(len(users), -(2**62), np.int64)
    np.maximum.at(last_U, cleaned.user_A, cleaned.utc_A)
    days_U = np.where(acts_U > 0, (bucket.end_ms - last_U) / DAY_MS, np.nan)
    sends_U, opens_U, clicks_U = (x.sum(axis=1) for x in (counts.sends_U7, counts.opens_U7, counts.clicks_U7))
    weeks = (bucket.end_ms - bucket.start_ms) / (DAYS * DAY_MS)
    touched_U = (sends_U > 0) | (acts_U > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        clicks_over_opens_U = np.where(opens_U > 0, clicks_U / opens_U, np.nan)
    weights = config.best_day.engagement_weights
    computed_U = engagement_scores(days_U, np.where(touched_U, acts_U / weeks, np.nan), clicks_over_opens_U, weights)
    return np.stack(
        [
            _given(users, "engagement_score", computed_U),
            np.where(sends_U > 0, (opens_U + RATE * RATE_WEIGHT) / (sends_U + RATE_WEIGHT), np.nan),
            _given(users, "frequency", np.where(touched_U, sends_U / weeks, np.nan)),
            number(users, "churn_risk"),
            number(users, "clv"),
            days_U,
        ]
    )


def number(users: pl.DataFrame, name: str) -> Floats:
    """A column of the snapshot, NaN where it says nothing, float64 [U]."""
    return np.asarray(users[name].cast(pl.Float64).fill_null(float("nan")).to_numpy(), np.float64)


def _given(users: pl.DataFrame, name: str, computed_U: Floats) -> Floats:
    """What the snapshot says, and what was computed of those of whom it says nothing."""
    given_U = number(users, name)
    return np.where(np.isnan(given_U), computed_U, given_U)


def slot_matrix(names: tuple[str, ...]) -> NDArray[np.float32]:
    """Slot features of the seven days, float32 [7, G]."""
    day_7 = np.arange(DAYS)
    known = {"day": day_7, "weekend": day_7 >= 5}
    return np.stack([known[name] for name in names], axis=1).astype(np.float32)


def cross_matrix(bucket: Bucket, counts: DayCounts, priors: Priors, config: Config) -> NDArray[np.float32]:
    """OWN_CROSS of every user, float32 [4, 7, U]."""
    sends_U7 = counts.sends_U7
    opens_U7 = _against_own(counts.opens_U7, sends_U7, RATE, RATE_WEIGHT)
    clicks_U7 = _against_own(counts.clicks_U7, sends_U7, CLICK_RATE, CLICK_WEIGHT)
    hour = parse_clock(config.experiment.control_time) // 60
    known = know(bucket, priors, config.model.half_life_days)
    p_7U = np.stack([chances(known, day)[1][hour] for day in range(DAYS)])
    attention_7U = np.log(np.maximum(p_7U, 1e-9))
    attention_7U = attention_7U - attention_7U.mean(axis=0)
    return np.stack([opens_U7.T, clicks_U7.T, np.log1p(sends_U7).T, attention_7U]).astype(np.float32)


def _against_own(hits_U7: Floats, sends_U7: Floats, rate: float, weight: float) -> Floats:
    """log of the rate on a day over the user's own, each shrunk to what it is a part of; 0 where nothing was sent."""
    own_U1 = (hits_U7.sum(axis=1, keepdims=True) + rate * weight) / (sends_U7.sum(axis=1, keepdims=True) + weight)
    return np.asarray(np.log((hits_U7 + DAY_WEIGHT * own_U1) / (sends_U7 + DAY_WEIGHT) / own_U1))
