"""A whole run: for each case what it runs on, its contest, its lines of results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sto_bench.contest import Watch
from sto_bench.records import red_gates, warnings
from sto_pipeline.contest import hold
from sto_pipeline.made import Work
from sto_scale import cost, driver, pair
from sto_scale.cases import Case, select
from sto_scale.fit import fits, told
from sto_scale.records import Line, make_lines

__all__ = ["Plan", "make_plan", "red_gates", "run", "summary", "warnings"]

_PLAYERS = {"cost": cost.players, "pair": pair.players, "driver": driver.players}


@dataclass(frozen=True)
class Plan:
    """What to run, and where inputs are kept."""

    cases: Sequence[Case]
    threads: int
    work: Path | None


def make_plan(tier: str, cases: tuple[str, ...], threads: int, work: Path | None) -> Plan:
    """The plan of a tier (quick, default, full), or of the cases named. ValueError for an unknown name."""
    return Plan(select(cases, tier), threads, work)


def run(plan: Plan, watch: Watch, keep: Callable[[list[Line]], None]) -> list[Line]:
    """Run the plan; `keep` is given the lines of each case as soon as it is done."""
    work = Work.at(plan.work, watch, plan.threads)
    found: list[Line] = []
    for case in plan.cases:
        watch.info("case_started", case=case.name)
        players = _PLAYERS[case.kind](case, work)
        hold(case.name, [player.entrant for player in players], watch)
        lines = make_lines(case, players, plan.threads)
        keep(lines)
        found += lines
    return found


def summary(lines: Sequence[Line]) -> dict[str, dict[str, str]]:
    """For people: by case, what each command took; and what a recipient and an event cost by all of them."""
    found: dict[str, dict[str, str]] = {}
    for line in lines:
        found.setdefault(line.case, {})[line.impl] = _cell(line)
    fitted = fits(lines)
    return {**found, "fit": {fit.what: told(fit) for fit in fitted}} if fitted else found


def _cell(line: Line) -> str:
    if line.median is None:
        return f"{line.status}: {line.reason}"
    stages = "".join(f"; {name} {seconds:.2f} s" for name, seconds in line.stages.items())
    figures = "".join(f"; {name} {value:,.4g}" for name, value in line.figures.items())
    return f"{line.median:.3g} s, {line.core_s or 0:.3g} core-s, {line.peak_mib or 0:,.0f} MiB{stages}{figures}"
