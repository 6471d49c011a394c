"""Results files -> the tables of the data path in the READMEs, between their markers.

`python -m sto_pipeline.report` regenerates them from the files of their kinds in benchmarks/results; with `--check` it
writes nothing and exits with 1 when one of them is not what the results say. A document without the markers of a table
has no such table.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from sto_bench.records import read_as
from sto_bench.report import INTERLEAVED, RESULTS, ROOT, caption, cell_text, insert, regenerate, rounded
from sto_pipeline.records import UNITS, Measure

DOCUMENTS = (ROOT / "README.md", ROOT / "benchmarks" / "README.md")


def markers(kind: str) -> tuple[str, str]:
    """The lines that a table of a kind stands between."""
    return f"<!-- bench:{kind} -->", f"<!-- /bench:{kind} -->"


def results_files(kind: str, folder: Path = RESULTS) -> list[Path]:
    """The results files of a kind, one a machine."""
    return sorted(folder.glob(f"{kind}-*.jsonl"))


def render(kind: str, files: Sequence[Path]) -> str:
    """One table a results file."""
    parts = []
    for path in files:
        measures = read_as(Measure, path)
        head = f"| case | by | {UNITS[kind]}/s | 20 % - 80 % | core-s | peak MiB | ours is so many times as fast |"
        rows = [line for m in measures for line in _rows(m, measures)]
        parts.append(
            "\n".join(
                [
                    caption(measures, INTERLEAVED, str(measures[0].threads)),
                    "",
                    head,
                    "|---|---|---:|---:|---:|---:|---:|",
                    *rows,
                ]
            )
        )
    return "\n\n".join(parts) or "No results yet."


def _rows(m: Measure, measures: Sequence[Measure]) -> list[str]:
    name = f"**{m.impl}**" if m.is_ours else m.impl
    if m.median is None or m.q20 is None or m.q80 is None:
        return [f"| {m.case} | {name} | {cell_text(f'{m.status}: {m.reason}')} | | | | |"]
    ours = next((o for o in measures if o.is_ours and o.case == m.case), None)
    times = f"{ours.ratio_to[m.impl]:.3g}" if ours is not None and m.impl in ours.ratio_to else ""
    figures = (
        f"{rounded(m.median)} | {rounded(m.q20)} - {rounded(m.q80)} | {m.core_s or 0:.3g} | {m.peak_mib or 0:,.0f}"
    )
    rows = [f"| {m.case} | {name} | {figures} | {times} |"]
    if m.stages:
        what = "core seconds" if "count" in m.stages else "seconds"
        stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in m.stages.items())
        rows.append(f"| {m.case} | {what} by stage: {stages} | | | | | |")
    return rows


def document(text: str) -> str:
    """The text with every table that it has markers of. Raises ValueError for half a pair."""
    for kind in UNITS:
        begin, end = markers(kind)
        if begin in text or end in text:
            text = insert(text, render(kind, results_files(kind)), begin, end)
    return text


def main(arguments: Sequence[str] = sys.argv[1:]) -> int:
    """Regenerate the documents, or say whether they are up to date."""
    return regenerate(dict.fromkeys(DOCUMENTS, document), arguments)


if __name__ == "__main__":
    sys.exit(main())
