"""Which hours of the day were ever tried, and what the engine claims of those that were not.

A sender who mails everything at 10:00 sees when people look, from when they open, but never what another hour would
have brought: gains of hours never tried are the model's word alone. U users of the sample, S slots.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.audit.sample import Outlook, Sampled
from sto_kernels.attention import attention_rates

TRIED_SHARE = 0.01
SEED = 20_240_229


def hours(send_hours: Mapping[int, int]) -> dict[str, Any]:
    """How the sends of the window lie on the local day; entropy 1 is every hour alike."""
    n_24 = np.array([send_hours.get(hour, 0) for hour in range(24)], np.float64)
    total = n_24.sum()
    if not total:
        return {"hours_tried": 0, "share_of_day": None, "entropy": None, "busiest_hour": None, "busiest_share": None}
    share_24 = n_24 / total
    some = share_24[share_24 > 0]
    return {
        "hours_tried": int((share_24 >= TRIED_SHARE).sum()),
        "share_of_day": round(float((share_24 >= TRIED_SHARE).mean()), 4),
        "entropy": round(float(-(some * np.log(some)).sum() / np.log(24)) + 0.0, 4),
        "busiest_hour": int(share_24.argmax()),
        "busiest_share": round(float(share_24.max()), 4),
    }


def gains(sampled: Sampled, full: Outlook, send_hours: Mapping[int, int]) -> dict[str, float]:
    """Opens a campaign of the sample: at the control time, at the best slots, and the part only the model vouches for.

    The unverified part is what the best slots promise beyond the best slot of an hour that was tried.
    """
    rows = np.flatnonzero(sampled.mailed_U)
    n_24 = np.array([send_hours.get(hour, 0) for hour in range(24)], np.float64)
    tried_S = np.repeat(n_24 >= TRIED_SHARE * max(n_24.sum(), 1), full.grid.slots // 24)
    p_US, best = full.p_US[rows], full.p_US[rows, full.slot_U[rows]]
    tried_US = full.allowed_US[rows] & tried_S
    safe = np.where(tried_US, p_US, 0.0).max(axis=1, initial=0.0)
    control = p_US[:, full.control_slot]
    unverified = np.minimum(best - safe, np.maximum(best - control, 0.0))
    return {
        "control": float(control.sum()),
        "best": float(best.sum()),
        "gain": float((best - control).sum()),
        "unverified_gain": float(unverified.sum()),
        "users_in_untried_hours": float((~tried_S[full.slot_U[rows]]).sum()),
    }


def spread(sampled: Sampled, full: Outlook) -> dict[str, float]:
    """How far best slots move when each user's opens are drawn anew (Poisson bootstrap, priors held)."""
    known, rows = full.known, np.flatnonzero(sampled.mailed_U)
    opens_U48 = np.random.default_rng(SEED).poisson(known.counts.opens_U48).astype(np.float32)
    cohort_U, priors = full.priors.cohorts_of(full.bucket.users["cohort"]), full.priors
    again_48U = attention_rates(
        opens_U48, known.counts.exposure_U48, cohort_U, priors.shape_K48, priors.log_prior_CK, priors.residual_C48
    )
    apart_U = _apart(full.slot_U, full.best(full.chances(replace(known, rate_48U=again_48U))), full.grid.slots)[rows]
    hours_a_slot = full.grid.minutes / 60
    n = max(len(rows), 1)
    return {
        "best_slot_moves_hours": float(apart_U.sum()) * hours_a_slot / n,
        "best_slot_stable_share": float((apart_U * hours_a_slot <= 1).sum()) / n,
    }


def _apart(one_U: NDArray[np.int64], two_U: NDArray[np.int64], slots: int) -> NDArray[np.int64]:
    """Distance in slots around the clock."""
    apart_U = np.abs(one_U - two_U)
    return np.asarray(np.minimum(apart_U, slots - apart_U))
