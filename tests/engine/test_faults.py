import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sto_engine.config import load_config
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Silent
from support import digest

CHILD = Path(__file__).with_name("kill_child.py")


@pytest.fixture(scope="module")
def whole(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("whole")
    run = run_score(ScoreRequest(store, out), load_config(None), Silent()).run_dir
    assert run is not None
    return digest(run)


def killed(store: Path, out: Path, n: int, when: str) -> int:
    command = [sys.executable, str(CHILD), str(store), str(out), str(n), when]
    return subprocess.run(command, check=False, capture_output=True).returncode


# 4 buckets: renames 1-8 are phase 0, 9 the priors, 10-21 phase A, 22-29 phase B, 30 the load, 31-33 the commit
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("n", [2, 7, 8, 9, 10, 15, 21, 22, 25, 29, 30, 32, 33])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    store: Path, tmp_path: Path, whole: dict[str, str], n: int, when: str
) -> None:
    assert killed(store, tmp_path, n, when) == -signal.SIGKILL
    (run,) = tmp_path.glob("run=*")
    committed = (run / "manifest.json").exists()
    assert committed == (n == 33 and when == "after")
    result = run_score(ScoreRequest(store, tmp_path), load_config(None), Silent())
    assert result.complete_before == committed
    assert digest(run) == whole
    assert not list(run.rglob("*.tmp"))
    assert not (run / "_staging").exists()


def test_the_kill_points_cover_the_whole_run(store: Path, tmp_path: Path) -> None:
    assert killed(store, tmp_path, 34, "before") == 0


def test_finished_buckets_are_not_done_again(store: Path, tmp_path: Path) -> None:
    assert killed(store, tmp_path, 21, "after") == -signal.SIGKILL
    (run,) = tmp_path.glob("run=*")
    staged = {path: path.stat().st_mtime_ns for path in run.glob("_staging/rows/*.arrow")}
    assert killed(store, tmp_path, 5, "before") == -signal.SIGKILL
    assert staged
    assert {path: path.stat().st_mtime_ns for path in staged} == staged


def test_damaged_staging_is_found_by_its_hash_and_done_again(
    store: Path, tmp_path: Path, whole: dict[str, str]
) -> None:
    killed(store, tmp_path, 23, "after")
    (run,) = tmp_path.glob("run=*")
    victim = sorted(run.glob("_staging/rows/*.arrow"))[2]
    victim.write_bytes(bytes(victim.stat().st_size))
    record = next(run.glob("_staging/choose/bucket-0001.json"))
    record.write_text(record.read_text()[:40])
    json_error = pytest.raises(json.JSONDecodeError)
    with json_error:
        json.loads(record.read_text())
    run_score(ScoreRequest(store, tmp_path), load_config(None), Silent())
    assert digest(run) == whole
