"""Who runs which bucket: one signature, so that a cluster changes nothing but the place (`cluster` has the other one).

Bucket functions are pure, so any order and any number of workers give the same bytes. The first error stops the job:
buckets that have not begun are dropped, those under way finish, and the error is raised with its bucket.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from sto_engine.errors import StoError

T = TypeVar("T")
Told = Callable[[int], Any]
Place = Literal["cpu", "gpu"]


@dataclass(frozen=True)
class Member:
    """One of `world` processes that train a model together; `checkpoint` is the folder of the last report, if any.

    `report` is called by every rank as often as by the others; what rank 0 hands over is kept, the folder of others
    is not asked for.
    """

    rank: int
    world: int
    checkpoint: Path | None
    report: Callable[[Path | None], None]


class Group(Protocol):
    """Runs one function on several machines at once, as training across a cluster needs."""

    @property
    def on_gpu(self) -> bool: ...

    @property
    def world(self) -> int: ...

    def run(self, loop: Callable[[Member], None], folder: Path) -> None:
        """Run `loop` as every rank until all return; a lost rank restarts all of them, from the last checkpoint.

        Checkpoints lie under `folder`, which all machines see, and are gone afterwards.
        """


class Executor(Protocol):
    """Runs a function of a bucket for many buckets, `workers` at a time."""

    @property
    def workers(self) -> int: ...

    @property
    def in_process(self) -> bool:
        """Whether work sees the memory of this process; elsewhere work and results are pickled."""

    @property
    def on_gpu(self) -> bool:
        """Whether there are GPUs for work that prefers one."""

    @property
    def group(self) -> Group | None:
        """Who trains across machines; None where this process does."""

    def run(
        self, work: Callable[..., T], buckets: Iterable[int], told: Told | None = None, on: Place = "cpu"
    ) -> Iterator[tuple[int, T]]:
        """Yield (bucket, work(bucket)) as each is done, in no fixed order; with `told`, work(bucket, told(bucket)).

        `buckets` are asked for, and `told` is called, here and in their order, a few ahead of the workers. Work that
        is lost with its machine is done again elsewhere. `on` "gpu" prefers workers that have one.
        """

    def call(self, work: Callable[[], T]) -> T:
        """`work()` by one worker."""


@dataclass(frozen=True)
class Threads:
    """Threads of this process."""

    workers: int
    in_process: bool = True
    on_gpu: bool = False
    group: Group | None = None

    def run(
        self, work: Callable[..., T], buckets: Iterable[int], told: Told | None = None, on: Place = "cpu"
    ) -> Iterator[tuple[int, T]]:
        workers, waiting = max(1, self.workers), dict[Future[T], int]()
        pool = ThreadPoolExecutor(workers, thread_name_prefix="bucket")
        try:
            for bucket in buckets:
                extra = () if told is None else (told(bucket),)
                waiting[pool.submit(work, bucket, *extra)] = bucket
                if len(waiting) > 2 * workers:
                    yield from _ended(waiting)
            while waiting:
                yield from _ended(waiting)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def call(self, work: Callable[[], T]) -> T:
        return work()


def _ended(waiting: dict[Future[T], int]) -> Iterator[tuple[int, T]]:
    """What has ended, in the order in which it began; waits for the first."""
    wait(waiting, return_when=FIRST_COMPLETED)
    for future in [future for future in waiting if future.done()]:
        bucket = waiting.pop(future)
        try:
            result = future.result()
        except StoError as error:
            raise of_bucket(error, bucket) from error
        except Exception as error:
            error.add_note(f"while working on bucket {bucket}")
            raise
        yield bucket, result


def of_bucket(error: StoError, bucket: int, where: str = "") -> StoError:
    """The same error, with the bucket (and the machine) that it comes from."""
    return type(error)(f"bucket {bucket}{where}: {error}")
