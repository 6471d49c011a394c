"""What the send window costs: the opens expected with and without it, and how many users it pushes to its edges.

    free    best slot of the day          less the control time    of the users who follow the model
    inside  best slot that is allowed     less the control time
    cost    1 - inside / free

Expected opens are what the policy itself claims, and so is the cost: what the model is worth, only the control arm
tells. Sums are whole numbers of 2^-32 opens, the same in whatever order buckets are added. U users, S slots.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
UNIT = 2.0**-32
# 80 % power at 5 %, both sides: 1.96 + 0.84
POWER = 2.8
# a gain below this part of the opens at the control time is no loss to warn of
SLIGHT = 0.01


@dataclass(frozen=True)
class Gain:
    """Sums over users who follow the model: `rated` of them have chances of an open, the others only shares.

    `base` (at the control time), `free` and `inside` are expected opens in units of 2^-32; `edge` counts users whose
    slot is the first or last one that the window leaves.
    """

    users: int = 0
    rated: int = 0
    base: int = 0
    free: int = 0
    inside: int = 0
    edge: int = 0

    def __add__(self, other: "Gain") -> "Gain":
        return Gain(
            *(mine + theirs for mine, theirs in zip(asdict(self).values(), asdict(other).values(), strict=True))
        )

    def to_json(self) -> dict[str, int]:
        return asdict(self)

    @classmethod
    def from_json(cls, told: Mapping[str, int]) -> "Gain":
        return cls(**told)

    def each(self, total: int) -> float:
        """Opens a user; 0 without users."""
        return total * UNIT / self.users if self.users else 0.0


def gain_of(
    worth_US: NDArray[np.float32],
    exists_US: Mask,
    allowed_US: Mask,
    control_slot: int,
    slot_U: NDArray[np.uint8],
    follows_U: Mask,
    has_chances: bool,
) -> Gain:
    """What one bucket adds; `follows_U` are the users who follow the model and have data of their own or of others.

    `worth_US` is that of `assign.worth` before any mask, `slot_U` the model's slots; `has_chances` says whether the
    policy gave probabilities. Users with a slot that exists and has no worth, or with no allowed slot, are left out.
    """
    known_U = (np.isfinite(worth_US) | ~exists_US).all(axis=1) & np.isfinite(worth_US[:, control_slot])
    counted_U = follows_U & known_U & (exists_US & allowed_US).any(axis=1)
    worth_US, exists_US, allowed_US = worth_US[counted_U], exists_US[counted_U], allowed_US[counted_U]
    users, base_U = len(worth_US), worth_US[:, control_slot].astype(np.float64)
    best_U, inside_U = (
        np.where(mask_US, worth_US, 0).max(axis=1).astype(np.float64) for mask_US in (exists_US, exists_US & allowed_US)
    )
    at_edge_US = edges(exists_US, allowed_US)
    return Gain(
        users=users,
        rated=users if has_chances else 0,
        base=_whole(base_U),
        free=_whole(best_U - base_U),
        inside=_whole(inside_U - base_U),
        edge=int(at_edge_US[np.arange(users), slot_U[counted_U]].sum()),
    )


def _whole(opens_U: NDArray[np.float64]) -> int:
    return int(np.rint(opens_U / UNIT).astype(np.int64).sum())


def edges(exists_US: Mask, allowed_US: Mask) -> Mask:
    """Allowed slots next to one that exists and is closed, bool [U, S]; the day is a circle: 23 stands next to 0."""
    closed_US = exists_US & ~allowed_US
    return np.asarray(allowed_US & (np.roll(closed_US, 1, axis=1) | np.roll(closed_US, -1, axis=1)))


def summary(gain: Gain, n_control: int, n_model: int) -> dict[str, float | None]:
    """Plain figures of all buckets; None where they cannot be known.

    `window_cost`: share of the gain that the window takes (above 1: less than the control time brings; 0 without a
    gain); `edge_share`: of the users; `gain_per_recipient`: expected opens more than at the control time;
    `least_measurable`: the smallest difference of two open rates that arms of these sizes show with 80 % power at 5 %.
    """
    return {
        "window_cost": 1 - gain.inside / gain.free if gain.free > 0 else 0.0,
        "edge_share": gain.edge / gain.users if gain.users else 0.0,
        "gain_per_recipient": gain.each(gain.inside) if _rated(gain) else None,
        "least_measurable": _least(gain, n_control, n_model),
    }


def _rated(gain: Gain) -> bool:
    return gain.users > 0 and gain.rated == gain.users


def _least(gain: Gain, n_control: int, n_model: int) -> float | None:
    rate = gain.each(gain.base)
    if not (_rated(gain) and n_control and n_model and 0 < rate < 1):
        return None
    return POWER * math.sqrt(rate * (1 - rate) * (1 / n_control + 1 / n_model))


def warning(gain: Gain, n_control: int, n_model: int) -> str | None:
    """What the window spoils and what to do about it; None where it costs little."""
    found: dict[str, Any] = summary(gain, n_control, n_model)
    least, inside, free = found["least_measurable"], gain.each(gain.inside), gain.each(gain.free)
    if least is not None and inside < least <= free:
        return (
            f"the window leaves an expected gain of {inside:.2%} opens a recipient ({free:.2%} without it), and arms "
            f"of {n_model:,} (model) and {n_control:,} (control) show no less than {least:.2%}: widen window.start and "
            "window.end or shorten the quiet hours, or measure over more nights, or with a larger "
            "experiment.control_share"
        )
    if found["window_cost"] > 0.5 and free > SLIGHT * gain.each(gain.base):
        return (
            f"the window costs {found['window_cost']:.0%} of the gain that is expected without it; "
            f"{found['edge_share']:.0%} of the recipients get a slot at its edge: widen window.start and window.end or "
            "shorten the quiet hours"
        )
    return None
