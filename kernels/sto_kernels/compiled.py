"""`jit`: how the Python kernels become machine code, and what happens where they cannot.

Without numba (not installed, or at odds with the numpy that is), or with STO_ENGINE_JIT=off, a kernel is the Python
function that it is written as: the same numbers, hundreds of times as slow. `obstacle` says why, so that those who
have a faster way without compiled code can take it and tell.
"""

import os
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

SWITCH = "STO_ENGINE_JIT"


@cache
def obstacle() -> str | None:
    """Why kernels are not compiled in this process; None where they are."""
    if os.environ.get(SWITCH, "").lower() in ("off", "0", "no"):
        return f"{SWITCH} is off"
    try:
        import sto_kernels.numba_cache  # noqa: F401
    except ImportError as error:
        return f"numba cannot be imported ({error})"
    return None


def jit(function: Callable[..., Any]) -> Any:
    """The function compiled by numba at its first call, for the types of its arguments; itself under an `obstacle`."""
    if obstacle() is not None:
        return function
    from sto_kernels.numba_cache import compile_lazily

    return compile_lazily(function)


def read_only(values: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
    """The array as a kernel's input: contiguous, of this dtype, not writable; TypeError where that would lose values.

    Numba compiles once more for every mixture of writable and read-only arguments: this leaves one mixture.
    """
    view = values.astype(dtype, order="C", casting="safe", copy=False).view()
    view.flags.writeable = False
    return view
