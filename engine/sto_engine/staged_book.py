"""The book that prices are made from where rows are staged on disk (assign.book.Book), and how far the work is."""

import threading
from collections.abc import Callable

import pyarrow as pa

from sto_engine.assign.book import Slots
from sto_engine.assign.market import Market
from sto_engine.plan import Plan
from sto_engine.progress import Progress
from sto_engine.settle import read_bucket
from sto_kernels.offers import Offers

KEEP_BYTES = 1 << 29


class Steps:
    """Progress of passes whose number is not known before."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._left = progress, total
        progress.start("prices", total)

    def done(self, n: int) -> None:
        n = min(n, self._left)
        self._left -= n
        self._progress.advance("prices", n)

    def finish(self) -> None:
        self.done(self._left)


class StagedBook:
    """Offers from the staged rows, kept in memory as far as they fit; slots in memory, a byte a user."""

    def __init__(self, plan: Plan, market: Market, table: Callable[[int], pa.Table], buckets: int) -> None:
        self._plan, self._market, self._table = plan, market, table
        self.buckets = range(buckets)
        self.chosen: dict[int, Slots] = {}
        self._offers: dict[int, Offers] = {}
        self._free, self._lock = KEEP_BYTES, threading.Lock()

    def offers(self, bucket: int) -> Offers:
        kept = self._offers.get(bucket)
        return kept if kept is not None else self._read(bucket)

    def _read(self, bucket: int) -> Offers:
        staged = read_bucket(self._plan, self._market, self._table(bucket))
        offers = staged.offers()
        self.chosen.setdefault(bucket, staged.slot_U.copy())  # a view would keep all of the staged rows
        size = sum(getattr(offers, name).nbytes for name in Offers.__dataclass_fields__)
        with self._lock:
            if size <= self._free and bucket not in self._offers:
                self._free -= size
                self._offers[bucket] = offers.copy()
        return offers

    def keep(self, bucket: int, slot_U: Slots) -> None:
        self.chosen[bucket] = slot_U

    def slots(self, bucket: int) -> Slots:
        """What was kept; before that, the slots as if nothing were short."""
        if bucket not in self.chosen:
            self._read(bucket)
        return self.chosen[bucket]
