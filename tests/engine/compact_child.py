"""Runs `compact` and kills itself (SIGKILL) just before or after its n-th rename: STORE N WHEN [BUCKETS]"""

import os
import signal
import sys
from itertools import count
from pathlib import Path

from sto_engine.ingest.compact import compact
from sto_engine.progress import Silent


def main() -> None:
    store, n, when, *buckets = sys.argv[1:]
    calls, rename = count(1), os.replace

    def replace(*args: object, **kwargs: object) -> None:
        hit = next(calls) == int(n)
        if hit and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*args, **kwargs)  # type: ignore[arg-type]
        if hit:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace  # type: ignore[assignment]
    compact(Path(store), 1, Silent(), buckets=int(buckets[0]) if buckets else None)


if __name__ == "__main__":
    main()
