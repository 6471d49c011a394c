"""What a run did, for people and for monitoring: summary.json and metrics.prom (their bytes are not promised)."""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sto_engine.score import BucketCounts

COLLAPSE_SHARE = 0.80


def add_up(parts: Sequence[BucketCounts]) -> BucketCounts:
    """The counts of all buckets together (spread keys left out: they are many and only phase B needs them)."""
    total = BucketCounts()
    for part in parts:
        total.audience += part.audience
        total.nan_rows += part.nan_rows
        for name in ("suppressed", "reason", "arm", "slot", "preferred", "provider"):
            getattr(total, name).update(getattr(part, name))
    return total


def summarise(
    run: Mapping[str, Any], total: BucketCounts, quarantined: int, slots: int, warnings: Sequence[str]
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
        "by_provider": dict(sorted(total.provider.items())),
        "preferred_slot_share": [round(share, 6) for share in shares],
        "entropy": round(-sum(s * math.log2(s) for s in shares if s > 0), 6) + 0.0,
        "capacity": {"bound": None, "value": None, "gap": None, "moved": 0, "violations": 0},
        "warnings": [*warnings, *_alarms(total, shares)],
    }


def _alarms(total: BucketCounts, shares: Sequence[float]) -> list[str]:
    alarms = []
    top = sum(sorted(shares, reverse=True)[:3])
    if top > COLLAPSE_SHARE:
        alarms.append(
            f"slot collapse: the three most preferred slots hold {top:.0%} of the model arm (alarm above "
            f"{COLLAPSE_SHARE:.0%}); check time zones, history and cohorts"
        )
    if total.nan_rows:
        alarms.append(f"{total.nan_rows} recipients had a utility that is not a number and got the control time")
    return alarms


def spread_summary(counts: Sequence[BucketCounts], window_ms: int) -> dict[str, Any]:
    """How many (UTC start, provider) windows there are and how full the fullest is."""
    windows: Counter[tuple[int, str]] = Counter()
    for part in counts:
        windows.update(part.spread)
    largest = max(windows.values(), default=0)
    return {
        "window_minutes": window_ms / 60_000,
        "windows": len(windows),
        "largest_window": largest,
        "largest_per_second": round(largest / (window_ms / 1000), 3),
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
        "# TYPE sto_stage_duration_seconds gauge",
        *(f'sto_stage_duration_seconds{{stage="{k}"}} {v}' for k, v in summary.get("timings_s", {}).items()),
        "# TYPE sto_quarantined_rows gauge",
        *(f'sto_quarantined_rows{{reason="{name}"}} {count}' for name, count in sorted(quarantined_rows.items())),
        "# EOF",
    ]
    return "\n".join(lines) + "\n"
