"""Prices by Newton's method on the smooth dual (`prices`), with eps lowered step by step.

    gradient_r = capacity_r - expected load_r
    Hessian    = sum_g A_g' (diag(first_g) - second_g) A_g / eps        A_g[s, r] = weight of r in option (g, s)

Prices stay at or above 0: those at 0 whose resource has room are left out of a step (projected Newton). The first,
coarse stages need direction and no precision and run on a part of the sample.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sto_kernels.cholesky import solve_positive
from sto_kernels.compiled import jit, read_only
from sto_kernels.limits import Limits
from sto_kernels.offers import Offers
from sto_kernels.prices import Floats, Moments, moments

Array = NDArray[Any]
T = TypeVar("T")

# eps of each stage relative to the mean best worth, and the share of the sample that it sees
STAGES = ((0.1, 0.125), (0.03, 0.125), (0.01, 0.5), (0.003, 1.0), (0.001, 1.0), (0.0003, 1.0))
WARM_STAGES = STAGES[2:]
# of a stage
MOST_PASSES = 60
# the largest change of a price in one step, relative to the mean best worth
STEP = 0.2
# a stage ends when a step promises less than this, relative to the mean best worth of all users
TOLERANCE = 1e-7
# added to the Hessian, per user: the least, for resources that cannot be told apart, and how far it is raised where a
# step does not keep its promise (Levenberg and Marquardt)
RIDGES = (1e-9, 1e-7, 1e-5, 1e-3, 1e-1)
# a step that must be cut below this is better taken with a larger ridge
SHORTEST = 0.1
BLOCK = 8_192


class Run(Protocol):
    """Work on several parts at a time; results in the order of the parts."""

    def __call__(self, work: Callable[[int], T], parts: int, /) -> list[T]: ...


def one_by_one(work: Callable[[int], T], parts: int) -> list[T]:
    return [work(part) for part in range(parts)]


@dataclass(frozen=True)
class Fit:
    """Prices, how many passes over the sample they took, by how much the worst resource was off at the end, and the
    ridge that steps needed there, as a place in RIDGES."""

    price_R: Floats
    passes: int
    off: float
    ridge: int


@dataclass(frozen=True)
class Sample:
    """Users that stand for all: `weight_G` says for how many each of a group does; `scale` is the mean best worth."""

    blocks: Sequence[Offers]
    weight_G: Floats
    scale: float

    def part(self, share: float) -> "Sample":
        """The first blocks, standing for as many."""
        n = max(1, round(share * len(self.blocks)))
        if n == len(self.blocks):
            return self
        groups = len(self.weight_G)
        all_G = _tally([block.group_U for block in self.blocks], groups)
        some_G = _tally([block.group_U for block in self.blocks[:n]], groups)
        weight_G = np.where(some_G > 0, self.weight_G * all_G / np.maximum(some_G, 1), 0.0)
        return Sample(self.blocks[:n], weight_G, self.scale)


def make_sample(offers: Offers, n_G: NDArray[np.int64]) -> Sample:
    """A sample in hash order that stands for `n_G` users of each group."""
    groups = len(n_G)
    m_G = np.bincount(offers.group_U, minlength=groups)
    weight_G = np.where(m_G > 0, n_G / np.maximum(m_G, 1), 0.0)
    blocks = [offers.take(slice(at, at + BLOCK)) for at in range(0, len(offers), BLOCK)]
    best_U = offers.worth_US().max(axis=1, initial=-np.inf) if len(offers) else np.zeros(0)
    total = float(np.sum(best_U * weight_G[offers.group_U], dtype=np.float64))
    mean = total / max(float(weight_G[offers.group_U].sum()), 1.0)
    return Sample(blocks, weight_G, mean if mean > 0 else 1.0)


def fit_prices(
    sample: Sample, limits: Limits, capacity_R: Floats, none: float, start_R: Floats | None, run: Run = one_by_one
) -> Fit:
    """Prices at which the sample's expected loads fit `capacity_R` (units left over by users without a choice).

    `none` is the worth of no slot at all; `start_R` are yesterday's prices, with which the coarse stages are skipped.
    """
    price_R = np.zeros(len(capacity_R)) if start_R is None else np.maximum(start_R, 0.0)
    passes, off = 0, 0.0
    if not sample.blocks or not len(capacity_R):
        return Fit(price_R, passes, off, 0)
    ridge = 0
    for relative, share in STAGES if start_R is None else WARM_STAGES:
        stage = _stage(sample.part(share), limits, capacity_R, relative * sample.scale, none, run)
        price_R, off, ridge = stage.minimise(price_R, ridge, MOST_PASSES)
        passes += stage.passes
    return Fit(price_R, passes, off, ridge)


def last_eps(scale: float) -> float:
    """The eps of the last stage, which the choice uses too."""
    return STAGES[-1][0] * scale


def _stage(sample: Sample, limits: Limits, capacity_R: Floats, eps: float, none: float, run: Run) -> "Descent":
    """The smooth dual of a sample at one eps."""
    blocks, weight_G = sample.blocks, sample.weight_G
    users = sum(float(weight_G[block.group_U].sum()) for block in blocks)

    def evaluate(price_R: Floats) -> Moments:
        cost_GS = limits.cost_GS(price_R)
        return add_up(run(lambda b: moments(blocks[b], cost_GS, eps, none, weight_G), len(blocks)))

    return Descent(evaluate, limits, capacity_R, eps, sample.scale, users)


@dataclass
class Descent:
    """Newton's method on the smooth dual, whose moments at given prices `evaluate` knows; `users` and their `scale`
    say what a gain is worth having."""

    evaluate: Callable[[Floats], Moments]
    limits: Limits
    capacity_R: Floats
    eps: float
    scale: float
    users: float
    passes: int = 0

    def minimise(self, price_R: Floats, ridge: int, most: int) -> tuple[Floats, float, int]:
        """Prices where no step promises anything, or the best of `most` passes; by how much the worst resource is off
        there; the ridge that was used last."""
        enough = TOLERANCE * self.users * self.scale
        found = self._moments(price_R)
        while self.passes < most:
            gradient_R = _gradient(found, self.limits, self.capacity_R, price_R)
            step_R = _newton(found, self.limits, price_R, gradient_R, self.eps, RIDGES[ridge] * self.users)
            step_R = _shortened(step_R, STEP * self.scale)
            if -float(gradient_R @ (np.maximum(price_R + step_R, 0.0) - price_R)) < enough:
                break
            t, nxt = self._line_search(price_R, step_R, gradient_R, found, most)
            if nxt is not None:
                price_R, found = nxt
            elif ridge == len(RIDGES) - 1:
                break
            # directions that hardly bend lead far astray: a larger ridge keeps from them
            ridge = max(ridge - 1, 0) if t == 1.0 else min(ridge + 1, len(RIDGES) - 1) if t < 0.3 else ridge
        gradient_R = _gradient(found, self.limits, self.capacity_R, price_R)
        return price_R, _off(gradient_R, price_R, self.capacity_R), ridge

    def _line_search(
        self, price_R: Floats, step_R: Floats, gradient_R: Floats, was: Moments, most: int
    ) -> tuple[float, tuple[Floats, Moments] | None]:
        """How much of the step is taken until the dual falls enough (Armijo), and prices and moments there."""
        old, t = self._dual(was, price_R), 1.0
        while t > SHORTEST and self.passes < most:
            new_R = np.maximum(price_R + t * step_R, 0.0)
            found = self._moments(new_R)
            promised = float(gradient_R @ (new_R - price_R))
            if self._dual(found, new_R) <= old + 1e-4 * promised:
                return t, (new_R, found)
            t *= 0.4
        return 0.0, None

    def _dual(self, found: Moments, price_R: Floats) -> float:
        return smooth_dual(found, self.limits, self.capacity_R, price_R)

    def _moments(self, price_R: Floats) -> Moments:
        self.passes += 1
        return self.evaluate(price_R)


def smooth_dual(found: Moments, limits: Limits, capacity_R: Floats, price_R: Floats) -> float:
    """The value that is minimised, from the moments at these prices."""
    return found.value + float(price_R @ capacity_R) + 0.5 * float(limits.softness_R @ price_R**2)


def add_up(parts: Sequence[Moments]) -> Moments:
    """The sum, in the order given."""
    first_GS, second_GSS, value = parts[0].first_GS.copy(), parts[0].second_GSS.copy(), parts[0].value
    for part in parts[1:]:
        first_GS += part.first_GS
        second_GSS += part.second_GSS
        value += part.value
    return Moments(first_GS, second_GSS, value)


def _tally(groups: Sequence[NDArray[np.int32]], size: int) -> NDArray[np.int64]:
    return np.bincount(np.concatenate(groups), minlength=size)


def _gradient(found: Moments, limits: Limits, capacity_R: Floats, price_R: Floats) -> Floats:
    return np.asarray(capacity_R + limits.softness_R * price_R - limits.expected_R(found.first_GS))


def _off(gradient_R: Floats, price_R: Floats, capacity_R: Floats) -> float:
    """The largest excess, or unused rest of a priced resource, as a share of its capacity."""
    counts = (price_R > 0) | (gradient_R < 0)
    return float(np.max(np.where(counts, np.abs(gradient_R), 0.0) / np.maximum(capacity_R, 1.0), initial=0.0))


def _shortened(step_R: Floats, longest: float) -> Floats:
    return np.asarray(step_R * min(1.0, longest / max(float(np.abs(step_R).max(initial=0.0)), 1e-300)))


def _newton(found: Moments, limits: Limits, price_R: Floats, gradient_R: Floats, eps: float, ridge: float) -> Floats:
    """The projected Newton step: prices at 0 whose resources have room do not move."""
    free = np.flatnonzero((price_R > 0) | (gradient_R < 0))
    place_R = np.full(len(price_R), -1, np.int64)
    place_R[free] = np.arange(len(free))
    hessian = np.zeros((len(free), len(free)))
    _hessian(
        *limits.entries(),
        read_only(found.first_GS, np.float64),
        read_only(found.second_GSS, np.float64),
        read_only(place_R, np.int64),
        hessian,
    )
    diagonal = limits.softness_R[free] + ridge / eps
    step_R = np.zeros(len(price_R))
    step_R[free] = -solve_positive(hessian / eps + np.diag(diagonal), gradient_R[free])
    return step_R


@jit
def _hessian(
    first_O: Array,
    resource_K: Array,
    weight_K: Array,
    first_GS: Array,
    second_GSS: Array,
    place_R: Array,
    hessian: Array,
) -> None:
    groups, slots = first_GS.shape
    for g in range(groups):
        for s in range(slots):
            if first_GS[g, s] == 0.0:
                continue
            for t in range(s + 1):
                bend = (first_GS[g, s] if s == t else 0.0) - second_GSS[g, s, t]
                if bend != 0.0:
                    _bend(g * slots + s, g * slots + t, bend, first_O, resource_K, weight_K, place_R, hessian)


@jit
def _bend(
    o: int,
    p: int,
    bend: float,
    first_O: Array,
    resource_K: Array,
    weight_K: Array,
    place_R: Array,
    hessian: Array,
) -> None:
    """What options o and p, one of them with the other, add to the Hessian of their resources' prices."""
    for i in range(first_O[o], first_O[o + 1]):
        a = place_R[resource_K[i]]
        if a < 0:
            continue
        for j in range(first_O[p], first_O[p + 1]):
            b = place_R[resource_K[j]]
            if b >= 0:
                amount = bend * weight_K[i] * weight_K[j]
                hessian[a, b] += amount
                if o != p:
                    hessian[b, a] += amount
