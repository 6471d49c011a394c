"""Work handed out to workers that may be lost: a few tries ahead of them, what was lost again, errors with their place.

Retries are ours and not Ray's, so that they are counted and told. A try that only seemed lost may still end: it wrote
under names of its own, so nobody sees it.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from sto_engine.errors import StoError, TryLater
from sto_engine.executor import of_bucket
from sto_engine.progress import Progress
from sto_engine.worker import Done

SILENCE_S = 120.0  # without any try that ends, after which that is told
AHEAD = 2  # tries for each worker, so that none waits for the driver


@dataclass
class Try:
    """Work that was given out (`bucket` None: a single task); `place` is the actor that has it."""

    bucket: int | None
    arguments: tuple[Any, ...]
    count: int = 1
    place: Any = None

    @property
    def name(self) -> str:
        return "a task" if self.bucket is None else f"bucket {self.bucket}"


@dataclass(frozen=True)
class Lost:
    """A try that was lost with its worker."""

    why: str


class Pool(Protocol):
    """Who takes work."""

    @property
    def workers(self) -> int: ...

    def give(self, one: Try) -> Any:
        """A reference to the try, which begins when there is a worker for it."""

    def ended(self, waiting: dict[Any, Try]) -> list[tuple[Any, Done | Lost]]:
        """References whose try has ended; waits a while for one."""

    def drop(self, waiting: dict[Any, Try]) -> None:
        """Give up what has not ended."""


@dataclass
class Tries:
    """Hands out work to a pool; `retries` counts over all of it."""

    max_retries: int
    progress: Progress
    retries: int = 0
    _heard: float = 0.0
    _said: set[str] = field(default_factory=set)

    def run(self, pool: Pool, tries: Iterator[Try]) -> Iterator[tuple[Try, Any]]:
        """What each try came to, as they end. Raises its error, with bucket and machine; TryLater (75) for work that
        was lost more than `max_retries` times."""
        waiting: dict[Any, Try] = {}
        self._heard = time.monotonic()
        try:
            for one in tries:
                waiting[pool.give(one)] = one
                while len(waiting) >= AHEAD * pool.workers:
                    yield from self._ended(pool, waiting)
            while waiting:
                yield from self._ended(pool, waiting)
        except BaseException:
            pool.drop(waiting)
            raise

    def _ended(self, pool: Pool, waiting: dict[Any, Try]) -> Iterator[tuple[Try, Any]]:
        ended = pool.ended(waiting)
        if ended:
            self._heard = time.monotonic()
        self._tell_silence(pool, waiting)
        for ref, done in ended:
            one = waiting.pop(ref)
            if isinstance(done, Lost):
                self._count(one, done)
                waiting[pool.give(one)] = one
            else:
                yield one, self._value(done, one)

    def _tell_silence(self, pool: Pool, waiting: dict[Any, Try]) -> None:
        """A cluster without a machine left looks like one that works hard."""
        silent = time.monotonic() - self._heard
        if silent > SILENCE_S:
            self._heard = time.monotonic()
            oldest = next(iter(waiting.values()))
            self.progress.warn(
                "waiting", tries=len(waiting), workers=pool.workers, oldest=oldest.name, silent_s=round(silent)
            )

    def _value(self, done: Done, one: Try) -> Any:
        for line in done.warnings:
            if line not in self._said:
                self._said.add(line)
                self.progress.warn("worker", node=done.node, detail=line)
        if done.error is None:
            return done.value
        if isinstance(done.error, StoError) and one.bucket is not None:
            raise of_bucket(done.error, one.bucket, f" on node {done.node}")
        if not isinstance(done.error, StoError):
            done.error.add_note(f"{done.trace}while working on {one.name} on node {done.node}")
        raise done.error

    def _count(self, one: Try, lost: Lost) -> None:
        if one.count > self.max_retries:
            raise TryLater(
                f"{one.name} was lost {one.count} times with its worker, the last time: {lost.why}; run the command "
                "again to go on where it stopped; cluster.max_retries allows more, and cluster.memory_per_task_mib "
                "keeps memory for each"
            )
        one.count += 1
        self.retries += 1
        self.progress.warn("retried", what=one.name, attempt=one.count, why=lost.why)


def own_error(error: BaseException | None) -> StoError | None:
    """An error of ours among those that Ray wrapped, one in the other or by the worker that failed."""
    while error is not None:
        failures = getattr(error, "worker_failures", None) or {}
        for one in (error, *failures.values()):
            cause = getattr(one, "cause", None) or one
            if isinstance(cause, StoError):
                return type(cause)(str(cause))
        error = error.__cause__
    return None


def short(error: BaseException) -> str:
    """An error on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
