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
from typing import TypeVar

import numpy as np

from sto_engine.assign.book import Book, Each, Outcome, Slots, Terms
from sto_engine.assign.quotas import quotas
from sto_kernels.chain import LEAST_GAIN, Pool
from sto_kernels.hashing import U64, derive, tag_key, unit_interval
from sto_kernels.limits import Int64s, Limits, counts_GS
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
from sto_kernels.prices import NO_SLOT, Choice, Floats, Moments, choose, moments, value_of
from sto_kernels.repair import near_ties, repair, shed

T = TypeVar("T")

SAMPLE = 100_000
PER_PROVIDER = 20_000
POOL = 131_072
# up to so many users chains take the plan to the optimum; prices alone are as near for more, and that takes seconds
POLISHED = 32_768
# passes over everybody, of which two do mostly
CORRECTIONS = 6
REPAIRS = 8


@dataclass(frozen=True)
class _Count:
    free_G: Int64s
    fixed_R: Int64s
    load_R: Int64s
    users: int


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
    counts = each("count", lambda b: _count(book.offers(b), book.slots(b), terms.limits), book.buckets)
    load_R = np.sum([count.load_R for count in counts], axis=0)
    free = terms.prices_R is None or not terms.prices_R.any()
    if free and (load_R <= terms.limits.capacity_R).all() and terms.limits.hard_R.all():
        return _unlimited(book, load_R, each)
    free_G = np.sum([count.free_G for count in counts], axis=0)
    fixed_BR = np.stack([count.fixed_R for count in counts])
    capacity_R = np.maximum(terms.limits.capacity_R - fixed_BR.sum(axis=0), 0).astype(np.float64)
    clock.lap("count")
    sample, whole = _sample(book, terms, free_G, each)
    plan = _fit(sample, terms, capacity_R, run)
    clock.lap("fit")
    if terms.prices_R is None and not whole:
        _correct(plan, book, terms, capacity_R, float(free_G.sum()), each)
    clock.lap("correct")
    loads = _choose(plan, book, terms, each)
    loads.fixed_BR, loads.users_B = fixed_BR, np.array([count.users for count in counts], np.int64)
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


def _count(offers: Offers, slot_U: Slots, limits: Limits) -> _Count:
    """Users with a choice by group; loads of those without one, and of all at the slots that the book begins with."""
    free_G = np.bincount(offers.group_U[offers.choice_U()], minlength=limits.groups).astype(np.int64)
    shape = limits.groups, limits.slots
    n_GS = counts_GS(offers.group_U, slot_U, *shape)
    fixed = offers.take(offers.fixed_U())
    only_U = fixed.allowed_US().argmax(axis=1).astype(np.uint8)
    fixed_R = limits.load_R(counts_GS(fixed.group_U, only_U, *shape))
    return _Count(free_G, fixed_R, limits.load_R(n_GS), len(offers))


def _unlimited(book: Book, load_R: Int64s, each: Each) -> Outcome:
    """The slots that the book begins with break no limit: they stand, and nothing has a price."""
    values = each("value", lambda b: value_of(book.offers(b), book.slots(b)), book.buckets)
    value = sum(values)
    return Outcome(np.zeros(len(load_R)), 0.0, 1.0, -np.inf, bound=value, value=value, load_R=load_R)


def _sample(book: Book, terms: Terms, free_G: Int64s, each: Each) -> tuple[Sample, bool]:
    """Users with a choice by the hash of their own that is least, and whether these are all."""
    strata = int(terms.stratum_G.max(initial=-1)) + 1
    n_P = np.bincount(terms.stratum_G, weights=free_G, minlength=strata)
    total = max(n_P.sum(), 1.0)
    rate_P = np.minimum(1.0, np.maximum(PER_PROVIDER, SAMPLE * n_P / total) / np.maximum(n_P, 1.0))
    rate_G = rate_P[terms.stratum_G]

    def some(bucket: int) -> Offers:
        offers = book.offers(bucket)
        place_U = unit_interval(derive(offers.h_U, "sample"))
        return offers.take((place_U < rate_G[offers.group_U]) & offers.choice_U())

    return make_sample(_joined(each("sample", some, book.buckets)), free_G), bool((rate_P >= 1.0).all())


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
    once_G = np.ones(terms.limits.groups)

    def evaluate(price_R: Floats) -> Moments:
        cost_GS = terms.limits.cost_GS(price_R)
        return add_up(each("correct", lambda b: moments(book.offers(b), cost_GS, plan.eps, plan.none, once_G), buckets))

    buckets = book.buckets
    whole = Descent(evaluate, terms.limits, capacity_R, plan.eps, plan.scale, users)
    plan.price_R, _, _ = whole.minimise(plan.price_R, plan.ridge, CORRECTIONS)


