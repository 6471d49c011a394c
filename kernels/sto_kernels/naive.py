"""Slow and obvious twins of every kernel: loops over users, slots and trees, float64 sums, Python integers."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels.forest import Forest
from sto_kernels.sliced import CutLists, SlicedForest


def slot_margins(
    forest: Forest,
    user_FU: NDArray[np.float32],
    cross_CSU: NDArray[np.float32] | None = None,
    base_SU: NDArray[np.float32] | None = None,
) -> NDArray[np.float64]:
    """Margin of every (user, slot), float64 [U, S]."""
    users = user_FU.shape[1]
    margins = np.full((users, forest.slots), forest.base_margin)
    for user in range(users):
        for slot in range(forest.slots):
            row = [*user_FU[:, user], *forest.slot_values_SG[slot]]
            if cross_CSU is not None:
                row += [*cross_CSU[:, slot, user]]
            if base_SU is not None:
                margins[user, slot] += float(base_SU[slot, user])
            for root in forest.root_T:
                margins[user, slot] += float(_leaf(forest, int(root), row))
    return margins


def _leaf(forest: Forest, node: int, row: Sequence[Any]) -> np.float32:
    while forest.left_N[node] >= 0:
        x = np.float32(row[forest.feature_N[node]])
        left = bool(forest.default_left_N[node]) if math.isnan(x) else bool(x < forest.cut_N[node])
        node = int(forest.left_N[node] if left else forest.right_N[node])
    return np.float32(forest.leaf_N[node])


def sliced_sums(
    sliced: SlicedForest, user_FU: NDArray[np.float32], cross_CSU: NDArray[np.float32] | None = None
) -> NDArray[np.int64]:
    """Sum of the leaves of every (user, slot) in a packed forest, int64 [U, S]; `SlicedForest` says what rows mean."""
    sums = np.zeros((user_FU.shape[1], sliced.slots), np.int64)
    for user, slot in np.ndindex(sums.shape):
        holds = [*_tests(sliced.user, user_FU[:, user]), *sliced.slot_RS[:, slot]]
        if cross_CSU is not None:
            holds += _tests(sliced.cross, cross_CSU[:, slot, user])
        for way in sliced.way_DW.tolist():
            holds.append(all(holds[step // 2] != bool(step % 2) for step in way))
        for rows, leaves in zip(sliced.row_TN, sliced.leaf_TN, strict=True):
            node, code = 0, 0
            for depth in range(sliced.depth):
                right = int(holds[rows[node]])
                code |= right << depth
                node = 2 * node + 1 + right
            sums[user, slot] += int(leaves[code])
    return sums


def _tests(lists: CutLists, values: NDArray[np.float32]) -> list[bool]:
    holds = []
    for number, feature in enumerate(lists.feature_L):
        x = values[feature]
        for row in range(lists.first_L[number], lists.first_L[number + 1]):
            missing_right = bool(lists.missing_right_L[number])
            holds.append(missing_right if math.isnan(x) else bool(x >= lists.cut_R[row]))
    return holds


def best_slots(
    margins_US: NDArray[Any], allowed_US: NDArray[np.bool_] | None = None
) -> tuple[list[int], list[float], list[int]]:
    """Best slot, its margin and the runner-up of each user; ties to the earlier slot, 255 where there is none."""
    slots, values, runners = [], [], []
    for user, margins in enumerate(margins_US):
        open_slots = [s for s in range(len(margins)) if allowed_US is None or allowed_US[user, s]]
        order = sorted(open_slots, key=lambda s: (-margins[s], s))
        slots.append(order[0] if order else 255)
        values.append(float(margins[order[0]]) if order else -math.inf)
        runners.append(order[1] if len(order) > 1 else 255)
    return slots, values, runners


def spread_offset_ms(
    rank: int,
    provider_key: int,
    run_key: int,
    window_ms: int,
    bins: int = 1,
    first_turn: int = 0,
    start_ms: int = 0,
    avoid_ms: int = 0,
) -> int:
    """One send's offset, in integers without a limit; with `avoid_ms` the bins must be whole minutes."""
    bin_ms, turn = window_ms // bins, (first_turn + rank) % bins
    inner = sum((first_turn + earlier) % bins == turn for earlier in range(rank)) if bins > 1 else rank
    high = ((inner + 1) * 0x9E3779B97F4A7C15 + provider_key + run_key) % 2**64 >> 32
    if not avoid_ms:
        return turn * bin_ms + (high * bin_ms >> 32)
    begin = start_ms + turn * bin_ms
    free = [minute for minute in range(begin, begin + bin_ms, 60_000) if minute % 1_800_000 >= avoid_ms]
    place = high * len(free) * 60_000 >> 32
    return free[place // 60_000] + place % 60_000 - start_ms
