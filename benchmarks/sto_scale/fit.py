"""What a recipient and an event cost: non-negative least squares over the cases, and what that comes to at any size.

    quantity = fixed + per_recipient x recipients + per_event x events

Every case weighs the same: what is least is the sum of squared shares that the fit is off by. Where all cases have as
many events a recipient, the two cannot be told apart and per_event is 0. A fit by as many cases as it has terms proves
nothing; `points` and `worst` (the largest share that it is off by) say how far to trust it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from sto_scale.records import Line

# (command, quantity) -> what it is
QUANTITIES = {
    ("ingest", "core_s"): "CPU seconds",
    ("ingest", "peak_mib"): "peak memory, MiB",
    ("ingest", "raw_bytes"): "bytes of raw files",
    ("compact", "core_s"): "CPU seconds",
    ("compact", "peak_mib"): "peak memory, MiB",
    ("compact", "store_bytes"): "bytes of the store",
    ("compact", "peak_disk_bytes"): "most bytes of the store meanwhile",
    ("train", "core_s"): "CPU seconds",
    ("train", "peak_mib"): "peak memory, MiB",
    ("score", "core_s"): "CPU seconds",
    ("score", "peak_mib"): "peak memory, MiB",
    ("score", "shard_bytes"): "bytes of assignments",
    ("score", "peak_disk_bytes"): "most bytes of the run meanwhile",
}


@dataclass(frozen=True)
class Fit:
    """One quantity of one command."""

    part: str
    quantity: str
    fixed: float
    per_recipient: float
    per_event: float
    points: int
    worst: float

    @property
    def what(self) -> str:
        return f"{self.part} {self.quantity}"

    def at(self, users: float, per_user: float) -> float:
        """The quantity for so many recipients with so many events each."""
        return self.fixed + users * (self.per_recipient + per_user * self.per_event)


def fits(lines: Sequence[Line]) -> list[Fit]:
    """A fit of every quantity that two cases or more have measured."""
    found = []
    for part, quantity in QUANTITIES:
        points = [
            (line, value)
            for line in lines
            if line.command == part and _is_cost(line) and (value := value_of(line, quantity))
        ]
        if len({line.users for line, _ in points}) > 1:
            found.append(_fit(part, quantity, points))
    return found


def _is_cost(line: Line) -> bool:
    """What the command takes by threads: those of a pair are as good."""
    return line.kind == "cost" or (line.kind == "pair" and line.impl == "threads")


def value_of(line: Line, quantity: str) -> float | None:
    """A quantity of a line; None where it has none."""
    if line.status != "ok":
        return None
    return {"core_s": line.core_s, "peak_mib": line.peak_mib, "seconds": line.median}.get(
        quantity, line.figures.get(quantity)
    )


def _fit(part: str, quantity: str, points: Sequence[tuple[Line, float]]) -> Fit:
    users = np.array([line.users for line, _ in points], float)
    events = np.array([line.users * line.per_user for line, _ in points], float)
    columns = [np.ones(len(points)), users]
    if len({line.per_user for line, _ in points}) > 1:
        columns.append(events)
    y = np.array([value for _, value in points])
    # in shares of what was measured, and in millions, so that no column drowns another
    shares = np.stack([columns[0], *(column / 1e6 for column in columns[1:])], axis=1) / y[:, None]
    found, _ = nnls(shares, np.ones(len(points)))
    worst = float(np.abs(shares @ found - 1).max())
    fixed, per_recipient, per_event = (*found, 0.0)[:3]
    return Fit(part, quantity, float(fixed), float(per_recipient) / 1e6, float(per_event) / 1e6, len(points), worst)


def told(fit: Fit) -> str:
    """A fit in a line for people."""
    recipients, events = fit.per_recipient * 1e6, fit.per_event * 1e6
    return (
        f"{fit.fixed:.3g} + {recipients:.3g} per million recipients + {events:.3g} per million events; "
        f"off by at most {fit.worst:.1%} of {fit.points} cases"
    )
