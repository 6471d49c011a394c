"""A results file -> the Markdown tables of a document, between their markers, and a chart; no figure is typed by hand.

`python -m sto_decisions.report` writes both; with `--check` it writes nothing and exits with 1 when one of them is not
what the results say.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

from sto_decisions.best_day_report import best_day
from sto_decisions.chart import draw
from sto_decisions.cold_report import charts, cold
from sto_decisions.loop_report import loop
from sto_decisions.records import RESULTS, Record, read
from sto_decisions.tables import NO_EVIDENCE, facts, missing, number, policies_of, shown, table

BEGIN, END = "<!-- decisions -->", "<!-- /decisions -->"
DOCUMENT = Path(__file__).resolve().with_name("README.md")
CHART = RESULTS.with_suffix(".svg")
NONE = "No results yet."


def render(records: Sequence[Record]) -> str:
    """Every table, each under its heading and with the facts of its measurement."""
    parts = [
        *_worlds(records),
        *loop(records),
        *cold(records),
        *best_day(records),
        *_activity(records),
        *_replies(records),
    ]
    return "\n\n".join(parts) or NONE


def _worlds(records: Sequence[Record]) -> list[str]:
    """A table for each history: policies down, worlds across, mean over seeds; and one of how they choose."""
    mine = [r for r in records if r.suite == "world"]
    parts = []
    for users, history in dict.fromkeys((r.users, r.history) for r in mine):
        of_one = [r for r in mine if (r.users, r.history) == (users, history)]
        worlds = list(dict.fromkeys(r.world for r in of_one))
        seeds = ", ".join(str(seed) for seed in sorted({r.seed for r in of_one}))
        head = f"#### History `{history}`\n\n% of the oracle's lift over 10:00 local time, opens within 2 h / 24 h; "
        head += f"{users:,} recipients a world, mean of seeds {seeds}{_width(of_one)}. {facts(of_one)} {NO_EVIDENCE}"
        rows = [[shown(p), *_captured_row(of_one, p, worlds)] for p in policies_of(of_one)]
        parts += [head, table(["policy", *worlds, "mean"], rows), *missing(of_one)]
    if mine:
        parts += ["#### How they choose\n\nMeans over all worlds, histories and seeds above.", _habits(mine)]
    return parts


def _captured_row(records: Sequence[Record], policy: str, worlds: Sequence[str]) -> list[str]:
    """One cell a world and their mean; a world where nothing can be gained has no figure, nor has a failure."""
    found = {w: [r for r in records if r.policy == policy and r.world == w and r.status == "ok"] for w in worlds}
    pairs = {w: (_mean(rs, "captured_percent_2h"), _mean(rs, "captured_percent_24h")) for w, rs in found.items()}
    both = [[pair[i] for pair in pairs.values() if pair[i] is not None] for i in (0, 1)]
    whole = all(found.values())
    means = tuple(fmean(v for v in values if v is not None) if values and whole else None for values in both)
    return [f"{number(a)} / {number(b)}" for a, b in (*pairs.values(), means)]


def _width(records: Sequence[Record]) -> str:
    halves = [
        (r.values["captured_high_2h"] or 0.0) - (r.values["captured_percent_2h"] or 0.0)
        for r in records
        if r.status == "ok" and r.values["captured_high_2h"] is not None
    ]
    return f" (95 % interval of a single 2 h figure: at most ± {max(halves):.1f})" if halves else ""


def _habits(records: Sequence[Record]) -> str:
    columns = (("entropy_bits", 2), ("max_share", 3), ("ece", 3), ("ratio", 2))
    rows = []
    for policy in policies_of(records):
        mine = [r for r in records if r.policy == policy and r.status == "ok"]
        if mine:
            cells = [number(_mean(mine, name), digits) for name, digits in columns]
            rows.append([shown(policy), *cells, f"{fmean(r.seconds for r in mine):.1f}"])
    names = ["policy", "entropy, bits", "fullest slot", "ECE of p_open", "stated / true", "seconds"]
    return table(names, rows)


def _activity(records: Sequence[Record]) -> list[str]:
    mine = [r for r in records if r.suite == "activity"]
    others = list(dict.fromkeys(n for r in mine for n in r.values if n.startswith("minus_") and not n.endswith("_se")))
    cells: dict[str, Callable[[Record], str]] = {
        "share": partial(_with_error, name="window_2h", digits=4),
        **{f"less {shown(n.removeprefix('minus_'))}": partial(_with_error, name=n, digits=4) for n in others},
    }
    text = "Share of a person's active days on which he is there within two hours of the slot, and paired differences, "
    return _real(
        mine, "Real activity", text + "with standard errors over people. Nobody was mailed at these hours.", cells
    )


def _replies(records: Sequence[Record]) -> list[str]:
    mine = [r for r in records if r.suite == "replies"]
    cells: dict[str, Callable[[Record], str]] = {
        f"AUC, {h}": partial(_with_error, name=f"auc_{h}", digits=3) for h in ("2h", "24h")
    }
    text = "How well the stated probability at the hour of a mail ranks the mails that were answered in time, with "
    return _real(mine, "Real replies", text + "standard errors. An answer is more than an open.", cells)


def _real(records: Sequence[Record], title: str, text: str, cells: dict[str, Callable[[Record], str]]) -> list[str]:
    if not records:
        return []
    first, judged = records[0], max(r.judged for r in records)
    head = f"#### {title}: `{first.world}`, {first.history}\n\n{text} {judged:,} cases. {facts(records)}"
    rows = [[shown(r.policy), *(cell(r) for cell in cells.values())] for r in records if r.status == "ok"]
    return [head, table(["policy", *cells], rows), *missing(records)]


def _with_error(record: Record, name: str, digits: int) -> str:
    value, error = record.values.get(name), record.values.get(f"{name}_se")
    return "" if value is None or error is None else f"{value:.{digits}f} ± {error:.{digits}f}"


def _mean(records: Sequence[Record], name: str) -> float | None:
    values = [value for r in records if (value := r.values[name]) is not None]
    return fmean(values) if values else None


def insert(text: str, tables: str) -> str:
    """`text` with `tables` between its markers. Raises ValueError unless it holds both markers once, in order."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(
            f"expected {BEGIN} and later {END}, once each; found {text.count(BEGIN)} and {text.count(END)}"
        )
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{rest.split(END)[1]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the documents and the chart, or say whether they are up to date."""
    parser = argparse.ArgumentParser(prog="python -m sto_decisions.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--document", type=Path, action="append", help=f"repeatable; default: {DOCUMENT.name} beside this"
    )
    parser.add_argument("--chart", type=Path, default=CHART)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when something is out of date")
    options = parser.parse_args(arguments)
    records = read(options.results)
    fresh = {path: insert(path.read_text(encoding="utf-8"), render(records)) for path in options.document or [DOCUMENT]}
    if records:
        fresh[options.chart] = draw(records)
    for name, drawn in charts(records).items():
        fresh[options.chart.with_name(f"{options.chart.stem}_{name}.svg")] = drawn
    stale = [path for path, text in fresh.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale if not options.check else []:
        path.write_text(fresh[path], encoding="utf-8")
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
