"""Nights on a Ray cluster whose first tries end too late, or whose driver is killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clusters import Nodes, night, wait_held
from sto_engine import cluster as module
from sto_engine.config import load_config
from sto_engine.tries import Lost
from support import digest, files_of

pytestmark = [pytest.mark.ray, pytest.mark.long]
WORK = "sto_engine.bucket_work:BucketWork"


@pytest.fixture(scope="module")
def expected(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return digest(night(store, tmp_path_factory.mktemp("here"), load_config()))


@pytest.mark.parametrize("after", ["", "1"], ids=["before its work", "after its work"])
@pytest.mark.parametrize("at_once", [True, False], ids=["during the run", "after the commit"])
@pytest.mark.parametrize("phase", ["stage", "place"])
def test_a_first_try_that_ends_after_the_second_was_taken_changes_nothing(
    nodes: Nodes,
    store: Path,
    tmp_path: Path,
    expected: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    phase: str,
    at_once: bool,
    after: str,
) -> None:
    believed, late = module._Tasks.ended, list[Any]()

    def ended(pool: Any, waiting: dict[Any, Any]) -> Any:
        if late or len(waiting) > 1 or not (tmp_path / "held").exists():
            return believed(pool, waiting)
        late.extend(waiting)  # the one that is held, as all others have ended
        if at_once:
            (tmp_path / "released").touch()
        return [(late[0], Lost("it only seems so"))]

    monkeypatch.setattr(module._Tasks, "ended", ended)
    config = nodes.config(hold=f"{WORK}.{phase}", folder=tmp_path, HOLD_AFTER=after)
    with nodes.executor(config) as ray:
        run = night(store, tmp_path / "there", config, ray)
        committed = files_of(run)
        (tmp_path / "released").touch()
        assert ray.ray.wait(late, timeout=60)[0] == late
        assert ray.tries.retries == 1
    assert digest(run) == expected
    assert files_of(run) == committed
    assert not (run / "_staging").exists()


@pytest.mark.parametrize("phase", ["sums", "stage", "place"])
def test_a_driver_that_is_killed_goes_on_with_the_same_bytes(
    nodes: Nodes, store: Path, tmp_path: Path, expected: dict[str, str], phase: str
) -> None:
    out, hold = tmp_path / "out", {"HOLD_AFTER": "1", "HOLD_CALL": "3"}
    config = nodes.config(hold=f"{WORK}.{phase}", folder=tmp_path, **hold)
    env = ", ".join(f"{name} = {json.dumps(value)}" for name, value in config.cluster.runtime_env["env_vars"].items())
    asked = f'cluster.runtime_env={{worker_process_setup_hook = "held.hook", env_vars = {{{env}}}}}'
    command = [sys.executable, "-m", "sto_engine.cli", "score", "--store", str(store), "--out", str(out)]
    path = {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    process = subprocess.Popen(
        [*command, "--cluster", nodes.address, "--set", asked, "--log-json"],
        env={**os.environ, **path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert wait_held(tmp_path) is not None
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    with nodes.executor(nodes.config()) as ray:
        run = night(store, out, nodes.config(), ray)
    assert digest(run) == expected
    assert not (run / "_staging").exists()
    assert [path.name for path in out.iterdir()] == [run.name]
