import dataclasses
from pathlib import Path

import pytest

from bench.test_records import BROKEN, GONE, OURS, PEER
from sto_bench import report
from sto_bench.cases import CASES, HEADLINE, TINY
from sto_bench.contest import Outcome
from sto_bench.records import make_records, read, write


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "kernel-cpu.jsonl"
    found = [r for name in (HEADLINE, TINY) for r in make_records(CASES[name], [PEER, OURS, GONE, BROKEN], threads=2)]
    write(
        path, [dataclasses.replace(r, cpu="A CPU", git_revision="abc", timestamp="2026-11-24T10:00:00") for r in found]
    )
    return path


def test_a_table_has_its_machine_and_a_row_for_each_contestant_fastest_first(results: Path) -> None:
    lines = report.render([results]).splitlines()
    assert lines[0] == "A CPU, 2 threads, revision abc, 2026-11-24; medians of 3 interleaved rounds:"
    assert lines[4:] == [
        f"| {HEADLINE} | **bitslice** | 100 | 88 - 112 |  |",
        f"| {HEADLINE} | xgboost | 10 | 10 - 10 | 10 |",
        f"| {HEADLINE} | lightgbm | failed: MemoryError: no room | | |",
        f"| {HEADLINE} | not measured: ydf (ydf cannot be imported) | | | |",
    ]
    assert TINY in report.render([results], cases=())


def test_a_wrong_kernel_is_in_the_table_without_a_figure(tmp_path: Path) -> None:
    path = tmp_path / "kernel-cpu.jsonl"
    wrong = Outcome("bitslice", True, "wrong", "off | by\n3")
    write(path, make_records(CASES[HEADLINE], [wrong, PEER], threads=1))
    table = report.render([path])
    assert r"**bitslice** | wrong: off \| by 3 | | |" in table
    assert "| xgboost | 10 | 10 - 10 |  |" in table


def test_a_busy_machine_is_told_above_the_table(results: Path) -> None:
    write(results, [dataclasses.replace(r, others_cores=0.4) for r in read(results)])
    assert "(on a busy machine: others took up to 0.4 cores):" in report.render([results])


def test_the_table_goes_between_its_markers_and_again() -> None:
    text = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    once = report.insert(text, "new")
    assert once == f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n"
    assert report.insert(once, "new") == once


@pytest.mark.parametrize("text", ["", report.BEGIN, f"{report.END}{report.BEGIN}", 2 * f"{report.BEGIN}{report.END}"])
def test_a_text_without_the_markers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        report.insert(text, "new")


def test_the_readme_is_regenerated_and_checked(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"x\n{report.BEGIN}\n{report.END}\n")
    monkeypatch.setattr(report, "DOCUMENTS", {readme: ()})
    monkeypatch.setattr(report, "results_files", lambda: [results])
    assert report.main(["--check"]) == 1
    assert report.main([]) == 0
    assert report.main(["--check"]) == 0
    assert "| 10 |" in readme.read_text()


def test_the_figures_of_the_readmes_are_those_of_the_committed_results() -> None:
    if not report.results_files():
        pytest.skip("no results are committed yet")
    assert report.main(["--check"]) == 0, "a README is not what the results say: run python -m sto_bench.report"
