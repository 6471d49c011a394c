"""Which implementation scores a forest: asked for by name, or the fastest that this machine and this forest allow.

bitslice           the bit-sliced kernel on the CPU, best code path of the processor
bitslice-avx512    one code path of it (also -avx2, -generic)
bitslice-gpu       the same algorithm and integers in Triton; depth 1..8
gather             plain torch, every device, any depth; about a thousandth of the speed
naive              loops in Python, for tests
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from sto_kernels.forest import Forest
from sto_kernels.pieces import MAX_DEPTH

if TYPE_CHECKING:
    import torch

PATHS = {"bitslice": "", **{f"bitslice-{name}": name for name in ("avx512", "avx2", "generic", "gpu")}}
IMPLS = ("auto", *PATHS, "gather", "naive")

_log = logging.getLogger("sto_kernels")


class ImplUnavailable(ValueError):
    """An implementation that this machine, or the kernel for this forest, does not have."""


@dataclass(frozen=True)
class Choice:
    """The implementation that runs and, for `auto`, why."""

    impl: str
    reason: str

    @property
    def is_sliced(self) -> bool:
        return self.impl in PATHS

    @property
    def path(self) -> str:
        """`path` of the operators."""
        return PATHS[self.impl]


@dataclass(frozen=True)
class Cpu:
    """Stands for torch's CPU device where torch need not be loaded."""

    type: str = "cpu"


def choose_impl(forest: Forest, device: torch.device | Cpu, impl: str = "auto") -> Choice:
    """The choice for inputs on a device; ValueError for an unknown name, ImplUnavailable for one that cannot run."""
    if impl not in IMPLS:
        raise ValueError(f"impl must be one of {', '.join(IMPLS)}; found {impl!r}")
    if impl == "auto":
        choice = _automatic(forest, device)
        _announce(choice)
        return choice
    reason = _obstacle(forest, device, impl)
    if reason is not None:
        raise ImplUnavailable(f"impl {impl} cannot score this: {reason}; use impl auto or gather")
    return Choice(impl, "asked for")


def _automatic(forest: Forest, device: torch.device | Cpu) -> Choice:
    wanted = "bitslice" if device.type == "cpu" else "bitslice-gpu"
    reason = _obstacle(forest, device, wanted)
    if reason is not None:
        return Choice("gather", reason)
    if wanted == "bitslice-gpu":
        return Choice(wanted, "the fastest on CUDA")
    from sto_kernels.bitslice_cpu import find_isa

    name = find_isa().name
    return Choice(f"bitslice-{name}", f"the fastest code path of this processor ({name})")


def _obstacle(forest: Forest, device: torch.device | Cpu, impl: str) -> str | None:
    """Why an implementation cannot run, None if it can."""
    if not impl.startswith("bitslice"):
        return None
    if impl == "bitslice-gpu":
        if forest.depth > MAX_DEPTH:
            return f"the GPU kernel scores trees of depth 1..{MAX_DEPTH}; found depth {forest.depth}"
        from sto_kernels import bitslice_gpu

        return bitslice_gpu.unavailable_reason()
    if device.type != "cpu":
        return f"the inputs are on {device}; expected the CPU"
    return _cpu_obstacle(PATHS[impl])


def _cpu_obstacle(path: str) -> str | None:
    try:
        from sto_kernels.bitslice_cpu import IsaUnavailable, find_isa
    except ImportError as error:
        return f"llvmlite cannot be imported ({error})"
    try:
        find_isa(path or None)
    except IsaUnavailable as error:
        return str(error)
    return None


@cache
def _announce(choice: Choice) -> None:
    """Say once a process what was picked; a fallback is a warning, it costs a thousandfold."""
    if choice.impl == "gather":
        _log.warning("scoring with the slow fallback gather: %s", choice.reason)
    else:
        _log.info("scoring with %s: %s", choice.impl, choice.reason)
