"""One JSON line a contestant: how good his answer is, by recount, what it took, and every fact needed to judge it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sto_assign.cases import Case
from sto_assign.ours import BEFORE_FIT, FIT
from sto_assign.players import Player, gaps
from sto_bench.records import here_and_now
from sto_bench.runner import spread


@dataclass(frozen=True)
class Line:
    """A measurement, or why there is none (`status` and `reason`; then there are no figures, and never a NaN).

    `median` is that of the seconds of the whole answer, `core_s` CPU seconds, `peak_mib` the memory beyond the inputs,
    `stages` seconds of its parts. `figures`, where they apply:

    gap_exact      share of the optimum that is lost (below 0: limits are broken)
    gap_certified  the same of the bound that our prices prove
    violations     resources over their capacity; over_share: units beyond it of all units
    unplaced       users without a slot; moved_share: users whom the repair moved
    fit_s          seconds until prices are fitted, offers not among them
    after_s_per_m  seconds of all that follows, by million users
    all_1s ...     fullest second, ten seconds and minute over the mean, of all sends and of the largest provider
    """

    case: str
    impl: str
    is_ours: bool
    status: str
    reason: str
    users: int
    resources: int
    metric: str
    unit: str
    median: float | None
    q20: float | None
    q80: float | None
    reps: int
    core_s: float | None
    peak_mib: float | None
    others_cores: float | None
    figures: dict[str, float]
    stages: dict[str, float]
    note: str
    threads: int
    cpu: str
    cpu_mhz: float
    git_revision: str | None
    timestamp: str
    versions: dict[str, str]


def make_lines(
    case: Case, players: Sequence[Player], resources: int, threads: int, optimum: float | None = None
) -> list[Line]:
    """The lines of one contest, ours first."""
    facts: dict[str, Any] = {
        "case": case.name,
        "users": case.users,
        "resources": resources,
        "metric": "seconds",
        "unit": "s",
        "threads": threads,
        **here_and_now(),
    }
    ours = next((p for p in players if p.entrant.is_ours and p.entrant.outcome().status == "ok"), None)
    bound = ours.figures.get("bound") if ours else None
    order = sorted(players, key=lambda player: not player.entrant.is_ours)
    return [Line(**facts, **_line(case, player, optimum, bound)) for player in order]


def _line(case: Case, player: Player, optimum: float | None, bound: float | None) -> dict[str, Any]:
    outcome = player.entrant.outcome()
    ok = outcome.status == "ok"
    seconds = [turn.seconds for turn in player.entrant.turns] if ok else []
    median, q20, q80 = spread(seconds) if seconds else (None, None, None)
    return {
        "impl": outcome.name,
        **{name: getattr(outcome, name) for name in ("is_ours", "status", "reason", "peak_mib", "others_cores")},
        **{"median": median, "q20": q20, "q80": q80, "reps": len(seconds)},
        "core_s": player.entrant.core_s() if ok else None,
        "figures": _figures(case, player, optimum, bound) if ok else {},
        "stages": player.entrant.stages() if ok else {},
        "note": player.entrant.note,
    }


def _figures(case: Case, player: Player, optimum: float | None, bound: float | None) -> dict[str, float]:
    figures, stages = dict(player.figures), player.entrant.stages()
    if case.kind == "limits":
        figures |= gaps(figures, optimum, bound)
    if stages:
        fit_s = sum(stages[name] for name in FIT)
        after_s = sum(stages.values()) - fit_s - stages[BEFORE_FIT]
        figures |= {"fit_s": fit_s, "after_s_per_m": after_s / case.users * 1e6}
    return figures
