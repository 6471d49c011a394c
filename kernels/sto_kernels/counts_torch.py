"""The tensors of `count_walk.count` by scatters in plain torch, on the device where the columns of the history lie.

    slots, opens, acts   one scatter_add of the weights at user * width + cell
    opened, or young     25 steps of one scatter_add each: step k adds the k-th clock hour that each mail lay unread
    never opened         weights scattered to (user, hour of the week, type), then a product with the kernel's table

Sends are taken in blocks, the third step in blocks of users, so memory is bounded by BLOCK_SENDS and BLOCK_USERS beside
the columns and the results. Sums are float64. Within 1e-5 of `count` (relative, or 1e-6 absolute); integers exactly. On
the CPU the same bits every time; on CUDA float64 atomics add in any order, which may move the last bits, far below
float32: two runs agree to 1e-12. U users, S sends, A acts, C campaigns, T types.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from sto_kernels.count_walk import MIN_LATENCY_H
from sto_kernels.journal import HOUR_MS, NO_LATENCY, NO_TIME
from sto_kernels.stays import AGES, DAY_PART_MS, NEVER, SHORT_MS

BLOCK_SENDS, BLOCK_USERS = 1 << 20, 4096


@dataclass(frozen=True)
class History:
    """Columns of journal.Cleaned that counting reads, as tensors on one device; sends and acts by ascending user."""

    user_S: Tensor  # int64
    utc_S: Tensor  # int64 ms, as all times
    local_S: Tensor
    latency_S: Tensor  # or NO_LATENCY
    campaign_S: Tensor  # int64
    user_A: Tensor
    utc_A: Tensor
    local_A: Tensor
    mobile_A: Tensor  # bool

    @classmethod
    def of(cls, cleaned: Any, device: torch.device | str) -> "History":
        """From a journal.Cleaned of arrays."""

        def move(name: str) -> Tensor:
            column = torch.tensor(getattr(cleaned, name), device=device)
            return column if name == "mobile_A" else column.long()

        return cls(*(move(name) for name in cls.__dataclass_fields__))


@dataclass(frozen=True)
class Weights:
    """float64 on the device of the history; `type_C` int64."""

    rho2_C: Tensor
    rho24_C: Tensor
    decay_T24: Tensor
    kernel_Tx168x48: Tensor
    type_C: Tensor
    follow_T: Tensor


def count(history: History, users: int, weights: Weights, origin_ms: int, half_life_ms: float = 0) -> dict[str, Tensor]:
    """Sums of what was known at `origin_ms`, by the names of journal.Counts and in its dtypes, on the same device.

    Raises ValueError where a code lies outside its table.
    """
    _check(history, users, weights)
    sums = _Sums(users, history.user_S.device)
    for first in range(0, len(history.user_S), BLOCK_SENDS):
        block = slice(first, first + BLOCK_SENDS)
        _count_sends(_block(history, block, origin_ms, half_life_ms), weights, sums)
    for first in range(0, len(history.user_A), BLOCK_SENDS):
        _count_acts(history, slice(first, first + BLOCK_SENDS), origin_ms, half_life_ms, sums)
    return {name: table.float() if name[-1].isdigit() else table for name, table in sums.tables.items()}


class _Sums:
    """The results, float64 until they are handed out."""

    def __init__(self, users: int, device: torch.device) -> None:
        self.users = users
        width = {"opens_U48": 48, "exposure_U48": 48}
        width |= dict.fromkeys(("sends2_U24", "opens2_U24", "sends24_U24", "opens24_U24", "seen_U24", "acts_U24"), 24)
        self.tables = {
            name: torch.zeros((users, cells), dtype=torch.float64, device=device) for name, cells in width.items()
        }
        for name in ("sent_U", "opened_U", "log_latency_U", "mobile_acts_U", "acts_U"):
            self.tables[name] = torch.zeros(users, dtype=torch.float64, device=device)
        self.tables["last_act_U"] = torch.full((users,), NO_TIME, dtype=torch.int64, device=device)

    def add(self, name: str, user: Tensor, cell: Tensor | int, weight: Tensor) -> None:
        """Scatter the weights to (user, cell)."""
        table = self.tables[name]
        width = table.shape[1] if table.dim() == 2 else 1
        table.view(-1).scatter_add_(0, user * width + cell, weight)


@dataclass(frozen=True)
class _Block:
    """Sends before the origin; `latency` NEVER where no open was known then."""

    user: Tensor
    local: Tensor
    observed: Tensor
    latency: Tensor
    campaign: Tensor
    fade: Tensor

    def of(self, keep: Tensor) -> "_Block":
        return _Block(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))


def _block(history: History, rows: slice, origin_ms: int, half_life_ms: float) -> _Block:
    observed, latency = origin_ms - history.utc_S[rows], history.latency_S[rows]
    known = (latency != NO_LATENCY) & (latency < observed)
    latency = torch.where(known, latency, NEVER)
    columns = history.user_S[rows], history.local_S[rows], observed, latency, history.campaign_S[rows]
    return _Block(*columns, _fade(observed, half_life_ms)).of(observed > 0)


def _fade(age: Tensor, half_life_ms: float) -> Tensor:
    if half_life_ms > 0:
        return torch.exp2(-age.double() / half_life_ms)
    return torch.ones(age.shape, dtype=torch.float64, device=age.device)


def _cell(local: Tensor) -> Tensor:
    hour = _hours(local)
    return hour % 24 + 24 * ((hour.div(24, rounding_mode="floor") + 3) % 7 >= 5).long()


def _hours(local: Tensor) -> Tensor:
    return local.div(HOUR_MS, rounding_mode="floor")


def _count_sends(sends: _Block, weights: Weights, sums: _Sums) -> None:
    hour, kind = _hours(sends.local) % 24, weights.type_C[sends.campaign]
    rho24 = weights.rho24_C[sends.campaign]
    short, day = (sends.latency < limit for limit in (SHORT_MS, DAY_PART_MS))
    seen = (sends.observed >= SHORT_MS).double() * sends.fade
    sums.add("sends2_U24", sends.user, hour, weights.rho2_C[sends.campaign] * seen)
    sums.add("opens2_U24", sends.user, hour, short.double() * seen)
    sums.add("seen_U24", sends.user, hour, seen)
    sums.add("sends24_U24", sends.user, hour, rho24 * sends.fade)
    sums.add("opens24_U24", sends.user, hour, day.double() * sends.fade)
    opened = sends.latency < NEVER
    hours = (sends.latency[opened].double() / HOUR_MS).clamp_min(MIN_LATENCY_H)
    sums.add("sent_U", sends.user, 0, torch.ones_like(sends.fade))
    sums.add("opened_U", sends.user, 0, opened.double())
    sums.add("log_latency_U", sends.user[opened], 0, hours.log())
    follow = weights.follow_T[kind] * sends.fade
    soon = sends.of(day)
    sums.add("opens_U48", soon.user, _cell(soon.local + soon.latency), follow[day])
    whole = ~day & (sends.observed >= DAY_PART_MS)
    _add_unopened(sends.of(whole), kind[whole], (rho24 * follow)[whole], weights, sums)
    _add_stays(sends.of(~whole), kind[~whole], (rho24 * follow)[~whole], weights, sums)


def _add_stays(sends: _Block, kind: Tensor, weight: Tensor, weights: Weights, sums: _Sums) -> None:
    """The hours that mail lay unread, the k-th of all sends at a time."""
    low, local, user = sends.local, sends.local, sends.user
    end = local + torch.minimum(sends.latency, sends.observed).clamp_max(DAY_PART_MS)
    for _ in range(AGES + 1):
        high = torch.minimum((_hours(low) + 1) * HOUR_MS, end)
        age = (low + high - 2 * local).div(2 * HOUR_MS, rounding_mode="floor").clamp_max(AGES - 1)
        # what has ended adds nothing: low = high
        length = (high - low).clamp_min(0).double() / HOUR_MS
        sums.add("exposure_U48", user, _cell(low), length * weights.decay_T24[kind, age.clamp_min(0)] * weight)
        low = torch.maximum(high, low)


def _add_unopened(sends: _Block, kind: Tensor, weight: Tensor, weights: Weights, sums: _Sums) -> None:
    """Weight by user, type and hour of the week, times the kernel: a block of users at a time."""
    hour = _hours(sends.local)
    types = len(weights.decay_T24)
    row = kind * 168 + (hour.div(24, rounding_mode="floor") + 3) % 7 * 24 + hour % 24
    kernel = weights.kernel_Tx168x48.reshape(-1, 48)
    bounds = torch.arange(0, sums.users + BLOCK_USERS, BLOCK_USERS, device=row.device)
    starts = torch.searchsorted(sends.user, bounds).tolist()
    for number, (first, last) in enumerate(pairwise(starts)):
        if first == last:
            continue
        low = number * BLOCK_USERS
        users = min(BLOCK_USERS, sums.users - low)
        table = torch.zeros((users, types * 168), dtype=torch.float64, device=row.device)
        at = (sends.user[first:last] - low) * (types * 168) + row[first:last]
        table.view(-1).scatter_add_(0, at, weight[first:last])
        sums.tables["exposure_U48"][low : low + users] += table @ kernel


def _count_acts(history: History, rows: slice, origin_ms: int, half_life_ms: float, sums: _Sums) -> None:
    past = history.utc_A[rows] < origin_ms
    user, utc = history.user_A[rows][past], history.utc_A[rows][past]
    fade = _fade(origin_ms - utc, half_life_ms)
    sums.add("acts_U24", user, _hours(history.local_A[rows][past]) % 24, fade)
    sums.add("acts_U", user, 0, torch.ones_like(fade))
    sums.add("mobile_acts_U", user, 0, history.mobile_A[rows][past].double())
    sums.tables["last_act_U"].scatter_reduce_(0, user, utc, "amax")


def _check(history: History, users: int, weights: Weights) -> None:
    for name, codes, below in (
        ("user_S", history.user_S, users),
        ("user_A", history.user_A, users),
        ("campaign_S", history.campaign_S, len(weights.rho2_C)),
        ("type_C", weights.type_C, len(weights.decay_T24)),
    ):
        if len(codes) and (int(codes.min()) < 0 or int(codes.max()) >= below):
            raise ValueError(f"{name} must be in 0..{below - 1}; found {int(codes.min())}..{int(codes.max())}")
        if name.startswith("user") and bool((codes[1:] < codes[:-1]).any()):
            raise ValueError(f"{name} must ascend")
