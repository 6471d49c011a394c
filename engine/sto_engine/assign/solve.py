"""From offers in buckets to a slot for everyone within the limits: the rounds between phases A and B.

    count      users of each group, and what those without a choice use up                        every bucket
    fit        prices on a hash sample, stratified by provider                                    a few thousand rows
    correct    Newton steps from the moments of everybody                                         every bucket
    choose     each user's slot at these prices; loads, and the certificate                       every bucket
    repair     what is over-full moves within quotas                                              buckets concerned
    finish     chains through a pool of users: out of limits that are left, and into gains        one pool

What crosses buckets is small: counts, moments, loads, the sample and the pool. Every step is a pure function of the
bucket and of what was found before, summed in bucket order.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from sto_engine.assign import bucket_steps as steps
from sto_engine.assign.book import Book, Each, Outcome, Terms
from sto_engine.assign.quotas import quotas
from sto_kernels.chain import LEAST_GAIN, Pool
from sto_kernels.hashing import U64, tag_key
from sto_kernels.limits import Int64s, Limits
from sto_kernels.offers import Offers
from sto_kernels.price_fit import (
    Descent,
    Run,
    Sample,
    add_up,
    fit_prices,
    last_eps,
    make_sample,
    one_by_one,
)
from sto_kernels.prices import Floats, Moments
from sto_kernels.repair import shed

SAMPLE = 100_000
PER_PROVIDER = 20_000
POOL = 131_072
# up to so many users chains take the plan to the optimum; prices alone are as near for more, and that takes seconds
POLISHED = 32_768
# passes over everybody, of which two do mostly
CORRECTIONS = 6
REPAIRS = 8


@dataclass(frozen=True)
class _Counts:
    """Users with a choice by group, loads of all buckets; of each, loads of those without a choice, and its users."""

    free_G: Int64s
    load_R: Int64s
    fixed_BR: Int64s
    users_B: Int64s


@dataclass
class _Loads:
    """Loads of the buckets, in their order, int64 [B, R]."""

    load_BR: Int64s
    fixed_BR: Int64s
    users_B: Int64s
    without_B: Int64s


def solve(book: Book, terms: Terms, each: Each, run: Run = one_by_one) -> Outcome:
    """Choose everyone's slot; they are kept in the book. `run` does parts of the sample at a time."""
    clock = _Clock()
    counts = _counts(book, terms.limits, each)
    load_R = counts.load_R
    free = terms.prices_R is None or not terms.prices_R.any()
    if free and (load_R <= terms.limits.capacity_R).all() and terms.limits.hard_R.all():
        return _unlimited(book, load_R, each)
    free_G = counts.free_G
    capacity_R = np.maximum(terms.limits.capacity_R - counts.fixed_BR.sum(axis=0), 0).astype(np.float64)
    clock.lap("count")
    sample, whole = _sample(book, terms, free_G, each)
    plan = _fit(sample, terms, capacity_R, run)
    clock.lap("fit")
    if terms.prices_R is None and not whole:
        _correct(plan, book, terms, capacity_R, float(free_G.sum()), each)
    clock.lap("correct")
    loads = _choose(plan, book, terms, counts, each)
    clock.lap("choose")
    _repair(plan, book, terms, loads, each)
    clock.lap("repair")
    _finish(plan, book, terms, loads, each)
    clock.lap("finish")
    plan.seconds = clock.laps
    return plan


class _Clock:
    def __init__(self) -> None:
        self._last, self.laps = time.monotonic(), dict[str, float]()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name], self._last = now - self._last, now


def _counts(book: Book, limits: Limits, each: Each) -> _Counts:
    free_G, load_R = np.zeros(limits.groups, np.int64), np.zeros(len(limits.capacity_R), np.int64)
    fixed_BR = np.zeros((len(book.buckets), len(load_R)), np.int64)
    users_B = np.zeros(len(fixed_BR), np.int64)
    for b, count in enumerate(each("count", partial(steps.count, book, limits), book.buckets)):
        free_G += count[0]
        load_R += count[1]
        fixed_BR[b], users_B[b] = count[2:]
    return _Counts(free_G, load_R, fixed_BR, users_B)


