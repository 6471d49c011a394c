"""The book that prices are made from where rows are staged on disk (assign.book.Book), and how far the work is."""

import hashlib
import threading
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from sto_engine.assign.book import Slots
from sto_engine.assign.market import Market
from sto_engine.bucket_work import SlotsFile, staged_rows
from sto_engine.files import writing
from sto_engine.output import manifest as runs
from sto_engine.plan import Plan
from sto_engine.progress import Progress
from sto_engine.settle import read_bucket
from sto_kernels.offers import Offers

KEEP_BYTES = 1 << 29
SLOTS = f"{runs.STAGING}/slots"


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
    """Offers from the staged rows; slots in files of their own, a byte a user, each written once under a new name.

    `files` are the slots of each bucket that has others than staged. Where this process does the work, offers are kept
    in memory as far as they fit; where the book travels, it knows the files and keeps nothing. `is_checked`: the staged
    rows were held to their hashes.
    """

    def __init__(self, plan: Plan, market: Market, run: Path, buckets: int) -> None:
        self._plan, self._market, self._run = plan, market, run
        self.buckets = range(buckets)
        self.files: dict[int, SlotsFile] = {}
        self.is_checked = False
        self._forget(KEEP_BYTES)

    def _forget(self, free: int) -> None:
        self._offers, self._staged = dict[int, Offers](), dict[int, Slots]()
        self._free, self._lock = free, threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        own = ("_offers", "_staged", "_free", "_lock")
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget(0)

    def offers(self, bucket: int) -> Offers:
        kept = self._offers.get(bucket)
        return kept if kept is not None else self._read(bucket)

    def _read(self, bucket: int) -> Offers:
        staged = read_bucket(self._plan, self._market, staged_rows(self._run, bucket, not self.is_checked))
        offers = staged.offers()
        if bucket not in self.files:
            self._staged[bucket] = staged.slot_U.copy()  # a view would keep all of the staged rows
        size = sum(getattr(offers, name).nbytes for name in Offers.__dataclass_fields__)
        with self._lock:
            if size <= self._free and bucket not in self._offers:
                self._free -= size
                self._offers[bucket] = offers.copy()
        return offers

    def slots(self, bucket: int) -> Slots:
        """What was kept; before that, the slots as if nothing were short."""
        if bucket in self.files:
            return np.fromfile(self._run / self.files[bucket].name, np.uint8)
        if bucket not in self._staged:
            self._read(bucket)
        return self._staged[bucket]

    def keep(self, bucket: int, slot_U: Slots) -> SlotsFile:
        body, name = slot_U.tobytes(), f"{SLOTS}/bucket-{bucket:04d}.{uuid.uuid4().hex}.u8"
        with writing(self._run / name):
            (self._run / name).write_bytes(body)
        return SlotsFile(name, hashlib.sha256(body).hexdigest())

    def took(self, bucket: int, kept: SlotsFile) -> None:
        was = self.files.get(bucket)
        self.files[bucket] = kept
        self._staged.pop(bucket, None)
        if was is not None:
            (self._run / was.name).unlink(missing_ok=True)
