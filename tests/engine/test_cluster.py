"""The executor of a Ray cluster: machines that die, errors with their place, work that travels once."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from chores import Chores
from clusters import Nodes, losing, start
from executors import Noted
from sto_engine import cluster as module
from sto_engine.errors import BadData, TryLater, Unavailable

pytestmark = pytest.mark.ray
SQUARES = {bucket: bucket**2 for bucket in range(12)}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    found = start({}, {})
    yield found
    found.cluster.shutdown()


def test_work_that_is_lost_with_its_machine_is_done_elsewhere(
    nodes: Nodes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told = Noted()
    with nodes.executor(nodes.config(hold="chores:Chores.square", folder=tmp_path), told) as ray:
        assert (ray.workers, ray.in_process, ray.on_gpu) == (2, False, False)
        with losing(nodes, tmp_path):
            found = list(ray.run(Chores(tmp_path).square, SQUARES))
        assert sorted(found) == list(SQUARES.items())
        assert ray.tries.retries >= 1
    again = [line for line in told.lines if line.startswith("retried")]
    assert len(again) == ray.tries.retries
    assert "NodeDiedError" in again[0]
    assert "'attempt': 2" in again[0]
    assert capfd.readouterr().out == ""


def test_what_workers_hand_back(nodes: Nodes, tmp_path: Path) -> None:
    chores = Chores(tmp_path)

    def die(bucket: int) -> int:
        if bucket == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return bucket

    def fail(bucket: int) -> None:
        if bucket == 5:
            raise BadData("no good")

    def fall(bucket: int) -> None:
        raise KeyError(bucket)

    with nodes.executor(nodes.config("cluster.max_retries=1")) as ray:
        with pytest.raises(TryLater, match=r"^bucket 5 was lost 2 times .*; run the command again") as lost:
            list(ray.run(die, range(8)))
        assert (lost.value.exit_code, ray.tries.retries) == (75, 1)
        with pytest.raises(BadData, match=r"^bucket 5 on node [\d.]+ \([0-9a-f]{8}\): no good$"):
            list(ray.run(fail, range(8)))
        with pytest.raises(KeyError) as defect:
            list(ray.run(fall, [7]))
        assert "while working on bucket 7 on node" in defect.value.__notes__[0]
        assert "in fall" in defect.value.__notes__[0]
        told = list[int]()
        found = dict(ray.run(chores.multiply, range(12), lambda bucket: told.append(bucket) or bucket + 1))
        assert found == {bucket: bucket * (bucket + 1) for bucket in range(12)}
        assert told == list(range(12))
        assert ray.call(lambda: 7) == 7
        travelled = Counter((tmp_path / "travelled").read_text().split())
        assert set(travelled.values()) == {1}
        assert len(travelled) <= 2


def test_workers_that_run_other_code_are_refused(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    other = module.Home({**module.Home.of_this_process().code, "numpy": "0.1"}, os.getcwd())
    with nodes.executor(nodes.config()) as ray:
        monkeypatch.setattr(module.Home, "of_this_process", lambda: other)
        with pytest.raises(Unavailable, match=r"^bucket 0 on node .* found numpy [\d.]+ for 0\.1"):
            list(ray.run(lambda bucket: bucket, range(1)))


def test_a_first_error_does_not_wait_for_what_has_not_begun(nodes: Nodes) -> None:
    def slow(bucket: int) -> None:
        if bucket == 0:
            raise BadData("no good")
        time.sleep(1.5)

    with nodes.executor(nodes.config()) as ray:
        list(ray.run(lambda bucket: bucket, range(2)))
        began = time.monotonic()
        with pytest.raises(BadData):
            list(ray.run(slow, range(100)))
        assert time.monotonic() - began < 15
