"""The questions that scoring asks of a forest: the margin or probability of every slot, and the best slots.

Facades over the implementations: inputs are checked here once, `impl` names who computes ("auto" picks, choice.py).
Numpy arrays and torch tensors are taken alike; results are tensors on the device of the inputs. Same inputs, same bits:
for any number of threads, any split of the users and any code path of the CPU.
"""

from collections.abc import MutableMapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from sto_kernels import gather_torch, naive
from sto_kernels.choice import IMPLS, Choice, ImplUnavailable, choose_impl
from sto_kernels.forest import Forest
from sto_kernels.sliced import slice_forest

__all__ = ["IMPLS", "NO_SLOT", "ImplUnavailable", "best_slots", "choose_impl", "slot_margins", "slot_probabilities"]

NO_SLOT = 255
Floats = NDArray[np.float32] | Tensor

# A forest is laid out once, however many batches it scores.
_tensors_of: MutableMapping[Forest, dict[str, list[Tensor]]] = WeakIdKeyDictionary()


class _Inputs(NamedTuple):
    user: Tensor
    cross: Tensor | None
    base: Tensor | None


def slot_margins(
    forest: Forest,
    user_FU: Floats,
    cross_CSU: Floats | None = None,
    base_SU: Floats | None = None,
    impl: str = "auto",
    threads: int | None = None,
) -> Tensor:
    """Margin of every (user, slot) -> float32 [U, S].

    `user_FU` float32 [F, U], `cross_CSU` float32 [C, S, U] (needed if the forest has cross features), `base_SU` float32
    [S, U] is added. NaN is missing. `threads` of the CPU kernel; default: torch's. Raises ValueError for other shapes,
    types or an unknown `impl`, ImplUnavailable (a ValueError) for one that cannot run here.
    """
    x = _checked(forest, user_FU, cross_CSU, base_SU)
    choice = choose_impl(forest, x.user.device, impl)
    if choice.is_sliced:
        from sto_kernels import operators

        out: Tensor = operators.slot_margins(_tensors(forest, x), *x, choice.path, _threads(threads))
        return out
    return _plain_margins(forest, x, choice)


def slot_probabilities(
    forest: Forest,
    user_FU: Floats,
    cross_CSU: Floats | None = None,
    base_SU: Floats | None = None,
    impl: str = "auto",
    threads: int | None = None,
) -> Tensor:
    """P(open within the label window) of every (user, slot), the sigmoid of the margin -> float16 [U, S].

    Inputs and errors are those of `slot_margins`. The step of float16 is 2^-11 of the value, at least 2^-24: enough to
    report and to price with, too coarse to choose a slot by (2 % of the choices would move).
    """
    x = _checked(forest, user_FU, cross_CSU, base_SU)
    choice = choose_impl(forest, x.user.device, impl)
    if choice.is_sliced:
        from sto_kernels import operators

        out: Tensor = operators.slot_probabilities(_tensors(forest, x), *x, choice.path, _threads(threads))
        return out
    return _plain_margins(forest, x, choice).sigmoid().half()


