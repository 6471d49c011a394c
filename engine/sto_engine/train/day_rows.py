"""Training rows of the best day: the sends of train.rows, with what was known of user and day at the origin.

N rows, F features; `hour_N` of a row is the local weekday of its send.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.config import Config
from sto_engine.models.day_features import (
    OWN,
    OWN_CROSS,
    OWN_SLOT,
    PLAIN,
    PLAIN_SLOT,
    cross_matrix,
    day_counts,
    plain_users,
    slot_matrix,
)
from sto_engine.models.priors import Priors
from sto_engine.train.draw import up_to
from sto_engine.train.moments import Moments, Span
from sto_engine.train.rows import RIVALS, Rows, labelled_sends


def day_rows(seen: Moments, span: Span, config: Config, then: Priors | None, last_bin: int | None = None) -> Rows:
    """Rows of the preset, or with the priors of the origin those of `day_of_week`; with `last_bin` those up to it.

    `seen.origin` must have been cleaned with clicks. Nothing is counted of users without rows.
    """
    sends = labelled_sends(seen, span, config)
    sends = sends.take(up_to(sends.order_N, last_bin))
    user_U, user_N = np.unique(sends.user_N, return_inverse=True)
    origin, sends = seen.origin.take(user_U), replace(sends, slot_N=sends.weekday_N)
    counts = day_counts(origin)
    users_FU, day_N = plain_users(origin, counts, config), sends.weekday_N
    names, slot_names = (PLAIN, PLAIN_SLOT) if then is None else (OWN, OWN_SLOT)
    parts: list[NDArray[Any]] = [users_FU[: len(names), user_N].T, slot_matrix(slot_names)[day_N]]
    if then is not None:
        cross_X7U = cross_matrix(origin, counts, then, config)
        assert len(cross_X7U) == len(OWN_CROSS)
        parts.append(cross_X7U[:, day_N, user_N].T)
    features_NF = np.concatenate(parts, axis=1).astype(np.float32)
    rival_NR = np.full((len(user_N), len(RIVALS)), np.nan, np.float32)
    return sends.rows(features_NF, rival_NR, np.ones(len(user_N), np.float32))
