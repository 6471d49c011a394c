"""Torch operators on plain tensors: `sto::slot_margins`, `slot_probabilities`, `best_slots` and `draw_betas`.

    sto::slot_margins(Tensor[] forest, Tensor user_FU, Tensor? cross_CSU, Tensor? base_SU, str path, int threads)
    sto::draw_betas(Tensor key_U, Tensor a_US, Tensor b_US, int round)

`forest` is `forest_tensors(sliced)`. For CPU tensors `path` is a code path of isa.py, "" for the best of this
processor, or "gpu": the GPU scores what lies in the CPU's memory. Registered for CPU and CUDA and, for shapes alone, as
fake. margins.py checks inputs with better words; here only what would read another's memory is refused.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from sto_kernels import beta, beta_torch, bitslice_cpu, bitslice_gpu
from sto_kernels.sliced import CutLists, SlicedForest

_LISTS = ("feature_L", "missing_right_L", "first_L", "cut_R")
_NUMBERS = ("digit_bits", "digits", "n_user", "n_cross", "scale", "bias")  # the first four are whole
_LEAF = 11  # position of leaf_TN; what is prepared from a forest lives as long as this tensor

GPU = "gpu"

_prepared: MutableMapping[Tensor, dict[str, Any]] = WeakIdKeyDictionary()


def forest_tensors(sliced: SlicedForest, device: torch.device | str = "cpu") -> list[Tensor]:
    """A sliced forest as the operators take it."""
    lists = [getattr(group, name) for group in (sliced.user, sliced.cross) for name in _LISTS]
    arrays = [*lists, sliced.slot_RS, sliced.way_DW, sliced.row_TN, sliced.leaf_TN]
    numbers = torch.tensor([float(getattr(sliced, name)) for name in _NUMBERS], dtype=torch.float64)
    return [*(torch.from_numpy(np.array(array)).to(device) for array in arrays), numbers]


def _sliced(forest: Sequence[Tensor]) -> SlicedForest:
    arrays = [tensor.cpu().numpy() for tensor in forest]
    user, cross, numbers = CutLists(*arrays[:4]), CutLists(*arrays[4:8]), arrays[-1].tolist()
    whole, (scale, bias) = [int(number) for number in numbers[:4]], numbers[4:]
    return SlicedForest(user, cross, arrays[8], arrays[9], arrays[10], arrays[11], scale, bias, *whole)


def _prepare_cpu(forest: Sequence[Tensor], path: str) -> bitslice_cpu.CpuForest:
    isa = bitslice_cpu.find_isa(path or None)
    known = _prepared.setdefault(forest[_LEAF], {})
    if isa.name not in known:
        known[isa.name] = bitslice_cpu.prepare(_sliced(forest), isa)
    found: bitslice_cpu.CpuForest = known[isa.name]
    return found


def _prepare_gpu(forest: Sequence[Tensor], device: torch.device | None = None) -> bitslice_gpu.GpuForest:
    """For CUDA tensors on their device; else on the GPU, or on the CPU where Triton's interpreter plays the GPU."""
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    known = _prepared.setdefault(forest[_LEAF], {})
    if str(device) not in known:
        known[str(device)] = bitslice_gpu.prepare(_sliced(forest), device)
    found: bitslice_gpu.GpuForest = known[str(device)]
    return found


def _score_cpu(
    forest: Sequence[Tensor],
    inputs: tuple[Tensor, Tensor | None, Tensor | None, Tensor | None],
    outputs: dict[str, Tensor],
    path: str,
    threads: int,
) -> None:
    prepared = _prepare_cpu(forest, path)

    def rows(tensor: Tensor | None) -> NDArray[np.generic] | None:
        """[rows, U] with users contiguous; a copy only where the caller's layout is another."""
        if tensor is None:
            return None
        rows = tensor.detach().flatten(0, -2)
        return (rows if rows.stride(-1) == 1 else rows.contiguous()).numpy()

    user, cross, base, allowed = inputs
    allowed_SU = None if allowed is None else allowed.T.contiguous().view(torch.uint8)
    arrays = bitslice_cpu.Inputs(*(rows(t) for t in (user, cross, base, allowed_SU)))  # type: ignore[arg-type]
    bitslice_cpu.score(prepared, arrays, {name: out.numpy() for name, out in outputs.items()}, threads)


def _slots(forest: Sequence[Tensor]) -> int:
    return int(forest[8].shape[1])


