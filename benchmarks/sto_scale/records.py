"""One JSON line a command and case, with every fact needed to judge it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sto_bench.records import here_and_now
from sto_bench.runner import spread
from sto_scale.cases import Case
from sto_scale.players import Player


@dataclass(frozen=True)
class Line:
    """A measurement, or why there is none (`status` and `reason`; then there are no figures, and never a NaN).

    `median` are the seconds of the command, start included; for pairs those of its work, `start` being a stage.
    `core_s` are CPU seconds of all its processes (None for Ray, whose workers are not its children), `peak_mib` their
    memory together. `figures`, where they apply: bytes
    (raw input, store, shards, manifest, bundle, the most that the output folder held), files, training rows; for the
    driver seconds and bytes by what its case says; for pairs `work_ratio`, Ray's rate of work over that of threads, and
    `driver_mib`, the peak memory of the command's own process.
    """

    case: str
    kind: str
    command: str
    impl: str
    is_ours: bool
    status: str
    reason: str
    users: int
    per_user: int
    buckets: int
    metric: str
    unit: str
    median: float | None
    q20: float | None
    q80: float | None
    reps: int
    core_s: float | None
    peak_mib: float | None
    others_cores: float | None
    stages: dict[str, float]
    figures: dict[str, float]
    note: str
    threads: int
    cpu: str
    cpu_mhz: float
    git_revision: str | None
    timestamp: str
    versions: dict[str, str]


def make_lines(case: Case, players: Sequence[Player], threads: int) -> list[Line]:
    """The lines of one case."""
    facts: dict[str, Any] = {
        "case": case.name,
        **{name: getattr(case, name) for name in ("kind", "users", "per_user", "buckets")},
        **{"metric": "seconds", "unit": "s", "threads": threads},
        **here_and_now(),
    }
    return [Line(**facts, **_line(case, player, _ratio(case, player, players))) for player in players]


def _line(case: Case, player: Player, ratio: dict[str, float]) -> dict[str, Any]:
    entrant, outcome = player.entrant, player.entrant.outcome()
    ok = outcome.status == "ok"
    seconds = [turn.seconds for turn in entrant.turns] if ok else []
    median, q20, q80 = spread(seconds) if seconds else (None, None, None)
    return {
        "impl": outcome.name,
        "command": case.parts[0] if case.kind != "cost" else outcome.name,
        **{name: getattr(outcome, name) for name in ("is_ours", "status", "reason", "peak_mib", "others_cores")},
        **{"median": median, "q20": q20, "q80": q80, "reps": len(seconds)},
        "core_s": entrant.core_s() if ok and outcome.name != "ray" else None,
        "stages": entrant.stages() if ok else {},
        "figures": {**player.figures, **ratio} if ok else {},
        "note": entrant.note,
    }


def _ratio(case: Case, player: Player, players: Sequence[Player]) -> dict[str, float]:
    """Of Ray to threads, the median over the rounds that both ran."""
    both = {p.entrant.name: [turn.seconds for turn in p.entrant.turns] for p in players}
    if case.kind != "pair" or player.entrant.name != "ray" or not all(both.values()):
        return {}
    shares = [threads / ray for threads, ray in zip(both["threads"], both["ray"], strict=False)]
    return {"work_ratio": spread(shares)[0]}
