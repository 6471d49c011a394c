"""One JSON line a contestant: how many draws a second, and every fact needed to judge it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sto_bench.records import here_and_now
from sto_bench.runner import ratio, spread
from sto_draws.cases import SLOTS, Case
from sto_pipeline.contest import Entrant


@dataclass(frozen=True)
class Line:
    """A measurement, or why there is none (`status` and `reason`; then there are no figures, and never a NaN).

    `median` are (user, slot) draws a second of the wall clock with all threads; a round of wins has one a slot, drawn
    or not. `core_rate` is the same by CPU second, which a busy machine disturbs less. `ratio_to` and `core_ratio_to`
    say how many times as fast as each peer this was, medians over rounds; `ratio_spread` the 20th and 80th percentile.
    """

    case: str
    kind: str
    shapes: str
    impl: str
    is_ours: bool
    status: str
    reason: str
    users: int
    slots: int
    draws: int
    metric: str
    unit: str
    median: float | None
    q20: float | None
    q80: float | None
    reps: int
    core_rate: float | None
    peak_mib: float | None
    others_cores: float | None
    ratio_to: dict[str, float]
    ratio_spread: dict[str, list[float]]
    core_ratio_to: dict[str, float]
    note: str
    threads: int
    cpu: str
    cpu_mhz: float
    git_revision: str | None
    timestamp: str
    versions: dict[str, str]


def make_lines(case: Case, entrants: Sequence[Entrant], threads: int) -> list[Line]:
    """The lines of one contest, ours first."""
    facts: dict[str, Any] = {
        "case": case.name,
        **{name: getattr(case, name) for name in ("kind", "shapes", "users", "draws")},
        **{"slots": SLOTS, "metric": "draws_per_s", "unit": "draws/s", "threads": threads},
        **here_and_now(),
    }
    return [Line(**facts, **_line(entrant, entrants)) for entrant in entrants]


def _line(entrant: Entrant, entrants: Sequence[Entrant]) -> dict[str, Any]:
    outcome = entrant.outcome()
    ok = outcome.status == "ok"
    median, q20, q80 = spread(outcome.rates) if ok else (None, None, None)
    ran = [e for e in entrants if e.outcome().status == "ok" and ok and entrant.is_ours and not e.is_ours]
    ratios = {e.name: ratio(outcome, e.outcome()) for e in ran}
    return {
        "impl": outcome.name,
        **{name: getattr(outcome, name) for name in ("is_ours", "status", "reason", "peak_mib", "others_cores")},
        **{"median": median, "q20": q20, "q80": q80, "reps": len(outcome.rates)},
        "core_rate": _core_rate(entrant) if ok else None,
        "ratio_to": {name: found[0] for name, found in ratios.items()},
        "ratio_spread": {name: [*found[1:]] for name, found in ratios.items()},
        "core_ratio_to": {e.name: _core_rate(entrant) / _core_rate(e) for e in ran},
        "note": entrant.note,
    }


def _core_rate(entrant: Entrant) -> float:
    return entrant.turns[0].work / max(entrant.core_s() or 0.0, 1e-9)
