"""The benchmark of assignment on problems too small for a figure: what is counted, who is wrong, what is kept."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from sto_assign import exact, ours, peers, report, spreads
from sto_assign.cases import CASES, Case, contestants, select
from sto_assign.curves import worths
from sto_assign.players import Truth, players
from sto_assign.problems import BINS, Problem, judge, make_problem
from sto_assign.records import Line, make_lines
from sto_bench.contest import GateFailed, Missing
from sto_bench.records import read_as, write
from sto_engine import bench_cli, cli
from sto_engine.progress import Silent
from sto_pipeline.contest import contest

TINY = CASES["assign_u1k"]


@pytest.fixture
def own_threads() -> Iterator[None]:
    """The command sets what polars reads at its first import; other tests must not inherit it."""
    before = os.environ.get("POLARS_MAX_THREADS")
    yield
    os.environ.pop("POLARS_MAX_THREADS", None)
    if before is not None:
        os.environ["POLARS_MAX_THREADS"] = before


def by_hand() -> Problem:
    """Three users of two groups and three slots; slot 2 is closed to the second group, one user fits into slot 0."""
    worth_US = np.array([[0.9, 0.5, 0.1], [0.8, 0.7, 0.2], [0.6, 0.1, 0.9]], np.float32)
    resource_GSJ = np.array([[[0, -1], [1, -1], [1, -1]], [[0, 2], [1, 2], [1, -1]]], np.int32)
    return Problem(
        worth_US,
        np.array([0, 0, 1], np.int32),
        np.arange(3, dtype=np.uint64),
        np.zeros(2, np.int32),
        np.array([[True, True, True], [True, True, False]]),
        resource_GSJ,
        np.array([[[4, 0], [1, 0], [1, 0]], [[4, 1], [1, 2], [1, 0]]], np.int32),
        np.array([4, 9, 1]),
    )


def test_two_fifths_of_the_users_with_ties_share_one_of_48_curves() -> None:
    found, n = np.unique(worths("ties", 20_000, 0), axis=0, return_counts=True)
    assert (n > 1).sum() == 48
    assert n[n > 1].sum() / 20_000 == pytest.approx(0.4, abs=0.02)
    assert found.min() >= np.float32(0.003)
    assert len(np.unique(worths("habit", 20_000, 0), axis=0)) == 20_000


def test_the_logits_of_a_small_forest_are_twelfths() -> None:
    p = worths("gbdt", 500, 0).astype(np.float64)
    twelfths = 12 * np.log(p / (1 - p))
    np.testing.assert_allclose(twelfths, np.round(twelfths), atol=1e-3)


def test_users_are_the_same_for_a_seed_and_others_for_another() -> None:
    assert np.array_equal(worths("habit", 300, 5), worths("habit", 300, 5))
    assert not np.array_equal(worths("habit", 300, 5), worths("habit", 300, 6))


def test_loads_and_worths_are_those_of_a_count_by_hand() -> None:
    problem = by_hand()
    assert problem.load_R(np.array([0, 255, 1])).tolist() == [4, 1, 2]
    assert problem.value(np.array([0, 255, 1])) == pytest.approx(0.9 + 0.1)


def test_an_answer_that_breaks_a_limit_or_leaves_somebody_out_is_told() -> None:
    problem = by_hand()
    found = judge(problem, np.array([0, 0, 1]), must_hold=False)
    # 8 units of 4, and 2 of 1, of 11 in all
    assert (found["violations"], found["over_share"], found["unplaced"]) == (2, 5 / 11, 0)
    assert judge(problem, np.array([1, 255, 1]), must_hold=False)["unplaced"] == 1
    with pytest.raises(GateFailed, match="2 resources exceeded, by up to 4 units"):
        judge(problem, np.array([0, 0, 1]), must_hold=True)
    roomy = replace(problem, capacity_R=np.array([9, 9, 9]))
    with pytest.raises(GateFailed, match="1 users without"):
        judge(roomy, np.array([0, 255, 1]), must_hold=True)


@pytest.mark.parametrize("slot", [2, 3, 24, 254])
def test_a_slot_that_is_not_open_is_no_answer(slot: int) -> None:
    with pytest.raises(GateFailed, match=f"found {slot} of user 2"):
        judge(by_hand(), np.array([0, 1, slot]), must_hold=False)


def test_the_bound_is_the_dual_value_of_its_prices() -> None:
    problem = by_hand()
    # costs 0.4, 0.1, 0.1 and 0.6, 0.5 of the second group
    best = max(0.9 - 0.4, 0.5 - 0.1, 0.0) + max(0.8 - 0.4, 0.7 - 0.1, 0.1) + max(0.6 - 0.6, 0.1 - 0.5)
    assert problem.bound(np.array([0.1, 0.1, 0.2])) == pytest.approx(best + 0.4 + 0.9 + 0.2)
    for wrong in (-0.1, np.nan):
        with pytest.raises(GateFailed, match="prices"):
            problem.bound(np.array([0.1, 0.1, wrong]))


def test_plain_ways_on_a_problem_by_hand() -> None:
    problem = replace(by_hand(), capacity_R=np.array([4, 9, 9]))
    assert peers.argmax(problem).tolist() == [0, 0, 0]
    assert peers.greedy(problem).tolist() == [0, 1, 1]
    # the third loses 0.5 by his second slot, the first 0.4, the second 0.1
    assert peers.regret(problem).tolist() == [1, 1, 0]
    assert peers.greedy(replace(problem, capacity_R=np.array([4, 1, 9]))).tolist() == [0, 1, 255]


@pytest.mark.parametrize("limits", ["tight", "providers", "zones", "both"])
def test_first_come_never_breaks_a_limit_and_everybodys_best_does(limits: str) -> None:
    problem = make_problem(Case("x", 4_000, "test", limits=limits), 0)
    for way in (peers.greedy, peers.regret):
        assert judge(problem, way(problem), must_hold=False)["violations"] == 0
    assert judge(problem, peers.argmax(problem), must_hold=False)["violations"] > 0


def test_sends_of_a_zone_take_the_four_quarter_hours_of_their_hour_in_utc() -> None:
    problem = make_problem(Case("x", 500, "test", limits="zones"), 0)
    # 09:30 east of Greenwich: local 10:00 is 00:30
    assert problem.resource_GSJ[11, 10].tolist() == [2, 3, 4, 5]
    assert problem.resource_GSJ[0, 16].tolist() == [0, 1, 2, 3]
    assert np.flatnonzero(problem.open_GS[3]).tolist() == list(range(7, 23))
    both = make_problem(Case("x", 500, "test", limits="both"), 0)
    assert len(both.capacity_R) == BINS * 21
    assert both.resource_GSJ[12 + 11, 10].tolist() == [2, 3, 4, 5, 194, 195, 196, 197]
    assert both.provider_G[12 + 11] == 1


@pytest.mark.parametrize("limits", ["tight", "providers"])
def test_the_flow_and_the_linear_program_agree(limits: str) -> None:
    pytest.importorskip("ortools")
    problem = make_problem(Case("x", 400, "test", limits=limits, curves="ties"), 1)
    slot_U = exact.flow(problem)
    found = judge(problem, slot_U, must_hold=True)
    _, value = exact.lp(problem)
    assert found["value"] == pytest.approx(value, rel=1e-6)
    assert found["value"] > judge(problem, peers.regret(problem), must_hold=True)["value"]


def test_what_an_exact_solver_cannot_do_is_skipped() -> None:
    pytest.importorskip("ortools")
    with pytest.raises(Missing, match="go on to several"):
        exact.flow(make_problem(Case("x", 50, "test", limits="zones"), 0))
    with pytest.raises(Missing, match="several units"):
        exact.flow(by_hand())
    with pytest.raises(Missing, match="5,000"):
        exact.lp(make_problem(Case("x", 5_001, "test"), 0))


def lines_of(case: Case, names: list[str]) -> list[Line]:
    problem, truth = make_problem(case, 0), Truth()
    entered = players(problem, names, case.rounds, 1, truth)
    contest([player.entrant for player in entered], Silent())
    return make_lines(case, entered, len(problem.capacity_R), 1, truth.optimum)


@pytest.mark.long
@pytest.mark.parametrize("limits", ["tight", "zones"])
def test_ours_is_near_the_optimum_and_its_bound_above(limits: str) -> None:
    case = replace(TINY, limits=limits, curves="ties")
    found, *others = lines_of(case, ["argmax", "greedy", "regret", "lp"])
    assert (found.impl, found.status, found.reason) == ("ours", "ok", "")
    assert found.reps == 2
    assert -1e-9 <= found.figures["gap_exact"] <= found.figures["gap_certified"] + 1e-6
    assert found.figures["gap_certified"] < 0.01
    assert (found.figures["violations"], found.figures["unplaced"]) == (0, 0)
    assert {"fit_s", "after_s_per_m", "moved_share"} <= set(found.figures)
    argmax = next(line for line in others if line.impl == "argmax")
    assert argmax.figures["over_share"] > 0
    assert argmax.figures["gap_exact"] < 0


def plainly(change: str = "") -> Any:
    """A stand-in of `ours.solve_problem`, right but poor, with one thing wrong: prices of 0 prove the best of all."""
    turns = iter(range(9))

    def solved(problem: Problem, threads: int) -> ours.Solved:
        slot_U, price_R = peers.greedy(problem), np.zeros(len(problem.capacity_R))
        bound = problem.bound(price_R)
        if change == "limit":
            slot_U = peers.argmax(problem)
        if change == "claim":
            bound *= 0.999
        if change == "prices":
            price_R = price_R - 1e-9
        if change == "rounds" and next(turns):
            first, second = np.unique(slot_U, return_index=True)[1][:2]
            slot_U[[first, second]] = slot_U[[second, first]]
        return slot_U, {"offers": 0.1, "count": 0.1, "fit": 0.2, "choose": 0.3, "repair": 0.1}, bound, price_R, 5

    return solved


def test_what_is_claimed_becomes_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "solve_problem", plainly())
    found, argmax, greedy = lines_of(TINY, ["argmax", "greedy"])
    assert (found.status, found.reps) == ("ok", 2)
    figures = found.figures
    assert (figures["fit_s"], figures["after_s_per_m"]) == (pytest.approx(0.3), pytest.approx(400))
    assert (figures["moved_share"], figures["violations"]) == (0.005, 0)
    assert argmax.figures["gap_certified"] == pytest.approx(0, abs=1e-9)
    assert 0.1 < figures["gap_certified"] == greedy.figures["gap_certified"]


@pytest.mark.parametrize("optimum", [None, 1e9])
def test_a_bound_below_the_optimum_is_wrong(optimum: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "solve_problem", plainly())
    problem = make_problem(TINY, 0)
    (player,) = players(problem, [], 1, 1, Truth(optimum))
    contest([player.entrant], Silent())
    outcome = player.entrant.outcome()
    assert outcome.status == ("ok" if optimum is None else "wrong")
    assert ("must not lie below" in outcome.reason) == (optimum is not None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("limit", "all capacities must hold"),
        ("claim", "the bound that the prices prove"),
        ("prices", "prices must be"),
        ("rounds", "the answer of the first"),
    ],
)
def test_an_answer_of_ours_that_is_wrong_has_no_figure(
    change: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "solve_problem", plainly(change))
    found, greedy = lines_of(TINY, ["greedy"])
    assert (found.status, found.median, found.figures, found.stages) == ("wrong", None, {}, {})
    assert reason in found.reason
    assert greedy.status == "ok"
    assert "gap_certified" not in greedy.figures


def test_uneven_times_are_wrong_and_even_ones_are_counted() -> None:
    provider_U = (np.arange(900_000) % 2).astype(np.uint32)
    times_U = np.arange(900_000)
    figures = spreads.evenness(times_U, provider_U)
    assert set(figures.values()) == {1.0}
    spreads.check(figures, times_U, provider_U)
    crowded_U = np.where(times_U < 60, 5_000, times_U)
    with pytest.raises(GateFailed, match=r"all_1s must be at most 1.05; found 1.060"):
        spreads.check(spreads.evenness(crowded_U, provider_U), crowded_U, provider_U)
    with pytest.raises(GateFailed, match="must lie in"):
        spreads.check(figures, times_U + 1, provider_U)


@pytest.mark.long
@pytest.mark.usefixtures("own_threads")
def test_a_run_measures_keeps_and_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "assign.jsonl"
    command = ["bench", "assign", "--case", TINY.name, "--case", "spread_u20k", "--json", str(path), "--quiet"]
    assert cli.run_command([*command, "--threads", "2"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["red_gates"] == 0
    assert "gap_certified" in told[TINY.name]["ours"]
    assert "all_1s" in told["spread_u20k"]["jitter"]
    lines = read_as(Line, path)
    assert [line.impl for line in lines if line.case == "spread_u20k"] == ["ours", "jitter", "stratified"]
    # OR-Tools is skipped where it is not installed
    assert {line.status for line in lines if line.impl != "flow"} == {"ok"}
    even, jitter, _ = lines[-3:]
    assert even.figures["all_60s"] < jitter.figures["all_60s"]


@pytest.mark.usefixtures("own_threads")
def test_a_broken_limit_ends_with_65_and_its_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ours, "solve_problem", plainly("limit"))
    path = tmp_path / "assign.jsonl"
    command = ["bench", "assign", "--case", TINY.name, "--peer", "none", "--json", str(path), "--quiet"]
    assert cli.run_command(command) == 65
    told = capsys.readouterr()
    assert json.loads(told.out)["red_gates"] == 1
    assert f"ours on {TINY.name} is wrong" in told.err
    (line,) = read_as(Line, path)
    assert (line.status, line.median) == ("wrong", None)


@pytest.mark.usefixtures("own_threads")
def test_options_are_the_promised_ones_and_nonsense_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    options = [o for param in bench_cli.assign.params if isinstance(param, click.Option) for o in param.opts]
    assert options[:5] == ["--quick", "--full", "--json", "--case", "--peer"]
    for arguments, code, text in (
        (["--quick", "--full"], 2, "both"),
        (["--case", "absent"], 2, "assign_u1m_habit"),
        (["--peer", "absent"], 2, "flow"),
        (["--json", "absent/x.jsonl"], 73, "absent"),
    ):
        assert cli.run_command(["bench", "assign", "--quiet", *arguments]) == code
        assert text in capsys.readouterr().err
    assert cli.run_command(["bench", "assign", "--help"]) == 0
    example = re.search(r"Example:  sto-engine bench assign (.*)", capsys.readouterr().out)
    assert example is not None
    bench_cli.assign.make_context("assign", example[1].split())


def test_a_tier_holds_its_cases_and_those_below() -> None:
    quick, default, full = ([case.name for case in select((), tier)] for tier in ("quick", "default", "full"))
    assert set(quick) < set(default) < set(full)
    assert "assign_u10m_ties" in full
    assert contestants(CASES["assign_u1m_habit"], ("flow", "jitter")) == ["flow"]
    assert contestants(CASES["spread_u200k"], ("flow", "jitter")) == ["jitter"]
    assert contestants(TINY, ("none",)) == []


def line(**changes: Any) -> Line:
    facts: dict[str, Any] = {
        **{"case": "c", "impl": "ours", "is_ours": True, "status": "ok", "reason": "", "users": 9, "resources": 24},
        **{"metric": "seconds", "unit": "s", "median": 1.234, "q20": 1.0, "q80": 2.0, "reps": 3, "core_s": 2.0},
        **{"peak_mib": 12.0, "others_cores": None, "stages": {}, "note": "", "threads": 2, "cpu": "A CPU"},
        **{"cpu_mhz": 1.0, "git_revision": "abc", "timestamp": "2026-11-28T01:00:00", "versions": {}},
        "figures": {
            **{"gap_exact": 0.000012, "gap_certified": 0.00002, "over_share": 0.0, "unplaced": 0.0},
            **{"moved_share": 0.002, "fit_s": 0.5, "after_s_per_m": 0.25},
        },
    }
    return Line(**{**facts, **changes})


def test_a_document_gets_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = {f"{what}_{cell}s": 1.0 for what in ("all", "largest") for cell in (1, 10, 60)}
    none: dict[str, Any] = {"is_ours": False, "median": None, "q20": None, "q80": None, "figures": {}}
    lines = [
        line(),
        line(impl="argmax", is_ours=False, figures={"gap_exact": -0.2, "over_share": 0.66, "unplaced": 1200.0}),
        line(impl="flow", status="skipped", reason="no | library", **none),
        line(case="s", resources=0, figures=cells),
    ]
    write(tmp_path / "assign-a.jsonl", lines)
    monkeypatch.setattr(report, "results_files", lambda: [tmp_path / "assign-a.jsonl"])
    found = report.document(f"{report.BEGIN}\nold\n{report.END}\n").splitlines()
    assert found[2] == "A CPU, 2 threads, revision abc, 2026-11-28; medians of interleaved rounds:"
    assert found[6:9] == [
        "| c | **ours** | 0.0012% | 0.0020% | 0.0000% | 0 | 0.2000% | 0.5 | 0.25 | 1.23 | 12 |",
        "| c | argmax | -20.0% |  | 66.0% | 1,200 |  |  |  | 1.23 | 12 |",
        r"| c | flow | skipped: no \| library | | | | | | | | |",
    ]
    assert found[12] == "| s | **ours** | 1.000 | 1.000 | 1.000 | 1.000 | 1.000 | 1.000 | 1.23 |"
    assert {text.count("|") - text.count(r"\|") for text in found[4:9]} == {12}
    assert {text.count("|") for text in found[10:13]} == {10}
    assert report.document("no markers") == "no markers"


def test_the_figures_of_the_readmes_are_those_of_the_committed_results() -> None:
    assert report.main(["--check"]) == 0, "a README is not what the results say: run python -m sto_assign.report"
