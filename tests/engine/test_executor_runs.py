"""A night is the same bytes whoever runs its buckets: threads, or an executor that does to work what a cluster does."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from executors import Travelling
from nights import Sender, make_sender, people
from sto_engine.config import load_config
from sto_engine.errors import BadData
from sto_engine.executor import Executor, Threads
from sto_engine.job import ScoreRequest, ScoreResult, run_score
from sto_engine.output import manifest as runs
from sto_engine.progress import Silent
from sto_engine.what_if import scenarios, what_if
from support import digest

SHORT = ('capacity.total="20/h"', 'capacity.providers={gmail="8/h"}', "capacity.on_infeasible=defer")
NIGHTS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "without limits": ((), {"dump_scores": True, "dump_features": True}),
    "where slots are short": (SHORT, {}),
    "histogram": (("model.policy=histogram",), {}),
    "where nothing is short": (('capacity.total="10000/h"',), {}),
}


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Sender:
    return make_sender(tmp_path_factory.mktemp("sender"), people(300, 5), buckets=8)


def night(sender: Sender, out: Path, name: str, executor: Executor, **more: Any) -> ScoreResult:
    keys, fields = NIGHTS[name]
    request = replace(ScoreRequest(sender.store, out), **fields, **more)
    return run_score(request, load_config(None, keys), Silent(), executor)


def timeless(summary: dict[str, Any]) -> str:
    return json.dumps({key: value for key, value in summary.items() if key != "timings_s"})


LONG = [pytest.param(name, marks=pytest.mark.long) for name in ("histogram", "where nothing is short")]


@pytest.mark.parametrize("name", ["without limits", "where slots are short", *LONG])
def test_a_night_is_the_same_whoever_runs_it(sender: Sender, tmp_path: Path, name: str) -> None:
    here = night(sender, tmp_path / "here", name, Threads(2))
    there = night(sender, tmp_path / "there", name, Travelling())
    assert here.run_dir is not None
    assert there.run_dir is not None
    assert digest(here.run_dir) == digest(there.run_dir)
    assert timeless(here.summary) == timeless(there.summary)
    assert {p.name for p in there.run_dir.iterdir()} == {p.name for p in here.run_dir.iterdir()}
    dry = night(sender, tmp_path / "dry", name, Travelling(seed=1), dry_run=True)
    assert timeless(dry.summary) == timeless(here.summary)
    assert not (tmp_path / "dry").exists()


def test_what_if_is_the_same_whoever_runs_it(sender: Sender) -> None:
    request = ScoreRequest(sender.store, Path())
    tried = scenarios(load_config(None, SHORT), ['capacity.total="30/h"'])
    here, there = (what_if(request, tried, Silent(), executor) for executor in (Threads(2), Travelling(seed=2)))
    assert here == there


class Broken(Travelling):
    """A machine that lacks a file of the store."""

    def run(self, work: Any, buckets: Any, told: Any = None, on: Any = "cpu") -> Any:
        if told is not None:
            raise BadData("bucket 3 on some machine: gone")
        return super().run(work, buckets, told, on)


def test_a_night_that_stopped_elsewhere_goes_on_here(sender: Sender, tmp_path: Path) -> None:
    with pytest.raises(BadData, match="gone"):
        night(sender, tmp_path, "where slots are short", Broken())
    (run,) = tmp_path.glob("run=*")
    orphan = run / runs.ATTEMPTS / "0" / "rows"
    orphan.mkdir(parents=True)
    staged = {path: path.stat().st_mtime_ns for path in run.glob("_staging/rows/*")}
    assert len(staged) == 8
    result = night(sender, tmp_path, "where slots are short", Threads(2))
    whole = night(sender, tmp_path / "whole", "where slots are short", Threads(1))
    assert result.run_dir == run
    assert whole.run_dir is not None
    assert digest(run) == digest(whole.run_dir)
    assert not (run / runs.STAGING).exists()
