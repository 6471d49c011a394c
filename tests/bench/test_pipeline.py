"""The benchmarks of the data path on senders too small for a figure: who takes part, what is checked, what is kept."""

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import polars as pl
import pytest

from sto_bench.contest import GateFailed, Missing
from sto_bench.records import read_as, write
from sto_engine import bench_cli, cli
from sto_engine.ingest.store import Store
from sto_engine.progress import Silent
from sto_pipeline import answers, events, features_ours, processes, report
from sto_pipeline.cases import CASES, GATE, contestants, select
from sto_pipeline.contest import Entrant, Turn, contest
from sto_pipeline.made import Work
from sto_pipeline.records import Measure, make_measures

PLENTY = Turn(2.0, 3.0, 100, 50.0, {"read": 1.0}, {"sent": 10.0})


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    return Work.at(tmp_path_factory.mktemp("work"), Silent(), 2)


@pytest.fixture
def own_threads() -> Iterator[None]:
    """The command sets what polars reads at its first import; other tests must not inherit it."""
    before = os.environ.get("POLARS_MAX_THREADS")
    yield
    os.environ.pop("POLARS_MAX_THREADS", None)
    if before is not None:
        os.environ["POLARS_MAX_THREADS"] = before


def entrant(name: str, *turns: Turn | Exception, rounds: int = 2) -> Entrant:
    left = iter(turns)

    def turn() -> Turn:
        found = next(left)
        if isinstance(found, Exception):
            raise found
        return found

    return Entrant(name, name == "ours", turn, rounds)


def test_everybody_runs_his_rounds_and_ratios_are_taken_within_them() -> None:
    ours, peer = (
        entrant("ours", PLENTY, replace(PLENTY, seconds=4.0)),
        entrant("peer", replace(PLENTY, seconds=8.0), rounds=1),
    )
    contest([ours, peer], Silent())
    first, second = make_measures(CASES["features_u3k"], [ours, peer], threads=2)
    assert (first.reps, second.reps) == (2, 1)
    assert first.ratio_to == {"peer": 4.0}
    assert (first.unit, first.tensors, first.stages, first.core_s) == ("events/s", "all", {"read": 1.0}, 3.0)
    assert second.ratio_to == {}


@pytest.mark.parametrize(
    ("end", "status"), [(Missing("no such library"), "skipped"), (GateFailed("off"), "wrong"), (OSError("x"), "failed")]
)
def test_one_that_cannot_go_on_keeps_its_reason_and_stops_nobody(end: Exception, status: str) -> None:
    ours, peer = entrant("ours", PLENTY, PLENTY), entrant("peer", end)
    contest([ours, peer], Silent())
    first, second = make_measures(CASES["features_u3k"], [ours, peer], threads=2)
    assert first.status == "ok"
    assert (second.status, second.median) == (status, None)
    assert str(end) in second.reason


def test_totals_that_differ_from_ours_are_wrong() -> None:
    ours = entrant("ours", PLENTY, PLENTY)
    peer = entrant("peer", replace(PLENTY, totals={"sent": 10.01}), PLENTY)
    contest([ours, peer], Silent())
    assert peer.ended is not None
    assert (peer.ended.status, peer.ended.reason) == ("wrong", "the sum of sent must be 10; found 10.01")


def test_a_process_tells_its_memory_and_its_failure() -> None:
    hungry = "import time; x = bytearray(200 << 20); time.sleep(0.2); print('done')"
    ended = processes.run([sys.executable, "-c", hungry], {})
    assert ended.out == "done\n"
    assert 200 < ended.peak_mib < 400
    assert ended.seconds > 0.2
    with pytest.raises(processes.ChildFailed, match="no luck"):
        processes.run([sys.executable, "-c", "raise SystemExit('no luck')"], {})


def test_the_events_need_no_cleaning(work: Work) -> None:
    rows = pl.read_parquet(work.events(GATE) / "*.parquet")
    assert 9 * GATE.users < len(rows) < 11 * GATE.users
    sends = rows.filter(pl.col("event_type") == "send")
    assert not sends.select("user_id", "campaign_id").is_duplicated().any()
    assert rows.group_by("user_id").agg(pl.col("tz_offset").n_unique())["tz_offset"].max() == 1
    acts = rows.filter(pl.col("event_type") != "send").join(sends, on=["user_id", "campaign_id"], how="left")
    assert (acts["event_ts"] - acts["event_ts_right"]).min().total_seconds() >= 240  # type: ignore[union-attr]
    assert int(rows["event_ts"].dt.epoch("ms").max()) < events.ORIGIN_MS  # type: ignore[arg-type]


