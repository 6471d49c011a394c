"""What the limits are short of, and what to tell people about it."""

from dataclasses import dataclass

MOST_NAMED = 5


@dataclass(frozen=True)
class Shortage:
    """Resources that together take `have` messages where `need` cannot do without them, and the settings behind."""

    name: str
    need: int
    have: int
    keys: tuple[str, ...]
    is_pinned: bool = False


@dataclass(frozen=True)
class Feasibility:
    """How many of `recipients` fit nowhere, and why: overloads by pinned sends first, then the largest shortage."""

    recipients: int
    short: int
    blocking: tuple[Shortage, ...]

    @property
    def is_feasible(self) -> bool:
        return not self.short and not self.blocking


def explain(found: Feasibility, leaves_out: bool = False) -> str:
    """Why the mail does not fit and what to do about it, in one sentence for people; `leaves_out` says that the run
    leaves out whom it must."""
    fit = f"{found.short:,} of {found.recipients:,} recipients fit nowhere: " if found.short else ""
    named = [_line(shortage) for shortage in found.blocking[:MOST_NAMED]]
    more = len(found.blocking) - MOST_NAMED
    named += [f"and {more} more"] if more > 0 else []
    return f"the capacity does not take this mail: {fit}{'; '.join(named)}; {_ways_out(found, leaves_out)}"


def _line(shortage: Shortage) -> str:
    if shortage.is_pinned:
        return f"{shortage.name}: the arms of the experiment alone send {shortage.need:,}, {shortage.have:,} fit"
    return f"{shortage.name}: {shortage.need:,} recipients need it, {shortage.have:,} fit"


def _ways_out(found: Feasibility, leaves_out: bool) -> str:
    named = found.blocking[:MOST_NAMED]
    keys = list(dict.fromkeys(key for shortage in named for key in shortage.keys))
    more = ", ..." if len(keys) > MOST_NAMED else ""
    ways = [f"raise {', '.join(keys[:MOST_NAMED])}{more}"] if keys else []
    if any(shortage.is_pinned for shortage in named):
        ways.append(
            "lower experiment.control_share, random_share or what cold_start draws, or move experiment.control_time"
        )
    ways.append("widen the window (window.start, window.end, window.quiet) or spread.max_minutes")
    if found.short and not leaves_out:
        ways.append('set capacity.on_infeasible = "defer"')
    return ", or ".join(ways)
