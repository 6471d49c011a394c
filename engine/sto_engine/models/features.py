"""The feature contract of `boosted` (recipe, section 6): names and order are what a bundle is held to.

levels   how likely a user opens at all, by attention and by send hour: the same for all slots of a weekday
cross    this user at this slot, each centred over the slots of the weekday
user     his profile; what is not known is NaN, never 0

Results lie as the scoring kernel takes them: user features [F, U], cross features [X, S, U], base margin [S, U].
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.history.bucket import DAY_MS, Bucket
from sto_engine.history.days import Days, by_weekday, weekday_of
from sto_engine.history.rates import look_up
from sto_engine.models.counts import Weights, bucket_counts
from sto_engine.models.priors import Priors, codes_of
from sto_engine.zones import REGIONS
from sto_kernels.attention import attention_rates
from sto_kernels.curves import act_shapes, centred_logs, open_chances, slot_rates, smooth_counts, windows
from sto_kernels.journal import Counts
from sto_kernels.lanes import Floats
from sto_kernels.send_effect import send_hour_curve

LEVELS = ("level_attention", "level_send_hour")
CROSS = (
    "attention_2h",
    "attention_24h",
    "send_hour",
    "slot_rate",
    "acts",
    "acts_next_hour",
    "sends_near",
)
PROFILE = (
    "log_sends",
    "open_rate_2h",
    "open_rate",
    "log_latency",
    "mobile_share",
    "last_act_days",
    "tenure_days",
    "log_clv",
    "churn_risk",
    "b2b",
    "signup_source",
    "region",
    "act_entropy",
    "machine",
)
FIXED = PROFILE[6:12]
USER_FEATURES = (*LEVELS, *PROFILE)
FEATURES = (*USER_FEATURES, *CROSS)
MONOTONE = tuple(int(name in (*LEVELS, *CROSS[:6])) for name in FEATURES)
SHAPES_OF_BASE = (0, 2)  # rows of CROSS that the base margin takes beside the levels
SENDS_WIDTH_H = 1.0
# days of a week in each cell
DAYS_48 = np.repeat([5.0, 2.0], 24)[:, None]
# a multiple of the scoring kernel's block
BLOCK_USERS = 8_192


@dataclass(frozen=True)
class Known:
    """What does not depend on the weekday: counts, rates of attention [48, U], curves by hour [24, U]."""

    bucket: Bucket
    priors: Priors
    traits: "Traits"
    counts: Counts
    rate_48U: Floats
    send_hour_24U: Floats
    slot_rate_24U: Floats
    acts_24U: Floats
    sends_24U: Floats


@dataclass(frozen=True)
class Features:
    """Features of everyone on a weekday: USER_FEATURES [F, U], CROSS [X, S, U], and the chances behind them [S, U]."""

    user_FU: NDArray[np.float32]
    cross_XSU: NDArray[np.float32]
    p2_SU: Floats
    p24_SU: Floats

    def base(self, weight_5: Floats) -> NDArray[np.float32]:
        """The base margin: weights of [1, the two levels, the two shapes], float32 [S, U]."""
        level_U = weight_5[0] + weight_5[1] * self.user_FU[0].astype(np.float64) + weight_5[2] * self.user_FU[1]
        first, second = (self.cross_XSU[row] for row in SHAPES_OF_BASE)
        return np.asarray(level_U + weight_5[3] * first + weight_5[4] * second, np.float32)


@dataclass(frozen=True)
class Traits:
    """What the snapshot says of each user as numbers: his cohort's row int32 [U], the rows of FIXED float64 [6, U]."""

    cohort_U: NDArray[np.int32]
    fixed_FU: Floats

    def of(self, rows: slice) -> "Traits":
        return Traits(self.cohort_U[rows], self.fixed_FU[:, rows])


