"""Tree traversal by gathers in plain torch: every device torch knows, any depth, the fallback of the faster kernels.

    for each tree, for a block of (user, slot) pairs:
        node = root
        repeat depth times:  node = left or right child by x[feature[node]] < cut[node]; a leaf is its own child
        margin += leaf[node]                       float64, in tree order

Blocks have a fixed number of users and sums a fixed order, so threads and chunking do not change a bit.
U users, S slots, F features, P pairs of a block (users x slots).
"""

import numpy as np
import torch
from torch import Tensor

from sto_kernels.forest import Forest

BLOCK_USERS = 2048


def slot_margins(forest: Forest, user_FU: Tensor, cross_CSU: Tensor | None, base_SU: Tensor | None) -> Tensor:
    """Margin of every (user, slot) -> float32 [U, S] on the device of `user_FU`; the facade checks the inputs."""
    device, users = user_FU.device, int(user_FU.shape[1])
    tables = _Tables(forest, device)
    out_US = torch.empty((users, forest.slots), dtype=torch.float32, device=device)
    for start in range(0, users, BLOCK_USERS):
        stop = min(start + BLOCK_USERS, users)
        cross = None if cross_CSU is None else cross_CSU[:, :, start:stop]
        margins_SU = tables.block(user_FU[:, start:stop], cross)
        if base_SU is not None:
            margins_SU += base_SU[:, start:stop].double()
        out_US[start:stop] = margins_SU.T.float()
    return out_US


class _Tables:
    """The forest as tensors on one device; leaves point to themselves, so every walk may take `depth` steps."""

    def __init__(self, forest: Forest, device: torch.device) -> None:
        def move(array: object) -> Tensor:
            return torch.from_numpy(np.array(array)).to(device)

        inner, own = forest.left_N >= 0, np.arange(len(forest.left_N))
        self.forest, self.depth = forest, forest.depth
        self.feature = move(np.where(inner, forest.feature_N, 0)).long()
        self.cut = move(forest.cut_N)
        self.left = move(np.where(inner, forest.left_N, own)).long()
        self.right = move(np.where(inner, forest.right_N, own)).long()
        self.default_left = move(forest.default_left_N)
        self.leaf = move(forest.leaf_N).double()
        self.slot_GS = move(forest.slot_values_SG.T.copy())

    def block(self, user_FU: Tensor, cross_CSU: Tensor | None) -> Tensor:
        """Margins of a block of users, float64 [S, U]."""
        slots, users = self.forest.slots, int(user_FU.shape[1])
        parts = [user_FU[:, None, :].expand(-1, slots, -1), self.slot_GS[:, :, None].expand(-1, -1, users)]
        if cross_CSU is not None:
            parts.append(cross_CSU)
        x_FP = torch.cat(parts).reshape(-1, slots * users)
        missing_FP = x_FP.isnan()
        pair_P = torch.arange(slots * users, device=x_FP.device)
        sum_P = torch.full((slots * users,), self.forest.base_margin, dtype=torch.float64, device=x_FP.device)
        for root in self.forest.root_T.tolist():
            node_P = torch.full_like(pair_P, root)
            for _ in range(self.depth):
                at = self.feature[node_P] * (slots * users) + pair_P
                left = torch.where(
                    missing_FP.view(-1)[at], self.default_left[node_P], x_FP.view(-1)[at] < self.cut[node_P]
                )
                node_P = torch.where(left, self.left[node_P], self.right[node_P])
            sum_P += self.leaf[node_P]
        return sum_P.view(slots, users)
