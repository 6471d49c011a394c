"""One JSON line a policy in a cell: what it was worth, or why there is no figure, and every fact to judge that by.

A cell is a world with a history and a seed, or a set of real data. A file holds one line a (cell, policy); measuring
again replaces it.
"""

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from uuid import uuid4

from sto_bench import machine

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "decisions.jsonl"
_SOURCES = ("engine/sto_engine", "kernels/sto_kernels", "benchmarks/sto_decisions")
# these show figures and make none
_SHOWING = ("report.py", "tables.py", "loop_report.py", "cold_report.py", "chart.py", "curves.py", "svg.py")
_PACKAGES = ("polars", "pyarrow", "tzdata", "numba")
REASON_CHARS = 300
Values = dict[str, float | None]
Key = tuple[str, str, str, int, int, str]


class Skipped(Exception):
    """A policy that cannot be run here; its message says why."""


@dataclass(frozen=True)
class Cell:
    """`suite` is one of the command's; of real data `world` is the data set and `seed` 0."""

    suite: str
    world: str
    history: str
    seed: int
    users: int


@dataclass(frozen=True)
class Record:
    """`values` is empty unless `status` is "ok"; None in it is what is not defined. `judged` is who they are about."""

    suite: str
    world: str
    history: str
    seed: int
    users: int
    policy: str
    status: str
    reason: str
    judged: int
    values: Values
    seconds: float
    settings: list[str]
    code: str
    git_revision: str | None
    cpu: str
    threads: int
    timestamp: str
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return (self.suite, self.world, self.history, self.seed, self.users, self.policy)


def make_record(
    cell: Cell,
    policy: str,
    values: Values | None,
    judged: int = 0,
    seconds: float = 0.0,
    threads: int = 1,
    settings: Sequence[str] = (),
    failure: Exception | None = None,
) -> Record:
    """A line with the facts of this machine and code; `failure` is why there are no values."""
    status, reason = ("ok", "") if failure is None else ("failed", f"{type(failure).__name__}: {failure}")
    if isinstance(failure, Skipped):
        status, reason = "skipped", str(failure)
    return Record(
        **asdict(cell),
        policy=policy,
        status=status,
        reason=reason[:REASON_CHARS],
        judged=judged,
        values=values or {},
        seconds=round(seconds, 2),
        settings=list(settings),
        threads=threads,
        code=code_hash(),
        git_revision=machine.git_revision(),
        cpu=machine.cpu_name(),
        timestamp=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=_versions(),
    )


@cache
def code_hash() -> str:
    """Of the sources that decide a figure, as they are on disk: a commit of other files does not change it."""
    digest = hashlib.sha256()
    for path in sorted(p for source in _SOURCES for p in (ROOT / source).rglob("*.py") if p.name not in _SHOWING):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _versions() -> dict[str, str]:
    return {**machine.versions(), **{name: importlib.metadata.version(name) for name in _PACKAGES}}


def read(path: Path) -> list[Record]:
    """The records of a results file, none where it does not exist. Raises ValueError for lines that are no records."""
    if not path.exists():
        return []
    known, found = {f.name for f in fields(Record)}, []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            values = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}:{number} is no JSON: {error}") from error
        if not isinstance(values, dict) or values.keys() != known:
            raise ValueError(f"{path}:{number} must hold the fields of a decision record; name another --out")
        found.append(Record(**values))
    return found


def keep(path: Path, records: Sequence[Record]) -> None:
    """Put `records` into a results file in place of the lines of their cells and policies; whole or not at all."""
    new = {record.key for record in records}
    _write(path, [*(record for record in read(path) if record.key not in new), *records])


def _write(path: Path, records: Iterable[Record]) -> None:
    lines = [json.dumps(asdict(record), allow_nan=False) + "\n" for record in records]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    temporary.write_text("".join(lines), encoding="utf-8")
    os.replace(temporary, path)


def is_done(path: Path, cell: Cell, policies: Sequence[str]) -> bool:
    """Whether the file holds every policy of the cell, measured with the sources as they are now."""
    now = {r.policy for r in read(path) if r.code == code_hash() and r.key[:5] == tuple(asdict(cell).values())}
    return set(policies) <= now
