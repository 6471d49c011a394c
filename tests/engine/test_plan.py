"""`plan`: scenarios on one scoring, against the runs that they foretell."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from sto_engine import cli
from sto_engine.config import load_config
from sto_engine.console import show
from sto_engine.errors import ConfigError, UsageError
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Silent
from sto_engine.what_if import scenarios, what_if

DAY = date(2026, 4, 20)
TIGHT, TIGHTER = "capacity.total=100/h", "capacity.total=60/h;capacity.providers.gmail=20/h"


def foretold(store: Path, overrides: list[str], varied: list[str]) -> dict[str, Any]:
    tried = scenarios(load_config(None, overrides), varied)
    return what_if(ScoreRequest(store, Path(), date=DAY), tried, Silent())


def test_each_scenario_is_what_its_run_comes_to(store: Path, tmp_path: Path) -> None:
    found = foretold(store, [TIGHT], [TIGHTER, "capacity.total=1000000/h"])
    for row, overrides in zip(found["scenarios"], [[TIGHT], TIGHTER.split(";"), []], strict=True):
        if overrides:
            real = run_score(ScoreRequest(store, tmp_path, date=DAY), load_config(None, overrides), Silent()).summary
            capacity = real["capacity"]
            assert row["moved"] == pytest.approx(capacity["moved"], abs=20)  # the noise of ties is the run's own
            assert row["expected_opens"] == pytest.approx(capacity["expected_opens"]["planned"], rel=1e-3)
            assert row["window_minutes"] == capacity["window_minutes"]
        else:
            assert (row["moved"], row["lost_share"]) == (0, 0)
        assert row["fits"]


def test_fewer_messages_an_hour_cost_more_opens(store: Path) -> None:
    found = foretold(store, ["capacity.total=200/h"], [f"capacity.total={n}/h" for n in (100, 60, 40)])
    opens = [row["expected_opens"] for row in found["scenarios"]]
    assert opens == sorted(opens, reverse=True)
    assert opens[0] > opens[-1]


def test_one_percent_more_of_a_limit_brings_what_it_is_said_to(store: Path) -> None:
    found = foretold(store, ["capacity.total=40/h"], ["capacity.total=44/h", "capacity.total=36/h"])
    less, more = found["scenarios"][2]["expected_opens"], found["scenarios"][1]["expected_opens"]
    assert found["one_percent_more"]["capacity.total"] == pytest.approx((more - less) / 20, rel=0.5)
    assert min(found["dearest_limits"].values()) > 0


def test_limits_that_cannot_hold_the_mail_are_told_in_their_row(store: Path) -> None:
    found = foretold(store, [TIGHT], ["capacity.total=10/h", "capacity.total=10/h;capacity.on_infeasible=defer"])
    _, fails, defers = found["scenarios"]
    assert not fails["fits"]
    assert "fit nowhere" in fails["notes"][0]
    assert not defers["fits"]
    assert defers["deferred"] > 0


def test_nothing_is_written_where_the_command_runs(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["plan", "--store", str(store), "--date", "2026-04-20", "--set", TIGHT, "--vary", TIGHTER, "--quiet"]
    assert cli.run_command([*command, "--json", str(tmp_path / "plan.json")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "plan.json").read_text())
    assert [row["scenario"] for row in printed["scenarios"]] == ["as configured", TIGHTER]
    show(printed, as_json=False)
    told = capsys.readouterr().out
    assert "scenarios" in told
    assert "messages" in told


@pytest.mark.parametrize("text", ["model.policy=histogram", "capacity.weight=clv", "experiment.control_share=0"])
def test_a_scenario_changes_limits_only(text: str) -> None:
    with pytest.raises(UsageError, match="--vary"):
        scenarios(load_config(None), [text])


@pytest.mark.parametrize("text", ["capacity.total=fast", "capacity.totl=1/s", "capacity.providers.gmial=1/s"])
def test_a_scenario_is_checked_as_a_run_is(store: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="capacity"):
        foretold(store, [], [text])