def traits(users: pl.DataFrame, priors: Priors, end_ms: int) -> Traits:
    """Texts to codes, once a bucket: a look-up a block would cost more than the kernels."""
    tenure_U = (end_ms - _column(users, "signup_ts")) / DAY_MS
    with np.errstate(invalid="ignore", divide="ignore"):
        log_clv_U = np.log(np.maximum(_column(users, "clv"), 0.01))
    rows = [
        np.where(tenure_U >= 0, np.clip(tenure_U, 0, 1000), np.nan),
        log_clv_U,
        _column(users, "churn_risk"),
        _column(users, "b2b"),
        _codes(users["signup_source"], priors.source_names),
        _codes(users["region"], REGIONS),
    ]
    return Traits(priors.cohorts_of(users["cohort"]), np.stack(rows))


def blocks(bucket: Bucket, priors: Priors, half_life_days: float | None = None) -> Iterator[tuple[slice, Known]]:
    """`know` of BLOCK_USERS users after the other: what is counted of them stays in the cache until it is used."""
    everyone = traits(bucket.users, priors, bucket.end_ms)
    for first in range(0, max(len(bucket.users), 1), BLOCK_USERS):
        rows = slice(first, first + BLOCK_USERS)
        yield rows, know(bucket.of(rows), priors, half_life_days, everyone.of(rows))


def know(
    bucket: Bucket, priors: Priors, half_life_days: float | None = None, known_traits: Traits | None = None
) -> Known:
    """Count the bucket's events and fit every user's curves under the priors."""
    own = known_traits or traits(bucket.users, priors, bucket.end_ms)
    cohort_U, counts = own.cohort_U, counts_at(bucket, priors, bucket.end_ms, half_life_days)
    rate_48U = attention_rates(
        counts.opens_U48,
        counts.exposure_U48,
        cohort_U,
        priors.shape_K48,
        priors.log_prior_CK,
        priors.residual_C48,
    )
    effect_U5, precision = priors.effect_mean_C5[cohort_U], priors.effect_precision_55
    return Known(
        bucket,
        priors,
        own,
        counts,
        rate_48U,
        send_hour_curve(counts.opens24_U24, counts.sends24_U24, effect_U5, precision, priors.effect_p0),
        slot_rates(counts.opens2_U24, counts.sends2_U24, cohort_U, priors.slot_rate_C24),
        act_shapes(counts.acts_U24, cohort_U, priors.act_shape_C24),
        smooth_counts(counts.seen_U24, SENDS_WIDTH_H),
    )


def counts_at(bucket: Bucket, priors: Priors, end_ms: int, half_life_days: float | None = None) -> Counts:
    """What was to be counted of everyone at a moment of the bucket's history."""
    key_C = bucket.campaign_key_C
    rate2_C, rate24_C = (look_up(key_C, priors.campaign_key_G, rate) for rate in (priors.rate2_G, priors.rate24_G))
    return bucket_counts(
        bucket.counted,
        len(bucket.users),
        Weights(rate2_C, rate24_C, priors.decay_T24, priors.follow_T),
        (bucket.start_ms, end_ms),
        priors.has_sends,
        half_life_days,
    )


def build_features(known: Known, day: date | int, slots: int = 24, kind: int | None = None) -> Features:
    """Features of every (user, slot) for sends on a day (`chances`) of a grid of 24 or 48 slots.

    `kind` is the campaign's type (None: the one that attention is fitted for); as in training, what it has of attention
    is its power `follow`.
    """
    p2_SU, p24_SU = chances(known, day, slots)
    users, per_hour = p2_SU.shape[1], slots // 24
    cross_XSU = np.empty((len(CROSS), slots, users), np.float32)
    level_attention_U = centred_logs(p2_SU, cross_XSU[0])
    centred_logs(p24_SU, cross_XSU[1])
    by_hour = (known.send_hour_24U, known.slot_rate_24U, known.acts_24U)
    means = [centred_logs(_on_grid(x_24U, per_hour), cross_XSU[2 + row]) for row, x_24U in enumerate(by_hour)]
    cross_XSU[5] = np.roll(cross_XSU[4], -per_hour, axis=0)
    cross_XSU[6] = _on_grid(known.sends_24U, per_hour)
    if kind is not None and known.priors.follow_T[kind] != 1:
        cross_XSU[:2] *= np.float32(known.priors.follow_T[kind])
    user_FU = np.concatenate([[level_attention_U, means[0]], profile(known)]).astype(np.float32)
    return Features(user_FU, cross_XSU, p2_SU, p24_SU)


