"""Two-byte offers against the worths that they stand for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from limited import hashes
from sto_kernels import naive_prices
from sto_kernels.offers import NONE, STEPS, Offers, offers_of

WORTHS = st.floats(-1e6, 1e6, width=32)


def offers(worth_US: NDArray[np.float32], allowed_US: NDArray[np.bool_]) -> Offers:
    return offers_of(worth_US, allowed_US, np.zeros(len(worth_US), np.int32), hashes(len(worth_US)))


@st.composite
def tables(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    users, slots = draw(st.sampled_from([0, 1, 7, 65])), draw(st.sampled_from([1, 5, 24, 48]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    worth_US = rng.normal(0, 1, (users, slots)) * 10.0 ** rng.integers(-6, 6, (users, 1))
    worth_US[rng.random(users) < 0.2] = draw(WORTHS)
    return worth_US.astype(np.float32), rng.random((users, slots)) < draw(st.sampled_from([0.05, 0.5, 1.0]))


@given(tables())
@settings(max_examples=60, deadline=None)
def test_codes_stand_for_worths_within_half_a_step(table: tuple[NDArray[np.float32], NDArray[np.bool_]]) -> None:
    worth_US, allowed_US = table
    found = offers(worth_US, allowed_US)
    np.testing.assert_array_equal(found.code_US == NONE, ~allowed_US)
    np.testing.assert_array_equal(found.allowed_US(), allowed_US)
    decoded_US = naive_prices.worths(found)
    for u in range(len(found)):
        codes, low, step = naive_prices.encode(worth_US[u].tolist(), allowed_US[u].tolist())
        inside = np.flatnonzero(allowed_US[u])
        assert found.low_U[u] == low
        # the range and the step are float32: they may move a code by one where it lies half-way
        assert abs(found.step_U[u] - step) <= 1e-6 * step + 1e-44
        assert max(abs(int(found.code_US[u, s]) - codes[s]) for s in [*inside.tolist()] or [0]) <= 1 or step < 1e-38
        if step >= 1e-38:
            off = np.abs(decoded_US[u, inside] - worth_US[u, inside])
            assert (off <= 0.52 * step + 1e-7 * np.abs(worth_US[u, inside])).all()


@given(tables())
@settings(max_examples=30, deadline=None)
def test_the_best_slots_have_the_highest_code_and_keep_their_order(
    table: tuple[NDArray[np.float32], NDArray[np.bool_]],
) -> None:
    worth_US, allowed_US = table
    for worths, codes in zip(worth_US, offers(worth_US, allowed_US).code_US, strict=True):
        inside = np.flatnonzero(codes != NONE)
        order = inside[np.argsort(worths[inside], kind="stable")]
        assert (np.diff(codes[order].astype(int)) >= 0).all()
        if len(inside) and np.float32(worths[inside].max() - worths[inside].min()) / np.float32(STEPS) > 1e-38:
            assert codes[order[0]] == 0
            assert codes[order[-1]] == STEPS


def test_a_flat_row_has_no_step_and_all_codes_at_zero() -> None:
    found = offers(np.full((1, 4), 0.25, np.float32), np.ones((1, 4), bool))
    assert found.step_U[0] == 0
    assert found.code_US.tolist() == [[0, 0, 0, 0]]
    assert naive_prices.worths(found).tolist() == [[0.25] * 4]


def test_users_are_fixed_with_one_slot_and_have_a_choice_with_two() -> None:
    allowed_US = np.array([[0, 0, 0], [0, 1, 0], [1, 0, 1], [1, 1, 1]], bool)
    found = offers(np.ones((4, 3), np.float32), allowed_US)
    assert found.open_U().tolist() == [0, 1, 2, 3]
    assert found.fixed_U().tolist() == [False, True, False, False]
    assert found.choice_U().tolist() == [False, False, True, True]
    assert found.low_U[0] == 0
    assert found.step_U[0] == 0


@given(st.floats(1e-3, 1e9))
def test_a_weight_multiplies_every_slot(weight: float) -> None:
    worth_US = np.array([[0.1, 0.2, 0.4]], np.float32)
    arguments = worth_US, np.ones((1, 3), bool), np.zeros(1, np.int32), hashes(1)
    found = offers_of(*arguments, np.array([weight], np.float32))
    np.testing.assert_allclose(naive_prices.worths(found), worth_US * np.float32(weight), rtol=2e-5)


def test_worths_in_float32_are_those_of_the_codes_and_minus_infinity_elsewhere() -> None:
    allowed_US = np.array([[1, 1, 0], [0, 0, 0]], bool)
    found = offers(np.array([[0.5, 0.125, 9], [1, 2, 3]], np.float32), allowed_US)
    np.testing.assert_allclose(found.worth_US(), naive_prices.worths(found), rtol=1e-6)
    assert (found.worth_US()[~allowed_US] == -np.inf).all()


def test_some_users_are_taken_with_all_that_is_theirs() -> None:
    rng = np.random.default_rng(0)
    whole = offers_of(rng.random((9, 5)).astype(np.float32), rng.random((9, 5)) < 0.5, np.arange(9), hashes(9))
    some = whole.take(np.array([7, 2]))
    assert some.group_U.tolist() == [7, 2]
    assert some.h_U.tolist() == whole.h_U[[7, 2]].tolist()
    np.testing.assert_array_equal(naive_prices.worths(some), naive_prices.worths(whole)[[7, 2]])


def test_shapes_that_differ_are_refused() -> None:
    worth_US = np.zeros((3, 4), np.float32)
    with pytest.raises(ValueError, match=r"worths \(3, 4\), allowed \(3, 5\)"):
        offers_of(worth_US, np.ones((3, 5), bool), np.zeros(3, np.int32), hashes(3))
    with pytest.raises(ValueError, match="2 groups, 3 users"):
        offers_of(worth_US, np.ones((3, 4), bool), np.zeros(2, np.int32), hashes(3))