def _unlimited(book: Book, load_R: Int64s, each: Each) -> Outcome:
    """The slots that the book begins with break no limit: they stand, and nothing has a price."""
    value = sum(each("value", partial(steps.value, book), book.buckets))
    return Outcome(np.zeros(len(load_R)), 0.0, 1.0, -np.inf, bound=value, value=value, load_R=load_R)


def _sample(book: Book, terms: Terms, free_G: Int64s, each: Each) -> tuple[Sample, bool]:
    """Users with a choice by the hash of their own that is least, and whether these are all."""
    strata = int(terms.stratum_G.max(initial=-1)) + 1
    n_P = np.bincount(terms.stratum_G, weights=free_G, minlength=strata)
    total = max(n_P.sum(), 1.0)
    rate_P = np.minimum(1.0, np.maximum(PER_PROVIDER, SAMPLE * n_P / total) / np.maximum(n_P, 1.0))
    parts = list(each("sample", partial(steps.sampled, book, rate_P[terms.stratum_G]), book.buckets))
    return make_sample(_joined(parts), free_G), bool((rate_P >= 1.0).all())


def _joined(parts: Sequence[Offers]) -> Offers:
    return Offers(*(np.concatenate([getattr(part, name) for part in parts]) for name in Offers.__dataclass_fields__))


def _fit(sample: Sample, terms: Terms, capacity_R: Floats, run: Run) -> Outcome:
    none = -sample.scale if terms.may_defer else -np.inf
    eps = last_eps(sample.scale)
    if terms.prices_R is not None:
        return Outcome(terms.prices_R, eps, sample.scale, none)
    fit = fit_prices(sample, terms.limits, capacity_R, none, terms.start_R, run)
    return Outcome(fit.price_R, eps, sample.scale, none, fit.passes, fit.ridge)


def _correct(plan: Outcome, book: Book, terms: Terms, capacity_R: Floats, users: float, each: Each) -> None:
    """The prices by the moments of everybody, which carry no error of sampling, in a few passes."""

    def evaluate(price_R: Floats) -> Moments:
        cost_GS = terms.limits.cost_GS(price_R)
        parts = each("correct", partial(steps.moments_of, book, cost_GS, plan.eps, plan.none), book.buckets)
        total = add_up([next(parts)])  # a copy
        for part in parts:
            total = add_up([total, part])
        return total

    whole = Descent(evaluate, terms.limits, capacity_R, plan.eps, plan.scale, users)
    plan.price_R, _, _ = whole.minimise(plan.price_R, plan.ridge, CORRECTIONS)


def _choose(plan: Outcome, book: Book, terms: Terms, counts: _Counts, each: Each) -> _Loads:
    limits, cost_GS = terms.limits, terms.limits.cost_GS(plan.price_R)
    work = partial(steps.chosen, book, limits, cost_GS, terms.run_key, (plan.eps, plan.none))
    load_BR, best_B = np.zeros_like(counts.fixed_BR), list[float]()
    for b, (bucket, found) in enumerate(zip(book.buckets, each("price", work, book.buckets), strict=True)):
        best, load_BR[b], kept = found
        best_B.append(best)
        book.took(bucket, kept)
    plan.over_before = int(np.maximum(load_BR.sum(axis=0) - limits.capacity_R, 0)[limits.hard_R].sum())
    plan.bound = sum(best_B) + float(plan.price_R @ limits.capacity_R)
    plan.bound += 0.5 * float(limits.softness_R @ plan.price_R**2)
    return _Loads(load_BR, counts.fixed_BR, counts.users_B, np.zeros(len(load_BR), np.int64))


def _repair(plan: Outcome, book: Book, terms: Terms, loads: _Loads, each: Each) -> None:
    """Within quotas, again while that helps: what one bucket has no room for another may have."""
    limits, buckets = terms.limits, list(book.buckets)
    work = partial(steps.repaired, book, limits, limits.cost_GS(plan.price_R))
    for attempt in range(REPAIRS):
        excess = _excess(loads, limits)
        without = terms.may_defer and attempt == 0  # of whom some may find room
        if not excess and not without:
            return
        quota_BR = quotas(loads.load_BR, loads.fixed_BR, loads.users_B, limits.capacity_R)
        over_B = ((loads.load_BR > quota_BR) & limits.hard_R).any(axis=1)
        place = {buckets[b]: b for b in np.flatnonzero(over_B | without).tolist()}

        told = partial(_told, loads.load_BR, quota_BR, place)
        found = each("repair", work, list(place), told)
        for (bucket, b), (moved, without_slot, load_R, kept) in zip(place.items(), found, strict=True):
            loads.load_BR[b], loads.without_B[b] = load_R, without_slot
            plan.moved += moved
            book.took(bucket, kept)
        if _excess(loads, limits) >= excess and not without:
            return


