import sys
from pathlib import Path

import numpy as np
import pytest

from bench.fakes import FakeClock, rules
from sto_bench.cases import CASES, TINY, Case
from sto_bench.contest import GateFailed, Missing
from sto_bench.peers import lightgbm_peer, lleaves_peer, registry
from sto_bench.peers.base import choose, library
from sto_bench.runner import contest
from sto_bench.suite import make_plan, run_case
from sto_bench.verify import Oracle, ask_xgboost
from sto_bench.worlds import World, make_world
from sto_engine.progress import Silent

BASED = Case("based", 6, 3, cross=7, user_features=17, slot_features=0, with_base=True, users=150, train_rows=3000)


@pytest.fixture(scope="module")
def based() -> World:
    return make_world(BASED, seed=0, threads=1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", registry.NAMES)
@pytest.mark.parametrize("kind", ["plain", "with base margins"])
def test_a_peer_answers_as_xgboost_does_or_says_why_it_cannot_run(
    tiny: World, oracle: Oracle, based: World, name: str, kind: str
) -> None:
    world, truth = (tiny, oracle) if kind == "plain" else (based, ask_xgboost(based, 1))
    contestant = registry.peer_contestant(world, truth, name, threads=1)
    try:
        scorer = contestant.prepare()
    except Missing as missing:
        pytest.skip(str(missing))
    try:
        for users in (1, 130):
            scorer.load(users)
            contestant.check(scorer.score(), users)
        seconds, choice = scorer.time_calls(2, iter([3.0, 4.0]).__next__)
        contestant.check(choice, 130)
        assert seconds > 0
    finally:
        scorer.close()


def test_a_same_model_peer_that_is_off_is_refused(tiny: World, oracle: Oracle) -> None:
    contestant = registry.peer_contestant(tiny, oracle, "xgboost", threads=1)
    scorer = contestant.prepare()
    scorer.load(130)
    choice = scorer.score()
    choice.margin_U[5] += 0.01
    with pytest.raises(GateFailed, match="user 5"):
        contestant.check(choice, 130)


def test_rows_are_all_slots_of_a_user_then_of_the_next(tiny: World) -> None:
    rows = tiny.rows(np.array([3, 1]))
    assert rows.shape == (48, 48)
    assert rows.flags.c_contiguous
    assert tiny.cross_CSU is not None
    expected = [*tiny.user_FU[:, 1], *tiny.forest.slot_values_SG[5], *tiny.cross_CSU[:, 5, 1]]
    np.testing.assert_array_equal(rows[24 + 5], expected)


def test_recipients_are_the_same_however_many_and_have_gaps(tiny: World) -> None:
    fewer = make_world(Case(**{**vars(CASES[TINY]), "users": 100}), seed=0, threads=1)
    other = make_world(Case(**{**vars(CASES[TINY]), "users": 100}), seed=1, threads=1)
    np.testing.assert_array_equal(fewer.user_FU, tiny.user_FU[:, :100])
    assert not np.array_equal(other.user_FU, fewer.user_FU, equal_nan=True)
    assert np.isnan(tiny.user_FU).any()
    assert np.isfinite(tiny.user_FU).mean() > 0.8


def test_ties_go_to_the_earlier_slot() -> None:
    assert choose(np.array([1.0, 2.0, 2.0, 0.0, 0.0, 0.0]), 3).slot_U.tolist() == [1, 0]


def test_a_library_that_is_not_there_is_missing_and_says_how_to_get_it() -> None:
    with pytest.raises(Missing, match="pip install no-such"):
        library("no_such_library", "no-such")


@pytest.mark.usefixtures("short_rules")
def test_a_failing_peer_is_a_failure_and_never_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(world: World, threads: int, include_expansion: bool = False) -> None:
        raise OSError("model file is broken")

    peer = registry.PEERS["xgboost"]
    monkeypatch.setitem(registry.PEERS, "xgboost", type(peer)("xgboost", broken, True))  # type: ignore[arg-type]
    plan = make_plan("quick", (TINY,), ("gather",), ("xgboost",), threads=1, seed=0)
    ours, *_, record = run_case(plan.cases[0], plan, Silent())
    assert ours.status == "ok"
    assert (record.impl, record.status, record.median) == ("xgboost", "failed", None)
    assert record.reason == "OSError: model file is broken"


LLEAVES = """
import numpy
class Model:
    def __init__(self, model_file):
        assert model_file.endswith("model.txt"), "no model"
    def compile(self, cache, raw_score, use_fp64):
        pass
    def predict(self, rows, n_jobs):
        assert rows.dtype == numpy.float32 and n_jobs == 1
        return rows[:, 0] * 0 + numpy.arange(len(rows)) % 24
"""


@pytest.fixture
def fake_lleaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python that has a lleaves whose margin is the number of the slot."""
    (tmp_path / "lleaves.py").write_text(LLEAVES)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv(lleaves_peer.PYTHON, str(python))
    monkeypatch.setattr(lightgbm_peer, "model_path", lambda case, threads: tmp_path / "model.txt")
    return tmp_path


def test_the_lleaves_process_scores_and_times_itself(tiny: World, fake_lleaves: Path) -> None:
    scorer = lleaves_peer.build(tiny, threads=1)
    scorer.load(10)
    seconds, choice = scorer.time_calls(3, FakeClock())
    assert seconds > 0
    assert choice.slot_U.tolist() == [23] * 10
    assert (scorer.peak_mib() or 0) > 5
    scorer.close()


def test_an_error_of_the_lleaves_process_is_a_failure_with_its_text(
    tiny: World, oracle: Oracle, fake_lleaves: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lightgbm_peer, "model_path", lambda case, threads: fake_lleaves / "other")
    peer = registry.peer_contestant(tiny, oracle, "lleaves", threads=1)
    (ended,) = contest([peer], 10, rules(FakeClock()), Silent())
    assert (ended.status, ended.reason) == ("failed", "RuntimeError: lleaves process: AssertionError: no model")


def test_without_its_python_lleaves_is_skipped(tiny: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(lleaves_peer.PYTHON, raising=False)
    with pytest.raises(Missing, match=lleaves_peer.PYTHON):
        lleaves_peer.build(tiny, threads=1)
    monkeypatch.setenv(lleaves_peer.PYTHON, "/absent/python")
    monkeypatch.setattr(lightgbm_peer, "model_path", lambda case, threads: Path("model.txt"))
    with pytest.raises(Missing, match="cannot be run"):
        lleaves_peer.build(tiny, threads=1)
