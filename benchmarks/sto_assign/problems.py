"""A problem and what may be said of an answer to it, counted here and not by whoever answered.

U users, S slots, G groups (a provider, a zone), J resources that a send takes, R resources.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_assign.cases import Case
from sto_assign.curves import SLOTS, worths
from sto_bench.contest import GateFailed

NO_SLOT = 255
BLOCK = 250_000
ZONES = (-480, -360, -300, -210, -180, 0, 60, 120, 210, 330, 345, 570)
ZONE_SHARES = (0.10, 0.12, 0.18, 0.02, 0.06, 0.10, 0.18, 0.08, 0.03, 0.08, 0.02, 0.03)
PROVIDER_SHARES = np.array([0.45, 0.18, 0.12, *[0.25 / 17] * 17])
BINS, WIDE = 96, 4
OPEN_HOURS = range(7, 23)
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Problem:
    """Option (g, s) takes `weight_GSJ` units of `resource_GSJ` (-1: of nothing); `open_GS`: may be used at all.

    Users are in the order of their hashes `h_U`; `provider_G` is the provider of each group.
    """

    worth_US: NDArray[np.float32]
    group_U: NDArray[np.int32]
    h_U: NDArray[np.uint64]
    provider_G: NDArray[np.int32]
    open_GS: NDArray[np.bool_]
    resource_GSJ: NDArray[np.int32]
    weight_GSJ: NDArray[np.int32]
    capacity_R: Ints

    @property
    def users(self) -> int:
        return len(self.h_U)

    def load_R(self, slot_U: NDArray[Any]) -> Ints:
        """Units that an answer takes, int64 [R]; users without a slot (255) take none."""
        groups, slots, _ = self.resource_GSJ.shape
        placed = slot_U != NO_SLOT
        n_O = np.bincount(self.group_U[placed] * slots + slot_U[placed].astype(np.int64), minlength=groups * slots)
        units_GSJ = n_O.reshape(groups, slots)[:, :, None] * self.weight_GSJ
        used = self.resource_GSJ >= 0
        load_R = np.zeros(len(self.capacity_R), np.int64)
        np.add.at(load_R, self.resource_GSJ[used], units_GSJ[used])
        return load_R

    def value(self, slot_U: NDArray[Any]) -> float:
        """Worth of an answer; users without a slot are worth nothing."""
        placed = np.flatnonzero(slot_U != NO_SLOT)
        return float(self.worth_US[placed, slot_U[placed]].sum(dtype=np.float64))

    def bound(self, price_R: NDArray[np.float64]) -> float:
        """What no answer can exceed, by weak duality, whatever the prices; they must not be negative."""
        if not (np.isfinite(price_R).all() and (price_R >= 0).all()):
            raise GateFailed("prices must be finite and 0 or more")
        used = self.resource_GSJ >= 0
        cost_GS = np.where(used, self.weight_GSJ * price_R[self.resource_GSJ], 0.0).sum(axis=2)
        cost_GS[~self.open_GS] = np.inf
        best = sum(float((self.worth_US[b] - cost_GS[self.group_U[b]]).max(axis=1).sum()) for b in self.blocks())
        return best + float(price_R @ self.capacity_R)

    def blocks(self) -> Iterator[slice]:
        """Users a few at a time, where all of them would take too much memory."""
        return (slice(first, first + BLOCK) for first in range(0, self.users, BLOCK))


def make_problem(case: Case, seed: int) -> Problem:
    """The users of a case and what is short."""
    rng, n = np.random.default_rng([seed, case.users, 3]), case.users
    worth_US = worths(case.curves, n, seed)
    h_U = np.sort(rng.integers(0, 2**64, n, dtype=np.uint64))
    zone_U = rng.choice(len(ZONES), n, p=ZONE_SHARES).astype(np.int32)
    provider_U = rng.choice(len(PROVIDER_SHARES), n, p=PROVIDER_SHARES).astype(np.int32)
    if case.limits == "tight":
        return _hours(worth_US, h_U, np.zeros(n, np.int32), 1, 1.05)
    if case.limits == "providers":
        return _hours(worth_US, h_U, provider_U, len(PROVIDER_SHARES), 1.1)
    return _quarters(worth_US, h_U, zone_U, provider_U if case.limits == "both" else np.zeros(n, np.int32))


def _hours(
    worth_US: NDArray[np.float32], h_U: NDArray[np.uint64], provider_U: NDArray[np.int32], providers: int, room: float
) -> Problem:
    """A resource a slot, and one for each (provider, slot) where there are several; a send takes a unit of each."""
    own = providers > 1
    resource_GSJ = np.empty((providers, SLOTS, 1 + own), np.int32)
    resource_GSJ[:, :, 0] = np.arange(SLOTS)
    if own:
        resource_GSJ[:, :, 1] = SLOTS + np.arange(providers * SLOTS).reshape(providers, SLOTS)
    n_P = np.bincount(provider_U, minlength=providers)
    shares = [np.full(SLOTS, len(h_U) * room), *([np.repeat(n_P * 1.25, SLOTS)] if own else [])]
    capacity_R = np.ceil(np.concatenate(shares) / SLOTS).astype(np.int64)
    provider_G, open_GS = np.arange(providers, dtype=np.int32), np.ones((providers, SLOTS), np.bool_)
    return Problem(worth_US, provider_U, h_U, provider_G, open_GS, resource_GSJ, np.ones_like(resource_GSJ), capacity_R)


def _quarters(
    worth_US: NDArray[np.float32], h_U: NDArray[np.uint64], zone_U: NDArray[np.int32], provider_U: NDArray[np.int32]
) -> Problem:
    """Resources are quarter-hours of UTC, in all and by provider; a send takes a quarter of itself, a unit, of four."""
    n_P = np.bincount(provider_U)
    providers, zones = len(n_P), len(ZONES)
    first_ZS = (np.arange(SLOTS) * 60 - np.array(ZONES)[:, None]) // 15
    bin_ZSJ = (first_ZS[:, :, None] + np.arange(WIDE)) % BINS
    resource_PZSJ = np.tile(bin_ZSJ, (providers, 1, 1, 1))
    shares = [np.full(BINS, len(h_U) * 1.2)]
    if providers > 1:
        own_P = BINS * (1 + np.arange(providers))
        resource_PZSJ = np.concatenate([resource_PZSJ, own_P[:, None, None, None] + bin_ZSJ], axis=3)
        shares.append(np.repeat(n_P * 1.5, BINS))
    resource_GSJ = resource_PZSJ.reshape(providers * zones, SLOTS, -1).astype(np.int32)
    capacity_R = np.ceil(np.concatenate(shares) * WIDE / BINS).astype(np.int64)
    open_GS = np.tile(np.isin(np.arange(SLOTS), OPEN_HOURS), (providers * zones, 1))
    group_U = (provider_U * zones + zone_U).astype(np.int32)
    provider_G = np.repeat(np.arange(providers, dtype=np.int32), zones)
    return Problem(worth_US, group_U, h_U, provider_G, open_GS, resource_GSJ, np.ones_like(resource_GSJ), capacity_R)


def judge(problem: Problem, slot_U: NDArray[Any], must_hold: bool) -> dict[str, float]:
    """Figures of an answer by recount; GateFailed for a slot that is not open, and for a broken limit that must hold.

    `violations` are resources over their capacity, `over_share` the units beyond it of all units taken.
    """
    if slot_U.shape != (problem.users,):
        raise GateFailed(f"{problem.users} users must have a slot; found {slot_U.shape}")
    placed = np.flatnonzero(slot_U != NO_SLOT)
    open_GS = np.zeros((len(problem.open_GS), 256), np.bool_)
    open_GS[:, : problem.open_GS.shape[1]] = problem.open_GS
    closed = ~open_GS[problem.group_U[placed], slot_U[placed]]
    if closed.any():
        user = int(placed[closed.argmax()])
        raise GateFailed(f"every slot must be an open one; found {int(slot_U[user])} of user {user}")
    load_R = problem.load_R(slot_U)
    over_R = np.maximum(load_R - problem.capacity_R, 0)
    unplaced = problem.users - len(placed)
    if must_hold and (over_R.any() or unplaced):
        raise GateFailed(
            f"all capacities must hold and everybody be placed; found {int((over_R > 0).sum())} resources exceeded, by "
            f"up to {int(over_R.max())} units, and {unplaced} users without a slot"
        )
    return {
        "value": problem.value(slot_U),
        "violations": float((over_R > 0).sum()),
        "over_share": float(over_R.sum() / max(1, load_R.sum())),
        "unplaced": float(unplaced),
    }
