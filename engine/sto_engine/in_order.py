"""Results of buckets in the order of the buckets, whoever is late."""

import pickle
from collections.abc import Iterator, Sequence
from tempfile import TemporaryFile
from typing import Any, TypeVar

T = TypeVar("T")
AHEAD = 64


def in_order(found: Iterator[tuple[int, T]], buckets: Sequence[int], ahead: int = AHEAD) -> Iterator[T]:
    """Results in the order of `buckets`.

    At most `ahead` wait for their turn in memory, the others in a file without a name: where the buckets of a lost
    machine are done again, all others go on meanwhile.
    """
    waiting, aside = dict[int, T](), _Aside()
    try:
        for bucket in buckets:
            while bucket not in waiting and bucket not in aside.place:
                done, result = next(found)
                if len(waiting) < ahead or done == bucket:
                    waiting[done] = result
                else:
                    aside.put(done, result)
            yield waiting.pop(bucket) if bucket in waiting else aside.get(bucket)
        for _ in found:  # let it end
            raise AssertionError("more results than buckets")
    finally:
        aside.file.close()


class _Aside:
    """Results in a file that only this process can see."""

    def __init__(self) -> None:
        self.file, self.place = TemporaryFile(), dict[int, tuple[int, int]]()  # noqa: SIM115

    def put(self, bucket: int, result: Any) -> None:
        begin = self.file.seek(0, 2)
        size = self.file.write(pickle.dumps(result, pickle.HIGHEST_PROTOCOL))
        self.place[bucket] = (begin, size)

    def get(self, bucket: int) -> Any:
        begin, size = self.place.pop(bucket)
        self.file.seek(begin)
        return pickle.loads(self.file.read(size))
