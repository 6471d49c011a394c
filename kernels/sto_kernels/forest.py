"""`Forest`: the trees of a model as flat arrays, ready for every kernel.

Shapes: T trees, N nodes of all trees together, F features in the order user, slot, cross; S slots, G slot features.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Forest:
    """A forest whose margin is base_margin + the sum of one leaf per tree.

    A node with left child -1 is a leaf. Else x < cut goes left, x >= cut right, a missing x (NaN) to `default_left`.
    Features 0..n_user-1 are the same for all slots of a user, the next n_slot the same for all users
    (`slot_values_SG`), the last n_cross differ by user and slot.
    """

    root_T: NDArray[np.int32]
    feature_N: NDArray[np.int32]
    cut_N: NDArray[np.float32]
    left_N: NDArray[np.int32]
    right_N: NDArray[np.int32]
    default_left_N: NDArray[np.bool_]
    leaf_N: NDArray[np.float32]
    n_user: int
    n_slot: int
    n_cross: int
    slot_values_SG: NDArray[np.float32]
    base_margin: float

    @property
    def slots(self) -> int:
        return int(self.slot_values_SG.shape[0])

    @cached_property
    def depth(self) -> int:
        """Edges on the longest path from a root to a leaf."""
        return tree_depth(self.root_T, self.left_N, self.right_N)

    @cached_property
    def leaf_range(self) -> float:
        """Largest minus smallest leaf value: the scale of the kernels' tolerance."""
        leaves = self.leaf_N[self.left_N < 0]
        return float(leaves.max() - leaves.min()) if leaves.size else 0.0


def tree_depth(root_T: NDArray[np.int32], left_N: NDArray[np.int32], right_N: NDArray[np.int32]) -> int:
    """Edges on the longest path from any root to a leaf, which is a node with left child -1."""
    level, depth = root_T, 0
    while (inner := level[left_N[level] >= 0]).size:
        level, depth = np.concatenate([left_N[inner], right_N[inner]]), depth + 1
    return depth


def check_forest(forest: Forest) -> None:
    """ValueError where the arrays are not a forest: children out of range, shared or cyclic nodes, infinities."""
    if not len(forest.root_T) or not len(forest.slot_values_SG):
        raise ValueError(
            f"a forest must have trees and slots; found {len(forest.root_T)}, {len(forest.slot_values_SG)}"
        )
    nodes, left_N, right_N = len(forest.feature_N), forest.left_N, forest.right_N
    inner_N = left_N >= 0
    if not np.array_equal(inner_N, right_N >= 0):
        raise ValueError("a node must have two children or none; found one")
    children = np.concatenate([left_N[inner_N], right_N[inner_N]])
    if children.size and (children.max() >= nodes or children.min() < 0):
        raise ValueError(f"children must be node numbers below {nodes}; found {int(children.max())}")
    parents = np.bincount(np.concatenate([children, forest.root_T]), minlength=nodes)
    if (parents != 1).any():
        raise ValueError(f"every node must have one parent or be a root; node {int((parents != 1).argmax())} does not")
    _check_reach(forest, nodes)
    features = forest.n_user + forest.n_slot + forest.n_cross
    used = forest.feature_N[inner_N]
    if used.size and (used.min() < 0 or used.max() >= features):
        raise ValueError(f"split features must be in 0..{features - 1}; found {int(used.max())}")
    if not np.isfinite(forest.cut_N[inner_N]).all() or not np.isfinite(forest.leaf_N[~inner_N]).all():
        raise ValueError("cuts and leaf values must be finite; found NaN or infinity")
    if forest.slot_values_SG.shape[1:] != (forest.n_slot,):
        raise ValueError(f"slot_values_SG must be [S, {forest.n_slot}]; found {forest.slot_values_SG.shape}")
    if not np.isfinite(forest.base_margin):
        raise ValueError(f"base_margin must be finite; found {forest.base_margin}")


def _check_reach(forest: Forest, nodes: int) -> None:
    """With one parent each, a node that no root reaches lies on a cycle."""
    level, reached = forest.root_T, 0
    while level.size:
        reached += level.size
        inner = level[forest.left_N[level] >= 0]
        level = np.concatenate([forest.left_N[inner], forest.right_N[inner]])
    if reached != nodes:
        raise ValueError(f"trees must not hold cycles; {nodes - reached} nodes are not reached from a root")
