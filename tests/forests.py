"""Forests and inputs for the kernel tests that no training would give: random trees, any depth, hostile numbers."""

import numpy as np

from sto_kernels.forest import Forest, check_forest

NASTY = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-40, 3e38, -3e38], np.float32)


def random_forest(
    seed: int,
    trees: int,
    depth: int,
    slots: int = 24,
    features: tuple[int, int, int] = (3, 2, 2),
    grow: float = 0.85,
    cuts: int = 20,
) -> Forest:
    """Trees of at most `depth`, grown with probability `grow` a node; `cuts` values to choose from, odd ones among."""
    rng = np.random.default_rng(seed)
    choice = np.concatenate([rng.normal(size=cuts), [0.0, -0.0, 1e-45, -1e-40]]).astype(np.float32)
    nodes: list[list[float]] = []  # feature, cut, left, right, default left, leaf

    def add(level: int) -> int:
        here = len(nodes)
        nodes.append([-1, np.nan, -1, -1, 0, rng.normal() * 0.1])
        if level < depth and (level == 0 or rng.random() < grow):
            left, right = add(level + 1), add(level + 1)
            side = int(rng.integers(2))
            nodes[here] = [int(rng.integers(sum(features))), float(rng.choice(choice)), left, right, side, np.nan]
        return here

    roots = [add(0) for _ in range(trees)]
    table = np.array(nodes, np.float64)
    slot_values = rng.normal(size=(slots, features[1])).astype(np.float32)
    slot_values[rng.random(slot_values.shape) < 0.1] = np.nan
    forest = Forest(
        root_T=np.array(roots, np.int32),
        feature_N=table[:, 0].astype(np.int32),
        cut_N=table[:, 1].astype(np.float32),
        left_N=table[:, 2].astype(np.int32),
        right_N=table[:, 3].astype(np.int32),
        default_left_N=table[:, 4] != 0,
        leaf_N=table[:, 5].astype(np.float32),
        n_user=features[0],
        n_slot=features[1],
        n_cross=features[2],
        slot_values_SG=slot_values,
        base_margin=float(rng.normal()),
    )
    check_forest(forest)
    return forest


def random_inputs(forest: Forest, users: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """user_FU and cross_CSU: a third ordinary numbers, a third cuts of the forest hit exactly, a third nasty ones."""
    rng = np.random.default_rng(seed)
    cuts = forest.cut_N[forest.left_N >= 0]

    def draw(*shape: int) -> np.ndarray:
        kinds = [rng.normal(size=shape), rng.choice(cuts, shape), rng.choice(NASTY, shape)]
        return np.choose(rng.integers(0, 3, shape), kinds).astype(np.float32)

    return draw(forest.n_user, users), draw(forest.n_cross, forest.slots, users)


def tolerance(forest: Forest) -> float:
    return 2e-5 * max(1.0, forest.leaf_range)
