"""Quotas of buckets: whole units that add up, in proportion, and what cannot move is kept."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from limited import Int64s
from sto_engine.assign.quotas import quotas, shares


@st.composite
def weights(draw: st.DrawFn, most: int) -> Int64s:
    shape = draw(st.integers(1, 12)), draw(st.integers(0, 5))
    return draw(arrays(np.int64, shape, elements=st.one_of(st.just(0), st.integers(0, most))))


@st.composite
def totals_and_weights(draw: st.DrawFn, most: int) -> tuple[Int64s, Int64s]:
    weight_BR = draw(weights(most))
    total_R = draw(arrays(np.int64, weight_BR.shape[1], elements=st.integers(0, 10**12)))
    return total_R, weight_BR


@given(totals_and_weights(10**8))
@settings(max_examples=200, deadline=None)
def test_shares_add_up_and_are_within_one_unit_of_proportion(case: tuple[Int64s, Int64s]) -> None:
    total_R, weight_BR = case
    found = shares(total_R, weight_BR)
    assert found.dtype == np.int64
    assert (found.sum(axis=0) == total_R).all()
    assert (found >= 0).all()
    for b, r in np.ndindex(found.shape):
        total, weight, whole = int(total_R[r]), int(weight_BR[b, r]), int(weight_BR[:, r].sum())
        if whole:
            # in integers: |share - total * weight / whole| < 1
            assert abs(int(found[b, r]) * whole - total * weight) < whole
            assert weight or found[b, r] == 0


@given(totals_and_weights(10**15))
@settings(max_examples=100, deadline=None)
def test_weights_of_any_size_add_up(case: tuple[Int64s, Int64s]) -> None:
    total_R, weight_BR = case
    found = shares(total_R, weight_BR)
    assert (found.sum(axis=0) == total_R).all()
    assert (found >= 0).all()
    whole_R = np.maximum(weight_BR.sum(axis=0), 1).astype(np.float64)
    off_BR = np.abs(found - total_R * (weight_BR / whole_R))
    assert (off_BR <= 1 + 1e-7 * total_R)[:, weight_BR.sum(axis=0) > 0].all()


def test_rounding_never_takes_from_a_bucket_without_weight() -> None:
    # 10**12 * 10**6 / (10**7 + 1) and the like lie closer to a whole number than a float64 can tell
    weight_BR = np.array([[0], [999_999], [9_000_001], [0], [1]])
    found = shares(np.array([10**12]), weight_BR)
    assert found.sum() == 10**12
    assert found[0] == found[3] == 0


def test_the_largest_remainder_gets_the_unit_and_ties_go_to_the_first() -> None:
    column = np.array([[1], [1], [1]])
    assert shares(np.array([2]), column)[:, 0].tolist() == [1, 1, 0]
    assert shares(np.array([4]), np.array([[10], [25], [5]]))[:, 0].tolist() == [1, 3, 0]


def test_without_weights_all_share_alike() -> None:
    assert shares(np.array([7, 0]), np.zeros((3, 2), np.int64)).tolist() == [[3, 0], [2, 0], [2, 0]]


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(0, 4))
@settings(max_examples=150, deadline=None)
def test_quotas_add_up_to_the_capacity_and_keep_what_is_fixed(seed: int, buckets: int, resources: int) -> None:
    rng = np.random.default_rng(seed)
    fixed_BR = rng.integers(0, 50, (buckets, resources)) * rng.integers(0, 2, resources)
    load_BR = fixed_BR + rng.integers(0, 100, (buckets, resources))
    capacity_R = np.maximum(0, (load_BR.sum(axis=0) * rng.uniform(0, 2, resources)).astype(np.int64))
    found = quotas(load_BR, fixed_BR, rng.integers(0, 1_000, buckets), capacity_R)
    assert (found.sum(axis=0) == np.maximum(capacity_R, np.where(over(load_BR, capacity_R), fixed_BR.sum(0), 0))).all()
    assert (found >= fixed_BR).all()
    for r in range(resources):
        if load_BR[:, r].sum() <= capacity_R[r]:
            assert (found[:, r] >= load_BR[:, r]).all()
        else:
            assert (found[:, r] <= load_BR[:, r]).all()


def over(load_BR: Int64s, capacity_R: Int64s) -> Int64s:
    return np.asarray(load_BR.sum(axis=0) > capacity_R)


def test_room_goes_by_users_and_excess_by_what_can_move() -> None:
    load_BR, fixed_BR = np.array([[10, 30], [10, 10]]), np.array([[0, 20], [0, 0]])
    found = quotas(load_BR, fixed_BR, np.array([300, 100]), np.array([60, 30]))
    assert found.tolist() == [[40, 25], [20, 5]]
