"""Attempts write under names of their own; only what is adopted has the names that are read."""

import hashlib
from collections.abc import Iterator
from itertools import chain, permutations
from pathlib import Path

import numpy as np
import pytest

from sto_engine.errors import CannotCreate, OutputFailed
from sto_engine.in_order import in_order
from sto_engine.output import manifest as runs

NAME = "suppressed/part-0003.parquet"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    runs.begin(tmp_path)
    return tmp_path


def tried(run: Path, body: bytes) -> runs.Record:
    with runs.attempt(run) as made:
        made.path(NAME).write_bytes(body)
        made.files[NAME] = hashlib.sha256(body).hexdigest()
        return made.record(rows=len(body))


def test_a_late_attempt_overwrites_nothing(run: Path) -> None:
    first, second = tried(run, b"first"), tried(run, b"second")
    assert not (run / NAME).exists()
    assert runs.adopt(run, second) == {"rows": 6, "files": second["files"]}
    third = tried(run, b"late")
    assert (run / NAME).read_bytes() == b"second"
    orphans = {path.name for path in (run / runs.ATTEMPTS).iterdir()}
    assert orphans == {first["attempt"], third["attempt"]}
    runs.begin(run)
    assert not list((run / runs.ATTEMPTS).iterdir())
    runs.clean_up(run)
    with pytest.raises(CannotCreate):
        tried(run, b"too late")
    assert sorted(path.name for path in run.rglob("*")) == ["part-0003.parquet", "suppressed"]


def test_an_attempt_that_fails_leaves_nothing(run: Path) -> None:
    def fail() -> None:
        with runs.attempt(run) as made:
            made.path(NAME).write_bytes(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not list((run / runs.ATTEMPTS).iterdir())


def test_a_folder_that_a_machine_does_not_see_is_told(run: Path) -> None:
    with pytest.raises(CannotCreate, match="every machine must see under this path"), runs.attempt(run / "elsewhere"):
        pass
    record = tried(run, b"x")
    runs.begin(run)
    with pytest.raises(OutputFailed, match="that every machine sees"):
        runs.adopt(run, record)


def test_a_record_without_files_is_taken_as_it_is(run: Path) -> None:
    assert runs.adopt(run, {"census": 7}) == {"census": 7}


@pytest.mark.parametrize("ahead", [0, 1, 2, 9])
def test_results_come_in_the_order_of_their_buckets_however_few_wait_in_memory(ahead: int) -> None:
    for order in permutations((2, 3, 5, 8)):
        found = ((bucket, np.full(3, bucket)) for bucket in order)
        assert [row.tolist() for row in in_order(found, (2, 3, 5, 8), ahead)] == [[b] * 3 for b in (2, 3, 5, 8)]


def test_an_error_comes_when_it_happens() -> None:
    def failing() -> Iterator[tuple[int, int]]:
        yield 1, 1
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        list(in_order(chain(failing()), (0, 1, 2)))
