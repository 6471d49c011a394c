"""Work on a stream in threads: results come in the order of the items, and what is under way is bounded in bytes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import TypeVar

import polars as pl

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD_BYTES = 40 << 20


class Workers:
    """`threads` threads, or the calling one where that is one; results and errors are the same for any number."""

    def __init__(self, threads: int) -> None:
        self.threads = max(1, threads)
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="ingest") if self.threads > 1 else None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def each(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """`work` of every item, in order; the first error is raised when all that began have ended."""
        return list(self.in_order(work, items, lambda _: 0))

    def in_order(
        self,
        work: Callable[[Item], Result],
        items: Iterable[Item],
        weigh: Callable[[Item], int],
        limit: int = AHEAD_BYTES,
    ) -> Iterator[Result]:
        """`work` of each item, in the order of `items`; at most `limit` bytes by `weigh` are under way.

        An item heavier than the limit is worked on alone. Of several errors the one that comes first in the order of
        the items is raised, whether `items` or `work` made it.
        """
        if self._pool is None:
            yield from map(work, items)
            return
        waiting: deque[tuple[Future[Result], int]] = deque()
        held, errors = 0, list[Exception]()
        try:
            for item in _until_error(items, errors):
                size = weigh(item)
                while waiting and (len(waiting) > self.threads + 1 or held + size > limit):
                    future, less = waiting.popleft()
                    held -= less
                    yield future.result()
                waiting.append((self._pool.submit(work, item), size))
                held += size
                del item
            while waiting:
                yield waiting.popleft()[0].result()
        finally:
            wait([future for future, _ in waiting if not future.cancel()])
        if errors:
            raise errors[0]


def _until_error(items: Iterable[Item], errors: list[Exception]) -> Iterator[Item]:
    """The items up to the first error, which is kept: the results of those before it come first."""
    try:
        yield from items
    except Exception as error:
        errors.append(error)


def gather(frames: Iterable[pl.DataFrame], rows: int, limit: int) -> Iterator[pl.DataFrame]:
    """The same rows in fewer frames: each of at least `rows` rows or `limit` bytes, but the last."""
    held: list[pl.DataFrame] = []
    count, size = 0, 0  # kept up to date: many small files make many small frames
    for frame in frames:
        if len(frame):
            held.append(frame)
            count, size = count + len(frame), size + int(frame.estimated_size())
        if count >= rows or size >= limit:
            yield pl.concat(held, rechunk=True)
            held, count, size = [], 0, 0
    if held:
        yield pl.concat(held, rechunk=True)
