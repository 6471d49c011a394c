"""Runs `ingest` and kills itself (SIGKILL) just before or after its n-th rename: STORE FILE N WHEN"""

import os
import signal
import sys
from itertools import count
from pathlib import Path

from sto_engine.config import load_config
from sto_engine.ingest import ingest
from sto_engine.progress import Silent


def main() -> None:
    store, file, n, when = sys.argv[1:]
    calls, rename = count(1), os.replace

    def replace(*args: object, **kwargs: object) -> None:
        hit = next(calls) == int(n)
        if hit and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*args, **kwargs)  # type: ignore[arg-type]
        if hit:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace  # type: ignore[assignment]
    config = load_config(None, ["ingest.max_bad_share=0.5"])
    ingest([file], Path(store), None, config, Silent(), threads=1)


if __name__ == "__main__":
    main()