def best_slots(
    forest: Forest,
    user_FU: Floats,
    cross_CSU: Floats | None = None,
    base_SU: Floats | None = None,
    allowed_US: NDArray[np.bool_] | Tensor | None = None,
    impl: str = "auto",
    threads: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Best slot uint8 [U], its margin float32 [U], runner-up uint8 [U] among `allowed_US` bool [U, S].

    The first maximum of `slot_margins`, without writing the margins: ties go to the earlier slot. Where no slot is
    allowed the slot is 255 and the margin -inf; the runner-up is 255 with fewer than two.
    """
    x = _checked(forest, user_FU, cross_CSU, base_SU)
    choice = choose_impl(forest, x.user.device, impl)
    if forest.slots > NO_SLOT:
        raise ValueError(f"best_slots numbers slots with 8 bits, at most {NO_SLOT} of them; found {forest.slots}")
    shape = (int(x.user.shape[1]), forest.slots)
    allowed = None if allowed_US is None else torch.as_tensor(allowed_US, device=x.user.device)
    if allowed is not None and (allowed.dtype != torch.bool or allowed.shape != shape):
        raise ValueError(f"allowed_US must be bool {shape}; found {allowed.dtype} {tuple(allowed.shape)}")
    if choice.is_sliced:
        from sto_kernels import operators

        out: tuple[Tensor, Tensor, Tensor] = operators.best_slots(
            _tensors(forest, x), *x, allowed, choice.path, _threads(threads)
        )
        return out
    margins_US = _plain_margins(forest, x, choice)
    return _first_two(margins_US if allowed is None else margins_US.masked_fill(~allowed, -torch.inf))


def _plain_margins(forest: Forest, x: _Inputs, choice: Choice) -> Tensor:
    if choice.impl == "gather":
        return gather_torch.slot_margins(forest, x.user, x.cross, x.base)
    user, cross, base = (None if t is None else t.cpu().numpy() for t in x)
    assert user is not None
    return torch.from_numpy(naive.slot_margins(forest, user, cross, base)).float().to(x.user.device)


def _first_two(margins_US: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    margins_US = margins_US.masked_fill(margins_US.isnan(), -torch.inf)  # never chosen
    slot_U, value_U = _first_max(margins_US)
    rest_US = margins_US.clone()
    rest_US[
        torch.arange(len(slot_U), device=slot_U.device), slot_U.clamp(max=margins_US.shape[1] - 1).long()
    ] = -torch.inf
    runner_U, _ = _first_max(rest_US)
    return slot_U, value_U, runner_U


def _first_max(margins_US: Tensor) -> tuple[Tensor, Tensor]:
    """The earliest slot with the largest margin, 255 where all are -inf."""
    if not margins_US.shape[0]:
        return torch.zeros(0, dtype=torch.uint8), torch.zeros(0)
    value_U = margins_US.amax(dim=1)
    slot_U = (margins_US == value_U[:, None]).to(torch.uint8).argmax(dim=1).to(torch.uint8)
    return slot_U.masked_fill(value_U == -torch.inf, NO_SLOT), value_U


def _tensors(forest: Forest, x: _Inputs) -> list[Tensor]:
    """The forest as the operators take it, on the device of the inputs."""
    from sto_kernels.operators import forest_tensors

    known = _tensors_of.setdefault(forest, {})
    device = str(x.user.device)
    if device not in known:
        known[device] = forest_tensors(slice_forest(forest), device)
    return known[device]


def _threads(threads: int | None) -> int:
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be 1 or more; found {threads}")
    return threads or torch.get_num_threads()


def _checked(forest: Forest, user_FU: Floats, cross_CSU: Floats | None, base_SU: Floats | None) -> _Inputs:
    user = _tensor(user_FU, "user_FU")
    users = int(user.shape[-1]) if user.ndim == 2 else -1
    _expect(user, "user_FU", (forest.n_user, users), user.device)
    cross = None if cross_CSU is None else _tensor(cross_CSU, "cross_CSU")
    if cross is not None:
        _expect(cross, "cross_CSU", (forest.n_cross, forest.slots, users), user.device)
    elif forest.n_cross:
        raise ValueError(f"cross_CSU must hold the forest's {forest.n_cross} cross features; found none")
    base = None if base_SU is None else _tensor(base_SU, "base_SU")
    if base is not None:
        _expect(base, "base_SU", (forest.slots, users), user.device)
    return _Inputs(user, cross, base)


def _tensor(values: Floats, name: str) -> Tensor:
    if isinstance(values, np.ndarray):
        values = torch.from_numpy(np.require(values, requirements=["C", "W"]))
    if values.dtype != torch.float32:
        raise ValueError(f"{name} must be float32; found {values.dtype}")
    return values


def _expect(values: Tensor, name: str, shape: tuple[int, ...], device: torch.device) -> None:
    if tuple(values.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}; found {tuple(values.shape)}")
    if values.device != device:
        raise ValueError(f"{name} must be on {device}, where user_FU is; found {values.device}")
