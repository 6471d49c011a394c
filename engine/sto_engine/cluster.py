"""Who runs which bucket: one signature, so that a cluster changes nothing but the place.

Bucket functions are pure, so any order and any number of workers give the same bytes. The first error stops the job:
buckets that have not begun are dropped, those under way finish, and the error is raised with its bucket.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TypeVar

from sto_engine.errors import StoError

T = TypeVar("T")


def run_buckets(work: Callable[[int], T], buckets: Sequence[int], threads: int) -> Iterator[tuple[int, T]]:
    """Yield (bucket, work(bucket)) as each is done, in no fixed order; `threads` of them run at a time."""
    pool = ThreadPoolExecutor(max_workers=max(1, threads), thread_name_prefix="bucket")
    futures: dict[Future[T], int] = {pool.submit(work, bucket): bucket for bucket in buckets}
    try:
        for future in as_completed(futures):
            yield futures[future], _result(future, futures[future])
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _result(future: "Future[T]", bucket: int) -> T:
    try:
        return future.result()
    except StoError as error:
        raise type(error)(f"bucket {bucket}: {error}") from error
    except Exception as error:
        error.add_note(f"while working on bucket {bucket}")
        raise
