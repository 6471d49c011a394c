"""A whole run: for each case its problem, its contest, its lines of results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sto_assign import spreads
from sto_assign.cases import Case, contestants, select
from sto_assign.ours import warm_up
from sto_assign.players import Truth, players
from sto_assign.problems import make_problem
from sto_assign.records import Line, make_lines
from sto_bench.contest import Watch
from sto_bench.records import red_gates, warnings
from sto_pipeline.contest import hold

__all__ = ["Plan", "make_plan", "red_gates", "run", "summary", "warnings"]

_SHARES = ("gap_exact", "gap_certified", "over_share", "moved_share")
_NUMBERS = ("violations", "unplaced", "fit_s", "after_s_per_m")


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
    warm_up(plan.threads)
    found: list[Line] = []
    for case in plan.cases:
        watch.info("case_started", case=case.name)
        lines = _spread(case, plan, watch) if case.kind == "spread" else _limits(case, plan, watch)
        keep(lines)
        found += lines
    return found


def _limits(case: Case, plan: Plan, watch: Watch) -> list[Line]:
    problem, truth = make_problem(case, plan.seed), Truth()
    entered = players(problem, contestants(case, plan.peers), case.rounds, plan.threads, truth)
    hold(case.name, [player.entrant for player in entered], watch)
    return make_lines(case, entered, len(problem.capacity_R), plan.threads, truth.optimum)


def _spread(case: Case, plan: Plan, watch: Watch) -> list[Line]:
    entered = spreads.players(case, contestants(case, plan.peers), plan.seed)
    hold(case.name, [player.entrant for player in entered], watch)
    return make_lines(case, entered, 0, 1)


def summary(lines: Sequence[Line]) -> dict[str, dict[str, str]]:
    """For people: by case, what became of each contestant."""
    found: dict[str, dict[str, str]] = {}
    for line in lines:
        found.setdefault(line.case, {})[line.impl] = _cell(line)
    return found


def _cell(line: Line) -> str:
    if line.median is None:
        return f"{line.status}: {line.reason}"
    told = [f"{name} {value:.4%}" for name in _SHARES if (value := line.figures.get(name)) is not None]
    told += [f"{name} {value:.4g}" for name in _NUMBERS if (value := line.figures.get(name))]
    told += [f"{name} {value:.3f}" for name, value in line.figures.items() if name.startswith(("all_", "largest_"))]
    return "; ".join([*told, f"{line.median:.3g} s", f"{line.peak_mib or 0:,.0f} MiB"])