def test_our_tensors_are_those_of_the_twins_and_a_changed_one_is_told(work: Work, tmp_path: Path) -> None:
    store = work.store(GATE)
    truth, ids = features_ours.twins(store)
    assert len(Store.open(store).manifest["generations"]) == 1
    ours = features_ours.Ours(2)
    totals, stages = ours.run(store, keep=True)
    dense = ours.dense()
    answers.save(tmp_path / "answer.npz", dense)
    answers.check(tmp_path / "answer.npz", truth)
    assert set(stages) == {"read", "users", "journal", "clean", "count"}
    assert totals["sent"] == truth["sent"].sum() > 8 * len(ids)
    dense["exposure_48"][7, 3] += 0.01
    answers.save(tmp_path / "answer.npz", dense)
    with pytest.raises(GateFailed, match="exposure_48 of user 7, cell 3"):
        answers.check(tmp_path / "answer.npz", truth)


def test_the_first_totals_are_the_sums_of_the_tensors(work: Work) -> None:
    ours = features_ours.Ours(1)
    totals, _ = ours.run(work.store(GATE), keep=True)
    for name, dense in ours.dense().items():
        if name != "last_act":
            np.testing.assert_allclose(totals[name], dense.sum(), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("own_threads")
@pytest.mark.parametrize(
    ("kind", "case"),
    [("features", "features_u3k"), ("ingest", "ingest_u2k"), ("score", "score_u2k"), ("outcomes", "outcomes_u2k")],
)
def test_a_run_measures_keeps_and_tells(
    kind: str, case: str, work: Work, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"{kind}.jsonl"
    command = [
        "bench",
        kind,
        "--case",
        case,
        "--work",
        str(work.root),
        "--json",
        str(path),
        "--quiet",
        "--threads",
        "2",
    ]
    assert cli.run_command(command) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["red_gates"] == 0
    ours, *peers = read_as(Measure, path)
    assert (ours.impl, ours.status, ours.users) == ("ours", "ok", CASES[case].users)
    assert [peer.impl for peer in peers] == list(CASES[case].peers)
    # a library that is not installed is skipped; one that is must have answered what ours answered
    assert {peer.status for peer in peers} <= {"ok", "skipped"}
    assert ours.peak_mib is not None
    assert ours.peak_mib > 50
    if kind == "score":
        assert {"priors", "choose", "spread", "start"} <= set(ours.stages)


@pytest.mark.usefixtures("own_threads")
@pytest.mark.parametrize("command", ["features", "ingest", "score", "outcomes"])
def test_options_are_the_promised_ones_and_nonsense_is_refused(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = getattr(bench_cli, command)
    options = [option for param in found.params if isinstance(param, click.Option) for option in param.opts]
    assert options[:6] == ["--quick", "--full", "--json", "--case", "--peer", "--work"]
    for arguments, code, text in (
        (["--quick", "--full"], 2, "both"),
        (["--case", "absent"], 2, f"{command}_u1m"),
        (["--peer", "absent"], 2, "none"),
        (["--json", "absent/x.jsonl"], 73, "absent"),
    ):
        assert cli.run_command(["bench", command, "--quiet", *arguments]) == code
        assert text in capsys.readouterr().err
    assert cli.run_command(["bench", command, "--help"]) == 0
    example = re.search(rf"Example:  sto-engine bench {command} (.*)", capsys.readouterr().out)
    assert example is not None
    found.make_context(command, example[1].split())


def test_a_tier_holds_its_cases_and_no_peers_means_none() -> None:
    assert [case.name for case in select("features", (), "full")] == ["features_u1m", "features_u5m"]
    assert [case.name for case in select("ingest", (), "quick")] == ["ingest_u100k"]
    assert contestants(CASES["features_u1m"], ("none",)) == []
    assert contestants(CASES["features_u5m"], ("chdb",)) == ["chdb"]


def test_a_document_gets_the_tables_that_it_has_markers_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, peer = entrant("ours", PLENTY, PLENTY), entrant("peer", Missing("no | library"))
    contest([ours, peer], Silent())
    measures = make_measures(CASES["features_u3k"], [ours, peer], threads=2)
    fixed = [replace(m, cpu="A CPU", git_revision="abc", timestamp="2026-11-25", others_cores=None) for m in measures]
    write(tmp_path / "features-a.jsonl", fixed)
    monkeypatch.setattr(report, "results_files", lambda kind: [tmp_path / f"{kind}-a.jsonl"])
    begin, end = report.markers("features")
    lines = report.document(f"{begin}\nold\n{end}\n").splitlines()
    assert lines[2] == "A CPU, 2 threads, revision abc, 2026-11-25; medians of interleaved rounds:"
    assert lines[6:9] == [
        "| features_u3k | **ours** | 50 | 50 - 50 | 3 | 50 |  |",
        "| features_u3k | seconds by stage: read 1.00 | | | | | |",
        r"| features_u3k | peer | skipped: no \| library | | | | |",
    ]
    assert report.document("no markers") == "no markers"
    with pytest.raises(ValueError, match="once each"):
        report.document(begin)


def test_the_figures_of_the_readmes_are_those_of_the_committed_results() -> None:
    assert report.main(["--check"]) == 0, "a README is not what the results say: run python -m sto_pipeline.report"
