"""A whole run: for each case its inputs, its contest, its lines of results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sto_bench.contest import Watch
from sto_bench.records import red_gates, warnings
from sto_draws.cases import Case, contestants, select
from sto_draws.players import entrants, make_field
from sto_draws.records import Line, make_lines
from sto_pipeline.contest import hold

__all__ = ["Plan", "make_plan", "red_gates", "run", "summary", "warnings"]


@dataclass(frozen=True)
class Plan:
    """What to run, and with whom."""

    cases: Sequence[Case]
    peers: tuple[str, ...]
    threads: int
    seed: int


def make_plan(tier: str, cases: tuple[str, ...], peers: tuple[str, ...], threads: int, seed: int) -> Plan:
    """The plan of a tier (quick, default, full), or of the cases and peers named. ValueError for an unknown name."""
    chosen = select(cases, tier)
    for case in chosen:
        contestants(case, peers)
    return Plan(chosen, peers, threads, seed)


def run(plan: Plan, watch: Watch, keep: Callable[[list[Line]], None]) -> list[Line]:
    """Run the plan; `keep` is given the lines of each case as soon as it is done."""
    found: list[Line] = []
    for case in plan.cases:
        watch.info("case_started", case=case.name)
        entered = entrants(make_field(case, plan.threads, plan.seed), contestants(case, plan.peers))
        hold(case.name, entered, watch)
        lines = make_lines(case, entered, plan.threads)
        keep(lines)
        found += lines
    return found


def summary(lines: Sequence[Line]) -> dict[str, dict[str, str]]:
    """For people: by case, what became of each contestant."""
    found: dict[str, dict[str, str]] = {}
    for line in lines:
        found.setdefault(line.case, {})[line.impl] = _cell(line)
    return found


def _cell(line: Line) -> str:
    if line.median is None:
        return f"{line.status}: {line.reason}"
    told = f"{line.median / 1e6:.1f} M draws/s, {(line.core_rate or 0) / 1e6:.1f} M a core-second"
    return "; ".join([told, *(f"{ratio:.2f} x {name}" for name, ratio in line.ratio_to.items())])
