"""Work handed to a pool that loses some of it; no Ray."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from executors import Noted
from sto_engine.errors import BadData, TryLater, Unavailable
from sto_engine.tries import Lost, Tries, Try, own_error, short
from sto_engine.worker import Done, Home, attempt


class Shaky:
    """A pool of two that squares what it is told, and loses bucket b as often as `loses[b]` says."""

    workers = 2

    def __init__(self, loses: dict[int, int]) -> None:
        self.loses, self.given, self.most, self.dropped = dict(loses), list[int](), 0, list[Any]()

    def give(self, one: Try) -> int:
        self.given.append(one.arguments[0])
        return len(self.given)

    def ended(self, waiting: dict[Any, Try]) -> list[tuple[Any, Done | Lost]]:
        self.most = max(self.most, len(waiting))
        ref = max(waiting)  # the latest first: no order is promised
        bucket = waiting[ref].arguments[0]
        if self.loses.get(bucket, 0):
            self.loses[bucket] -= 1
            return [(ref, Lost("its machine burnt"))]
        if bucket == 66:
            return [(ref, Done("n1", error=BadData("no rows; expected some")))]
        if bucket == 70:
            return [(ref, Done("n1", error=KeyError("x"), trace="where it was\n"))]
        return [(ref, Done("n1", bucket**2, warnings=("slow path",)))]

    def drop(self, waiting: dict[Any, Try]) -> None:
        self.dropped = list(waiting)


def tries(buckets: range) -> Iterator[Try]:
    return (Try(bucket, (bucket,)) for bucket in buckets)


def test_what_is_lost_is_given_again_and_told() -> None:
    pool, told = Shaky({3: 2, 5: 1}), Noted()
    hands = Tries(2, told)
    assert {one.bucket: value for one, value in hands.run(pool, tries(range(8)))} == {b: b * b for b in range(8)}
    assert hands.retries == 3
    assert sorted(pool.given) == sorted([*range(8), 3, 3, 5])
    assert pool.most <= 2 * pool.workers
    assert sum("burnt" in line for line in told.lines) == 3
    assert sum("slow path" in line for line in told.lines) == 1


def test_what_is_lost_too_often_ends_the_run_and_the_rest_is_dropped() -> None:
    pool = Shaky({3: 9})
    with pytest.raises(TryLater, match=r"bucket 3 was lost 3 times .* burnt; run the command again"):
        list(Tries(2, Noted()).run(pool, tries(range(8))))
    assert pool.dropped


def test_a_long_silence_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Quiet(Shaky):
        def ended(self, waiting: dict[Any, Try]) -> list[tuple[Any, Done | Lost]]:
            self.most += 1
            return [] if self.most < 5 else super().ended(waiting)

    monkeypatch.setattr("sto_engine.tries.SILENCE_S", -1.0)
    told = Noted()
    assert len(list(Tries(2, told).run(Quiet({}), tries(range(3))))) == 3
    assert "waiting" in told.lines[0]
    assert "'oldest': 'bucket 0'" in told.lines[0]


def test_an_error_of_ours_keeps_its_kind_and_tells_bucket_and_machine() -> None:
    with pytest.raises(BadData, match="bucket 66 on node n1: no rows"):
        list(Tries(2, Noted()).run(Shaky({}), tries(range(66, 67))))


def test_any_other_error_has_its_trace_and_place_beside_it() -> None:
    with pytest.raises(KeyError) as found:
        list(Tries(2, Noted()).run(Shaky({}), tries(range(70, 71))))
    assert "where it was" in found.value.__notes__[0]
    assert "bucket 70 on node n1" in found.value.__notes__[0]


def test_an_error_of_ours_is_found_inside_of_others() -> None:
    inner, outer = RuntimeError("inner"), RuntimeError("outer")
    inner.worker_failures = {1: BadData("rows are bad")}  # type: ignore[attr-defined]
    outer.__cause__ = inner
    found = own_error(outer)
    assert isinstance(found, BadData)
    assert str(found) == "rows are bad"
    assert own_error(RuntimeError("other")) is None
    assert short(RuntimeError("two\n  lines")) == "two lines"
    assert short(RuntimeError()) == "RuntimeError"


def test_a_worker_loads_the_work_of_a_phase_once_and_brings_errors_and_warnings_home(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home, loads = Home.of_this_process(), list[int]()

    def load() -> Any:
        loads.append(1)

        def work(bucket: int) -> int:
            logging.getLogger("sto_kernels").warning("bucket %s", bucket)
            return 1 // bucket

        return work

    done = [attempt("n1", "first", load, home, (bucket,)) for bucket in (1, 0)]
    assert [each.value for each in done] == [1, None]
    assert isinstance(done[1].error, ZeroDivisionError)
    assert "1 // bucket" in done[1].trace
    assert [each.warnings for each in done] == [("bucket 1",), ("bucket 0",)]
    assert len(loads) == 1
    attempt("n1", "second", load, home, (1,))
    assert len(loads) == 2


def test_a_worker_with_other_code_refuses_and_tells_both(tmp_path: Any) -> None:
    other = Home({**Home.of_this_process().code, "polars": "0.1"}, str(tmp_path))
    done = attempt("n1", "other code", lambda: None, other, ())
    assert isinstance(done.error, Unavailable)
    assert "for 0.1; install the same everywhere" in str(done.error)
