"""Runs `ingest` and kills itself at its n-th rename: STORE FILE N WHEN"""

import sys
from pathlib import Path

from deadly import die_at

from sto_engine.config import load_config
from sto_engine.ingest import ingest
from sto_engine.progress import Silent

if __name__ == "__main__":
    store, file, n, when = sys.argv[1:]
    die_at(store, int(n), when)
    ingest([file], Path(store), None, load_config(None, ["ingest.max_bad_share=0.5"]), Silent(), threads=1)
