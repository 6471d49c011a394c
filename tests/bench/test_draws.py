"""The benchmark of Beta draws on cases too small for a figure: who is wrong has no time, what is kept can be read."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest

from sto_bench.contest import GateFailed
from sto_bench.records import read_as
from sto_draws import gate, players, report
from sto_draws.cases import CASES, contestants, select, shapes
from sto_draws.records import Line
from sto_engine import bench_cli, cli

TINY, WINS = CASES["draws_u2k"], CASES["wins_u200"]


@pytest.fixture
def own_threads() -> Iterator[None]:
    """The command sets what polars reads at its first import; other tests must not inherit it."""
    before = os.environ.get("POLARS_MAX_THREADS")
    yield
    os.environ.pop("POLARS_MAX_THREADS", None)
    if before is not None:
        os.environ["POLARS_MAX_THREADS"] = before


@pytest.mark.usefixtures("own_threads")
def test_a_run_measures_keeps_and_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "draws-a.jsonl"
    command = ["bench", "draws", "--case", TINY.name, "--case", WINS.name, "--json", str(path), "--quiet"]
    assert cli.run_command([*command, "--threads", "2"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["red_gates"] == 0
    assert "x numpy" in told[TINY.name]["ours"]
    lines = read_as(Line, path)
    names = ["ours", "numpy", "torch", "torch_distributions", "torch_cuda", "ours", "numpy"]
    assert [line.impl for line in lines] == names
    ran = [line for line in lines if line.impl != "torch_cuda"]
    assert {line.status for line in ran} == {"ok"}
    assert all(line.median and line.median > 0 for line in ran)
    assert set(lines[0].ratio_to) >= {"numpy", "torch", "torch_distributions"}
    table = report.render([path]).splitlines()
    assert sum(row.startswith(f"| {TINY.name} |") for row in table) == 5


@pytest.mark.usefixtures("own_threads")
def test_draws_of_another_law_end_with_65(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(players, "draw_betas", lambda key_U, a_US, b_US: a_US / (a_US + b_US))
    path = tmp_path / "draws.jsonl"
    command = ["bench", "draws", "--case", TINY.name, "--peer", "none", "--json", str(path), "--quiet"]
    assert cli.run_command(command) == 65
    told = capsys.readouterr()
    assert f"ours on {TINY.name} is wrong" in told.err
    (line,) = read_as(Line, path)
    assert (line.status, line.median) == ("wrong", None)


def test_the_gate_knows_a_wrong_law_mean_or_share() -> None:
    a_US, b_US = np.full((900, 4), 2.0), np.full((900, 4), 3.0)
    good = np.random.default_rng(0).beta(a_US, b_US)
    gate.hold_moments([good[:500], good[500:]], a_US, b_US, 500)
    with pytest.raises(GateFailed, match="mean of their law"):
        gate.hold_moments([good * 0.9], a_US, b_US, 900)
    with pytest.raises(GateFailed, match="lie in"):
        gate.hold_moments([good + 1], a_US, b_US, 900)
    with pytest.raises(GateFailed, match="sum to 1"):
        gate.hold_shares([good])
    rng = np.random.default_rng(1)
    columns = [rng.beta(a, b, gate.USERS) for a, b in zip(*gate.SHAPES, strict=True)]
    gate.hold_law(np.stack(columns, axis=1))
    with pytest.raises(GateFailed, match="follow its law"):
        gate.hold_law(np.stack(columns[1:] + columns[:1], axis=1))
    gate.hold_pair(np.full((9, 2), 1 / 3))
    with pytest.raises(GateFailed, match="must win"):
        gate.hold_pair(np.full((9, 2), 0.34))


@pytest.mark.usefixtures("own_threads")
def test_options_are_the_promised_ones_and_nonsense_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    options = [o for param in bench_cli.draws.params if isinstance(param, click.Option) for o in param.opts]
    assert options[:5] == ["--quick", "--full", "--json", "--case", "--peer"]
    for arguments, code, text in (
        (["--quick", "--full"], 2, "both"),
        (["--case", "absent"], 2, "draws_u500k_flat"),
        (["--peer", "absent"], 2, "torch_distributions"),
        (["--json", "absent/x.jsonl"], 73, "absent"),
    ):
        assert cli.run_command(["bench", "draws", "--quiet", *arguments]) == code
        assert text in capsys.readouterr().err
    assert cli.run_command(["bench", "draws", "--help"]) == 0
    example = re.search(r"Example:  sto-engine bench draws (.*)", capsys.readouterr().out)
    assert example is not None
    bench_cli.draws.make_context("draws", example[1].split())


def test_a_tier_holds_its_cases_and_those_below() -> None:
    quick, default, full = ([case.name for case in select((), tier)] for tier in ("quick", "default", "full"))
    assert set(quick) < set(default) < set(full)
    assert contestants(WINS, ("numpy", "torch")) == ["numpy"]
    assert contestants(TINY, ("none",)) == []


@pytest.mark.parametrize("kind", ["flat", "cohort", "known", "tiny"])
def test_shapes_are_the_same_for_a_seed_and_are_shapes(kind: str) -> None:
    case = replace(TINY, users=300, shapes=kind)
    a_US, b_US = shapes(case, 5)
    assert np.array_equal(a_US, shapes(case, 5)[0])
    assert not np.array_equal(a_US, shapes(case, 6)[0])
    assert min(a_US.min(), b_US.min()) > 0
    assert (a_US.dtype, b_US.dtype) == (np.float32, np.float32)


def test_the_table_is_that_of_the_committed_results() -> None:
    assert report.main(["--check"]) == 0
