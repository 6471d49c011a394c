"""Runs `erase` and kills itself at its n-th rename or removal: STORE N WHEN ID..."""

import sys
from pathlib import Path

from deadly import die_at

from sto_engine.config import load_config
from sto_engine.ingest.erase import erase
from sto_engine.progress import Silent

if __name__ == "__main__":
    store, n, when, *ids = sys.argv[1:]
    die_at(store, int(n), when, removals=True)
    erase(Path(store), ids, None, load_config(None), Silent())
