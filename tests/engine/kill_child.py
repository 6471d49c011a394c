"""Runs `score` and kills itself at its n-th rename: STORE OUT N WHEN [SECTION.KEY=VALUE ...]"""

import sys
from pathlib import Path

from deadly import die_at

from sto_engine.config import load_config
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Silent

if __name__ == "__main__":
    store, out, n, when, *keys = sys.argv[1:]
    die_at(out, int(n), when)
    run_score(ScoreRequest(Path(store), Path(out), threads=1), load_config(None, keys), Silent())
