"""One JSON line a measurement: what was measured, how it came out, and every fact needed to judge it."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from sto_bench import limits, machine
from sto_bench.cases import Case
from sto_bench.clock import measured_mhz
from sto_bench.contest import Outcome
from sto_bench.runner import ratio, spread

BUSY_CORES = 0.1
R = TypeVar("R")


@dataclass(frozen=True)
class Record:
    """A measurement, or why there is none (`status` and `reason`; then there is no median, and never a NaN).

    `users` is the users of one call, `calls` the calls of one timing, `reps` the timings. `ratio_to` says how many
    times as fast as each peer this was, medians over rounds; `ratio_spread` their 20th and 80th percentiles.
    `others_cores` is the CPU that other processes took meanwhile, in cores: much of it, and the figures are not sound.
    `peak_mib` is that of the process while this scorer ran, with all inputs and other models in it. `port_limit` is
    the users/s that the CPU's vector ports allow (limits.py).
    """

    case: str
    impl: str
    is_ours: bool
    status: str
    reason: str
    users: int
    slots: int
    trees: int
    depth: int
    cross: int
    metric: str
    unit: str
    median: float | None
    q20: float | None
    q80: float | None
    reps: int
    calls: int
    peak_mib: float | None
    others_cores: float | None
    ratio_to: dict[str, float]
    ratio_spread: dict[str, list[float]]
    port_limit: float | None
    note: str
    threads: int
    cpu: str
    cpu_mhz: float
    git_revision: str | None
    timestamp: str
    versions: dict[str, str] = field(default_factory=dict)


def here_and_now() -> dict[str, Any]:
    """The facts of a measurement that are the same for all who took part: machine, code, versions and time."""
    return {
        "cpu": machine.cpu_name(),
        "cpu_mhz": round(measured_mhz()),
        "git_revision": machine.git_revision(),
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": machine.versions(),
    }


def make_records(case: Case, outcomes: Sequence[Outcome], threads: int) -> list[Record]:
    """The lines of one contest: throughput in users and in trees, and the first call, of all that took part."""
    ran = [outcome for outcome in outcomes if outcome.status == "ok"]
    facts: dict[str, Any] = {
        "case": case.name,
        **{name: getattr(case, name) for name in ("slots", "trees", "depth", "cross")},
        "threads": threads,
        **here_and_now(),
    }
    return [Record(**facts, **line) for outcome in outcomes for line in _lines(case, outcome, ran, threads)]


def _lines(case: Case, outcome: Outcome, ran: Sequence[Outcome], threads: int) -> list[dict[str, Any]]:
    names = ("is_ours", "status", "reason", "users", "calls", "peak_mib", "others_cores", "note")
    head = {"impl": outcome.name, **{name: getattr(outcome, name) for name in names}}
    if outcome.status != "ok":
        return [{**head, **_metric("users_per_s", "users/s", [])}]
    ratios = {o.name: ratio(outcome, o) for o in ran if outcome.is_ours and o.name != outcome.name and not o.is_ours}
    against = {
        "ratio_to": {name: found[0] for name, found in ratios.items()},
        "ratio_spread": {name: [*found[1:]] for name, found in ratios.items()},
    }
    limit = limits.limit_of(case, outcome.name, machine.cpu_name(), threads)
    pairs = [rate * case.slots * case.trees for rate in outcome.rates]
    return [
        {**head, **_metric("users_per_s", "users/s", outcome.rates), **against, "port_limit": limit},
        {**head, **_metric("user_slot_tree_per_s", "user-slot-trees/s", pairs)},
        {**head, **_metric("first_call_s", "s", [outcome.first_call_s]), "calls": 1},
    ]


def _metric(name: str, unit: str, values: Sequence[float]) -> dict[str, Any]:
    median, q20, q80 = spread(values) if values else (None, None, None)
    rest = {"reps": len(values), "ratio_to": {}, "ratio_spread": {}, "port_limit": None}
    return {"metric": name, "unit": unit, "median": median, "q20": q20, "q80": q80, **rest}


def busiest(records: Sequence[Any]) -> float | None:
    """The most cores that other processes took during a contestant's timings; None where that is not worth a word."""
    cores = max((r.others_cores or 0.0 for r in records), default=0.0)
    return cores if cores > BUSY_CORES else None


def red_gates(records: Sequence[Any]) -> list[str]:
    """Our implementations that gave wrong answers or failed, as sentences."""
    return [
        f"{r.impl} on {r.case} {'is wrong' if r.status == 'wrong' else 'failed'}: {r.reason}"
        for r in records
        if r.is_ours and r.status in ("wrong", "failed")
    ]


def warnings(records: Sequence[Any]) -> list[str]:
    """What makes the figures doubtful: a machine that did other work meanwhile."""
    cores = busiest(records)
    return [f"other processes took up to {cores:.1f} cores during the timings: measure anew"] if cores else []


def read(path: Path) -> list[Record]:
    """The records of a results file, none when it does not exist. Raises ValueError for lines that are no records."""
    return read_as(Record, path)


def read_as(kind: type[R], path: Path) -> list[R]:
    """`read` of records of another suite, a dataclass."""
    if not path.exists():
        return []
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            values = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}:{number} is no JSON: {error}") from error
        if not isinstance(values, dict) or values.keys() != known:
            raise ValueError(f"{path}:{number} must hold the fields of a measurement; write it anew with bench --json")
        found.append(kind(**values))
    return found


def replace_cases(path: Path, records: Sequence[Any]) -> None:
    """Put `records` into a results file in place of all it held of their cases; other cases stay as they are.

    A case's lines always come from one run, as its ratios must.
    """
    if records:
        new = {record.case for record in records}
        old = read_as(type(records[0]), path)
        write(path, [*(record for record in old if record.case not in new), *records])


def write(path: Path, records: Iterable[Any]) -> None:
    """Write a results file, whole or not at all."""
    lines = [json.dumps(asdict(record), allow_nan=False) + "\n" for record in records]
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    temporary.write_text("".join(lines), encoding="utf-8")
    os.replace(temporary, path)
