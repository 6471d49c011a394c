"""`slot_margins` for numpy arrays in the CPU's memory without loading torch, which takes longer than a small run.

The same kernel, checks and bits as `margins.slot_margins`; where the bit-sliced kernel cannot run, that one is asked.
"""

from collections.abc import MutableMapping
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from sto_kernels.choice import Choice, Cpu, choose_impl
from sto_kernels.forest import Forest
from sto_kernels.sliced import slice_forest

if TYPE_CHECKING:
    from sto_kernels.bitslice_cpu import CpuForest

Floats = NDArray[np.float32]
# a forest is laid out once, however many batches it scores
_prepared: MutableMapping[Forest, dict[str, "CpuForest"]] = WeakKeyDictionary()


def slot_margins(
    forest: Forest,
    user_FU: Floats,
    cross_CSU: Floats | None = None,
    base_SU: Floats | None = None,
    threads: int = 1,
) -> Floats:
    """Margin of every (user, slot), float32 [U, S]; arguments and errors as in `margins.slot_margins`."""
    choice = choose_impl(forest, Cpu())
    if not choice.is_sliced:
        from sto_kernels import margins

        return np.asarray(margins.slot_margins(forest, user_FU, cross_CSU, base_SU, threads=threads).numpy())
    from sto_kernels import bitslice_cpu

    users = int(user_FU.shape[-1])
    cross_RU = (
        None if cross_CSU is None else np.ascontiguousarray(cross_CSU).reshape(len(cross_CSU) * forest.slots, users)
    )
    inputs = bitslice_cpu.Inputs(np.ascontiguousarray(user_FU), cross_RU, base_SU, None)
    out_US = np.empty((users, forest.slots), np.float32)
    bitslice_cpu.score(_ready(forest, choice), inputs, {"margins": out_US}, threads)
    return out_US


def _ready(forest: Forest, choice: Choice) -> "CpuForest":
    from sto_kernels.bitslice_cpu import find_isa, prepare

    known = _prepared.setdefault(forest, {})
    if choice.path not in known:
        known[choice.path] = prepare(slice_forest(forest), find_isa(choice.path or None))
    return known[choice.path]
