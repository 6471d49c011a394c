"""Trees of any depth as trees that the bit-sliced kernels can take.

A network of selects doubles with every level, so a deep tree is cut every PIECE levels. What is below a cut at node v
becomes a tree of its own under one more test, "gets here"; it adds 0 where the test fails, and what it was cut from
adds 0 where it holds. The test is a conjunction over the way to v, which goes on from that of the cut above, u:

    here(v) = here(u) and [not] row_1 and ... and [not] row_PIECE           the tests between u and v

So it takes a row of bits and a few ANDs. A tree of depth 10 becomes up to 33 pieces of depth 6.

Shapes: T trees, N nodes, D cuts, W = PIECE + 1 tests on a way.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sto_kernels.forest import Forest, tree_depth

MAX_DEPTH = 8  # of a tree that stays whole
PIECE = 5

I32 = NDArray[np.int32]


@dataclass(frozen=True)
class Pieces:
    """The nodes of a forest, one leaf of value 0, and a gate for each cut; `way_DW` is 2 x row + (1 = must not hold).

    A node's test is `row_N`; its children are `left_N` and `right_N`, -1 in leaves.
    """

    root_T: I32
    left_N: I32
    right_N: I32
    row_N: I32
    leaf_N: NDArray[np.float64]
    way_DW: I32

    @property
    def depth(self) -> int:
        return tree_depth(self.root_T, self.left_N, self.right_N)


def cut_into_pieces(forest: Forest, row_N: I32, rows: int) -> Pieces:
    """Cut what is deeper than MAX_DEPTH; `row_N` are the rows of the nodes' tests, `rows` is how many there are."""
    left, right, zero = forest.left_N.copy(), forest.right_N.copy(), len(forest.left_N)
    cut_at, way_DW = _cut(forest, left, right, row_N, rows) if forest.depth > MAX_DEPTH else _nothing()
    gates = np.arange(len(cut_at), dtype=np.int32)
    return Pieces(
        root_T=np.concatenate([forest.root_T, zero + 1 + gates]).astype(np.int32),
        left_N=np.concatenate([left, [-1], np.full(len(gates), zero)]).astype(np.int32),
        right_N=np.concatenate([right, [-1], cut_at]).astype(np.int32),
        row_N=np.concatenate([row_N, [0], rows + gates]).astype(np.int32),
        leaf_N=np.concatenate([forest.leaf_N, [0.0], np.full(len(gates), np.nan)]).astype(np.float64),
        way_DW=way_DW,
    )


def _nothing() -> tuple[I32, I32]:
    return np.zeros(0, np.int32), np.zeros((0, PIECE + 1), np.int32)


def _cut(forest: Forest, left: I32, right: I32, row_N: I32, rows: int) -> tuple[I32, I32]:
    """Nodes to cut at and the ways to them, cuts above first; their parents get the leaf of value 0 instead."""
    zero = np.int32(len(left))
    cuts, ways, cut_count = [_nothing()[0]], [_nothing()[1]], 0
    node = forest.root_T
    parent, is_right = np.full(len(node), -1, np.int32), np.zeros(len(node), bool)
    way = np.zeros((len(node), 0), np.int32)
    for depth in range(forest.depth):
        keep = forest.left_N[node] >= 0
        node, parent, is_right, way = node[keep], parent[keep], is_right[keep], way[keep]
        if depth and depth % PIECE == 0:
            for side, children in ((True, right), (False, left)):
                children[parent[is_right == side]] = zero
            cuts.append(node)
            ways.append(np.concatenate([way, way[:, :1]], axis=1)[:, : PIECE + 1])
            way = 2 * (rows + cut_count + np.arange(len(node), dtype=np.int32))[:, None]
            cut_count += len(node)
        test = 2 * row_N[node][:, None]
        way = np.concatenate([np.concatenate([way, test + 1], axis=1), np.concatenate([way, test], axis=1)])
        parent, is_right = np.concatenate([node, node]), np.repeat([False, True], len(node))
        node = np.concatenate([forest.left_N[node], forest.right_N[node]])
    return np.concatenate(cuts).astype(np.int32), np.concatenate(ways).astype(np.int32)
