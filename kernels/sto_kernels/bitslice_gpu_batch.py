"""One batch of bitslice_gpu.py: its inputs and outputs, and the kernels that lead from the ones to the others."""

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from sto_kernels.bitslice_gpu_layout import BLOCK_DEPTH, WORD, GpuForest, Pieces, Workspace

INPUTS = ("user_FU", "cross_CSU", "base_SU", "allowed_US")
OUTPUTS = ("sums_US", "margins_US", "slot_U", "value_U", "runner_U")
# (user, padded slot) pairs that one program of the last kernel finishes.
FINISH_PAIRS = 2048


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """Inputs and outputs of some users; outputs that are None are not asked for. U is the last axis, or the first."""

    user_FU: Tensor
    cross_CSU: Tensor | None = None
    base_SU: Tensor | None = None
    allowed_US: Tensor | None = None
    sums_US: Tensor | None = None
    margins_US: Tensor | None = None
    slot_U: Tensor | None = None
    value_U: Tensor | None = None
    runner_U: Tensor | None = None

    @property
    def users(self) -> int:
        return int(self.user_FU.shape[1])

    def part(self, start: int, stop: int) -> "Job":
        return self._map(lambda t, axis: t.narrow(axis, start, stop - start))

    def readable(self) -> "Job":
        """Inputs as the kernels take them: users side by side, rows at one distance, masks without gaps."""
        return self._map(lambda t, axis: t.contiguous() if axis == 0 else _rows(t))

    def like(self, users: int, **where: Any) -> "Job":
        """Room for the same tensors of other users."""

        def room(t: Tensor, axis: int) -> Tensor:
            shape = list(t.shape)
            shape[axis] = users
            return torch.empty(shape, dtype=t.dtype, **where)

        return self._map(room)

    def copy_inputs(self, source: "Job") -> None:
        self._copy(source, INPUTS)

    def copy_outputs(self, source: "Job") -> None:
        self._copy(source, OUTPUTS)

    def _map(self, change: Callable[[Tensor, int], Tensor]) -> "Job":
        tensors: dict[str, Any] = {name: getattr(self, name) for name in INPUTS + OUTPUTS}
        for name, t in tensors.items():
            if t is not None:
                tensors[name] = change(t, 0 if name.endswith("_US") else -1)
        return Job(**tensors)

    def _copy(self, source: "Job", names: tuple[str, ...]) -> None:
        for name in names:
            if (values := getattr(source, name)) is not None:
                getattr(self, name).copy_(values, non_blocking=True)


def launch(gpu: GpuForest, space: Workspace, job: Job) -> None:
    """Queue the kernels of one batch on the current stream; none of them waits for the host."""
    # Imported where it is used: the rest of this package must load without triton.
    from sto_kernels import bitslice_gpu_kernels as kernels

    words = _ceil(job.users, WORD)
    with _on(gpu.device):
        space.sums[: words * WORD * gpu.slots].zero_()
        _masks(gpu, space, gpu.user, job.user_FU, 1)
        if job.cross_CSU is not None:
            _masks(gpu, space, gpu.cross, job.cross_CSU.flatten(0, 1), gpu.slots)
        arrays = (space.table, gpu.node_TN, gpu.leaf_TN, space.sums)
        sizes = (gpu.trees, gpu.chunk, words, gpu.slots, gpu.width, gpu.depth, BLOCK_DEPTH, kernels.LANES)
        grid = (_ceil(words * gpu.slots, kernels.LANES), _ceil(gpu.trees, gpu.chunk))
        kernels.forest_kernel[grid](*arrays, *sizes, **kernels.OPTIONS)
        if job.sums_US is not None:
            job.sums_US.copy_(space.sums[: job.users * gpu.slots].view(job.users, gpu.slots))
        if job.margins_US is not None or job.slot_U is not None:
            _finish(gpu, space, job)


def _masks(gpu: GpuForest, space: Workspace, pieces: Pieces, x_XU: Tensor, slots: int) -> None:
    """The user (slots = 1) or the cross rows of the table; X features, or features x slots."""
    from sto_kernels import bitslice_gpu_kernels as kernels

    if not len(pieces.piece_P4):
        return
    users = int(x_XU.shape[1])
    words = _ceil(users, WORD)
    arrays = (x_XU, pieces.piece_P4, pieces.cut_R, pieces.place_R, space.table)
    sizes = (x_XU.stride(0), users, words, slots, gpu.width, kernels.ROWS, kernels.LANES)
    grid = (_ceil(words * slots, kernels.LANES), len(pieces.piece_P4))
    kernels.mask_kernel[grid](*arrays, *sizes, **kernels.OPTIONS)


def _finish(gpu: GpuForest, space: Workspace, job: Job) -> None:
    from sto_kernels import bitslice_gpu_kernels as kernels

    allowed = None if job.allowed_US is None else job.allowed_US.view(torch.uint8)
    inputs = (space.sums, gpu.line, job.base_SU, allowed)
    outputs = (job.margins_US, job.slot_U, job.value_U, job.runner_U)
    pitch = 0 if job.base_SU is None else job.base_SU.stride(0)
    at_once = max(1, FINISH_PAIRS // gpu.width)
    sizes = (pitch, job.users, gpu.slots, gpu.width, at_once)
    kernels.finish_kernel[(_ceil(job.users, at_once),)](*inputs, *outputs, *sizes, **kernels.OPTIONS)


def _rows(t: Tensor) -> Tensor:
    rows = t.flatten(0, -2) if t.ndim > 2 else t
    return (rows if rows.stride(-1) == 1 else rows.contiguous()).view(t.shape)


def _ceil(number: int, by: int) -> int:
    return -(-number // by)


def _on(device: torch.device) -> AbstractContextManager[Any]:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
