"""The executor of a Ray cluster: machines that die, errors with their place, work that travels once, who gets in."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from chores import Chores
from clusters import Nodes, losing, night
from executors import Noted
from sto_engine import cluster as module
from sto_engine.cluster import open_executor
from sto_engine.config import Cluster, load_config
from sto_engine.errors import BadData, TryLater, Unavailable
from sto_engine.progress import Silent
from support import assert_whole, digest

pytestmark = pytest.mark.ray
CHILD = """
import signal, sys
from sto_engine.cluster import open_executor
from sto_engine.config import Cluster, load_config
from sto_engine.errors import StoError
from sto_engine.progress import Silent
from support import assert_whole, digest
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
try:
    with open_executor(Cluster(address=sys.argv[1]), 1, Silent()) as executor:
        print(executor.call(lambda: 7), file=sys.__stdout__, flush=True)
        signal.raise_signal(signal.SIGTERM)
except StoError as error:
    print(error)
    sys.exit(error.exit_code)
"""
SQUARES = {bucket: bucket**2 for bucket in range(12)}


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


def test_a_machine_that_dies_in_phase_a_changes_no_byte(nodes: Nodes, store: Path, tmp_path: Path) -> None:
    config = nodes.config(hold="sto_engine.bucket_work:BucketWork.stage", folder=tmp_path, HOLD_AFTER="1")
    with nodes.executor(config) as ray:
        with losing(nodes, tmp_path):
            run = night(store, tmp_path / "there", config, ray)
        assert ray.tries.retries >= 1
    assert digest(run) == digest(night(store, tmp_path / "here", load_config()))
    assert_whole(run)


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


def child(address: str, home: Path, **env: str) -> tuple[int, str]:
    """Exit code of a process that works on the cluster and is then terminated, and what it printed."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    known |= {"HOME": str(home), "PYTHONPATH": os.pathsep.join(part for part in sys.path if part), **env}
    done = subprocess.run([sys.executable, "-c", CHILD, address], env=known, capture_output=True, text=True)
    return done.returncode, done.stdout


def test_the_token_opens_the_cluster_and_sigterm_ends_a_command_its_own_way(nodes: Nodes, tmp_path: Path) -> None:
    assert child(nodes.address, tmp_path, RAY_AUTH_TOKEN=os.environ["RAY_AUTH_TOKEN"]) == (143, "7\n")


@pytest.mark.parametrize("env", [{}, {"RAY_AUTH_TOKEN": "17" * 32}, {"RAY_AUTH_MODE": "disabled"}])
def test_without_the_token_nothing_runs(nodes: Nodes, tmp_path: Path, env: dict[str, str]) -> None:
    began = time.monotonic()
    code, text = child(nodes.address, tmp_path, **env)
    assert code == 69
    assert "RAY_AUTH_TOKEN" in text
    assert nodes.address in text
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("address", ["127.0.0.1:9", "no-such-host.invalid:6379", "127.0.0.1:99999"])
def test_an_address_without_a_cluster_is_told_at_once(address: str) -> None:
    began = time.monotonic()
    with (
        pytest.raises(Unavailable, match=f'--cluster "{address}": no Ray to work on'),
        open_executor(Cluster(address=address), 1, Silent()),
    ):
        pass
    assert time.monotonic() - began < 15


def test_without_a_cluster_there_is_no_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", MagicMock(return_value=set()))
    monkeypatch.setattr("ray._private.services.find_bootstrap_address", lambda _: None)
    with (
        pytest.raises(Unavailable, match=r'--cluster "auto": no Ray .* check the address'),
        open_executor(Cluster(address="auto"), 1, Silent()),
    ):
        pass


@pytest.mark.long
def test_a_port_of_something_else_is_told_within_a_minute() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        began, port = time.monotonic(), server.getsockname()[1]
        with (
            pytest.raises(Unavailable, match="no Ray to work on"),
            open_executor(Cluster(address=f"127.0.0.1:{port}"), 1, Silent()),
        ):
            pass
    assert time.monotonic() - began < 75
