"""Whether a store may be scored: what was found against the limits of `[audit]`, each with what to do about it.

fail   a share above its limit, or hours tried below audit.min_coverage
warn   from audit.warn_from of a limit on, or hours tried below audit.warn_coverage
pass   the rest; what cannot be told (no opens, no sends, no zones to compare) passes
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sto_engine.config import Audit

PASS, WARN, FAIL = LEVELS = ("pass", "warn", "fail")
_WHY = {
    "machine_share": "{0:.1%} of opens are a machine's: they do not count, so slots rest on fewer people",
    "dead_share": "{0:.1%} of addresses are dead (no sign of life, bounced hard, invalid): stop mailing them",
    "duplicate_share": "{0:.1%} of event rows are duplicates: look at how the export joins or retries",
    "orphan_share": "{0:.1%} of opens and clicks belong to no send: ingest the sends, or a longer history of them",
    "early_share": "{0:.1%} of opens and clicks come before their send: clocks or campaign ids do not agree",
    "zone_conflict_share": "events of {0:.1%} of recipients contradict the zone of their profile: mend the profiles, "
    'or set timezone.source = "event"',
    "no_zone_share": "{0:.1%} of recipients have no time zone at all: they are mailed by timezone.default",
    "user_share": "one recipient holds {0:.1%} of all acts that count: look at him, or lower clean.flood_acts",
    "quarantine_share": "{0:.1%} of rows are in quarantine: see the files in quarantine/ of the store",
    "future_share": "{0:.2%} of events lie far ahead of all others: mend their timestamps, pass --date meanwhile",
}


@dataclass(frozen=True)
class Check:
    """One share against its limit."""

    level: str
    found: float | None
    limit: float
    why: str


def check_all(shares: Mapping[str, float | None], limits: Audit) -> dict[str, Check]:
    """Every share of `shares`, None where it cannot be told, against `max_<name>`; `coverage` against its minimum."""
    found = {name: _above(name, share, limits) for name, share in shares.items() if name != "coverage"}
    return {**found, "coverage": _coverage(shares["coverage"], limits)}


def verdict_of(checks: Mapping[str, Check]) -> str:
    """The worst level."""
    return LEVELS[max((LEVELS.index(check.level) for check in checks.values()), default=0)]


def told(checks: Mapping[str, Check]) -> dict[str, Any]:
    return {name: {"level": it.level, "found": it.found, "limit": it.limit} for name, it in checks.items()}


def reasons(checks: Mapping[str, Check]) -> list[str]:
    """What speaks against the store, the worst first."""
    bad = [(name, check) for name, check in checks.items() if check.level != PASS]
    bad.sort(key=lambda item: -LEVELS.index(item[1].level))
    return [f"{check.level}: {check.why} ({name}, limit {check.limit:g})" for name, check in bad]


def _above(name: str, share: float | None, limits: Audit) -> Check:
    limit = float(getattr(limits, f"max_{name}"))
    if share is None:
        return Check(PASS, None, limit, "")
    level = FAIL if share > limit else WARN if share > 0 and share >= limits.warn_from * limit else PASS
    return Check(level, round(share, 6), limit, _WHY[name].format(share))


def _coverage(share: float | None, limits: Audit) -> Check:
    if share is None:
        return Check(PASS, None, limits.min_coverage, "")
    level = FAIL if share < limits.min_coverage else WARN if share < limits.warn_coverage else PASS
    why = (
        f"only {share:.0%} of the hours of the day were ever tried: set experiment.random_share to 0.05 or so, so that "
        "other hours are tried and what the engine gains there can be seen"
    )
    return Check(level, share, limits.min_coverage if level == FAIL else limits.warn_coverage, why)
