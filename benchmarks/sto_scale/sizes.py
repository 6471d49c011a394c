"""What a sender of any size asks for, from the fits: buckets, core-hours, disk; and under which assumptions."""

from collections.abc import Sequence
from dataclasses import dataclass

from sto_scale.fit import Fit

USERS_PER_BUCKET, MAX_BUCKETS = 80_000, 8192
SIZES = (1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
PER_USER = 10
COMMANDS = ("ingest", "compact", "train", "score")
STORED = (
    ("ingest", "raw_bytes", "raw files"),
    ("compact", "store_bytes", "store"),
    ("compact", "peak_disk_bytes", "store while it is compacted"),
    ("score", "shard_bytes", "a run"),
    ("score", "peak_disk_bytes", "a run while it is made"),
)
ASSUMED = (
    f"Assumed: {PER_USER} events a recipient in all of the history, which `ingest` reads at once; linear beyond what "
    "was measured; cores like these; a disk that is never waited for; no network. Core-hours divided by cores is the "
    "time, as far as there are buckets enough."
)


@dataclass(frozen=True)
class Size:
    """A sender of `users`; hours of one core by command, bytes by what they are of; None where nothing was fitted."""

    users: int
    buckets: int
    core_hours: dict[str, float | None]
    stored: dict[str, float | None]


def sizes(fits: Sequence[Fit], users: Sequence[int] = SIZES) -> list[Size]:
    """One size each."""
    by = {(fit.part, fit.quantity): fit for fit in fits}

    def at(part: str, quantity: str, n: int) -> float | None:
        fit = by.get((part, quantity))
        return None if fit is None else fit.at(n, PER_USER)

    found = []
    for n in users:
        hours = {part: at(part, "core_s", n) for part in COMMANDS}
        core_hours = {part: None if seconds is None else seconds / 3600 for part, seconds in hours.items()}
        found.append(Size(n, buckets(n), core_hours, {name: at(part, key, n) for part, key, name in STORED}))
    return found


def buckets(users: int) -> int:
    """The least power of two with at most USERS_PER_BUCKET recipients a bucket, as far as there are so many."""
    wanted = 1
    while wanted * USERS_PER_BUCKET < users and wanted < MAX_BUCKETS:
        wanted *= 2
    return wanted
