"""What a run did, for people and for monitoring: summary.json and metrics.prom (their bytes are not promised)."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sto_engine.assign.gain import summary as window_summary
from sto_engine.assign.gain import warning as window_warning
from sto_engine.bucket_counts import BucketCounts

COLLAPSE_SHARE = 0.80
# in a window of fewer slots three of them must hold most
COLLAPSE_SLOTS = 6
WEEKS, DAYS = (7, 168), ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
# the capacity block of a run without limits
UNLIMITED: dict[str, Any] = {"bound": None, "value": None, "gap": None, "moved": 0, "deferred": 0, "violations": 0}


def add_up(parts: Iterable[BucketCounts]) -> BucketCounts:
    """The counts of all buckets together, given in their order."""
    total = BucketCounts()
    for part in parts:
        add_to(total, part)
    return total


def add_to(total: BucketCounts, part: BucketCounts) -> None:
    total.audience += part.audience
    total.nan_rows += part.nan_rows
    choices = ("reason", "arm", "slot", "channel", "preferred", "provider", "held", "urgency")
    for name in (*choices, "suppressed", "days", "cold", "spread"):
        getattr(total, name).update(getattr(part, name))
    total.gain += part.gain
    total.regret += part.regret
    total.census.add(part.census)


def summarise(
    run: Mapping[str, Any], total: BucketCounts, quarantined: int, slots: int, open_slots: int, warnings: Sequence[str]
) -> dict[str, Any]:
    """The body of summary.json: version, run_id and date of `run`, then counts in the order of design."""
    assigned, suppressed = sum(total.reason.values()), sum(total.suppressed.values())
    shares = [total.preferred[slot] / max(1, sum(total.preferred.values())) for slot in range(slots)]
    return {
        **run,
        "counts": {
            "audience": total.audience + quarantined,
            "assigned": assigned,
            "suppressed": suppressed,
            "quarantined": quarantined,
        },
        "by_reason": dict(sorted(total.reason.items())),
        "by_suppression": dict(sorted(total.suppressed.items())),
        "by_arm": dict(sorted(total.arm.items())),
        "by_slot": {str(slot): total.slot[slot] for slot in range(slots)},
        **({"by_day": _by_day(total, slots)} if slots in WEEKS else {}),
        "by_provider": dict(sorted(total.provider.items())),
        "preferred_slot_share": [round(share, 6) for share in shares],
        "entropy": round(-sum(s * math.log2(s) for s in shares if s > 0), 6) + 0.0,
        "held": dict(sorted(total.held.items())),
        "cold_start": dict(sorted(total.cold.items())),
        "by_urgency": dict(sorted(total.urgency.items())),
        **_context(total),
        "window": window_summary(total.gain, *_arms(total)) if total.gain.users else None,
        "capacity": dict(UNLIMITED),
        "warnings": [*warnings, *_alarms(total, shares, open_slots)],
    }


def _by_day(total: BucketCounts, slots: int) -> dict[str, int]:
    """Assignments by day of the week, on the grids of a week."""
    per_day = slots // len(DAYS)
    return {name: sum(total.slot[per_day * day + s] for s in range(per_day)) for day, name in enumerate(DAYS)}


def _context(total: BucketCounts) -> dict[str, Any]:
    """Whose day is off or not against its name, or closed, by country; nothing where the calendar says nothing."""
    if not total.days:
        return {}
    found: dict[str, Any] = {"day_off": {}, "work_day": {}, "no_send": {}}
    for key, count in sorted(total.days.items()):
        kind, _, country = key.partition(":")
        if country:
            found[kind][country] = count
        else:
            found[kind] = count
    return {"context": found}


def _arms(total: BucketCounts) -> tuple[int, int]:
    return total.arm["control"], total.arm["model"]


def _alarms(total: BucketCounts, shares: Sequence[float], open_slots: int) -> list[str]:
    alarms = []
    top = sum(sorted(shares, reverse=True)[:3])
    if top > COLLAPSE_SHARE and open_slots >= COLLAPSE_SLOTS:
        alarms.append(
            f"slot collapse: the three most preferred slots hold {top:.0%} of the model arm (alarm above "
            f"{COLLAPSE_SHARE:.0%}); check time zones, history and cohorts"
        )
    narrow = window_warning(total.gain, *_arms(total))
    alarms += [narrow] if narrow else []
    if total.nan_rows:
        alarms.append(f"{total.nan_rows} recipients had a utility that is not a number and got the control time")
    return alarms


def spread_summary(total: BucketCounts, minutes: int) -> dict[str, Any]:
    """How many (UTC start, provider) windows of so many minutes there are and how full the fullest is."""
    largest = max(total.spread.values(), default=0)
    return {
        "window_minutes": minutes,
        "windows": len(total.spread),
        "largest_window": largest,
        "largest_per_second": round(largest / (minutes * 60), 3),
    }


def metrics(summary: Mapping[str, Any], quarantined_rows: Mapping[str, int]) -> str:
    """metrics.prom in the OpenMetrics text format; timestamps, not ages; zeros are written."""
    now = f"{time.time():.0f}"
    lines = [
        "# TYPE sto_last_success_timestamp_seconds gauge",
        f"sto_last_success_timestamp_seconds {now}",
        "# TYPE sto_users gauge",
        *(f'sto_users{{outcome="{name}"}} {count}' for name, count in summary["counts"].items()),
        "# TYPE sto_slot_users gauge",
        *(f'sto_slot_users{{slot="{slot}"}} {count}' for slot, count in summary["by_slot"].items()),
        "# TYPE sto_slot_max_share gauge",
        f"sto_slot_max_share {max(summary['preferred_slot_share'], default=0.0)}",
        "# TYPE sto_slot_entropy gauge",
        f"sto_slot_entropy {summary['entropy']}",
        *_capacity_metrics(summary["capacity"]),
        *_bandit_metrics(summary.get("bandit")),
        "# TYPE sto_stage_duration_seconds gauge",
        *(f'sto_stage_duration_seconds{{stage="{k}"}} {v}' for k, v in summary.get("timings_s", {}).items()),
        "# TYPE sto_quarantined_rows gauge",
        *(f'sto_quarantined_rows{{reason="{name}"}} {count}' for name, count in sorted(quarantined_rows.items())),
        "# EOF",
    ]
    return "\n".join(lines) + "\n"


def _capacity_metrics(capacity: Mapping[str, Any]) -> list[str]:
    """Only of runs with limits: a gap of 0 that nobody asked for would look like a proof."""
    if capacity["gap"] is None:
        return []
    return [
        "# TYPE sto_optimality_gap_ratio gauge",
        f"sto_optimality_gap_ratio {capacity['gap']}",
        "# TYPE sto_capacity_moved_users gauge",
        f"sto_capacity_moved_users {capacity['moved']}",
        "# TYPE sto_capacity_deferred_users gauge",
        f"sto_capacity_deferred_users {capacity['deferred']}",
    ]


def _bandit_metrics(bandit: Mapping[str, Any] | None) -> list[str]:
    """Only of runs whose policy draws."""
    if bandit is None or not bandit["users"]:
        return []
    return [
        "# TYPE sto_bandit_regret_opens gauge",
        f"sto_bandit_regret_opens {bandit['regret']}",
        "# TYPE sto_bandit_explored_ratio gauge",
        f"sto_bandit_explored_ratio {bandit['explored_share']}",
        "# TYPE sto_bandit_strength gauge",
        f"sto_bandit_strength {bandit['strength']}",
    ]
