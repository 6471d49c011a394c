"""An executor that does to work what a cluster does, within this process: everything travels, and work is lost."""

import pickle
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import cloudpickle

from sto_engine.errors import StoError
from sto_engine.executor import Group, Place, Told, of_bucket
from sto_engine.progress import Silent

T = TypeVar("T")


@dataclass
class Noted(Silent):
    """Progress that keeps what it was told."""

    lines: list[str] = field(default_factory=list)

    def info(self, event: str, **fields: object) -> None:
        self.lines.append(f"{event} {fields}")

    def warn(self, event: str, **fields: object) -> None:
        self.lines.append(f"{event} {fields}")


@dataclass(frozen=True)
class Travelling:
    """Work is pickled once a call of `run`, what it is told and what it returns for each bucket.

    Buckets run in shuffled order, four at a time. One in three runs twice and its first result is lost; of one in
    three more the first attempt goes on after the second was taken, and ends, or fails, when nobody waits for it.
    """

    seed: int = 0
    workers: int = 2
    in_process: bool = False
    on_gpu: bool = False
    group: Group | None = None

    def run(
        self, work: Callable[..., T], buckets: Iterable[int], told: Told | None = None, on: Place = "cpu"
    ) -> Iterator[tuple[int, T]]:
        body, waiting, chance = cloudpickle.dumps(work), iter(buckets), random.Random(self.seed)
        while some := [(b, pickle.dumps(() if told is None else (told(b),))) for b in islice(waiting, 4)]:
            chance.shuffle(some)
            for bucket, arguments in some:
                fate = (bucket + self.seed) % 3
                if fate == 0:
                    _done(body, bucket, arguments)
                yield bucket, _done(body, bucket, arguments)
                if fate == 1:
                    with suppress(Exception):
                        _done(body, bucket, arguments)

    def call(self, work: Callable[[], T]) -> T:
        body = cloudpickle.dumps(work)
        pickle.loads(body)()
        return _travelled(pickle.loads(body)())


def _done(body: bytes, bucket: int, arguments: bytes) -> Any:
    try:
        return _travelled(pickle.loads(body)(bucket, *pickle.loads(arguments)))
    except StoError as error:
        raise of_bucket(error, bucket) from error


def _travelled(result: Any) -> Any:
    return pickle.loads(cloudpickle.dumps(result))
