"""What channels have each of their own, fitted on the sample: how its mail ages, how much it is opened, by whom.

    decay    age decay of each type of campaign, fitted on the channel's own sends (fit_types); of a channel with
             hardly an open that of all mail
    level    opens of the channel over those that the users' attention expects of what it sent, drawn to the ratio of
             all channels by LEVEL_PRIOR opens; part of the decay, so that exposures on all channels add up
    shape    when it is read by everyone: opens over those expected by hour of weekday and weekend, smoothed and drawn
             to 1 as cohorts are in recipe 3
    cohort   the level by cohort, drawn to the channel's by COHORT_PRIOR expected opens
    own      a user answers to a channel by a factor ~ Gamma(k, k); k by moments: of n opens of a user the channel has
             n_c, a part q_c is expected, and

    1 / k = sum [(n_c - n q_c)^2 - n q_c (1 - q_c)] / sum n (n - 1) q_c^2 [(1 - q_c)^2 + sum_j (j != c) q_j^2]

U users of the sample, C channels (the last: all others), T types, G campaigns, 48 cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sto_engine.history.rates import TYPES, campaign_rates, look_up
from sto_engine.history.sample import Campaigns, Sample
from sto_engine.models.counts import Weights, bucket_counts
from sto_engine.models.fit_types import MIN_OPENS, fit_types
from sto_engine.models.priors import Priors
from sto_kernels.attention import attention_rates
from sto_kernels.journal import Cleaned, Counts
from sto_kernels.lanes import Floats, share_days, smooth_days

LEVEL_PRIOR, COHORT_PRIOR, ROUNDS = 50.0, 200.0, 3
WIDTH_H, SHARE_DAYS, SHAPE_PRIOR = 0.6, 0.3, 200 / 48
LEAST_OWN, MOST_OWN, USUAL_OWN = 0.5, 500.0, 20.0


@dataclass(frozen=True)
class ChannelTables:
    """Small tables of all channels: decay [C, T, 24] times level, weight of types [C, T], shape [C, 48], cohorts'
    factors [C, K], strength of the users' own factors; K has a last row for cohorts never seen."""

    decay_CT24: Floats
    follow_CT: Floats
    shape_C48: Floats
    cohort_CK: Floats
    own: float

    def weights(self, channel: int, rates_G: tuple[Floats, Floats]) -> Weights:
        return Weights(*rates_G, self.decay_CT24[channel], self.follow_CT[channel])


def rates_by_channel(
    campaigns: Campaigns, key_G: NDArray[np.uint64], channel_G: NDArray[np.int8], channels: int
) -> tuple[NDArray[np.uint64], Floats, Floats]:
    """`campaign_rates` of each channel for itself: appeal is that against the mean campaign of the same channel."""
    channel_N = channel_G[np.searchsorted(key_G, campaigns.key_C)] if len(key_G) else np.zeros(0, np.int8)
    names = ("key_C", "hour_C", "type_C", "sums_C4")
    own = [Campaigns(**{n: getattr(campaigns, n)[channel_N == c] for n in names}) for c in range(channels)]
    keys, *rates = (np.concatenate(x) for x in zip(*(campaign_rates(part) for part in own), strict=True))
    order = np.argsort(keys, kind="stable")
    return keys[order], rates[0][order], rates[1][order]


def of_channel(cleaned: Cleaned, channel_G: NDArray[np.int8], channel: int) -> Cleaned:
    """The same history with the sends on one channel alone."""
    rows = np.flatnonzero(channel_G[cleaned.campaign_S] == channel)
    names = ("user_S", "utc_S", "local_S", "latency_S", "campaign_S", "type_S", "label_S")
    return replace(cleaned, **{name: getattr(cleaned, name)[rows] for name in names})


def fit_channels(
    sample: Sample, channel_G: NDArray[np.int8], priors: Priors, channels: int, window_ms: tuple[int, int]
) -> ChannelTables:
    """`channel_G` are the channels of the sample's campaigns; `priors` hold the campaigns' rates by channel."""
    cohort_U, target = priors_cohorts(sample, priors), priors.target_type
    rates = (
        look_up(sample.campaign_key_C, priors.campaign_key_G, priors.rate2_G),
        look_up(sample.campaign_key_C, priors.campaign_key_G, priors.rate24_G),
    )
    decay_CT24, follow_CT, counts = [], [], []
    for channel in range(channels):
        mails = of_channel(sample.cleaned, channel_G, channel)
        decay_T24, follow_T = priors.decay_T24, priors.follow_T
        if (mails.latency_S >= 0).sum() >= MIN_OPENS:
            types = fit_types(mails, sample.users, rates, sample.cohort_U, len(sample.cohorts), window_ms[1], target)
            decay_T24, follow_T = types.decay_T24, types.follow_T
        decay_CT24.append(decay_T24)
        follow_CT.append(follow_T)
        weights = Weights(*rates, decay_T24, follow_T)
        counts.append(bucket_counts(mails, sample.users, weights, window_ms, True, None))
    level_C, rate_U48 = _levels(counts, cohort_U, priors)
    expected = [r * x.exposure_U48 * rate_U48 for r, x in zip(level_C, counts, strict=True)]
    shape_C48 = _shapes(counts, expected)
    expected_UC = np.stack(
        [(x * shape_48).sum(axis=1) for x, shape_48 in zip(expected, shape_C48, strict=True)], axis=1
    )
    opens_UC = np.stack([x.opens_U48.sum(axis=1, dtype=np.float64) for x in counts], axis=1)
    rows = len(priors.cohort_names) + 1
    n_CK, m_CK = (
        np.stack([np.bincount(cohort_U, x_UC[:, c], rows) for c in range(channels)]) for x_UC in (opens_UC, expected_UC)
    )
    cohort_CK = (n_CK + COHORT_PRIOR) / (m_CK + COHORT_PRIOR)
    cohort_CK[:, -1] = 1.0
    own = _own(opens_UC, expected_UC * cohort_CK.T[cohort_U])
    return ChannelTables(np.stack(decay_CT24) * level_C[:, None, None], np.stack(follow_CT), shape_C48, cohort_CK, own)


