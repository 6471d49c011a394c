"""What each user's slots are worth to him, in two bytes a slot: the rows that prices are fitted on and chosen from.

    worth of slot s = low + step * code[s]        code = NONE where the slot is not allowed

A user's worst allowed slot is code 0 and his best 65,534, so the error is at most 1/131,068 of his own range; half
floats would err sixteen times as much. U users, S slots, G groups.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels.compiled import jit, read_only
from sto_kernels.hashing import U64

NONE = 65_535
STEPS = 65_534
Array = NDArray[Any]


@dataclass(frozen=True)
class Offers:
    """Users whose slot is to be chosen: `group_U` says which resources their slots use, `h_U` is their hash."""

    code_US: NDArray[np.uint16]
    low_U: NDArray[np.float32]
    step_U: NDArray[np.float32]
    group_U: NDArray[np.int32]
    h_U: U64

    def __len__(self) -> int:
        return len(self.h_U)

    def take(self, rows: Any) -> "Offers":
        """The same of some users, by rows, a mask or a slice."""
        return Offers(self.code_US[rows], self.low_U[rows], self.step_U[rows], self.group_U[rows], self.h_U[rows])

    def columns(self) -> tuple[Array, Array, Array, Array]:
        """What kernels are given of them: `code_US`, `low_U`, `step_U`, `group_U`."""
        return (
            read_only(self.code_US, np.uint16),
            read_only(self.low_U, np.float32),
            read_only(self.step_U, np.float32),
            read_only(self.group_U, np.int32),
        )

    def copy(self) -> "Offers":
        """The same in memory of its own."""
        return Offers(*(np.array(getattr(self, name)) for name in self.__dataclass_fields__))

    def worth_US(self) -> NDArray[np.float32]:
        """What the codes stand for, -inf where a slot is not allowed, float32 [U, S]."""
        worth_US = self.low_U[:, None] + self.step_U[:, None] * self.code_US.astype(np.float32)
        return np.where(self.code_US == NONE, np.float32(-np.inf), worth_US)

    def allowed_US(self) -> NDArray[np.bool_]:
        return np.asarray(self.code_US != NONE)

    def open_U(self) -> NDArray[np.uint8]:
        """How many slots each user may have, uint8 [U]."""
        open_U = np.empty(len(self), np.uint8)
        _count_open(read_only(self.code_US, np.uint16), open_U)
        return open_U

    def fixed_U(self) -> NDArray[np.bool_]:
        """Users with one allowed slot, bool [U]."""
        return np.asarray(self.open_U() == 1)

    def choice_U(self) -> NDArray[np.bool_]:
        """Users with two allowed slots or more, bool [U]."""
        return np.asarray(self.open_U() > 1)


def offers_of(
    worth_US: NDArray[np.float32],
    allowed_US: NDArray[np.bool_],
    group_U: NDArray[np.int32],
    h_U: U64,
    weight_U: NDArray[np.float32] | None = None,
) -> Offers:
    """Offers of finite worths; `weight_U` multiplies all slots of a user. Raises ValueError for shapes that differ."""
    if worth_US.shape != allowed_US.shape or not len(worth_US) == len(group_U) == len(h_U):
        raise ValueError(
            f"worths {worth_US.shape}, allowed {allowed_US.shape}, {len(group_U)} groups, {len(h_U)} users"
        )
    code_US = np.empty(worth_US.shape, np.uint16)
    low_U, step_U = np.zeros(len(h_U), np.float32), np.zeros(len(h_U), np.float32)
    _encode(read_only(worth_US, np.float32), read_only(allowed_US, np.bool_), code_US, low_U, step_U)
    if weight_U is not None:
        low_U, step_U = low_U * weight_U, step_U * weight_U
    return Offers(code_US, low_U, step_U, group_U.astype(np.int32), h_U)


@jit
def _encode(worth_US: Array, allowed_US: Array, code_US: Array, low_U: Array, step_U: Array) -> None:
    users, slots = worth_US.shape
    for u in range(users):
        low, high = np.float32(np.inf), np.float32(-np.inf)
        for s in range(slots):
            if allowed_US[u, s]:
                low, high = min(low, worth_US[u, s]), max(high, worth_US[u, s])
        step = np.float32(0.0)
        if high >= low:
            step = (high - low) / np.float32(STEPS)
            low_U[u], step_U[u] = low, step
        for s in range(slots):
            code = NONE
            if allowed_US[u, s]:
                code = 0
                if step > 0:
                    code = min(STEPS, int((worth_US[u, s] - low) / step + np.float32(0.5)))
            code_US[u, s] = code


@jit
def _count_open(code_US: Array, open_U: Array) -> None:
    users, slots = code_US.shape
    for u in range(users):
        n = 0
        for s in range(slots):
            if code_US[u, s] != NONE:
                n += 1
        open_U[u] = n
