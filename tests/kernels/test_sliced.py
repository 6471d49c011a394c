"""The layout that the bit-sliced kernels share: rows, cut lists, leaf codes and fixed-point leaves."""

from dataclasses import replace

import numpy as np
import pytest

from forests import random_forest, random_inputs, tolerance
from sto_kernels import naive
from sto_kernels.forest import Forest, check_forest
from sto_kernels.sliced import LIST_CUTS, SlicedForest, slice_forest


def stump(feature: int, cut: float, default_left: bool, leaves: tuple[float, float]) -> tuple[list[object], ...]:
    """One split as (feature, cut, left, right, default_left, leaf) of its three nodes."""
    nothing = float("nan")
    return (
        [feature, -1, -1],
        [cut, nothing, nothing],
        [1, -1, -1],
        [2, -1, -1],
        [default_left, False, False],
        [nothing, *leaves],
    )


def forest_of(stumps: list[tuple[list[object], ...]], n_user: int = 1, n_slot: int = 0, n_cross: int = 0) -> Forest:
    slot_values = np.arange(24, dtype=np.float32).repeat(n_slot).reshape(24, n_slot)
    columns = [np.concatenate([np.array(s[k], np.float64) for s in stumps]) for k in range(6)]
    step = np.repeat(np.arange(len(stumps)) * 3, 3)
    left, right = (np.where(c >= 0, c + step, -1).astype(np.int32) for c in columns[2:4])
    forest = Forest(
        root_T=np.arange(len(stumps), dtype=np.int32) * 3,
        feature_N=columns[0].astype(np.int32),
        cut_N=columns[1].astype(np.float32),
        left_N=left,
        right_N=right,
        default_left_N=columns[4] != 0,
        leaf_N=columns[5].astype(np.float32),
        n_user=n_user,
        n_slot=n_slot,
        n_cross=n_cross,
        slot_values_SG=slot_values,
        base_margin=0.25,
    )
    check_forest(forest)
    return forest


def leaf_sum(sliced: SlicedForest) -> np.ndarray:
    """What a user gets who goes left everywhere."""
    return np.asarray(sliced.leaf_TN[:, 0].sum() * sliced.scale + sliced.bias)


def test_a_test_that_many_trees_share_is_one_row() -> None:
    sliced = slice_forest(forest_of([stump(0, 0.5, True, (1, 2))] * 5 + [stump(0, 0.5, False, (1, 2))]))
    assert sliced.user.rows == 2
    assert sliced.row_TN[:5, 0].tolist() == [sliced.row_TN[0, 0]] * 5
    assert sorted(sliced.user.missing_right_L.tolist()) == [0, 1]


def test_zero_and_minus_zero_are_one_cut() -> None:
    sliced = slice_forest(forest_of([stump(0, 0.0, True, (1, 2)), stump(0, -0.0, True, (1, 2))]))
    assert sliced.user.rows == 1


def test_a_feature_with_many_cuts_is_split_into_lists() -> None:
    cuts = np.linspace(-1, 1, 2 * LIST_CUTS + 1)
    sliced = slice_forest(forest_of([stump(0, cut, True, (0, 1)) for cut in cuts]))
    assert np.diff(sliced.user.first_L).tolist() == [1, LIST_CUTS, LIST_CUTS]
    assert sorted(sliced.user.cut_R.tolist()) == np.sort(cuts.astype(np.float32)).tolist()
    for number in range(3):
        part = sliced.user.cut_R[sliced.user.first_L[number] : sliced.user.first_L[number + 1]]
        assert (np.diff(part) > 0).all()


def test_slot_tests_are_known_when_the_forest_is_laid_out() -> None:
    sliced = slice_forest(forest_of([stump(1, 6.0, True, (0, 1)), stump(1, 6.5, True, (0, 1))], n_slot=1))
    rows = sliced.slot_RS[sliced.row_TN[:, 0] - sliced.user.rows]
    assert rows.tolist() == [[s >= 6 for s in range(24)], [s >= 6.5 for s in range(24)]]


