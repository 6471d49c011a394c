"""What a slot is worth, in opens expected of a recipient: the one scale on which slots of different people compare.

    chance  the utility itself
    logit   p_open + 1e-4 x sigmoid(utility): calibration has plateaus, inside them the margin keeps the order
    share   utility / the user's mean x his mean p_open (x 1 where the policy has no probabilities)

Policies speak of different things (`Utilities.measure`), yet for each of them the best slot of a user is the one that
is worth most to him. U users, S slots.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.models.policy import Utilities

Floats = NDArray[np.float64]
ORDER = 1e-4


def worth_US(utilities: Utilities) -> NDArray[np.float32]:
    """Expected opens of every (user, slot), float32 [U, S], at least 0, in the order of each user's utilities.

    NaN where a utility is not finite, and only there.
    """
    finite_US = np.isfinite(utilities.utility_US)
    utility_US = np.where(finite_US, utilities.utility_US, 0.0).astype(np.float64)
    p_US = utilities.p_open_US
    if p_US is not None:
        p_US = np.where(finite_US & np.isfinite(p_US), p_US, np.float32(0))
    if utilities.measure == "logit":
        opens_US = _of_logits(utility_US, p_US)
    elif utilities.measure == "share":
        opens_US = _of_shares(np.maximum(utility_US, 0.0), finite_US, p_US)
    else:
        opens_US = np.maximum(utility_US, 0.0)
    return np.where(finite_US, opens_US, np.nan).astype(np.float32)


def _of_logits(utility_US: Floats, p_US: NDArray[np.float32] | None) -> Floats:
    # beyond this exp overflows, and the sigmoid is 0 or 1 anyway
    sigmoid_US = 1.0 / (1.0 + np.exp(-np.clip(utility_US, -700.0, 700.0)))
    return np.asarray(sigmoid_US if p_US is None else p_US + ORDER * sigmoid_US)


def _of_shares(utility_US: Floats, finite_US: NDArray[np.bool_], p_US: NDArray[np.float32] | None) -> Floats:
    """Users all of whose slots have 0 are worth the same everywhere."""
    n_U = np.maximum(finite_US.sum(axis=1, keepdims=True), 1)
    mean_U = _sums(utility_US) / n_U
    ratio_US = np.divide(utility_US, mean_U, out=np.ones_like(utility_US), where=mean_U > 0)
    return ratio_US if p_US is None else np.asarray(ratio_US * (_sums(p_US) / n_U))


def _sums(values_US: NDArray[np.floating[Any]]) -> Floats:
    """Sum of each row from left to right, float64 [U, 1]: the same for a user whoever stands beside him."""
    return np.cumsum(values_US, axis=1, dtype=np.float64)[:, -1:]
