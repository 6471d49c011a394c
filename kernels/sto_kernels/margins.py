"""The two questions that scoring asks of a forest: the margin of every slot, and the best slot.

Facades over the implementations: inputs are checked here once, `impl` names who computes ("auto" picks). Numpy arrays
and torch tensors are taken alike; results are tensors on the device of the inputs.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sto_kernels import gather_torch, naive
from sto_kernels.forest import Forest

IMPLS = ("auto", "gather", "naive")
NO_SLOT = 255
Floats = NDArray[np.float32] | Tensor


def slot_margins(
    forest: Forest,
    user_FU: Floats,
    cross_CSU: Floats | None = None,
    base_SU: Floats | None = None,
    impl: str = "auto",
) -> Tensor:
    """Margin of every (user, slot) -> float32 [U, S].

    `user_FU` float32 [F, U], `cross_CSU` float32 [C, S, U] (needed if the forest has cross features), `base_SU` float32
    [S, U] is added. NaN is missing. Raises ValueError for other shapes, types or an unknown `impl`.
    """
    if impl not in IMPLS:
        raise ValueError(f"impl must be one of {', '.join(IMPLS)}; found {impl!r}")
    user = _tensor(user_FU, "user_FU")
    users = int(user.shape[-1]) if user.ndim == 2 else -1
    _expect(user, "user_FU", (forest.n_user, users))
    cross = None if cross_CSU is None else _tensor(cross_CSU, "cross_CSU")
    if cross is not None:
        _expect(cross, "cross_CSU", (forest.n_cross, forest.slots, users))
    elif forest.n_cross:
        raise ValueError(f"cross_CSU must hold the forest's {forest.n_cross} cross features; found none")
    base = None if base_SU is None else _tensor(base_SU, "base_SU")
    if base is not None:
        _expect(base, "base_SU", (forest.slots, users))
    if impl == "naive":
        arrays = [None if t is None else t.cpu().numpy() for t in (user, cross, base)]
        assert arrays[0] is not None
        return torch.from_numpy(naive.slot_margins(forest, arrays[0], arrays[1], arrays[2])).float()
    return gather_torch.slot_margins(forest, user, cross, base)


def best_slots(
    forest: Forest,
    user_FU: Floats,
    cross_CSU: Floats | None = None,
    base_SU: Floats | None = None,
    allowed_US: NDArray[np.bool_] | Tensor | None = None,
    impl: str = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """Best slot uint8 [U], its margin float32 [U], runner-up uint8 [U] among `allowed_US` bool [U, S].

    Ties go to the earlier slot. Where no slot is allowed the slot is 255 and the margin -inf; the runner-up is 255 with
    fewer than two.
    """
    margins_US = slot_margins(forest, user_FU, cross_CSU, base_SU, impl)
    if allowed_US is not None:
        allowed = torch.as_tensor(allowed_US, device=margins_US.device)
        if allowed.dtype != torch.bool or allowed.shape != margins_US.shape:
            raise ValueError(
                f"allowed_US must be bool {tuple(margins_US.shape)}; found {allowed.dtype} {allowed.shape}"
            )
        margins_US = margins_US.masked_fill(~allowed, -torch.inf)
    slot_U, value_U = _first_max(margins_US)
    rest_US = margins_US.clone()
    rest_US[torch.arange(len(slot_U)), slot_U.clamp(max=forest.slots - 1).long()] = -torch.inf
    runner_U, _ = _first_max(rest_US)
    return slot_U, value_U, runner_U


def _first_max(margins_US: Tensor) -> tuple[Tensor, Tensor]:
    """The earliest slot with the largest margin, 255 where all are -inf."""
    if not margins_US.shape[0]:
        return torch.zeros(0, dtype=torch.uint8), torch.zeros(0)
    value_U = margins_US.amax(dim=1)
    slot_U = (margins_US == value_U[:, None]).to(torch.uint8).argmax(dim=1).to(torch.uint8)
    return slot_U.masked_fill(value_U == -torch.inf, NO_SLOT), value_U


def _tensor(values: Floats, name: str) -> Tensor:
    if isinstance(values, np.ndarray):
        values = torch.from_numpy(np.require(values, requirements=["C", "W"]))
    if values.dtype != torch.float32:
        raise ValueError(f"{name} must be float32; found {values.dtype}")
    return values.contiguous()


def _expect(values: Tensor, name: str, shape: tuple[int, ...]) -> None:
    if tuple(values.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}; found {tuple(values.shape)}")
