"""One JSON line a measurement of the data path, with every fact needed to judge it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sto_bench.contest import Outcome
from sto_bench.records import here_and_now
from sto_bench.runner import ratio, spread
from sto_pipeline.cases import Case
from sto_pipeline.contest import Entrant

UNITS = {"features": "events", "ingest": "events", "score": "recipients", "outcomes": "outcomes"}


@dataclass(frozen=True)
class Measure:
    """A measurement, or why there is none (`status` and `reason`; then there is no median, and never a NaN).

    `work` is the events or recipients of one turn, `reps` the turns, `core_s` the CPU seconds of one (which say more
    than `seconds` where the machine was busy). `peak_mib` is that of the contestant's process. `ratio_to` says how many
    times as fast as each peer this was, medians over the rounds that both ran. `stages` are seconds: of the command's
    phases for score, of a core for features. `tensors` says what was computed.
    """

    case: str
    impl: str
    is_ours: bool
    status: str
    reason: str
    users: int
    work: int
    metric: str
    unit: str
    median: float | None
    q20: float | None
    q80: float | None
    reps: int
    seconds: float | None
    core_s: float | None
    peak_mib: float | None
    others_cores: float | None
    ratio_to: dict[str, float]
    ratio_spread: dict[str, list[float]]
    stages: dict[str, float]
    tensors: str
    note: str
    threads: int
    cpu: str
    cpu_mhz: float
    git_revision: str | None
    timestamp: str
    versions: dict[str, str]


def make_measures(case: Case, entrants: Sequence[Entrant], threads: int) -> list[Measure]:
    """The lines of one contest."""
    facts: dict[str, Any] = {
        "case": case.name,
        "users": case.users,
        "metric": f"{UNITS[case.kind]}_per_s",
        "unit": f"{UNITS[case.kind]}/s",
        "tensors": "all" if case.kind == "features" else "",
        "threads": threads,
        **here_and_now(),
    }
    ran = [o for entrant in entrants if (o := entrant.outcome()).status == "ok"]
    return [Measure(**facts, **_line(entrant, ran)) for entrant in entrants]


def _line(entrant: Entrant, ran: Sequence[Outcome]) -> dict[str, Any]:
    outcome = entrant.outcome()
    median, q20, q80 = spread(outcome.rates) if outcome.rates else (None, None, None)
    ratios = {o.name: _ratio(outcome, o) for o in ran if outcome.is_ours and outcome.rates and not o.is_ours}
    names = ("is_ours", "status", "reason", "peak_mib", "others_cores")
    return {
        "impl": outcome.name,
        **{name: getattr(outcome, name) for name in names},
        "work": outcome.users,
        **{"median": median, "q20": q20, "q80": q80, "reps": len(outcome.rates)},
        "seconds": outcome.users / median if median else None,
        "core_s": entrant.core_s(),
        "ratio_to": {name: found[0] for name, found in ratios.items()},
        "ratio_spread": {name: [*found[1:]] for name, found in ratios.items()},
        "stages": entrant.stages(),
        "note": entrant.note,
    }


def _ratio(ours: Outcome, other: Outcome) -> tuple[float, float, float]:
    """Within the rounds that both ran."""
    both = min(len(ours.rates), len(other.rates))
    first, second = (Outcome(o.name, o.is_ours, "ok", rates=o.rates[:both]) for o in (ours, other))
    return ratio(first, second)
