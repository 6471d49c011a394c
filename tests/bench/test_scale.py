"""The benchmark of scale on senders too small for a figure: what is fitted, what is refused, what is kept."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sto_bench.contest import GateFailed
from sto_bench.records import read_as, write
from sto_engine import bench_cli, cli
from sto_engine.progress import Silent
from sto_pipeline.contest import contest
from sto_pipeline.made import Work
from sto_pipeline.processes import ChildFailed, Ended
from sto_scale import commands, cost, pair, report, senders, suite
from sto_scale.cases import CASES, select
from sto_scale.commands import Ran
from sto_scale.fit import fits, told
from sto_scale.records import Line, make_lines
from sto_scale.sizes import sizes

TINY = CASES["cost_u3k"]
PAIR = CASES["pair_score_u3k"]


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work.at(tmp_path / "work", Silent(), 2)


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
        **{"case": "c", "kind": "cost", "impl": "score", "is_ours": True, "status": "ok", "reason": ""},
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


def test_copies_have_the_same_events_under_other_ids(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def world(self: Work, users: int, campaigns_per_day: str) -> Path:
        folder = self.root / "world"
        (folder / "events").mkdir(parents=True)
        ids = pa.array(np.random.default_rng(0).integers(0, 2**64, users, np.uint64))
        pq.write_table(pa.table({"user_id": ids, "n": pa.array(range(users))}), folder / "events" / "part-0.parquet")
        pq.write_table(pa.table({"user_id": ids}), folder / "recipients.parquet")
        return folder

    monkeypatch.setattr(Work, "world", world)
    found = senders.sender(TINY, work)
    assert senders.rows(found) == TINY.users
    events = pq.read_table(found / "events")
    people = pq.read_table(found / "recipients.parquet")["user_id"].to_numpy()
    assert len(np.unique(people)) == TINY.users
    assert set(people.tolist()) == set(events["user_id"].to_pylist())
    assert senders.sender(TINY, work) == found


LOG = "\n".join(
    [
        '{"ts": "2026-11-28T00:00:05+00:00", "event": "cluster", "start_s": 4}',
        '{"ts": "2026-11-28T00:00:06+00:00", "event": "phase_started", "phase": "choose"}',
        "what Ray prints",
        '{"ts": "2026-11-28T00:00:08+00:00", "event": "phase_ended", "phase": "choose", "seconds": 2.0}',
        '{"ts": "2026-11-28T00:00:09+00:00", "event": "phase_ended", "phase": "spread", "seconds": 1.0}',
    ]
)


def test_phases_and_work_are_read_from_the_log() -> None:
    assert commands.phases(LOG) == {"choose": 2.0, "spread": 1.0}
    assert commands.worked_s(LOG) == 3.0


def ran(result: dict[str, Any], seconds: float = 10.0) -> Ran:
    return Ran(Ended(seconds, 4.0, 500.0, "", LOG), result, commands.phases(LOG))


class Shipped:
    """The shipped commands, as if they had done their work: `rows` is what they claim or write instead."""

    def __init__(self, lab: cost.Lab, **rows: int) -> None:
        self.lab, self.rows = lab, rows

    def __call__(self, name: str, *arguments: str, watched: Path | None = None) -> Ran:
        if self.rows.get(name) == -1:
            raise ChildFailed(f"{name} ended with 65")
        if name == "ingest":
            self.lab.store.mkdir()
            (self.lab.store / "manifest.json").write_text("{}")
        elif name == "train":
            bundle = Path(arguments[arguments.index("--bundle") + 1])
            bundle.mkdir()
            (bundle / "bundle.json").touch()
        elif name == "score":
            run = Path(arguments[arguments.index("--out") + 1]) / "run=1"
            (run / "assignments").mkdir(parents=True)
            rows = self.rows.get("score", self.lab.case.users)
            pq.write_table(pa.table({"n": pa.array(range(rows))}), run / "assignments" / "part-0000.parquet")
            (run / "manifest.json").write_text("{}")
            seconds = 10.0 if "--cluster" in arguments else 5.0
            return ran({"run": str(run)}, seconds)
        return ran({"events": 100, "recipients": 3_000, "rows": self.rows.get(name, 100)})


@pytest.fixture
def shipped(work: Work, monkeypatch: pytest.MonkeyPatch) -> Shipped:
    files = work.root / "sender"
    (files / "events").mkdir(parents=True)
    pq.write_table(pa.table({"n": pa.array(range(100))}), files / "events" / "copy-0000.parquet")
    (files / "recipients.parquet").touch()
    fake = Shipped(cost.Lab(TINY, work))
    for module in (cost, pair):
        monkeypatch.setattr(module, "command", fake)
        monkeypatch.setattr(module, "sender", lambda case, work: files)
    monkeypatch.setattr(cost.Lab, "bundle", lambda self: work.root / "bundle")
    return fake


def test_a_night_is_measured_command_by_command(work: Work, shipped: Shipped) -> None:
    players = cost.players(TINY, work)
    contest([player.entrant for player in players], Silent())
    found = make_lines(TINY, players, 2)
    assert [(one.impl, one.status, one.median) for one in found] == [
        ("ingest", "ok", 10.0),
        ("compact", "ok", 10.0),
        ("train", "ok", 10.0),
        ("score", "ok", 5.0),
    ]
    assert found[0].figures.keys() == {"raw_bytes", "store_bytes", "peak_disk_bytes"}
    assert found[3].figures["shard_bytes"] <= found[3].figures["peak_disk_bytes"]
    assert found[3].stages == {"choose": 2.0, "spread": 1.0}


@pytest.mark.parametrize(
    ("claims", "statuses", "reason"),
    [
        ({"score": 2_999}, ["ok", "ok", "ok", "wrong"], "3000 rows in the shards are wanted; found 2999"),
        ({"compact": 99}, ["ok", "wrong", "ok", "ok"], "100 events are wanted; found 99"),
        ({"ingest": -1}, ["failed", "skipped", "skipped", "skipped"], "ended with 65"),
    ],
)
def test_a_command_that_loses_a_row_or_fails_has_no_figure(
    claims: dict[str, int], statuses: list[str], reason: str, work: Work, shipped: Shipped
) -> None:
    shipped.rows = claims
    players = cost.players(TINY, work)
    contest([player.entrant for player in players], Silent())
    found = make_lines(TINY, players, 2)
    assert [one.status for one in found] == statuses
    bad = next(one for one in found if one.status in ("wrong", "failed"))
    assert (bad.median, bad.figures, bad.stages) == (None, {}, {})
    assert reason in bad.reason
    assert len(suite.red_gates(found)) == 1


def test_a_pair_is_told_by_its_work_and_the_start_apart(work: Work, shipped: Shipped) -> None:
    players = pair.players(PAIR, work)
    contest([player.entrant for player in players], Silent())
    ray, threads = make_lines(PAIR, players, 2)
    assert (ray.impl, ray.median, ray.stages["start"]) == ("ray", 3.0, 7.0)
    assert (threads.median, threads.stages["start"]) == (3.0, 2.0)
    assert ray.figures["work_ratio"] == 1.0
    assert "work_ratio" not in threads.figures


def test_a_run_without_a_manifest_is_not_committed(tmp_path: Path) -> None:
    (tmp_path / "assignments").mkdir()
    pq.write_table(pa.table({"n": pa.array(range(3_000))}), tmp_path / "assignments" / "part-0000.parquet")
    with pytest.raises(GateFailed, match="must be committed"):
        cost.shards(TINY, tmp_path)


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
    command = ["bench", "scale", "--case", TINY.name, "--work", str(tmp_path), "--json", str(path), "--quiet"]
    assert cli.run_command([*command, "--threads", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["red_gates"] == 0
    lines = read_as(Line, path)
    assert [one.impl for one in lines] == ["ingest", "compact", "train", "score"]
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
    assert "| p | ray | 4 | 7 | 8 | 900 | 250 | 90.0% |" in found
    assert r"| p | threads | skipped: no \| Ray | | | | | |" in found
    assert "| m | 4 | 8 | 900 | manifest 2 MiB |" in found
    assert "| 1,000,000,000 | 8,192 |  |  |  | 2.22 |  |  |  | 3.15 |  |" in found
    tables = [row for row in found if row.startswith("|")]
    heads = {row: tables[at - 1] for at, row in enumerate(tables) if row.startswith(("|---", "|-"))}
    assert all(rule.count("|") == head.count("|") for rule, head in heads.items())
    assert report.document("no markers") == "no markers"


def test_the_figures_of_the_readmes_are_those_of_the_committed_results() -> None:
    assert report.main(["--check"]) == 0, "a README is not what the results say: run python -m sto_scale.report"
