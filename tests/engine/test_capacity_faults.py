"""A night under limits that is killed, or whose half-done work is damaged, ends with the bytes of a quiet one."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nights import Sender, make_sender, people, run_folder
from sto_engine import rounds
from sto_engine.config import load_config
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Silent
from support import digest, table

CHILD = Path(__file__).with_name("kill_child.py")
# too little for everyone: some are left out, so that suppressed rows are written late
KEYS = (
    'capacity.total="20/h"',
    'capacity.providers={gmail="8/h"}',
    "capacity.on_infeasible=defer",
    "experiment.random_share=0.1",
    'window.start="08:00"',
    'window.end="20:00"',
)
# 4 buckets: renames 1-9 are phase 0, 10-13 the demand, 14-25 phase A, 26 plan.json, 27-30 counts of the final slots,
# 31-42 phase B (assignments, suppressed and record of each), 43 load.csv, 44-46 the commit
LAST, PLANNED, PLACED = 46, 26, 36


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Sender:
    return make_sender(tmp_path_factory.mktemp("sender"), people(300, 5))


@pytest.fixture(scope="module")
def whole(sender: Sender, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    run = run_folder(sender, tmp_path_factory.mktemp("whole"), *KEYS, day=None)
    assert "deferred" in table(run, "suppressed")["reason"].to_list()
    return digest(run)


def killed(sender: Sender, out: Path, n: int, when: str) -> int:
    command = [sys.executable, str(CHILD), str(sender.store), str(out), str(n), when, *KEYS]
    return subprocess.run(command, check=False, capture_output=True).returncode


def resumed(sender: Sender, out: Path, threads: int = 2) -> Path:
    run = run_score(ScoreRequest(sender.store, out, threads=threads), load_config(None, KEYS), Silent()).run_dir
    assert run is not None
    return run


def check_killed(sender: Sender, out: Path, whole: dict[str, str], n: int, when: str) -> None:
    assert killed(sender, out, n, when) == -signal.SIGKILL
    (run,) = out.glob("run=*")
    assert (run / "manifest.json").exists() == (n == LAST and when == "after")
    assert resumed(sender, out, threads=1 + n % 3) == run
    assert digest(run) == whole
    assert not list(run.rglob("*.tmp"))
    assert not (run / "_staging").exists()


@pytest.mark.parametrize(("n", "when"), [(13, "after"), (26, "before"), (28, "after"), (33, "after")])
def test_a_killed_night_goes_on_and_ends_with_the_same_bytes(
    sender: Sender, tmp_path: Path, whole: dict[str, str], n: int, when: str
) -> None:
    check_killed(sender, tmp_path, whole, n, when)


@pytest.mark.long
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("n", range(9, LAST + 1))
def test_it_does_wherever_it_is_killed(
    sender: Sender, tmp_path: Path, whole: dict[str, str], n: int, when: str
) -> None:
    check_killed(sender, tmp_path, whole, n, when)


def test_the_kill_points_cover_the_whole_night(sender: Sender, tmp_path: Path) -> None:
    assert killed(sender, tmp_path, LAST + 1, "before") == 0


def refuse(*_: object) -> None:
    raise AssertionError("solved again")


def half_done(sender: Sender, folder: Path, n: int) -> Path:
    assert killed(sender, folder, n, "after") == -signal.SIGKILL
    (run,) = folder.glob("run=*")
    return run


def test_a_plan_that_was_found_is_not_sought_again(
    sender: Sender, tmp_path: Path, whole: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = half_done(sender, tmp_path, PLANNED)
    monkeypatch.setattr(rounds, "solve", refuse)
    resumed(sender, tmp_path)
    assert digest(run) == whole


def spoil_outcome(plan: Path) -> None:
    """JSON as good as any, with another price."""
    body = json.loads(plan.read_text())
    body["outcome"]["price_R"] = [price * 1.5 for price in body["outcome"]["price_R"]]
    plan.write_text(json.dumps(body))


def without_outcome(plan: Path) -> None:
    body = json.loads(plan.read_text())
    del body["outcome"]["eps"]
    plan.write_text(json.dumps(body))


def of_other_rows(plan: Path) -> None:
    body = json.loads(plan.read_text())
    plan.write_text(json.dumps({**body, "staged": "0" * 64}))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


PLAN, SLOTS = "_staging/plan.json", "_staging/slots/bucket-0002.*.u8"
ROWS, GONE = "_staging/rows/bucket-0001.arrow", "_staging/gone/bucket-0003.arrow"
DAMAGE: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "a plan that is cut": (PLAN, cut),
    "a plan of zeros": (PLAN, zero),
    "no plan": (PLAN, Path.unlink),
    "a plan that is a list": (PLAN, lambda path: path.write_text("[]")),
    "a plan that is a number": (PLAN, lambda path: path.write_text("7")),
    "a plan with other prices": (PLAN, spoil_outcome),
    "a plan that lacks a part": (PLAN, without_outcome),
    "a plan of other rows": (PLAN, of_other_rows),
    "slots that are cut": (SLOTS, cut),
    "slots of zeros": (SLOTS, zero),
    "no slots": (SLOTS, Path.unlink),
    "staged rows that are cut": (ROWS, cut),
    "suppressed rows of zeros": (GONE, zero),
    "a record of the demand that is cut": ("_staging/demand/bucket-0000.json", cut),
    "a record of phase A of zeros": ("_staging/choose/bucket-0002.json", zero),
    "counts of final slots that are cut": ("_staging/settle/bucket-0001.json", cut),
    "a shard that is cut": ("suppressed/part-0000.parquet", cut),
}


@pytest.fixture(scope="module")
def stopped(sender: Sender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a night that was killed half-way through phase B."""
    return half_done(sender, tmp_path_factory.mktemp("stopped"), PLACED).parent


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_damaged_is_done_again(
    sender: Sender, stopped: Path, tmp_path: Path, whole: dict[str, str], name: str
) -> None:
    out = Path(shutil.copytree(stopped, tmp_path / "out"))
    (run,) = out.glob("run=*")
    pattern, damage = DAMAGE[name]
    (victim,) = run.glob(pattern)
    damage(victim)
    resumed(sender, out)
    assert digest(run) == whole


@pytest.mark.parametrize("victim", ["suppressed/part-0001.parquet", "load.csv", "assignments/part-0003.parquet"])
def test_a_committed_night_that_is_damaged_is_written_again(
    sender: Sender, tmp_path: Path, whole: dict[str, str], victim: str
) -> None:
    run = resumed(sender, tmp_path)
    load = (run / "load.csv").read_bytes()
    cut(run / victim)
    assert resumed(sender, tmp_path) == run
    assert digest(run) == whole
    assert (run / "load.csv").read_bytes() == load
