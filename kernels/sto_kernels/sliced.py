"""`SlicedForest`: the forest as the bit-sliced kernels want it, the same arrays for every processor.

    1. every tree is padded to a perfect tree of one depth D; a leaf above depth D is repeated under a test that no
       longer matters
    2. the tests of all trees are listed once each, as *rows*: first the user rows, then the slot rows, then the cross
       rows. A test is (feature, cut, side of a missing value); it holds, "go right", where x >= cut. Last come the rows
       of the ways to the pieces of trees that were cut because they were too deep (pieces.py)
    3. user and cross rows stand in *cut lists*: up to 255 ascending cuts of one feature and one missing side. The bin
       of x in a list is the number of its cuts <= x, so that row k of the list holds exactly where bin > k. A missing x
       has bin 0 (left everywhere) or 255 (right everywhere)
    4. slot rows are known already: one bit a slot
    5. leaves are fixed point: margin = bias + scale * sum of `leaf_TN`. The sum is an integer, so neither the order of
       trees nor the processor changes a bit of it; the digits of section "leaves" of bitslice_cpu.py add up to it

Leaf codes: bit d of a code says where the path went at depth d (1 = right).

Shapes: T trees, N = 2^D - 1 inner nodes in level order, L cut lists, R rows, D ways of W tests, S slots.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sto_kernels.forest import Forest
from sto_kernels.pieces import Pieces, cut_into_pieces

LIST_CUTS = 255
# (bits of a digit, digits of a leaf): as few as keep six standard deviations of a sum's rounding below half of the
# kernels' tolerance of 2e-5 x max(1, leaf range); the other half is for XGBoost's own float32 sums.
DIGITS = ((7, 3), (6, 4), (7, 4))
ROUNDING, DEVIATIONS = 1e-5, 6.0
GOLDEN = (5**0.5 - 1) / 2

I32 = NDArray[np.int32]
F32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class CutLists:
    """Cut lists of the user or the cross features; list l holds rows first_L[l] .. first_L[l + 1] - 1."""

    feature_L: I32
    missing_right_L: I32
    first_L: I32
    cut_R: F32

    @property
    def rows(self) -> int:
        return len(self.cut_R)


@dataclass(frozen=True, eq=False)
class SlicedForest:
    """See the top of this file. `row_TN` and `way_DW` (pieces.py) count rows as user, slot, cross, way."""

    user: CutLists
    cross: CutLists
    slot_RS: NDArray[np.bool_]
    way_DW: I32
    row_TN: I32
    leaf_TN: NDArray[np.int32]
    scale: float
    bias: float
    digit_bits: int
    digits: int
    n_user: int
    n_cross: int

    @property
    def trees(self) -> int:
        return len(self.row_TN)

    @property
    def depth(self) -> int:
        return int(self.leaf_TN.shape[1]).bit_length() - 1

    @property
    def slots(self) -> int:
        return int(self.slot_RS.shape[1])


def slice_forest(forest: Forest) -> SlicedForest:
    """Lay a forest out for the bit-sliced kernels."""
    row_N, user, slot_RS, cross = _rows(forest)
    pieces = cut_into_pieces(forest, row_N, user.rows + len(slot_RS) + cross.rows)
    node_TN, leaf_node_TN = _perfect(pieces)
    quanta_TN, scale, bias, (bits, digits) = _fixed_point(pieces.leaf_N[leaf_node_TN], forest.leaf_range)
    return SlicedForest(
        user=user,
        cross=cross,
        slot_RS=slot_RS,
        way_DW=pieces.way_DW,
        row_TN=pieces.row_N[node_TN],
        leaf_TN=quanta_TN,
        scale=scale,
        bias=bias + forest.base_margin,
        digit_bits=bits,
        digits=digits,
        n_user=forest.n_user,
        n_cross=forest.n_cross,
    )


def _perfect(pieces: Pieces) -> tuple[I32, I32]:
    """Node number at each place of the perfect trees [T, N], and of each leaf code [T, 2^D]; leaves stay put."""
    own, inner, depth = np.arange(len(pieces.left_N), dtype=np.int32), pieces.left_N >= 0, max(1, pieces.depth)
    left, right = np.where(inner, pieces.left_N, own), np.where(inner, pieces.right_N, own)
    level = pieces.root_T[:, None]
    levels = []
    for _ in range(depth):
        levels.append(level)
        level = np.stack([left[level], right[level]], axis=2).reshape(len(level), -1)
    place = np.arange(1 << depth)
    code = sum(((place >> d) & 1) << (depth - 1 - d) for d in range(depth))
    by_code = np.empty_like(level)
    by_code[:, code] = level
    return np.concatenate(levels, axis=1), by_code


def _rows(forest: Forest) -> tuple[I32, CutLists, NDArray[np.bool_], CutLists]:
    """Row of each node [N], the cut lists and the constant rows of the slot tests; a leaf's row is 0, any will do."""
    first_slot, first_cross = forest.n_user, forest.n_user + forest.n_slot
    inner = np.flatnonzero(forest.left_N >= 0)
    feature, cut = forest.feature_N[inner], forest.cut_N[inner] + np.float32(0)  # -0.0 and 0.0 are one cut
    goes_right = ~forest.default_left_N[inner]
    is_user, is_cross = feature < first_slot, feature >= first_cross
    is_slot = ~is_user & ~is_cross
    user, user_row = _cut_lists(feature[is_user], cut[is_user], goes_right[is_user])
    cross, cross_row = _cut_lists(feature[is_cross] - first_cross, cut[is_cross], goes_right[is_cross])
    x_SN = forest.slot_values_SG[:, feature[is_slot] - first_slot]
    holds_SN = np.where(np.isnan(x_SN), goes_right[is_slot], x_SN >= cut[is_slot])
    none = np.zeros((forest.slots, 1), bool)  # so that row 0 exists in a forest of bare leaves
    slot_RS, slot_row = np.unique(np.concatenate([holds_SN, none], axis=1).T, axis=0, return_inverse=True)
    row_N = np.zeros(len(forest.left_N), np.int32)
    row_N[inner[is_user]] = user_row
    row_N[inner[is_slot]] = user.rows + slot_row.reshape(-1)[:-1]
    row_N[inner[is_cross]] = user.rows + len(slot_RS) + cross_row
    return row_N, user, slot_RS, cross


