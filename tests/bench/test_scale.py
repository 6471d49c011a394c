"""The benchmark of scale on senders too small for a figure: what is fitted, what is refused, what is kept."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

from sto_bench.records import read_as, write
from sto_engine import bench_cli, cli
from sto_scale import report
from sto_scale.cases import CASES, select
from sto_scale.fit import fits, told
from sto_scale.records import Line
from sto_scale.sizes import sizes

TINY = CASES["cost_u3k"]


@pytest.fixture
def own_threads() -> Iterator[None]:
    """The command sets what polars reads at its first import; other tests must not inherit it."""
    before = os.environ.get("POLARS_MAX_THREADS")
    yield
    os.environ.pop("POLARS_MAX_THREADS", None)
    if before is not None:
        os.environ["POLARS_MAX_THREADS"] = before


def line(**changes: Any) -> Line:
    facts: dict[str, Any] = {
        **{
            "case": "c",
            "kind": "cost",
            "command": "score",
            "impl": "score",
            "is_ours": True,
            "status": "ok",
            "reason": "",
        },
        **{"users": 1_000_000, "per_user": 10, "buckets": 16, "metric": "seconds", "unit": "s"},
        **{"median": 4.0, "q20": 3.0, "q80": 5.0, "reps": 1, "core_s": 8.0, "peak_mib": 900.0, "others_cores": None},
        **{"stages": {"choose": 2.5}, "figures": {"shard_bytes": 3.0 * 2**20, "files": 9.0}, "note": "", "threads": 2},
        **{"cpu": "A CPU", "cpu_mhz": 1.0, "git_revision": "abc", "timestamp": "2026-11-28T01:00:00", "versions": {}},
    }
    return Line(**{**facts, **changes})


def spent(users: int, per_user: int) -> Line:
    """A line whose seconds are 2 + 5 a million recipients + 0.5 a million events."""
    core_s = 2 + users / 1e6 * (5 + 0.5 * per_user)
    return line(users=users, per_user=per_user, core_s=core_s, case=f"c{users}e{per_user}")


def test_a_fit_finds_what_recipients_and_events_cost() -> None:
    lines = [spent(*size) for size in ((1_000_000, 10), (5_000_000, 10), (1_000_000, 30), (20_000_000, 10))]
    lines[3] = replace(lines[3], kind="pair", impl="threads")
    lines.append(replace(lines[3], impl="ray", core_s=1.0))
    by = {fit.what: fit for fit in fits(lines)}
    fit = by["score core_s"]
    assert (fit.fixed, fit.per_recipient, fit.per_event) == pytest.approx((2, 5e-6, 0.5e-6))
    assert (fit.points, fit.worst) == (4, pytest.approx(0, abs=1e-9))
    assert fit.at(1e9, 10) == pytest.approx(2 + 10_000)
    assert "5 per million recipients" in told(fit)
    assert by["score peak_mib"].per_recipient == pytest.approx(0, abs=1e-9)
    assert "compact core_s" not in by


def test_what_failed_and_what_is_alone_is_not_fitted() -> None:
    assert fits([spent(1_000_000, 10), spent(1_000_000, 30)]) == []
    lines = [spent(1_000_000, 10), replace(spent(5_000_000, 10), status="wrong")]
    assert fits(lines) == []


def test_a_fit_that_is_off_says_by_how_much() -> None:
    lines = [spent(1_000_000, 10), spent(5_000_000, 10), replace(spent(20_000_000, 10), core_s=400.0)]
    (fit,) = (fit for fit in fits(lines) if fit.quantity == "core_s")
    assert 0.05 < fit.worst < 0.5


def test_sizes_are_those_of_the_fits_with_buckets_as_the_engine_would_choose() -> None:
    small, large = sizes(fits([spent(1_000_000, 10), spent(5_000_000, 10)]), (1_000_000, 1_000_000_000))
    assert (small.buckets, large.buckets) == (16, 8192)
    assert large.core_hours["score"] == pytest.approx((2 + 10_000) / 3600)
    assert large.core_hours["train"] is None


def test_a_tier_holds_its_cases() -> None:
    quick, default, full = ([case.name for case in select((), tier)] for tier in ("quick", "default", "full"))
    assert not set(quick) & set(full)
    assert set(default) < set(full)
    assert [case.users for case in select((), "full") if case.kind == "cost" and case.per_user == 10] == [
        *(1_000_000, 5_000_000, 20_000_000)
    ]
    for case in CASES.values():
        assert case.users % case.base == 0
        assert case.kind == "driver" or case.tier == "test" or 40_000 < case.users / case.buckets <= 80_000


@pytest.mark.long
@pytest.mark.usefixtures("own_threads")
def test_a_run_measures_keeps_and_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "scale.jsonl"
    command = ["bench", "scale", "--case", TINY.name, "--case", "driver_b8", "--work", str(tmp_path)]
    assert cli.run_command([*command, "--json", str(path), "--quiet", "--threads", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["red_gates"] == 0
    assert "driver_ms_a_bucket" in found["driver_b8"]["driver"]
    lines = read_as(Line, path)
    assert [one.command for one in lines] == ["ingest", "compact", "train", "score", "score"]
    assert {one.status for one in lines} == {"ok"}
    assert lines[1].figures["store_bytes"] < lines[1].figures["peak_disk_bytes"]


@pytest.mark.usefixtures("own_threads")
def test_options_are_the_promised_ones_and_nonsense_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    options = [o for param in bench_cli.scale.params if isinstance(param, click.Option) for o in param.opts]
    assert options[:5] == ["--quick", "--full", "--json", "--case", "--work"]
    for arguments, code, text in (
        (["--quick", "--full"], 2, "both"),
        (["--case", "absent"], 2, "cost_u20m"),
        (["--json", "absent/x.jsonl"], 73, "absent"),
    ):
        assert cli.run_command(["bench", "scale", "--quiet", *arguments]) == code
        assert text in capsys.readouterr().err
    assert cli.run_command(["bench", "scale", "--help"]) == 0
    example = re.search(r"Example:  sto-engine bench scale (.*)", capsys.readouterr().out)
    assert example is not None
    bench_cli.scale.make_context("scale", example[1].split())


def test_a_document_gets_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    none: dict[str, Any] = {"status": "skipped", "reason": "no | Ray", "median": None, "figures": {}}
    lines = [
        line(),
        line(case="d", users=5_000_000, core_s=40.0, figures={"shard_bytes": 15.0 * 2**20}),
        line(
            case="p", kind="pair", impl="ray", stages={"start": 7.0}, figures={"work_ratio": 0.9, "driver_mib": 250.0}
        ),
        line(case="p", kind="pair", impl="threads", **none),
        line(case="m", kind="driver", impl="driver", stages={}, figures={"manifest_bytes": 2.0 * 2**20}),
    ]
    write(tmp_path / "scale-a.jsonl", lines)
    monkeypatch.setattr(report, "results_files", lambda: [tmp_path / "scale-a.jsonl"])
    text = "<!-- bench:scale -->\nold\n<!-- /bench:scale -->\n<!-- bench:scale:sizes -->\n<!-- /bench:scale:sizes -->\n"
    found = report.document(text).splitlines()
    assert found[2] == "A CPU, 2 threads, revision abc, 2026-11-28:"
    assert "| c | score | 4 | 8 | 8 | 900 | choose 2.5 s, shard 3 MiB, files 9 |" in found
    assert "| score | CPU seconds | 0 | 8 | 0 | 0.0% | 2 |" in found
    assert "| p | ray | 4 | 7 | 900 | 250 | 90.0% |" in found
    assert r"| p | threads | skipped: no \| Ray | | | | |" in found
    assert "| m | 4 | 8 | 900 | manifest 2 MiB |" in found
    assert "| 1,000,000,000 | 8,192 |  |  |  | 2.22 |  |  |  | 3.15 |  |" in found
    tables = [row for row in found if row.startswith("|")]
    heads = {row: tables[at - 1] for at, row in enumerate(tables) if row.startswith(("|---", "|-"))}
    assert all(rule.count("|") == head.count("|") for rule, head in heads.items())
    assert report.document("no markers") == "no markers"


def test_the_figures_of_the_readmes_are_those_of_the_committed_results() -> None:
    assert report.main(["--check"]) == 0, "a README is not what the results say: run python -m sto_scale.report"