def _told(load_BR: Int64s, quota_BR: Int64s, place: dict[int, int], bucket: int) -> tuple[Int64s, Int64s]:
    return load_BR[place[bucket]], quota_BR[place[bucket]]


def _excess(loads: _Loads, limits: Limits) -> int:
    return int(np.maximum(loads.load_BR.sum(axis=0) - limits.capacity_R, 0)[limits.hard_R].sum())


def _finish(plan: Outcome, book: Book, terms: Terms, loads: _Loads, each: Each) -> None:
    """Chains in a pool of users from all buckets, then what nobody can relieve, then what it all is worth."""
    limits = terms.limits
    room_R = np.where(limits.hard_R, limits.capacity_R, np.iinfo(np.int64).max)
    load_R = loads.load_BR.sum(axis=0)
    if (load_R > room_R).any() or loads.without_B.any():
        load_R = _with_pool(plan, book, terms, load_R, room_R, each, only_near=False)
    if (load_R > room_R).any() and terms.may_defer:
        load_R = _shed(plan, book, terms, load_R, room_R)
        load_R = _with_pool(plan, book, terms, load_R, room_R, each, only_near=False)  # somebody may have room now
    if limits.hard_R.all() and loads.users_B.sum() <= POLISHED:
        load_R = _with_pool(plan, book, terms, load_R, room_R, each, only_near=True)
    plan.load_R = load_R
    plan.violations = int(np.maximum(load_R - room_R, 0).sum())
    found = list(each("value", partial(steps.worth, book, plan.none), book.buckets))
    plan.value, plan.deferred = sum(value for value, _ in found), sum(none for _, none in found)
    soft = ~limits.hard_R
    over_R = np.maximum(load_R - limits.capacity_R, 0)[soft].astype(np.float64)
    plan.value -= float((over_R**2 / (2 * limits.softness_R[soft])).sum())


def _with_pool(
    plan: Outcome, book: Book, terms: Terms, load_R: Int64s, room_R: Int64s, each: Each, only_near: bool
) -> Int64s:
    """Chains through users of all buckets: those whom a move costs next to nothing, or anybody; the new loads."""
    limits, cost_GS = terms.limits, terms.limits.cost_GS(plan.price_R)
    most = max(1, POOL // max(len(book.buckets), 1))
    near = (cost_GS, plan.eps, plan.none) if only_near else None
    found = list(each("pool", partial(steps.pooled, book, most, near), book.buckets))
    users, slot_U = _joined([part for part, _, _ in found]), np.concatenate([s for _, _, s in found])
    pool = Pool(users, slot_U, limits, load_R, room_R, plan.none)
    if only_near:
        # a chain takes a walk over the pool: among many users it must gain more to be worth that
        done = pool.improve(LEAST_GAIN * plan.scale * max(1.0, len(users) / 300))
    else:
        done = pool.relieve() + pool.place()
    if done:
        plan.chained += done
        at = 0
        for bucket, (_, rows, _) in zip(book.buckets, found, strict=True):
            slot_U = book.slots(bucket).copy()
            slot_U[rows] = pool.slot_U[at : at + len(rows)]
            book.took(bucket, book.keep(bucket, slot_U))
            at += len(rows)
    return pool.load_R


def _shed(plan: Outcome, book: Book, terms: Terms, load_R: Int64s, room_R: Int64s) -> Int64s:
    """Users of resources that are over-full for good lose their slot, bucket by bucket."""
    for bucket in book.buckets:
        if not (load_R > room_R).any():
            break
        slot_U, load_R = shed(book.offers(bucket), book.slots(bucket), terms.limits, load_R, room_R)
        book.took(bucket, book.keep(bucket, slot_U))
    return load_R


def run_key(run_id: str) -> U64:
    """The key of the noise of a run."""
    return tag_key(f"choice:{run_id}")
