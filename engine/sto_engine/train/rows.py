"""Training rows of a bucket: sends of human users in the label period, with features as of the origin.

N rows, F features. The local hour and weekday of a send pick the cross features; labels are cleaned with all that is
known at `as_of`.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from sto_engine.config import Config
from sto_engine.history.bucket import DAY_MS
from sto_engine.history.profile import build_profile
from sto_engine.models.boosted import slot_scores
from sto_engine.models.bundle import Bundle
from sto_engine.models.features import FEATURES, build_features, know
from sto_engine.models.priors import Priors
from sto_engine.models.seed_features import SLOT_FEATURES, slot_rows, user_features, user_matrix
from sto_engine.slots import grid_of
from sto_engine.train.draw import up_to
from sto_engine.train.moments import HOUR_MS, Moments, Span
from sto_kernels.hashing import derive

# A mail of Monday to Thursday is read on weekdays, whatever the window: one set of features serves all four.
WEEKDAYS = ((0, 1, 2, 3), (4,), (5,), (6,))
# What a send of a type has of attention is its power `follow` (models.fit_types): as much of the logarithm.
ATTENTION = np.array([FEATURES.index(name) for name in ("attention_2h", "attention_24h")])


@dataclass(frozen=True)
class Rows:
    """Rows in the order of buckets; `order_N` is a hash that thins them alike however they came.

    `rival_NR` are other models' scores of the same rows (RIVALS), NaN where there is none.
    """

    features_NF: NDArray[np.float32]
    label_N: NDArray[np.float32]
    campaign_N: NDArray[np.uint64]
    hour_N: NDArray[np.int8]
    type_N: NDArray[np.int8]
    weight_N: NDArray[np.float32]
    time_N: NDArray[np.int64]
    order_N: NDArray[np.uint64]
    rival_NR: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.label_N)


RIVALS = ("attention", "histogram", "seed_histogram", "previous")


@dataclass(frozen=True)
class Sends:
    """Labelled sends of a bucket: row of the user, hour and weekday of the send, label, time, campaign; [N] each.

    `stands_for_N` is the day of the week that the recipient's calendar makes of the date (history.days).
    """

    user_N: NDArray[np.int64]
    slot_N: NDArray[np.int64]
    weekday_N: NDArray[np.int64]
    stands_for_N: NDArray[np.int64]
    label_N: NDArray[np.float32]
    time_N: NDArray[np.int64]
    campaign_N: NDArray[np.uint64]
    type_N: NDArray[np.int8]
    order_N: NDArray[np.uint64]

    def take(self, keep_N: NDArray[np.bool_]) -> "Sends":
        return Sends(*(getattr(self, f.name)[keep_N] for f in fields(self)))

    def rows(
        self, features_NF: NDArray[np.float32], rival_NR: NDArray[np.float32], weight_N: NDArray[np.float32]
    ) -> Rows:
        """These sends as rows with their features."""
        hour_N = self.slot_N.astype(np.int8)
        return Rows(
            features_NF,
            self.label_N,
            self.campaign_N,
            hour_N,
            self.type_N,
            weight_N,
            self.time_N,
            self.order_N,
            rival_NR,
        )


def labelled_sends(seen: Moments, span: Span, config: Config) -> Sends:
    """Sends of [origin, last) to users who are no machines."""
    cleaned, labels = seen.labels.cleaned, seen.labels
    late_S = (cleaned.utc_S >= span.origin_ms) & (cleaned.utc_S < span.last_ms(config))
    rows = np.flatnonzero(late_S & ~seen.now.bad_U[cleaned.user_S])
    user_N, time_N = cleaned.user_S[rows].astype(np.int64), cleaned.utc_S[rows]
    local_N, counted_N = cleaned.local_S[rows], labels.counted.local_S[rows]
    wait_N = (cleaned.label_S if span.label in ("click", "conversion") else cleaned.latency_S)[rows]
    label_N = ((wait_N >= 0) & (wait_N < span.label_ms)).astype(np.float32)
    campaign_N = labels.campaign_key_C[cleaned.campaign_S[rows]]
    h_N = labels.users["h"].to_numpy()[user_N]
    order_N = derive(h_N ^ time_N.view(np.uint64), "train-sample")
    weekday_N, stands_for_N = ((x_N // DAY_MS + 3) % 7 for x_N in (local_N, counted_N))  # the epoch was a Thursday
    slot_N, type_N = local_N % DAY_MS // HOUR_MS, cleaned.type_S[rows]
    return Sends(user_N, slot_N, weekday_N, stands_for_N, label_N, time_N, campaign_N, type_N, order_N)


def bucket_rows(
    seen: Moments,
    span: Span,
    priors: Priors,
    previous: tuple[Bundle, Priors] | None,
    config: Config,
    last_bin: int | None = None,
) -> Rows:
    """Second pass: rows of a bucket under the priors of the origin; `previous` scores the same rows, by its own.

    With `last_bin` only the rows in the bins up to it (train.draw), and nothing is counted of users without any.
    """
    sends, origin = labelled_sends(seen, span, config), seen.origin
    if last_bin is not None:
        sends = sends.take(up_to(sends.order_N, last_bin))
        user_U, user_N = np.unique(sends.user_N, return_inverse=True)
        sends, origin = replace(sends, user_N=user_N), origin.take(user_U)
    known = know(origin, priors, config.model.half_life_days)
    older = None if previous is None else know(origin, previous[1], config.model.half_life_days)
    features_NF = np.empty((len(sends.user_N), len(FEATURES)), np.float32)
    rival_NR = np.full((len(sends.user_N), len(RIVALS)), np.nan, np.float32)
    for days in WEEKDAYS:
        rows = np.flatnonzero(np.isin(sends.stands_for_N, days))
        if not len(rows):
            continue
        user, slot = sends.user_N[rows], sends.slot_N[rows]
        features = build_features(known, days[0])
        features_NF[rows] = np.concatenate([features.user_FU[:, user], features.cross_XSU[:, slot, user]]).T
        rival_NR[rows, 0] = features.p2_SU[slot, user]
        features_NF[np.ix_(rows, ATTENTION)] *= priors.follow_T[sends.type_N[rows], None]
        if previous is not None and older is not None:
            margin_US = slot_scores(previous[0], build_features(older, days[0]))
            rival_NR[rows, 3] = 1 / (1 + np.exp(-margin_US[user, slot].astype(np.float64)))
        del features  # those of the next weekday need its room
    rival_NR[:, 1] = known.slot_rate_24U[sends.slot_N, sends.user_N]
    acts_U24 = known.counts.acts_U24
    rival_NR[:, 2] = (acts_U24 / np.maximum(acts_U24.sum(axis=1, keepdims=True), 1))[sends.user_N, sends.slot_N]
    return sends.rows(features_NF, rival_NR, priors.follow_T[sends.type_N].astype(np.float32))


def seed_rows(seen: Moments, span: Span, config: Config, last_bin: int | None = None) -> Rows:
    """Rows of the preset `seed_boosted`: profile, histogram and clock; with `last_bin` those up to it."""
    sends, grid = labelled_sends(seen, span, config), grid_of(config.slots.grid)
    sends = sends.take(up_to(sends.order_N, last_bin))
    profile = build_profile(seen.origin, grid, config.model.half_life_days)
    slots_NG = slot_rows(sends.slot_N * (grid.slots // 24), sends.weekday_N, grid)
    features_NF = np.concatenate([user_matrix(profile)[:, sends.user_N].T, slots_NG], axis=1)
    rival_NR = np.full((len(sends.user_N), len(RIVALS)), np.nan, np.float32)
    return sends.rows(features_NF, rival_NR, np.ones(len(sends.user_N), np.float32))


def seed_names(config: Config) -> list[str]:
    """Names of the features of `seed_rows`."""
    return [*user_features(grid_of(config.slots.grid)), *SLOT_FEATURES]
