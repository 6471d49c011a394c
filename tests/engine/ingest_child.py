"""Runs `ingest` and kills itself at its n-th rename: STORE FILE N WHEN [SEED OF A CLUSTER]"""

import sys
from pathlib import Path

from deadly import die_at

sys.path.insert(0, str(Path(__file__).parents[1]))

from executors import Travelling
from sto_engine.config import load_config
from sto_engine.ingest import ingest
from sto_engine.progress import Silent

if __name__ == "__main__":
    store, file, n, when, *seed = sys.argv[1:]
    die_at(store, int(n), when)
    config = load_config(None, ["ingest.max_bad_share=0.5"])
    executor = Travelling(int(seed[0])) if seed else None
    ingest([file], Path(store), None, config, Silent(), threads=1, executor=executor)
