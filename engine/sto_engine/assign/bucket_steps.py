"""What `solve` does to one bucket at a time, as functions that may run anywhere: what they return is small."""

from typing import Any

import numpy as np

from sto_engine.assign.book import Book, Slots
from sto_kernels.hashing import U64, derive, unit_interval
from sto_kernels.limits import Int64s, Limits, counts_GS
from sto_kernels.offers import Offers
from sto_kernels.prices import NO_SLOT, Floats, Moments, choose, moments, value_of
from sto_kernels.repair import near_ties, repair


def count(book: Book, limits: Limits, bucket: int) -> tuple[Int64s, Int64s, Int64s, int]:
    """Users with a choice by group; loads of all at the slots that the book begins with, and of those without a choice;
    users."""
    offers, slot_U = book.offers(bucket), book.slots(bucket)
    free_G = np.bincount(offers.group_U[offers.choice_U()], minlength=limits.groups).astype(np.int64)
    shape = limits.groups, limits.slots
    n_GS = counts_GS(offers.group_U, slot_U, *shape)
    fixed = offers.take(offers.fixed_U())
    only_U = fixed.allowed_US().argmax(axis=1).astype(np.uint8)
    fixed_R = limits.load_R(counts_GS(fixed.group_U, only_U, *shape))
    return free_G, limits.load_R(n_GS), fixed_R, len(offers)


def value(book: Book, bucket: int) -> float:
    return value_of(book.offers(bucket), book.slots(bucket))


def sampled(book: Book, rate_G: Floats, bucket: int) -> Offers:
    offers = book.offers(bucket)
    place_U = unit_interval(derive(offers.h_U, "sample"))
    return offers.take((place_U < rate_G[offers.group_U]) & offers.choice_U())


def moments_of(book: Book, cost_GS: Floats, eps: float, none: float, bucket: int) -> Moments:
    return moments(book.offers(bucket), cost_GS, eps, none, np.ones(len(cost_GS)))


def chosen(
    book: Book, limits: Limits, cost_GS: Floats, key: U64, terms: tuple[float, float], bucket: int
) -> tuple[float, Int64s, Any]:
    """Everyone's slot at these prices: their best without noise, loads, and what the book kept."""
    offers = book.offers(bucket)
    choice = choose(offers, cost_GS, key, *terms)
    load_R = limits.load_R(counts_GS(offers.group_U, choice.slot_U, limits.groups, limits.slots))
    return choice.best, load_R, book.keep(bucket, choice.slot_U)


def repaired(
    book: Book, limits: Limits, cost_GS: Floats, bucket: int, told: tuple[Int64s, Int64s]
) -> tuple[int, int, Int64s, Any]:
    """`told` are the load of the bucket and its quota, [R] each; how many moved and are without a slot, the new load,
    what the book kept."""
    was_U, offers = book.slots(bucket), book.offers(bucket)
    slot_U, load_R = repair(offers, was_U, limits, cost_GS, *told)
    return int((slot_U != was_U).sum()), without_slot(offers, slot_U), load_R, book.keep(bucket, slot_U)


def worth(book: Book, none: float, bucket: int) -> tuple[float, int]:
    offers, slot_U = book.offers(bucket), book.slots(bucket)
    without = without_slot(offers, slot_U)
    return value_of(offers, slot_U, 0.0) + (none * without if without else 0.0), without


def pooled(
    book: Book, most: int, near: tuple[Floats, float, float] | None, bucket: int
) -> tuple[Offers, Int64s, Slots]:
    """Users for the pool, their rows and their slots: near ties at (costs, eps, none), or those with a choice."""
    offers, slot_U = book.offers(bucket), book.slots(bucket)
    if near is not None:
        rows = near_ties(offers, slot_U, *near)
    else:
        rows = np.flatnonzero(offers.choice_U() | ((slot_U == NO_SLOT) & offers.fixed_U()))
        rows = rows[np.argsort(slot_U[rows] != NO_SLOT, kind="stable")]
    return offers.take(rows[:most]), rows[:most], slot_U[rows[:most]]


def without_slot(offers: Offers, slot_U: Slots) -> int:
    """Users who could have a slot and have none."""
    return int(offers.take(slot_U == NO_SLOT).open_U().astype(np.bool_).sum())
