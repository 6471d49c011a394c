"""The tensors that bitslice_gpu.py keeps on a device: the forest, and the workspaces that its batches are scored in.

The table of masks is one array of 64-bit words. With Q = slots rounded up to a power of two, and W words in a batch,
the pair of word w and slot s is at Q w + s. A node is (place, mask): a lane reads the table at place + (at & mask).

    slot rows    [R][Q]        mask  Q - 1    the same words for all users, written once
    user rows    [R/Q][W][Q]   mask -Q        Q rows side by side, so that at & -Q = Q w needs no division
    cross rows   [R][W][Q]     mask -1

R rows, P pieces, T trees, N nodes (2^D a tree), U users, S slots.
"""

import threading
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sto_kernels.sliced import CutLists, SlicedForest

WORD = 64
# Depth of the trees that the forest kernel unrolls; it walks deeper ones in pieces.
BLOCK_DEPTH = 6
# Rows of a cut list that one program of the mask kernel works off.
PIECE_ROWS = 64
# Trees of one program: many programs even for few users, and still 64 atomic adds for 32 trees.
CHUNK_TREES = 32
INT32_MAX = 2**31 - 1
# Words of a batch. The table should stay in the L2 cache, but a batch must fill the device and outlast its launches.
LEAST_WORDS, MOST_WORDS = 256, 2048
TABLE_BYTES = 2**30


@dataclass(frozen=True, eq=False)
class Pieces:
    """Rows of user or cross tests as the mask kernel reads them; a piece is (feature, missing right, first, stop)."""

    piece_P4: Tensor
    cut_R: Tensor
    place_R: Tensor


@dataclass(frozen=True, eq=False)
class Workspace:
    """What one batch in flight needs: the table of masks, and sums int64 [U, S]."""

    table: Tensor
    sums: Tensor


@dataclass(frozen=True, eq=False)
class GpuForest:
    """A forest on a device. Its workspaces are scratch: use it on one stream, the lock keeps threads apart.

    `width` is Q, `words` is W, `chunk` the trees whose leaves fit int32 sums, `line` the scale and bias of margins.
    """

    device: torch.device
    trees: int
    depth: int
    slots: int
    width: int
    words: int
    chunk: int
    user: Pieces
    cross: Pieces
    node_TN: Tensor
    leaf_TN: Tensor
    line: Tensor
    slot_table: Tensor
    table_words: int
    spaces: list[Workspace] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def batch_users(self) -> int:
        return self.words * WORD

    def workspace(self, number: int) -> Workspace:
        """Allocated when first asked for, then kept."""
        while len(self.spaces) <= number:
            table = torch.zeros(self.table_words, dtype=torch.int64, device=self.device)
            table[: len(self.slot_table)] = self.slot_table
            sums = torch.empty(self.batch_users * self.slots, dtype=torch.int64, device=self.device)
            self.spaces.append(Workspace(table, sums))
        return self.spaces[number]


def prepare(sliced: SlicedForest, device: torch.device, words: int | None = None) -> GpuForest:
    """Put a forest on a device. `words` x 64 users are scored at a time; by default what suits the device's cache."""
    if len(sliced.way_DW):
        raise ValueError(f"the GPU kernel takes trees of depth 1..8; found deeper ones, in {len(sliced.way_DW)} pieces")
    width = 1 << (sliced.slots - 1).bit_length()
    groups = -(-sliced.user.rows // width)
    words = words or _batch_words(8 * width * (groups + sliced.cross.rows), device)
    slot_table = np.zeros((len(sliced.slot_RS), width), np.int64)
    slot_table[:, : sliced.slots] = -sliced.slot_RS.astype(np.int64)
    user_R, slot_R, cross_R = (np.arange(n) for n in (sliced.user.rows, len(slot_table), sliced.cross.rows))
    user_R = slot_table.size + user_R // width * words * width + user_R % width
    cross_R = slot_table.size + (groups + cross_R) * words * width
    places = [(user_R, -width), (slot_R * width, width - 1), (cross_R, -1)]
    node_R = np.concatenate([place_R | np.int64(mask) << 32 for place_R, mask in places])

    def move(array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    return GpuForest(
        device=device,
        trees=sliced.trees,
        depth=sliced.depth,
        slots=sliced.slots,
        width=width,
        words=words,
        chunk=min(CHUNK_TREES, INT32_MAX // max(1, int(sliced.leaf_TN.max()))),
        user=Pieces(move(_pieces(sliced.user)), move(sliced.user.cut_R), move(user_R.astype(np.int32))),
        cross=Pieces(move(_pieces(sliced.cross)), move(sliced.cross.cut_R), move(cross_R.astype(np.int32))),
        node_TN=move(_blocks(node_R[sliced.row_TN], sliced.depth)),
        leaf_TN=move(sliced.leaf_TN),
        line=move(np.array([sliced.scale, sliced.bias])),
        slot_table=move(slot_table.reshape(-1)),
        table_words=slot_table.size + width * words * (groups + sliced.cross.rows),
    )


def _batch_words(word_bytes: int, device: torch.device) -> int:
    cache = torch.cuda.get_device_properties(device).L2_cache_size if device.type == "cuda" else 0
    fitting = max(LEAST_WORDS, min(MOST_WORDS, cache // max(1, word_bytes)))
    return max(1, min(fitting, TABLE_BYTES // max(1, word_bytes)))


def _pieces(lists: CutLists) -> NDArray[np.int32]:
    pieces = [
        (feature, right, start, min(start + PIECE_ROWS, stop))
        for feature, right, first, stop in zip(
            lists.feature_L, lists.missing_right_L, lists.first_L[:-1], lists.first_L[1:], strict=True
        )
        for start in range(first, stop, PIECE_ROWS)
    ]
    return np.array(pieces, np.int32).reshape(-1, 4)


def _blocks(node_TN: NDArray[np.int64], depth: int) -> NDArray[np.int64]:
    """Nodes in level order -> [T, 2^D]: a block a subtree of depth `BLOCK_DEPTH` (or the tree), in order of codes.

    A block is its nodes in preorder and one place more, where the nodes above the blocks stand, in preorder too.
    """
    height = min(depth, BLOCK_DEPTH)
    top = depth - height
    roots = [0]
    for d in range(top):
        roots = [2 * roots[code % (1 << d)] + 1 + (code >> d) for code in range(2 << d)]
    above = [*_preorder(0, top), 0]
    order = [node for root, extra in zip(roots, above, strict=True) for node in (*_preorder(root, height), extra)]
    return node_TN[:, order]


def _preorder(node: int, height: int) -> list[int]:
    if not height:
        return []
    return [node, *_preorder(2 * node + 1, height - 1), *_preorder(2 * node + 2, height - 1)]
