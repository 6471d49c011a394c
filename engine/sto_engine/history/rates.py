"""How much a campaign appeals, apart from when it was sent (recipe, section 2).

Within 2 or 24 h, over sends observed that long: (opens + 50 * mean of its type) / (sends + 50), over the promo mean.
Used as the weight of a send: half as many expected opens is half an exposure.
"""

import numpy as np
from numpy.typing import NDArray

from sto_engine.history.sample import Campaigns
from sto_kernels.lanes import Floats

PRIOR_SENDS = 50
TYPES = 3


def campaign_rates(campaigns: Campaigns) -> tuple[Floats, Floats]:
    """Appeal of each campaign within 2 h and within 24 h, 1 = the mean promo; float64 [C] each."""
    return tuple(_rates(campaigns, first) for first in (0, 2))  # type: ignore[return-value]


def _rates(campaigns: Campaigns, column: int) -> Floats:
    sends_C, opens_C = campaigns.sums_C4[:, column], campaigns.sums_C4[:, column + 1]
    kind_C = campaigns.type_C
    sends_T, opens_T = (np.bincount(kind_C, weights, TYPES) for weights in (sends_C, opens_C))
    mean_T = (opens_T + 1) / (sends_T + 10)
    # a sender without a promo compares with all he sends
    unit = mean_T[0] if sends_T[0] > 0 else (opens_T.sum() + 1) / (sends_T.sum() + 10)
    return np.asarray((opens_C + PRIOR_SENDS * mean_T[kind_C]) / (sends_C + PRIOR_SENDS) / unit)


def look_up(key_C: NDArray[np.uint64], known_K: NDArray[np.uint64], rate_K: Floats) -> Floats:
    """Rates of the campaigns `key_C` in the table of known ones (ascending keys); 1 for those it lacks."""
    if not len(known_K):
        return np.ones(len(key_C))
    place_C = np.minimum(np.searchsorted(known_K, key_C), len(known_K) - 1)
    return np.where(known_K[place_C] == key_C, rate_K[place_C], 1.0)
