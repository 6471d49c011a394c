"""The feature contract of `seed_boosted`: the field's plain recipe, profile and clock. Order is the contract."""

from datetime import date

import numpy as np
from numpy.typing import NDArray

from sto_engine.history.bucket import DAY_MS
from sto_engine.history.profile import Floats, Profile
from sto_engine.slots import SlotGrid

_PROFILE = ("log_sends", "log_opens", "open_rate", "last_act_days", "mobile_share", "log_clv", "churn_risk", "b2b")
SLOT_FEATURES = ("hour", "hour_sin", "hour_cos", "weekday", "weekend")
RATE_PRIOR, RATE_WEIGHT = 0.1, 10.0


def user_features(grid: SlotGrid) -> list[str]:
    """Names of the user features on a grid: profile, tenure, then the share of acts in each slot."""
    return [*_PROFILE, "tenure_days", *(f"acts_{slot:02d}" for slot in range(grid.slots))]


def user_matrix(profile: Profile) -> Floats:
    """User features feature-major, float32 [F, U]; what is not known is NaN."""
    users = profile.users
    total_U = profile.acts_US.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        clv_U = np.log1p(np.maximum(_numbers(profile, "clv"), 0))
        share_SU = (profile.acts_US / total_U[:, None]).T
    rate_U = (profile.opened_U + RATE_PRIOR * RATE_WEIGHT) / (profile.sends_U + RATE_WEIGHT)
    signup_ms = users["signup_ts"].dt.epoch("ms").cast(float).fill_null(float("nan")).to_numpy()
    tenure_U = np.where(signup_ms <= profile.origin_ms, (profile.origin_ms - signup_ms) / DAY_MS, np.nan)
    rows = [
        np.log1p(profile.sends_U),
        np.log1p(profile.opened_U),
        np.where(profile.sends_U > 0, rate_U, np.nan),
        profile.last_act_days_U,
        profile.mobile_U,
        clv_U,
        _numbers(profile, "churn_risk"),
        _numbers(profile, "b2b"),
        tenure_U,
    ]
    return np.ascontiguousarray(np.vstack([*rows, share_SU]), dtype=np.float32)


def _numbers(profile: Profile, name: str) -> NDArray[np.float64]:
    return profile.users[name].cast(float).fill_null(float("nan")).to_numpy()


def slot_matrix(grid: SlotGrid, day: date) -> Floats:
    """Slot features of each slot of a local day, float32 [S, G]."""
    return slot_rows(np.arange(grid.slots), np.full(grid.slots, day.weekday()), grid)


def slot_rows(slot_N: NDArray[np.integer], weekday_N: NDArray[np.integer], grid: SlotGrid) -> Floats:
    """Slot features of given slots on given weekdays (Monday 0), float32 [N, G]."""
    hour_N = slot_N * (grid.minutes / 60)
    angle_N = hour_N * (2 * np.pi / 24)
    columns = [hour_N, np.sin(angle_N), np.cos(angle_N), weekday_N, weekday_N >= 5]
    return np.ascontiguousarray(np.stack(columns, axis=1), dtype=np.float32)
