"""A training group on this machine, whose ranks are processes that die when they are told to."""

import multiprocessing
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from multiprocessing import connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import cloudpickle

from sto_engine.executor import Member


@dataclass(frozen=True)
class Processes:
    """A Group of fresh processes on this machine, with XGBoost's collective among them.

    The last rank dies at each of the reports that `dies_at` numbers, over all attempts; then all begin anew, from the
    last report where the group `resumes`. Reports stay under the folder of the group as report-1, report-2 ...
    """

    world: int = 1
    resumes: bool = False
    dies_at: tuple[int, ...] = ()
    on_gpu: bool = False

    def run(self, loop: Callable[[Member], None], folder: Path) -> None:
        folder.mkdir(parents=True)
        for attempt in range(len(self.dies_at) + 1):
            if self._attempt(loop, folder, attempt):
                return
        raise AssertionError("a rank failed that was not to die")

    def _attempt(self, loop: Callable[[Member], None], folder: Path, attempt: int) -> bool:
        """Whether all ranks came to their end."""
        with _tracker(self.world) as collective:
            ranks = [self._start(loop, folder, attempt, rank, collective) for rank in range(self.world)]
            while any(rank.exitcode is None for rank in ranks) and not any(rank.exitcode for rank in ranks):
                connection.wait([rank.sentinel for rank in ranks if rank.exitcode is None])
            for rank in ranks:
                rank.kill()
                rank.join()
        codes = [rank.exitcode for rank in ranks]
        assert DIED in codes or not any(codes), f"a rank failed on its own account: {codes}"
        return not any(codes)

    def _start(
        self, loop: Callable[[Member], None], folder: Path, attempt: int, rank: int, collective: dict[str, Any]
    ) -> ForkServerProcess:
        death = self.dies_at[attempt] if attempt < len(self.dies_at) and rank == self.world - 1 else 0
        task = {**collective, "dmlc_task_id": str(rank)} if collective else {}
        body = cloudpickle.dumps(partial(_be_rank, self, loop, folder, rank, death, task))
        # forked from a process that has done nothing but import, which takes seconds
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["xgboost", "sto_engine.train.forests"])
        process = context.Process(target=_run, args=(body,))
        process.start()
        return process


def _run(body: bytes) -> None:
    pickle.loads(body)()


DIED = 77


@contextmanager
def _tracker(world: int) -> Iterator[dict[str, Any]]:
    if world == 1:
        yield {}
        return
    from xgboost.tracker import RabitTracker

    tracker = RabitTracker(n_workers=world, host_ip="127.0.0.1", sortby="task")
    tracker.start()
    yield tracker.worker_args()


def _be_rank(
    group: Processes, loop: Callable[[Member], None], folder: Path, rank: int, death: int, task: dict[str, Any]
) -> None:
    """One process: report copies the folder of rank 0, then perhaps dies."""
    done = sorted(folder.glob("report-*"), key=lambda path: int(path.name[7:]))
    reports = count(len(done) + 1)
    own = count(1)

    def report(checkpoint: Path | None) -> None:
        assert (checkpoint is not None) == (rank == 0)
        if checkpoint is not None:
            shutil.copytree(checkpoint, folder / f"report-{next(reports)}")
        if next(own) == death:
            os._exit(DIED)

    member = Member(rank, group.world, done[-1] if done and group.resumes else None, report)
    if task:
        from xgboost.collective import CommunicatorContext

        with CommunicatorContext(**task):
            loop(member)
    else:
        loop(member)
