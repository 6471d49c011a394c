"""The executor of threads and the one that stands for a cluster keep the same promises."""

from collections import Counter

import pytest

from executors import Travelling
from sto_engine.errors import BadData
from sto_engine.executor import Executor, Threads

EXECUTORS: list[Executor] = [Threads(1), Threads(3), Travelling(), Travelling(seed=1)]


@pytest.mark.parametrize("executor", EXECUTORS, ids=str)
def test_every_bucket_is_done_once_as_far_as_the_caller_sees(executor: Executor) -> None:
    assert sorted(executor.run(lambda bucket: bucket**2, range(11))) == [(b, b * b) for b in range(11)]
    told = list[int]()

    def tell(bucket: int) -> int:
        told.append(bucket)
        return bucket + 1

    assert dict(executor.run(lambda bucket, more: bucket * more, range(3, 14), tell))[13] == 13 * 14
    assert told == list(range(3, 14))
    assert executor.call(lambda: 7) == 7


@pytest.mark.parametrize("executor", EXECUTORS, ids=str)
def test_an_error_keeps_its_type_and_names_its_bucket(executor: Executor) -> None:
    def fail(bucket: int) -> None:
        if bucket == 5:
            raise BadData("no good")

    with pytest.raises(BadData, match=r"^bucket 5: no good$"):
        list(executor.run(fail, range(8)))


SEEN = Counter[int]()


def seen(bucket: int) -> None:
    SEEN[bucket] += 1


def test_the_cluster_of_the_tests_loses_some_work_and_hears_of_some_too_late() -> None:
    SEEN.clear()
    found = [bucket for bucket, _ in Travelling().run(seen, range(9))]
    assert sorted(found) == list(range(9)) != found
    assert {bucket for bucket, n in SEEN.items() if n == 2} == {0, 1, 3, 4, 6, 7}
