"""A whole run of one part of the data path: for each case what it runs on, its contest, its lines of results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sto_bench.contest import Watch
from sto_bench.records import red_gates, warnings
from sto_pipeline import features, ingest, nightly, outcomes
from sto_pipeline.cases import Case, Kind, contestants, select
from sto_pipeline.contest import hold
from sto_pipeline.made import Work
from sto_pipeline.records import Measure, make_measures

__all__ = ["Plan", "make_plan", "red_gates", "run", "summary", "warnings"]

_ENTRANTS = {
    "features": features.entrants,
    "ingest": ingest.entrants,
    "score": nightly.entrants,
    "outcomes": outcomes.entrants,
}


@dataclass(frozen=True)
class Plan:
    """What to run, and with whom."""

    cases: Sequence[Case]
    peers: tuple[str, ...]
    threads: int
    work: Path | None


def make_plan(
    kind: Kind, tier: str, cases: tuple[str, ...], peers: tuple[str, ...], threads: int, work: Path | None
) -> Plan:
    """The plan of a tier (quick, default, full), or of the cases and peers named. ValueError for an unknown name."""
    chosen = select(kind, cases, tier)
    for case in chosen:
        contestants(case, peers)
    return Plan(chosen, peers, threads, work)


def run(plan: Plan, watch: Watch, keep: Callable[[list[Measure]], None]) -> list[Measure]:
    """Run the plan; `keep` is given the lines of each case as soon as it is done."""
    work = Work.at(plan.work, watch, plan.threads)
    found: list[Measure] = []
    for case in plan.cases:
        watch.info("case_started", case=case.name)
        entrants = _ENTRANTS[case.kind](case, contestants(case, plan.peers), work)
        hold(case.name, entrants, watch)
        measures = make_measures(case, entrants, plan.threads)
        keep(measures)
        found += measures
    return found


def summary(measures: Sequence[Measure]) -> dict[str, dict[str, str]]:
    """For people: by case, the rate of each contestant, or why there is none."""
    found: dict[str, dict[str, str]] = {}
    for m in measures:
        found.setdefault(m.case, {})[m.impl] = _cell(m)
    return found


def _cell(m: Measure) -> str:
    if m.median is None or m.q20 is None or m.q80 is None:
        return f"{m.status}: {m.reason}"
    ratios = "".join(f"; {value:.3g} x {name}" for name, value in m.ratio_to.items())
    stages = "".join(f"; {name} {seconds:.2f} s" for name, seconds in m.stages.items())
    cost = f"{m.core_s or 0:.2f} core-s, {m.peak_mib or 0:,.0f} MiB"
    return f"{m.median:,.0f} {m.unit} ({m.q20:,.0f}-{m.q80:,.0f}), {cost}{ratios}{stages}"