def chances(known: Known, day: date | int, slots: int = 24, kind: int | None = None) -> tuple[Floats, Floats]:
    """P(open within 2 h) and within 24 h by attention alone, of sends at each slot, float64 [S, U].

    `day` is a local date, a day off where the recipient's calendar says so, or for all a day of the week (Monday 0);
    `kind` is the campaign's type (None: the one that attention is fitted for).
    """
    return chances_of(known.rate_48U, known.priors, known.bucket.days, day, slots, kind)


def chances_of(
    rate_48U: Floats, priors: Priors, days: Days | None, day: date | int, slots: int, kind: int | None = None
) -> tuple[Floats, Floats]:
    """`chances` of users with these rates [48, U] and days off."""
    rate_48U, decay = attention_to(rate_48U, priors, kind)
    users = rate_48U.shape[1]
    weekday_U = weekday_of(days, day, users) if isinstance(day, date) else np.full(users, day)

    def within(hours: int) -> Floats:
        return by_weekday(weekday_U, lambda weekday: open_chances(rate_48U, windows(decay, hours, weekday, slots)))

    return within(2), within(24)


def attention_to(rate_48U: Floats, priors: Priors, kind: int | None = None) -> tuple[Floats, Floats]:
    """Rates [48, U] and age decay [24] of campaigns of a type: its own decay, and the power `follow` of the rates that
    attention has for its target type, each user's mean rate over the week as it was (models.fit_types)."""
    if kind is None or kind == priors.target_type:
        return rate_48U, priors.decay_T24[priors.target_type]
    follow = priors.follow_T[kind]
    if follow == 1:
        return rate_48U, priors.decay_T24[kind]
    powered_48U = rate_48U**follow
    level_U = (DAYS_48 * rate_48U).sum(axis=0) / (DAYS_48 * powered_48U).sum(axis=0)
    return powered_48U * level_U, priors.decay_T24[kind]


def _on_grid(x_24U: Floats, per_hour: int) -> Floats:
    """A curve by hour at every slot: half-hour slots take the value of their hour."""
    return x_24U if per_hour == 1 else np.repeat(x_24U, per_hour, axis=0)


def profile(known: Known) -> Floats:
    """The rows of PROFILE, float64 [14, U]."""
    counts, priors = known.counts, known.priors
    end_ms = known.bucket.end_ms
    opens2_U = counts.opens2_U24.sum(axis=1, dtype=np.float64)
    hist_U24 = counts.acts_U24 + np.float64(0.2)
    share_U24 = hist_U24 / hist_U24.sum(axis=1, keepdims=True)
    rows = [
        np.log1p(counts.sent_U),
        (opens2_U + 5 * priors.open_rate2) / (counts.sent_U + 5),
        (counts.opened_U + 5 * priors.open_rate) / (counts.sent_U + 5),
        (counts.log_latency_U + 2) / (counts.opened_U + 2),
        (counts.mobile_acts_U + 1.2) / (counts.acts_U + 2),
        np.minimum((end_ms - counts.last_act_U) / DAY_MS, 90.0),
        *known.traits.fixed_FU,
        -(share_U24 * np.log(share_U24)).sum(axis=1),
        known.bucket.cleaned.machine_U.astype(np.float64),
    ]
    return np.stack(rows)


def _column(users: pl.DataFrame, name: str) -> Floats:
    series = users[name]
    if series.dtype == pl.Datetime:
        series = series.dt.epoch("ms")
    return np.asarray(series.cast(pl.Float64).fill_null(float("nan")).to_numpy(), np.float64)


def _codes(names: pl.Series, known: tuple[str, ...]) -> Floats:
    codes_U = codes_of(names, known).astype(np.float64)
    return np.where(codes_U < len(known), codes_U, np.nan)