def _choose(plan: Outcome, book: Book, terms: Terms, each: Each) -> _Loads:
    limits, cost_GS = terms.limits, terms.limits.cost_GS(plan.price_R)

    def work(bucket: int) -> tuple[float, Int64s]:
        offers = book.offers(bucket)
        choice: Choice = choose(offers, cost_GS, terms.run_key, plan.eps, plan.none)
        book.keep(bucket, choice.slot_U)
        return choice.best, limits.load_R(counts_GS(offers.group_U, choice.slot_U, limits.groups, limits.slots))

    found = each("price", work, book.buckets)
    load_BR = np.stack([load_R for _, load_R in found])
    plan.over_before = int(np.maximum(load_BR.sum(axis=0) - limits.capacity_R, 0)[limits.hard_R].sum())
    plan.bound = sum(best for best, _ in found) + float(plan.price_R @ limits.capacity_R)
    plan.bound += 0.5 * float(limits.softness_R @ plan.price_R**2)
    nobody_B = np.zeros(len(load_BR), np.int64)
    return _Loads(load_BR, load_BR, nobody_B, nobody_B.copy())


def _repair(plan: Outcome, book: Book, terms: Terms, loads: _Loads, each: Each) -> None:
    """Within quotas, again while that helps: what one bucket has no room for another may have."""
    limits, cost_GS, buckets = terms.limits, terms.limits.cost_GS(plan.price_R), list(book.buckets)
    for attempt in range(REPAIRS):
        excess = _excess(loads, limits)
        without = terms.may_defer and attempt == 0  # of whom some may find room
        if not excess and not without:
            return
        quota_BR = quotas(loads.load_BR, loads.fixed_BR, loads.users_B, limits.capacity_R)
        over_B = ((loads.load_BR > quota_BR) & limits.hard_R).any(axis=1)
        concerned = np.flatnonzero(over_B | without).tolist()

        def work(i: int, quota_BR: Int64s = quota_BR) -> tuple[int, int, Int64s]:
            bucket = buckets[i]
            was_U = book.slots(bucket)
            offers = book.offers(bucket)
            slot_U, load_R = repair(offers, was_U, limits, cost_GS, loads.load_BR[i], quota_BR[i])
            book.keep(bucket, slot_U)
            return int((slot_U != was_U).sum()), _without(offers, slot_U), load_R

        found = each("repair", work, concerned)
        for i, (moved, without_slot, load_R) in zip(concerned, found, strict=True):
            loads.load_BR[i], loads.without_B[i] = load_R, without_slot
            plan.moved += moved
        if _excess(loads, limits) >= excess and not without:
            return


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
    found = each("value", lambda b: _worth(book.offers(b), book.slots(b), plan.none), book.buckets)
    plan.value, plan.deferred = sum(value for value, _ in found), sum(none for _, none in found)
    soft = ~limits.hard_R
    over_R = np.maximum(load_R - limits.capacity_R, 0)[soft].astype(np.float64)
    plan.value -= float((over_R**2 / (2 * limits.softness_R[soft])).sum())


def _worth(offers: Offers, slot_U: Slots, none: float) -> tuple[float, int]:
    without = _without(offers, slot_U)
    return value_of(offers, slot_U, 0.0) + (none * without if without else 0.0), without


def _without(offers: Offers, slot_U: Slots) -> int:
    """Users who could have a slot and have none."""
    return int(offers.take(slot_U == NO_SLOT).open_U().astype(np.bool_).sum())


def _with_pool(
    plan: Outcome, book: Book, terms: Terms, load_R: Int64s, room_R: Int64s, each: Each, only_near: bool
) -> Int64s:
    """Chains through users of all buckets: those whom a move costs next to nothing, or anybody; the new loads."""
    limits, cost_GS = terms.limits, terms.limits.cost_GS(plan.price_R)
    most = max(1, POOL // max(len(book.buckets), 1))

    def some(bucket: int) -> tuple[Offers, Int64s, Slots]:
        offers, slot_U = book.offers(bucket), book.slots(bucket)
        if only_near:
            rows = near_ties(offers, slot_U, cost_GS, plan.eps, plan.none)
        else:
            rows = np.flatnonzero(offers.choice_U() | ((slot_U == NO_SLOT) & offers.fixed_U()))
            rows = rows[np.argsort(slot_U[rows] != NO_SLOT, kind="stable")]
        return offers.take(rows[:most]), rows[:most], slot_U[rows[:most]]

    found = each("pool", some, book.buckets)
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
            book.keep(bucket, slot_U)
            at += len(rows)
    return pool.load_R


def _shed(plan: Outcome, book: Book, terms: Terms, load_R: Int64s, room_R: Int64s) -> Int64s:
    """Users of resources that are over-full for good lose their slot, bucket by bucket."""
    for bucket in book.buckets:
        if not (load_R > room_R).any():
            break
        slot_U, load_R = shed(book.offers(bucket), book.slots(bucket), terms.limits, load_R, room_R)
        book.keep(bucket, slot_U)
    return load_R


def run_key(run_id: str) -> U64:
    """The key of the noise of a run."""
    return tag_key(f"choice:{run_id}")
