"""Results files -> the table of Beta draws in benchmarks/README.md, between its markers.

`python -m sto_draws.report` regenerates it from benchmarks/results/draws-*.jsonl; with `--check` it writes nothing and
exits with 1 when it is not what the results say. A document without the markers has no such table.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from sto_bench.records import read_as
from sto_bench.report import INTERLEAVED, RESULTS, ROOT, caption, cell_text, insert, regenerate
from sto_draws.records import Line

BEGIN, END = "<!-- bench:draws -->", "<!-- /bench:draws -->"
DOCUMENTS = (ROOT / "README.md", ROOT / "benchmarks" / "README.md")
_HEAD = (
    "| case | by | million draws/s | 20 % - 80 % | a core-second | ours is so many times as fast | by core-seconds |"
)


def results_files(folder: Path = RESULTS) -> list[Path]:
    """The results files, one a machine."""
    return sorted(folder.glob("draws-*.jsonl"))


def render(files: Sequence[Path]) -> str:
    """One table a results file."""
    parts = []
    for path in files:
        lines = read_as(Line, path)
        ours = {line.case: line for line in lines if line.is_ours}
        rows = [_row(line, ours.get(line.case)) for line in lines]
        parts.append("\n".join([caption(lines, INTERLEAVED), "", _HEAD, "|---|---|" + "---:|" * 5, *rows]))
    return "\n\n".join(parts) or "No results yet."


def _row(line: Line, ours: Line | None) -> str:
    name = f"**{line.impl}**" if line.is_ours else line.impl
    if line.median is None or line.q20 is None or line.q80 is None:
        return f"| {line.case} | {name} | {cell_text(f'{line.status}: {line.reason}')} | | | | |"
    cells = [_millions(line.median), f"{_millions(line.q20)} - {_millions(line.q80)}", _millions(line.core_rate or 0)]
    for ratios in (ours.ratio_to, ours.core_ratio_to) if ours else ({}, {}):
        cells.append(f"{ratios[line.impl]:.3g}" if line.impl in ratios else "")
    return f"| {line.case} | {name} | {' | '.join(cells)} |"


def _millions(rate: float) -> str:
    return f"{rate / 1e6:.3g}"


def document(text: str) -> str:
    """The text with the table, if it has the markers. Raises ValueError for half a pair."""
    return insert(text, render(results_files()), BEGIN, END) if BEGIN in text or END in text else text


def main(arguments: Sequence[str] = sys.argv[1:]) -> int:
    """Regenerate the documents, or say whether they are up to date."""
    return regenerate(dict.fromkeys(DOCUMENTS, document), arguments)


if __name__ == "__main__":
    sys.exit(main())