def priors_cohorts(sample: Sample, priors: Priors) -> NDArray[np.int32]:
    """Row of the priors' tables of each user of the sample, int32 [U]: a bundle may know other cohorts."""
    place = {name: row for row, name in enumerate(priors.cohort_names)}
    rows = np.array([place.get(name, len(place)) for name in sample.cohorts], np.int32)
    return np.asarray(rows[sample.cohort_U]) if len(rows) else np.zeros(sample.users, np.int32)


def _levels(counts: Sequence[Counts], cohort_U: NDArray[np.int32], priors: Priors) -> tuple[Floats, Floats]:
    """Level of each channel [C], and attention of each user by what he was sent on all of them [U, 48].

    First by what is usual, then by the users' own attention, which in turn follows from the levels.
    """
    opens_C = np.array([float(x.opens_U48.sum(dtype=np.float64)) for x in counts])
    nothing = np.zeros_like(counts[0].opens_U48)
    level_C, pooled = np.ones(len(counts)), 1.0
    for step in range(ROUNDS + 1):
        opens, exposure = nothing, nothing
        if step:
            opens = np.asarray(sum(x.opens_U48 for x in counts), np.float32)
            exposure = np.asarray(sum(r * x.exposure_U48 for r, x in zip(level_C, counts, strict=True)), np.float32)
        tables = priors.shape_K48, priors.log_prior_CK, priors.residual_C48
        rate_U48 = attention_rates(opens, exposure, cohort_U, *tables).T
        sum_C = np.array([float((x.exposure_U48 * rate_U48).sum()) for x in counts])
        if not step:
            pooled = float(opens_C.sum() + LEVEL_PRIOR) / float(sum_C.sum() + LEVEL_PRIOR)
        level_C = pooled * (opens_C + LEVEL_PRIOR) / (pooled * sum_C + LEVEL_PRIOR)
    return level_C, rate_U48


def _shapes(counts: Sequence[Counts], expected: Sequence[Floats]) -> Floats:
    """Opens by cell over those expected, float64 [C, 48]."""
    opens, hoped = (np.stack([x.sum(axis=0) for x in xs]) for xs in ([c.opens_U48 for c in counts], expected))
    opens, hoped = (share_days(smooth_days(x.astype(np.float64), WIDTH_H), SHARE_DAYS) for x in (opens, hoped))
    return np.asarray((opens + SHAPE_PRIOR) / (hoped + SHAPE_PRIOR))


def _own(opens_UC: Floats, expected_UC: Floats) -> float:
    """Strength of the users' own factors; USUAL_OWN where nobody has opens on, and sends by, several channels."""
    n_U, m_U = opens_UC.sum(axis=1), expected_UC.sum(axis=1)
    rows = (n_U >= 2) & ((expected_UC > 0).sum(axis=1) >= 2)
    if not rows.any():
        return USUAL_OWN
    n_UC, n, q = opens_UC[rows], n_U[rows, None], expected_UC[rows] / m_U[rows, None]
    spread = float(((n_UC - n * q) ** 2 - n * q * (1 - q)).sum())
    unit = float((n * (n - 1) * q**2 * ((1 - q) ** 2 + (q**2).sum(axis=1, keepdims=True) - q**2)).sum())
    return min(max(unit / spread, LEAST_OWN), MOST_OWN) if spread > 0 and unit > 0 else MOST_OWN


def no_tables(channels: int, priors: Priors) -> ChannelTables:
    """Where no send is on record: every channel like every other."""
    cohorts = len(priors.cohort_names) + 1
    decay = np.repeat(priors.decay_T24[None], channels, axis=0)
    return ChannelTables(
        decay, np.ones((channels, TYPES)), np.ones((channels, 48)), np.ones((channels, cohorts)), MOST_OWN
    )
