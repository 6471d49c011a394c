"""How many messages each 15 minutes send, before and after the limits: load.csv and the peaks of the summary.

A load is {(UTC start of the bin in ms, provider): messages}; limits are the same, with `total` for all mail. Where a
run has several channels, another than email stands as a whole where providers do ("channel:push"), email's sum beside.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

from sto_engine.assign.resources import MARK, TOTAL
from sto_engine.rates import BIN_MINUTES
from sto_engine.tables import EMAIL

COLUMNS = ("bin_utc", "provider", "before", "after", "capacity")
Load = Mapping[tuple[int, str], int]


def totals(load: Load) -> dict[int, int]:
    """Messages of all providers by start of the bin (ms), in order of time."""
    found: Counter[int] = Counter()
    for (start_ms, _), n in load.items():
        found[start_ms] += n
    return dict(sorted(found.items()))


def load_csv(before: Load, after: Load, capacity: Load | None = None) -> bytes:
    """Rows by bin, the total first and then the providers by name; an empty field where there is no limit.

    Bins and providers without mail before and after have no row.
    """
    limits = capacity or {}
    loads = [_with_totals(before), _with_totals(after)]
    lines = [",".join(COLUMNS)]
    for key in sorted(loads[0].keys() | loads[1].keys(), key=lambda key: (key[0], key[1] != TOTAL, key[1])):
        start = datetime.fromtimestamp(key[0] / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        counts = [load.get(key, 0) for load in loads]
        lines.append(",".join([start, _quoted(key[1]), *map(str, counts), str(limits.get(key, ""))]))
    return ("\n".join(lines) + "\n").encode()


def peaks(before: Load, after: Load) -> dict[str, dict[str, float]]:
    """The most messages a second that a bin sends on average, in total and by provider, before and after."""
    found: dict[str, dict[str, float]] = {}
    sides = {"before": _with_totals(before), "after": _with_totals(after)}
    names = sorted({name for side in sides.values() for _, name in side} - {TOTAL})
    for name in (TOTAL, *names):
        most = {
            side: max((n for (_, own), n in load.items() if own == name), default=0) for side, load in sides.items()
        }
        found[name] = {side: round(n / (BIN_MINUTES * 60), 3) for side, n in most.items()}
    return found


def _with_totals(load: Load) -> dict[tuple[int, str], int]:
    used = {key: n for key, n in load.items() if n}
    mail = {key: n for key, n in used.items() if not key[1].startswith(MARK)}
    email = totals(mail) if mail and len(mail) < len(used) else {}
    return (
        used
        | {(start_ms, TOTAL): n for start_ms, n in totals(used).items()}
        | {(start_ms, MARK + EMAIL): n for start_ms, n in email.items()}
    )


def _quoted(name: str) -> str:
    """A field by RFC 4180; the csv module leaves a carriage return bare where lines end with a newline alone."""
    return '"' + name.replace('"', '""') + '"' if any(c in name for c in ',"\r\n') else name
