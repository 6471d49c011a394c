"""Runs `erase` and kills itself (SIGKILL) just before or after its n-th rename or removal: STORE N WHEN ID..."""

import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from sto_engine.config import load_config
from sto_engine.ingest.erase import erase
from sto_engine.progress import Silent


def main() -> None:
    store, n, when, *ids = sys.argv[1:]
    calls = count(1)

    def deadly(act: Callable[..., None]) -> Callable[..., None]:
        def acted(*args: Any, **kwargs: Any) -> None:
            hit = next(calls) == int(n)
            if hit and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            act(*args, **kwargs)
            if hit:
                os.kill(os.getpid(), signal.SIGKILL)

        return acted

    os.replace, real_unlink = deadly(os.replace), os.unlink  # type: ignore[assignment]
    os.unlink = lambda path, **rest: (real_unlink if ".tmp" in str(path) else deadly(real_unlink))(path, **rest)  # type: ignore[assignment]
    erase(Path(store), ids, None, load_config(None), Silent())


if __name__ == "__main__":
    main()
