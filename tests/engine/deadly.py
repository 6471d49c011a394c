"""SIGKILL at a chosen rename, for the children of the tests of faults: they run on their own, as scripts."""

import os
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any


def die_at(folder: str, n: int, when: str, removals: bool = False) -> None:
    """Kill this process just before or after the n-th rename in `folder`; `removals` count as well, of finished files.

    Renames elsewhere do not count: a kernel that is compiled for the first time is renamed into its cache.
    """
    calls, root = count(1), Path(folder).resolve()

    def deadly(act: Callable[..., None]) -> Callable[..., None]:
        def acted(path: Any, *args: Any, **kwargs: Any) -> None:
            counts = Path(path).resolve().is_relative_to(root)
            hit = counts and next(calls) == n
            if hit and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            act(path, *args, **kwargs)
            if hit:
                os.kill(os.getpid(), signal.SIGKILL)

        return acted

    os.replace = deadly(os.replace)  # type: ignore[assignment]
    if removals:
        unlink = os.unlink
        deadly_unlink = deadly(unlink)
        os.unlink = lambda path, **rest: (unlink if ".tmp" in str(path) else deadly_unlink)(path, **rest)  # type: ignore[assignment]
