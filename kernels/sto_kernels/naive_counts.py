"""Plain twins of `count_walk` and `decay_walk`: one send at a time, an hour at risk at a time. For tests.

Same arguments and results. Hours are floats here, counted from the local midnight of the epoch.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels.journal import HOUR_MS, NO_LATENCY, NO_TIME, Cleaned, Counts, Float32s, Float64s, Int8s, Int64s


@dataclass(frozen=True)
class _Send:
    """What is known of a send at the origin, in hours; `latency` is inf where no open is known."""

    user: int
    campaign: int
    local: float
    latency: float
    observed: float

    @property
    def slot(self) -> int:
        return math.floor(self.local) % 24

    @property
    def hour_of_week(self) -> int:
        return _weekday(self.local) * 24 + self.slot

    def stays(self) -> Iterator[tuple[int, int, float]]:
        """(cell, age, hours) of each clock hour in which the mail lay unread within 24 h."""
        end = self.local + min(self.latency, self.observed, 24.0)
        for hour in range(math.floor(self.local), math.ceil(end)):
            low, high = max(self.local, hour), min(end, hour + 1)
            yield _cell(low), min(int((low + high) / 2 - self.local), 23), high - low


def _weekday(local: float) -> int:
    return (math.floor(local / 24) + 3) % 7


def _cell(local: float) -> int:
    return math.floor(local) % 24 + 24 * (_weekday(local) >= 5)


def _sends(cleaned: Cleaned, origin_ms: int) -> list[_Send]:
    found = []
    for s in range(len(cleaned.user_S)):
        latency, observed = int(cleaned.latency_S[s]), origin_ms - int(cleaned.utc_S[s])
        known = latency / HOUR_MS if latency != NO_LATENCY and latency < observed else math.inf
        if observed > 0:
            local = int(cleaned.local_S[s]) / HOUR_MS
            found.append(_Send(int(cleaned.user_S[s]), int(cleaned.campaign_S[s]), local, known, observed / HOUR_MS))
    return found


def campaign_sums(cleaned: Cleaned, bad_U: NDArray[np.bool_], origin_ms: int, campaigns: int) -> Int64s:
    sums_C4 = np.zeros((campaigns, 4), np.int64)
    for send in _sends(cleaned, origin_ms):
        for column, window in ((0, 2), (2, 24)):
            if not bad_U[send.user] and send.observed >= window:
                sums_C4[send.campaign, column] += 1
                sums_C4[send.campaign, column + 1] += send.latency < window
    return sums_C4


def count(
    cleaned: Cleaned,
    users: int,
    rho2_C: Float64s,
    rho24_C: Float64s,
    decay_T24: Float64s,
    kernel_Tx168x48: Float32s,
    origin_ms: int,
    half_life_ms: float = 0,
    type_C: Int8s | None = None,
    follow_T: Float64s | None = None,
) -> Counts:
    decay, kernel = decay_T24.reshape(-1, 24), kernel_Tx168x48.reshape(-1, 168, 48)
    follow = np.ones(len(decay)) if follow_T is None else follow_T
    sums: dict[str, NDArray[Any]] = {
        name: np.zeros((users, 48 if name.endswith("48") else 24) if name[-1].isdigit() else users)
        for name in Counts.__dataclass_fields__
    }
    sums["last_act_U"] = np.full(users, NO_TIME, np.int64)

    def fade(age_h: float) -> float:
        return float(0.5 ** (age_h * HOUR_MS / half_life_ms)) if half_life_ms else 1.0

    for send in _sends(cleaned, origin_ms):
        u, now = send.user, fade(send.observed)
        weight = float(rho24_C[send.campaign]) * now
        if send.observed >= 2:
            sums["sends2_U24"][u, send.slot] += rho2_C[send.campaign] * now
            sums["opens2_U24"][u, send.slot] += now * (send.latency < 2)
            sums["seen_U24"][u, send.slot] += now
        sums["sends24_U24"][u, send.slot] += weight
        sums["opens24_U24"][u, send.slot] += now * (send.latency < 24)
        kind = 0 if type_C is None else int(type_C[send.campaign])
        if send.latency < 24:
            sums["opens_U48"][u, _cell(send.local + send.latency + 1e-9)] += now * follow[kind]
        sums["exposure_U48"][u] += weight * follow[kind] * _exposure(send, decay[kind], kernel[kind])
        _add_profile(sums, send)
    _add_acts(sums, cleaned, origin_ms, fade)
    columns: dict[str, Any] = {k: v.astype(np.float32) if k[-1].isdigit() else v for k, v in sums.items()}
    return Counts(**columns)


def _exposure(send: _Send, decay_24: Float64s, kernel_168x48: Float32s) -> Float64s:
    if send.latency >= 24 and send.observed >= 24:
        return np.asarray(kernel_168x48[send.hour_of_week], np.float64)
    cells = np.zeros(48)
    for cell, age, hours in send.stays():
        cells[cell] += hours * decay_24[age]
    return cells


def _add_profile(sums: dict[str, NDArray[Any]], send: _Send) -> None:
    sums["sent_U"][send.user] += 1
    if send.latency < math.inf:
        sums["opened_U"][send.user] += 1
        sums["log_latency_U"][send.user] += math.log(max(send.latency, 1e-3))


def _add_acts(sums: dict[str, NDArray[Any]], cleaned: Cleaned, origin_ms: int, fade: Any) -> None:
    for a in range(len(cleaned.user_A)):
        u, utc = cleaned.user_A[a], int(cleaned.utc_A[a])
        if utc < origin_ms:
            sums["acts_U24"][u, cleaned.local_A[a] // HOUR_MS % 24] += fade((origin_ms - utc) / HOUR_MS)
            sums["mobile_acts_U"][u] += cleaned.mobile_A[a]
            sums["acts_U"][u] += 1
            sums["last_act_U"][u] = max(sums["last_act_U"][u], utc)


def age_decay(cleaned: Cleaned, users: int, rho24_C: Float64s, origin_ms: int) -> Float64s:
    sends = [send for send in _sends(cleaned, origin_ms) if send.user < users]
    opened = [send for send in sends if send.latency < 24]
    g = np.exp(-np.arange(24) / 8.0)
    if not opened:
        return np.asarray(np.maximum(g, 1e-3))
    risks = [(send.user, *stay, float(rho24_C[send.campaign])) for send in sends for stay in send.stays()]
    user, cell, age, hours, rho = (np.array(column) for column in zip(*risks, strict=True))
    opens_48 = np.bincount([_cell(send.local + send.latency + 1e-9) for send in opened], minlength=48)
    opens_24 = np.bincount([int(send.latency) for send in opened], minlength=24)
    opens_U = np.bincount([send.user for send in opened], minlength=users)
    level_U = np.ones(users)
    for _ in range(4):
        risk_48 = np.bincount(cell, hours * rho * g[age] * level_U[user], 48)
        hour_48 = (opens_48 + 1) / (risk_48 + max(risk_48.sum() / len(opened), 1e-6))
        g = (opens_24 + 1) / (np.bincount(age, hours * rho * hour_48[cell] * level_U[user], 24) + 1)
        g = g / g[0]
        level_U = (opens_U + 1.5) / (np.bincount(user, hours * rho * hour_48[cell] * g[age], users) + 1.5)
    return np.asarray(np.maximum(g, 1e-3))
