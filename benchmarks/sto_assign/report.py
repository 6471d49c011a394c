"""Results files -> the tables of assignment in the READMEs, between their markers.

`python -m sto_assign.report` regenerates them from benchmarks/results/assign-*.jsonl; with `--check` it writes nothing
and exits with 1 when one of them is not what the results say. A document without the markers has no such table.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from sto_assign.records import Line
from sto_bench.records import read_as
from sto_bench.report import INTERLEAVED, RESULTS, ROOT, caption, cell_text, insert, regenerate

BEGIN, END = "<!-- bench:assign -->", "<!-- /bench:assign -->"
DOCUMENTS = (ROOT / "README.md", ROOT / "benchmarks" / "README.md")
_LIMITS = (
    "| case | by | below the optimum | below our proved bound | over capacity | without a slot | moved | fit, s | "
    "then, s per million | in all, s | MiB |"
)
_SPREAD = "| case | by | fullest second | 10 s | minute | of the largest provider: second | 10 s | minute | in all, s |"


def results_files(folder: Path = RESULTS) -> list[Path]:
    """The results files, one a machine."""
    return sorted(folder.glob("assign-*.jsonl"))


def render(files: Sequence[Path]) -> str:
    """Two tables a results file: under limits, and the spread."""
    parts = []
    for path in files:
        lines = read_as(Line, path)
        under = [line for line in lines if line.resources]
        spread = [line for line in lines if not line.resources]
        parts.append(caption(lines, INTERLEAVED))
        if under:
            parts.append("\n".join([_LIMITS, "|---|---|" + "---:|" * 9, *map(_limits_row, under)]))
        if spread:
            parts.append("\n".join([_SPREAD, "|---|---|" + "---:|" * 7, *map(_spread_row, spread)]))
    return "\n\n".join(parts) or "No results yet."


def _limits_row(line: Line) -> str:
    if line.median is None:
        return f"| {line.case} | {_name(line)} | {cell_text(f'{line.status}: {line.reason}')} |" + " |" * 8
    figures = line.figures
    cells = [
        *(_percent(figures.get(name)) for name in ("gap_exact", "gap_certified", "over_share")),
        f"{figures.get('unplaced', 0):,.0f}",
        _percent(figures.get("moved_share")),
        *(_seconds(figures.get(name)) for name in ("fit_s", "after_s_per_m")),
        _seconds(line.median),
        f"{line.peak_mib or 0:,.0f}",
    ]
    return f"| {line.case} | {_name(line)} | {' | '.join(cells)} |"


def _spread_row(line: Line) -> str:
    if line.median is None:
        return f"| {line.case} | {_name(line)} | {cell_text(f'{line.status}: {line.reason}')} |" + " |" * 6
    cells = [f"{line.figures[f'{what}_{cell}s']:.3f}" for what in ("all", "largest") for cell in (1, 10, 60)]
    return f"| {line.case} | {_name(line)} | {' | '.join(cells)} | {_seconds(line.median)} |"


def _name(line: Line) -> str:
    return f"**{line.impl}**" if line.is_ours else line.impl


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}" if abs(share) >= 0.01 else f"{share + 0.0:.4%}"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.3g}"


def document(text: str) -> str:
    """The text with the table, if it has the markers. Raises ValueError for half a pair."""
    return insert(text, render(results_files()), BEGIN, END) if BEGIN in text or END in text else text


def main(arguments: Sequence[str] = sys.argv[1:]) -> int:
    """Regenerate the documents, or say whether they are up to date."""
    return regenerate(dict.fromkeys(DOCUMENTS, document), arguments)


if __name__ == "__main__":
    sys.exit(main())
