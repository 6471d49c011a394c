"""Where margins are computed: on the CPU, but in a worker that has a GPU of its own and said so."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sto_engine.errors import Unavailable

if TYPE_CHECKING:
    from sto_kernels.forest import Forest

Floats = NDArray[np.float32]
_devices: list[str] = []  # the one that this process was given


def use_gpu() -> None:
    """Margins of this process come from its GPU from now on; Unavailable (69) where torch sees none."""
    import torch

    if not torch.cuda.is_available():
        raise Unavailable(
            "a worker was given a GPU, but torch finds no CUDA device; install a CUDA build of torch and the extra "
            "[gpu] on that machine, or set cluster.gpus = 0"
        )
    _devices[:] = ["cuda"]


def slot_margins(
    forest: "Forest", user_FU: Floats, cross_CSU: Floats | None = None, base_SU: Floats | None = None
) -> Floats:
    """Margin of every (user, slot), float32 [U, S], as `sto_kernels.margins.slot_margins` has it."""
    if not _devices:
        from sto_kernels import margins_numpy

        # Buckets run in parallel already; one thread each keeps --threads what it says.
        return margins_numpy.slot_margins(forest, user_FU, cross_CSU, base_SU, threads=1)
    import torch

    from sto_kernels import margins

    parts = (user_FU, cross_CSU, base_SU)
    inputs = [None if x is None else torch.from_numpy(np.ascontiguousarray(x)).to(_devices[0]) for x in parts]
    user, cross, base = inputs
    assert user is not None
    return np.asarray(margins.slot_margins(forest, user, cross, base).cpu().numpy())
