"""Results files -> the Markdown tables of the READMEs, between their markers, so that no figure is typed by hand.

`python -m sto_bench.report` regenerates README.md and benchmarks/README.md from benchmarks/results/kernel-*.jsonl;
with `--check` it writes nothing and exits with 1 when one of them is not what the results say.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sto_bench.cases import HEADLINE, PRODUCT
from sto_bench.records import Record, busiest, read
from sto_bench.runner import REASON_CHARS

BEGIN, END = "<!-- bench:kernel -->", "<!-- /bench -->"
INTERLEAVED = "; medians of interleaved rounds"
ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
README_CASES = (HEADLINE, PRODUCT)
# where tables stand, and of which cases; none named is all of them
DOCUMENTS: dict[Path, tuple[str, ...]] = {ROOT / "README.md": README_CASES, ROOT / "benchmarks" / "README.md": ()}
_HEAD = "| forest | scored by | recipients/s | 20 % - 80 % | ours is so many times as fast |"


def results_files(folder: Path = RESULTS) -> list[Path]:
    """The results files of the kernel, one a machine."""
    return sorted(folder.glob("kernel-*.jsonl"))


def render(files: Sequence[Path], cases: Sequence[str] = README_CASES) -> str:
    """One table a results file of the named cases (all of them when none is named)."""
    parts = []
    for path in files:
        records = [r for r in read(path) if r.metric == "users_per_s" and (not cases or r.case in cases)]
        if records:
            parts.append("\n".join([_caption(records), "", _HEAD, "|---|---|---:|---:|---:|", *_rows(records)]))
    return "\n\n".join(parts) or "No results yet."


def _caption(records: Sequence[Record]) -> str:
    reps = ", ".join(sorted({str(r.reps) for r in records if r.reps}))
    threads = ", ".join(sorted({str(r.threads) for r in records}))
    return caption(records, f"; medians of {reps} interleaved rounds", threads)


def caption(records: Sequence[Any], what: str = "", threads: str | None = None) -> str:
    """Machine, threads (default: the most), revision and day, each once, however many there are; `what` figures are."""
    revisions = ", ".join(sorted({r.git_revision or "?" for r in records}))
    days = ", ".join(sorted({r.timestamp[:10] for r in records}))
    threads = threads or str(max(r.threads for r in records))
    cores = busiest(records)
    busy = f" (on a busy machine: others took up to {cores:.1f} cores)" if cores else ""
    return f"{records[0].cpu}, {threads} threads, revision {revisions}, {days}{what}{busy}:"


def _rows(records: Sequence[Record]) -> list[str]:
    """Rows case by case, fastest first; what has no figure follows with its reason."""
    rows = []
    for case in dict.fromkeys(r.case for r in records):
        of_case = [r for r in records if r.case == case]
        ours = next((r for r in of_case if r.is_ours and r.median is not None), None)
        order = sorted(of_case, key=lambda r: -(r.median or 0.0))
        rows += [_row(r, ours) for r in order if r.status != "skipped"]
        skipped = [f"{r.impl} ({r.reason})" for r in order if r.status == "skipped"]
        if skipped:
            rows.append(f"| {case} | not measured: {cell_text('; '.join(skipped))} | | | |")
    return rows


def _row(r: Record, ours: Record | None) -> str:
    name = f"**{r.impl}**" if r.is_ours else r.impl
    if r.median is None or r.q20 is None or r.q80 is None:
        return f"| {r.case} | {name} | {cell_text(f'{r.status}: {r.reason}')} | | |"
    times = "" if ours is None or r.impl not in ours.ratio_to else f"{ours.ratio_to[r.impl]:.3g}"
    return f"| {r.case} | {name} | {rounded(r.median)} | {rounded(r.q20)} - {rounded(r.q80)} | {times} |"


def rounded(value: float) -> str:
    """Three significant digits: more than that is noise."""
    return f"{float(f'{value:.3g}'):,.0f}"


def cell_text(text: str) -> str:
    """Text that cannot break out of its cell."""
    return " ".join(text.split()).replace("|", "\\|")[:REASON_CHARS]


def insert(text: str, table: str, begin: str = BEGIN, end: str = END) -> str:
    """`text` with `table` between its markers. Raises ValueError unless it holds both markers once, in order."""
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(
            f"expected {begin} and later {end}, once each; found {text.count(begin)} and {text.count(end)}"
        )
    before, rest = text.split(begin)
    return f"{before}{begin}\n\n{table}\n\n{end}{rest.split(end)[1]}"


def regenerate(documents: Mapping[Path, Callable[[str], str]], arguments: Sequence[str]) -> int:
    """Each document as its function makes it of what it holds; with `--check`, 1 if that would change one."""
    stale = 0
    for path, made in documents.items():
        old = path.read_text(encoding="utf-8")
        new = made(old)
        stale += old != new
        if "--check" not in arguments:
            path.write_text(new, encoding="utf-8")
    return int("--check" in arguments and stale > 0)


def main(arguments: Sequence[str] = sys.argv[1:]) -> int:
    """Regenerate the documents, or say whether they are up to date."""

    def with_cases(cases: Sequence[str]) -> Callable[[str], str]:
        return lambda text: insert(text, render(results_files(), cases))

    return regenerate({path: with_cases(cases) for path, cases in DOCUMENTS.items()}, arguments)


if __name__ == "__main__":
    sys.exit(main())
