"""Our own path from a compacted store to tensors, as the nightly job walks it: bucket by bucket, block by block.

    read     store files -> frame of the bucket, every page checksum verified
    users    who they are, and their zones
    journal  frame -> arrays
    clean    sends, acts, flags, zone shifts
    count    tensors of 8,192 users at a time

What is counted is consumed at once (here: summed), as the model does, and never written. The stages are CPU seconds of
the threads, which together are what the whole needs of a core.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sto_engine.config import load_config
from sto_engine.history.bucket import COLUMNS, Bucket, build_journal
from sto_engine.history.rates import look_up
from sto_engine.history.users import build_users, seen_users
from sto_engine.ingest.store import Store
from sto_engine.models.counts import Weights, bucket_counts
from sto_engine.models.features import BLOCK_USERS
from sto_engine.tables import hash_ids
from sto_kernels.journal import Counts
from sto_pipeline import answers
from sto_pipeline.events import DECAY_24, ORIGIN_MS, START_MS, campaign_weights


class Ours:
    """The walks over every bucket of a store; `keep` keeps the tensors, for the gate."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.config = load_config(None, [])
        weights = campaign_weights()
        key_G = hash_ids(weights["campaign_id"])
        order = np.argsort(key_G)
        self.key_G = key_G[order]
        self.rate2_G, self.rate24_G = (weights[name].to_numpy()[order] for name in ("rho2", "rho24"))
        self.kept: list[tuple[NDArray[np.uint64], Counts]] = []

    def run(self, store: Path, keep: bool = False) -> tuple[dict[str, float], dict[str, float]]:
        """Totals of the tensors, and CPU seconds of each stage."""
        opened, totals, stages = Store.open(store), dict[str, float](), dict[str, float]()
        with ThreadPoolExecutor(self.threads) as pool:
            for part, seconds in pool.map(lambda b: self._bucket(opened, b, keep), range(opened.buckets)):
                for into, found in ((totals, part), (stages, seconds)):
                    for name, value in found.items():
                        into[name] = into.get(name, 0.0) + value
        return totals, stages

    def dense(self) -> answers.Dense:
        return answers.of_counts(self.kept)

    def _bucket(self, store: Store, bucket: int, keep: bool) -> tuple[dict[str, float], dict[str, float]]:
        clock, totals = _Clock(), dict[str, float]()
        with clock.stage("read"):
            columns = ("user_id", "recipient_domain", *COLUMNS)
            events = store.read_events(bucket, before_ms=ORIGIN_MS, from_ms=START_MS, columns=columns)
        with clock.stage("users"):
            users = build_users(seen_users(events), None, events, self.config, ORIGIN_MS)
        with clock.stage("journal"):
            journal = build_journal(events, users, self.config)
        del events
        with clock.stage("clean"):
            known = journal.at(START_MS, ORIGIN_MS)
        with clock.stage("count"):
            for first in range(0, len(users), BLOCK_USERS):
                block = known.of(slice(first, first + BLOCK_USERS))
                counts = self._count(block)
                answers.totals_of_counts(counts, totals)
                if keep:
                    self.kept.append((block.users["user_id"].to_numpy(), counts))
        return totals, clock.seconds

    def _count(self, block: Bucket) -> Counts:
        key_C = block.campaign_key_C
        rate2_C, rate24_C = (look_up(key_C, self.key_G, rate_G) for rate_G in (self.rate2_G, self.rate24_G))
        weights = Weights(rate2_C, rate24_C, DECAY_24[None], np.ones(1))
        return bucket_counts(block.cleaned, len(block.users), weights, (START_MS, ORIGIN_MS), True, None)


class _Clock:
    """CPU seconds of this thread, by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.thread_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.thread_time() - began


def twins(store: Path) -> tuple[answers.Dense, NDArray[np.uint64]]:
    """The same by the plain twins, one event at a time, and the ids of the users ascending: the truth of the gate."""
    from sto_kernels import naive_counts, naive_history
    from sto_kernels.count_walk import unopened_kernel

    ours, opened, parts = Ours(1), Store.open(store), list[tuple[NDArray[np.uint64], Counts]]()
    for bucket in range(opened.buckets):
        events = opened.read_events(bucket, before_ms=ORIGIN_MS, from_ms=START_MS)
        users = build_users(seen_users(events), None, events, ours.config, ORIGIN_MS)
        journal = build_journal(events, users, ours.config)
        cleaned = naive_history.clean(journal.events, journal.zones, START_MS, ORIGIN_MS)
        key_C = journal.campaign_key_C
        rate2_C, rate24_C = (look_up(key_C, ours.key_G, rate_G) for rate_G in (ours.rate2_G, ours.rate24_G))
        kernel = unopened_kernel(DECAY_24)
        counts = naive_counts.count(cleaned, len(users), rate2_C, rate24_C, DECAY_24, kernel, ORIGIN_MS)
        parts.append((users["user_id"].to_numpy(), counts))
    return answers.of_counts(parts), np.sort(np.concatenate([ids for ids, _ in parts]))
