"""The figures of the judge, arrays in and numbers out: captured lift with its error, shape of the slots, calibration.

U users. A figure that is not defined is None, never 0 and never NaN.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Z95 = 1.959964
# below this share of the fixed hour's opens there is nothing to gain: float32 has no more digits
MIN_GAIN = 1e-6
BINS = 10


def captured(ours_U: Floats, fixed_U: Floats, best_U: Floats) -> dict[str, float | None]:
    """Share of the oracle's lift over the fixed hour that is ours, in %, with a 95 % interval over users.

    sum(ours - fixed) / sum(best - fixed), a ratio of means; its variance by the delta method is
    sum((ours - fixed) - ratio * (best - fixed))^2 / sum(best - fixed)^2. All is None where nothing can be gained; the
    interval is None for a single user.
    """
    lift_U, gain_U = ours_U - fixed_U, best_U - fixed_U
    gain = float(gain_U.sum())
    if not len(ours_U) or gain <= MIN_GAIN * float(fixed_U.sum()):
        return {"captured_percent": None, "captured_low": None, "captured_high": None}
    ratio = float(lift_U.sum()) / gain
    if len(ours_U) < 2:
        return {"captured_percent": round(100 * ratio, 2), "captured_low": None, "captured_high": None}
    variance = float(np.square(lift_U - ratio * gain_U).sum()) / gain**2 * len(ours_U) / (len(ours_U) - 1)
    half = Z95 * math.sqrt(variance)
    percent, low, high = (round(100 * value, 2) for value in (ratio, ratio - half, ratio + half))
    return {"captured_percent": percent, "captured_low": low, "captured_high": high}


def slot_shape(slot_U: NDArray[np.int64], slots: int, allowed_S: NDArray[np.bool_] | None) -> dict[str, Any]:
    """How the users lie over the slots: entropy in bits, the fullest slot, the three fullest, the edges of the window.

    Edges are allowed slots beside (circular) a closed one; None where no slot is closed. Clamping to a window, instead
    of choosing inside it, shows as a large share there.
    """
    share_S = np.bincount(slot_U, minlength=slots) / max(1, len(slot_U))
    some_S = share_S[share_S > 0]
    edge = None
    if allowed_S is not None and allowed_S.any():
        edge_S = allowed_S & ~(np.roll(allowed_S, 1) & np.roll(allowed_S, -1))
        edge = round(float(share_S[edge_S].sum()), 4)
    return {
        "entropy_bits": round(float(-(some_S * np.log2(some_S)).sum()), 4) + 0.0,
        "fullest": int(share_S.argmax()) if len(slot_U) else None,
        "max_share": round(float(share_S.max()), 4),
        "top3_share": round(float(np.sort(share_S)[-3:].sum()), 4),
        "edge_share": edge,
    }


def calibration(p_open_U: Floats, true_U: Floats) -> dict[str, float | int | None]:
    """Stated P(open within 2 h) against the truth at the chosen slot; users without a stated one (NaN) are left out.

    `ece`: mean gap between stated and true means of 10 bins with equally many users, weighted by users. `ratio`: mean
    stated / mean true. A world states what an ordinary promo gets, so a ratio away from 1 may be the campaigns' doing.
    """
    stated_U = np.isfinite(p_open_U)
    p_U, true_U = p_open_U[stated_U], true_U[stated_U]
    if not len(p_U):
        return {"users": 0, "ece": None, "ratio": None}
    parts = [part for part in np.array_split(np.argsort(p_U, kind="stable"), BINS) if len(part)]
    ece = sum(abs(float(p_U[part].mean() - true_U[part].mean())) * len(part) for part in parts) / len(p_U)
    mean = float(true_U.mean())
    return {
        "users": len(p_U),
        "ece": round(ece, 5),
        "ratio": round(float(p_U.mean()) / mean, 4) if mean > 0 else None,
    }


def equal_groups(values_U: Floats, groups: int = BINS) -> list[tuple[str, NDArray[np.bool_]]]:
    """Groups of about equally many users by value, equal values never apart (so there may be fewer groups).

    Each as (range of its values, who belongs to it); NaN belongs to none.
    """
    known_U = np.isfinite(values_U)
    if not known_U.any():
        return []
    cuts = np.quantile(values_U[known_U], np.arange(1, groups) / groups, method="lower")
    index_U = np.searchsorted(np.unique(cuts), values_U, side="left")
    found = []
    for index in np.unique(index_U[known_U]):
        mine_U = known_U & (index_U == index)
        low, high = float(values_U[mine_U].min()), float(values_U[mine_U].max())
        found.append((f"{low:g}" if low == high else f"{low:g} to {high:g}", mine_U))
    return found
