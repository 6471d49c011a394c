"""Runs `compact` and kills itself at its n-th rename: STORE N WHEN [BUCKETS]"""

import sys
from pathlib import Path

from deadly import die_at

from sto_engine.ingest.compact import compact
from sto_engine.progress import Silent

if __name__ == "__main__":
    store, n, when, *buckets = sys.argv[1:]
    die_at(store, int(n), when)
    compact(Path(store), 1, Silent(), buckets=int(buckets[0]) if buckets else None)