def _cut_lists(feature: I32, cut: F32, goes_right: NDArray[np.bool_]) -> tuple[CutLists, I32]:
    """Cut lists of the tests and the row of each test; shorter lists first, which is how kernels loop over them."""
    key = np.empty(len(cut), dtype=[("feature", np.int32), ("right", np.int32), ("cut", np.float32)])
    key["feature"], key["right"], key["cut"] = feature, goes_right, cut
    tests, test_of = np.unique(key, return_inverse=True)
    differs = (tests["feature"][1:] != tests["feature"][:-1]) | (tests["right"][1:] != tests["right"][:-1])
    edges = np.concatenate([[0][: len(tests)], np.flatnonzero(differs) + 1, [len(tests)]]).astype(np.int64)
    pieces = [
        np.arange(at, min(at + LIST_CUTS, stop))
        for start, stop in pairwise(edges)
        for at in range(start, stop, LIST_CUTS)
    ]
    pieces.sort(key=len)
    order = np.concatenate([*pieces, np.zeros(0, np.int64)]).astype(np.int64)
    row_of = np.empty(len(tests), np.int32)
    row_of[order] = np.arange(len(order))
    heads = np.array([piece[0] for piece in pieces], np.int64)
    first = np.cumsum([0, *(len(piece) for piece in pieces)]).astype(np.int32)
    lists = CutLists(tests["feature"][heads], tests["right"][heads], first, tests["cut"][order])
    return lists, row_of[test_of.reshape(-1)]


def _fixed_point(
    leaf_TN: NDArray[np.float64], leaf_range: float
) -> tuple[NDArray[np.int32], float, float, tuple[int, int]]:
    """Leaf values as integers >= 0, with scale and bias, and the digits that they need.

    Rounded down after adding an offset that differs by tree (multiples of the golden ratio, mod 1). Plain rounding
    would err alike in trees that share leaf values, as those of random forests do, and such errors add up; with the
    offsets the error of a leaf with fraction f has mean 0 and variance f (1 - f) over the trees, and 0 stays 0.
    """
    widest = float((leaf_TN.max(axis=1) - leaf_TN.min(axis=1)).max(initial=0.0)) or 1.0
    for bits, digits in DIGITS:
        scale = widest / ((1 << bits * digits) - 2)
        exact_TN = leaf_TN / scale
        part_TN = exact_TN - np.floor(exact_TN)
        variance = float(np.sum(np.mean(part_TN * (1 - part_TN), axis=1)))
        if DEVIATIONS * scale * variance**0.5 <= ROUNDING * max(1.0, leaf_range):
            break
    offset_T = np.arange(1, len(leaf_TN) + 1) * GOLDEN % 1.0
    quanta_TN = np.floor(exact_TN + offset_T[:, None]).astype(np.int64)
    least_T = quanta_TN.min(axis=1)
    return (quanta_TN - least_T[:, None]).astype(np.int32), scale, int(least_T.sum()) * scale, (bits, digits)
