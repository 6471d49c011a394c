"""Results files -> the tables of scale in benchmarks/README.md and configs/cluster/README.md, between their markers.

`python -m sto_scale.report` regenerates them from benchmarks/results/scale-*.jsonl; with `--check` it writes nothing
and exits with 1 when one of them is not what the results say. A document without the markers of a table has none.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from sto_bench.records import read_as
from sto_bench.report import RESULTS, ROOT, caption, cell_text, insert, regenerate
from sto_scale.fit import QUANTITIES, Fit, fits
from sto_scale.records import Line
from sto_scale.sizes import ASSUMED, COMMANDS, STORED, Size, sizes

R = TypeVar("R")
DOCUMENTS = (ROOT / "benchmarks" / "README.md", ROOT / "configs" / "cluster" / "README.md")
NONE = "No results yet."
_COST = "| case | command | s | core-s | core-µs a recipient | peak MiB | figures |"
_FIT = "| command | what | fixed | a million recipients | a million events | off by at most | cases |"
_PAIR = (
    "| case | by | work, s | start and end, s | MiB in all | MiB of the driver | rate of work over that of threads |"
)
_DRIVER = "| case | s | core-s | peak MiB | figures |"


def results_files(folder: Path = RESULTS) -> list[Path]:
    """The results files, one a machine."""
    return sorted(folder.glob("scale-*.jsonl"))


def measured(files: Sequence[Path]) -> str:
    """What was measured and what was fitted, a machine after the other."""
    parts = []
    for path in files:
        lines = read_as(Line, path)
        of = {kind: [line for line in lines if line.kind == kind] for kind in ("cost", "pair", "driver")}
        parts.append(caption(lines))
        parts += _table(_COST, "llrrrrl", of["cost"], _cost_row)
        parts += _table(_FIT, "llrrrrr", fits(lines), _fit_row)
        parts += _table(_PAIR, "llrrrrr", of["pair"], _pair_row)
        parts += _table(_DRIVER, "lrrrl", of["driver"], _driver_row)
    return "\n\n".join(parts) or NONE


def sized(files: Sequence[Path]) -> str:
    """What senders of several sizes ask for, by the fits of each machine."""
    parts = []
    for path in files:
        lines = read_as(Line, path)
        fitted = fits(lines)
        if fitted:
            stored = [name for _, _, name in STORED]
            head = ["recipients", "buckets", *(f"core-hours: {c}" for c in COMMANDS), *(f"GB: {s}" for s in stored)]
            parts += [
                caption(lines),
                *_table(f"| {' | '.join(head)} |", "r" * len(head), sizes(fitted), _size_row),
                ASSUMED,
            ]
    return "\n\n".join(parts) or NONE


def _table(head: str, places: str, rows: Sequence[R], row: Callable[[R], str]) -> list[str]:
    """`places` says of each column whether it stands left or right."""
    rule = "|".join("---:" if place == "r" else "---" for place in places)
    return ["\n".join([head, f"|{rule}|", *(row(one) for one in rows)])] if rows else []


def _cost_row(line: Line) -> str:
    if line.median is None:
        return f"| {line.case} | {line.impl} | {_why(line)} | | | | |"
    core_s = line.core_s or 0.0
    cells = [_number(line.median), _number(core_s), _number(core_s / line.users * 1e6), f"{line.peak_mib or 0:,.0f}"]
    return f"| {line.case} | {line.impl} | {' | '.join(cells)} | {_figures(line)} |"


def _fit_row(fit: Fit) -> str:
    scale = 2**20 if "bytes" in fit.quantity else 1.0
    cells = [fit.fixed / scale, fit.per_recipient * 1e6 / scale, fit.per_event * 1e6 / scale]
    what = QUANTITIES[fit.part, fit.quantity].replace("bytes", "MiB")
    return f"| {fit.part} | {what} | {' | '.join(map(_number, cells))} | {fit.worst:.1%} | {fit.points} |"


def _pair_row(line: Line) -> str:
    if line.median is None:
        return f"| {line.case} | {line.impl} | {_why(line)} | | | | |"
    cells = [line.median, line.stages.get("start", 0.0)]
    memory = f"{line.peak_mib or 0:,.0f} | {line.figures.get('driver_mib', 0):,.0f}"
    ratio = line.figures.get("work_ratio")
    told = "" if ratio is None else f"{ratio:.1%}"
    return f"| {line.case} | {line.impl} | {' | '.join(map(_number, cells))} | {memory} | {told} |"


def _driver_row(line: Line) -> str:
    if line.median is None:
        return f"| {line.case} | {_why(line)} | | | |"
    cells = [_number(line.median), _number(line.core_s or 0.0), f"{line.peak_mib or 0:,.0f}"]
    return f"| {line.case} | {' | '.join(cells)} | {_figures(line)} |"


def _size_row(size: Size) -> str:
    hours = [_number(size.core_hours[part]) for part in COMMANDS]
    stored = [_number(None if value is None else value / 1e9) for value in size.stored.values()]
    return f"| {size.users:,} | {size.buckets:,} | {' | '.join([*hours, *stored])} |"


def _figures(line: Line) -> str:
    """Bytes as MiB; seconds of stages first."""
    told = [f"{name} {seconds:.3g} s" for name, seconds in line.stages.items()]
    for name, value in line.figures.items():
        is_bytes = name.endswith("_bytes")
        told.append(f"{name.removesuffix('_bytes')} {value / 2**20:,.3g} MiB" if is_bytes else f"{name} {value:,.6g}")
    return ", ".join(told).replace("_", " ")


def _why(line: Line) -> str:
    return cell_text(f"{line.status}: {line.reason}")


def _number(value: float | None) -> str:
    if value is None or value < 1e-9:
        return "" if value is None else "0"
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


TABLES: dict[str, Callable[[Sequence[Path]], str]] = {"scale": measured, "scale:sizes": sized}


def document(text: str) -> str:
    """The text with the tables whose markers it has. Raises ValueError for half a pair."""
    for name, table in TABLES.items():
        begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
        if begin in text or end in text:
            text = insert(text, table(results_files()), begin, end)
    return text


def main(arguments: Sequence[str] = sys.argv[1:]) -> int:
    """Regenerate the documents, or say whether they are up to date."""
    return regenerate(dict.fromkeys(DOCUMENTS, document), arguments)


if __name__ == "__main__":
    sys.exit(main())