@torch.library.custom_op("sto::slot_margins", mutates_args=(), device_types="cpu")
def slot_margins(
    forest: Sequence[Tensor],
    user_FU: Tensor,
    cross_CSU: Tensor | None,
    base_SU: Tensor | None,
    path: str,
    threads: int,
) -> Tensor:
    """Margin of every (user, slot) -> float32 [U, S]."""
    if path == GPU:
        return bitslice_gpu.slot_margins(_prepare_gpu(forest), user_FU, cross_CSU, base_SU)
    out = user_FU.new_empty((user_FU.shape[1], _slots(forest)))
    _score_cpu(forest, (user_FU, cross_CSU, base_SU, None), {"margins": out}, path, threads)
    return out


@torch.library.custom_op("sto::slot_probabilities", mutates_args=(), device_types="cpu")
def slot_probabilities(
    forest: Sequence[Tensor],
    user_FU: Tensor,
    cross_CSU: Tensor | None,
    base_SU: Tensor | None,
    path: str,
    threads: int,
) -> Tensor:
    """Sigmoid of every margin -> float16 [U, S]."""
    if path == GPU:
        return bitslice_gpu.slot_margins(_prepare_gpu(forest), user_FU, cross_CSU, base_SU).sigmoid().half()
    out = user_FU.new_empty((user_FU.shape[1], _slots(forest)), dtype=torch.float16)
    _score_cpu(forest, (user_FU, cross_CSU, base_SU, None), {"probabilities": out}, path, threads)
    return out


@torch.library.custom_op("sto::best_slots", mutates_args=(), device_types="cpu")
def best_slots(
    forest: Sequence[Tensor],
    user_FU: Tensor,
    cross_CSU: Tensor | None,
    base_SU: Tensor | None,
    allowed_US: Tensor | None,
    path: str,
    threads: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Best slot uint8 [U], its margin float32 [U], runner-up uint8 [U]; no margins are written."""
    if path == GPU:
        return bitslice_gpu.best_slots(_prepare_gpu(forest), user_FU, cross_CSU, base_SU, allowed_US)
    out = _best_outputs(user_FU)
    named = dict(zip(("slot", "margin", "runner_up"), out, strict=True))
    _score_cpu(forest, (user_FU, cross_CSU, base_SU, allowed_US), named, path, threads)
    return out


def _best_outputs(user_FU: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    users = user_FU.shape[1]
    return (
        user_FU.new_empty(users, dtype=torch.uint8),
        user_FU.new_empty(users),
        user_FU.new_empty(users, dtype=torch.uint8),
    )


@slot_margins.register_fake
def _(forest, user_FU, cross_CSU, base_SU, path, threads):  # type: ignore[no-untyped-def]
    return user_FU.new_empty((user_FU.shape[1], _slots(forest)))


@slot_probabilities.register_fake
def _(forest, user_FU, cross_CSU, base_SU, path, threads):  # type: ignore[no-untyped-def]
    return user_FU.new_empty((user_FU.shape[1], _slots(forest)), dtype=torch.float16)


@best_slots.register_fake
def _(forest, user_FU, cross_CSU, base_SU, allowed_US, path, threads):  # type: ignore[no-untyped-def]
    return _best_outputs(user_FU)


@slot_margins.register_kernel("cuda")
def _(forest, user_FU, cross_CSU, base_SU, path, threads):  # type: ignore[no-untyped-def]
    return bitslice_gpu.slot_margins(_prepare_gpu(forest, user_FU.device), user_FU, cross_CSU, base_SU)


@slot_probabilities.register_kernel("cuda")
def _(forest, user_FU, cross_CSU, base_SU, path, threads):  # type: ignore[no-untyped-def]
    margins_US = bitslice_gpu.slot_margins(_prepare_gpu(forest, user_FU.device), user_FU, cross_CSU, base_SU)
    return margins_US.sigmoid().half()


@best_slots.register_kernel("cuda")
def _(forest, user_FU, cross_CSU, base_SU, allowed_US, path, threads):  # type: ignore[no-untyped-def]
    return bitslice_gpu.best_slots(_prepare_gpu(forest, user_FU.device), user_FU, cross_CSU, base_SU, allowed_US)


@torch.library.custom_op("sto::draw_betas", mutates_args=(), device_types="cpu")
def draw_betas(key_U: Tensor, a_US: Tensor, b_US: Tensor, round: int) -> Tensor:
    """One Beta draw for each (user, slot) -> float32 [U, S]; keys int64 or uint64 [U]."""
    key, a, b = (tensor.detach().numpy() for tensor in (key_U.view(torch.int64), a_US, b_US))
    return torch.from_numpy(beta.draw_betas(key.view(np.uint64), a, b, round))


@draw_betas.register_fake
def _(key_U, a_US, b_US, round):  # type: ignore[no-untyped-def]
    return a_US.new_empty(a_US.shape, dtype=torch.float32)


@draw_betas.register_kernel("cuda")
def _(key_U, a_US, b_US, round):  # type: ignore[no-untyped-def]
    return beta_torch.draw_betas_torch(key_U, a_US, b_US, round)
