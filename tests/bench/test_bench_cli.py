import json
import re
from pathlib import Path
from typing import Any

import click
import pytest

from sto_bench.cases import TINY
from sto_bench.records import read
from sto_engine import cli
from sto_engine.bench_cli import kernel
from sto_kernels import margins

pytestmark = pytest.mark.usefixtures("short_rules")
TRY = ["bench", "kernel", "--quick", "--case", TINY, "--impl", "gather", "--threads", "1", "--quiet"]


def test_the_command_has_the_options_that_were_promised() -> None:
    found = [option for param in kernel.params if isinstance(param, click.Option) for option in param.opts]
    assert found[:6] == ["--quick", "--full", "--json", "--case", "--impl", "--peer"]
    assert {"--threads", "--seed", "--quiet", "--log-json"} <= set(found)


def test_its_help_has_an_example_that_parses(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command(["bench", "kernel", "--help"]) == 0
    example = re.search(r"Example:  sto-engine bench kernel (.*)", capsys.readouterr().out)
    assert example is not None
    kernel.make_context("kernel", example[1].split())


def test_a_run_measures_keeps_and_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "kernel.jsonl"
    assert cli.run_command([*TRY, "--json", str(path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["measurements"], told["red_gates"]) == (6, 0)
    assert "x xgboost" in told[TINY]["gather"]
    ours, *_ = read(path)
    assert (ours.impl, ours.reps, ours.threads) == ("gather", 2, 1)
    assert ours.ratio_to.keys() == {"xgboost"}
    assert ours.median is not None
    assert ours.median > 0


def test_a_wrong_kernel_ends_with_65_and_its_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real: Any = margins.slot_margins
    monkeypatch.setattr(margins, "slot_margins", lambda *a, **k: real(*a, **k) + 0.001)
    path = tmp_path / "kernel.jsonl"
    assert cli.run_command([*TRY, "--peer", "none", "--json", str(path)]) == 65
    told = capsys.readouterr()
    assert json.loads(told.out)["red_gates"] == 1
    assert f"gather on {TINY} is wrong" in told.err
    (line,) = read(path)
    assert (line.status, line.median) == ("wrong", None)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--full"], 2, "both"),
        (["--case", "absent"], 2, "t500_d6_c4_s24"),
        (["--impl", "absent"], 2, "gather"),
        (["--peer", "absent"], 2, "xgboost"),
        (["--json", "absent/kernel.jsonl"], 73, "absent"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_work(
    arguments: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run_command([*TRY, *arguments]) == code
    assert text in capsys.readouterr().err


def test_a_results_file_of_another_cpu_or_kind_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "kernel.jsonl"
    assert cli.run_command([*TRY, "--peer", "none", "--json", str(path)]) == 0
    foreign = path.read_text().replace('"cpu": "', '"cpu": "Another ')
    for text in (foreign, "no results\n"):
        path.write_text(text)
        assert cli.run_command([*TRY, "--peer", "none", "--json", str(path)]) == 65
        assert path.read_text() == text