def test_a_missing_slot_value_goes_to_its_default_side() -> None:
    forest = forest_of([stump(1, 6.0, True, (0, 1)), stump(1, 6.0, False, (0, 1))], n_slot=1)
    forest.slot_values_SG[3] = np.nan
    sliced = slice_forest(forest)
    assert sliced.slot_RS[sliced.row_TN[:, 0] - sliced.user.rows][:, 3].tolist() == [False, True]


def test_a_forest_of_bare_leaves_has_a_row_to_point_at() -> None:
    forest = forest_of([stump(0, 0.0, True, (1, 2))])
    bare = Forest(
        root_T=np.zeros(1, np.int32),
        feature_N=np.array([-1], np.int32),
        cut_N=np.array([np.nan], np.float32),
        left_N=np.array([-1], np.int32),
        right_N=np.array([-1], np.int32),
        default_left_N=np.zeros(1, bool),
        leaf_N=np.array([0.5], np.float32),
        n_user=1,
        n_slot=0,
        n_cross=0,
        slot_values_SG=forest.slot_values_SG,
        base_margin=1.0,
    )
    sliced = slice_forest(bare)
    assert (sliced.depth, len(sliced.slot_RS)) == (1, 1)
    assert leaf_sum(sliced) == 1.5


@pytest.mark.parametrize("trees", [40, 500, 3000])
def test_the_rounding_of_equal_trees_does_not_add_up(trees: int) -> None:
    """Random forests without sampling are many times one tree; plain rounding would err by half a step in each."""
    leaves = np.random.default_rng(trees).uniform(-1, 1, 2)
    sliced = slice_forest(forest_of([stump(0, 0.0, True, (float(leaves[0]), float(leaves[1])))] * trees))
    exact = trees * np.float64(np.float32(leaves)) + 0.25
    found = sliced.leaf_TN.sum(axis=0) * sliced.scale + sliced.bias
    np.testing.assert_allclose(found, exact, rtol=0, atol=8 * sliced.scale)


def test_more_digits_are_taken_where_few_would_not_do() -> None:
    few = slice_forest(forest_of([stump(0, 0.0, True, (-0.01, 0.0137))] * 10))
    many = slice_forest(forest_of([stump(0, i / 9000, True, (-0.3, 0.7 + i / 9000)) for i in range(5000)]))
    assert few.digits == 3
    assert many.digits == 4
    assert many.leaf_TN.max() < 1 << (many.digits * many.digit_bits)
    assert many.leaf_TN.min() >= 0


@pytest.mark.parametrize(("depth", "grow"), [(8, 1.0), (9, 1.0), (10, 0.9), (14, 0.75)])
def test_deep_trees_are_cut_into_pieces_that_add_up_to_them(depth: int, grow: float) -> None:
    forest = random_forest(depth, trees=4, depth=depth, grow=grow, slots=3)
    sliced = slice_forest(forest)
    assert sliced.trees == 4 + len(sliced.way_DW)
    assert (len(sliced.way_DW) == 0) == (forest.depth <= 8)
    assert sliced.depth <= 8
    user, cross = random_inputs(forest, 12, depth)
    sums = naive.sliced_sums(sliced, user, cross)
    found = sums * sliced.scale + sliced.bias
    np.testing.assert_allclose(found, naive.slot_margins(forest, user, cross), rtol=0, atol=tolerance(forest))


def test_pieces_that_a_user_does_not_reach_add_nothing() -> None:
    """A zero leaf must stay zero to the last bit, or a tree in a thousand pieces would err a thousand times."""
    forest = random_forest(3, trees=1, depth=12, grow=1.0, slots=1)
    sliced = slice_forest(forest)
    assert sliced.trees > 500
    user, cross = random_inputs(forest, 12, 3)
    found = naive.sliced_sums(sliced, user, cross) * sliced.scale + sliced.bias
    np.testing.assert_allclose(found, naive.slot_margins(forest, user, cross), rtol=0, atol=2.5 * sliced.scale)


@pytest.mark.parametrize("nothing", ["root_T", "slot_values_SG"])
def test_a_forest_without_trees_or_slots_is_none(nothing: str) -> None:
    forest = forest_of([stump(0, 0.0, True, (1, 2))])
    with pytest.raises(ValueError, match="must have trees and slots"):
        check_forest(replace(forest, **{nothing: getattr(forest, nothing)[:0]}))
