"""What capacity did to a run, for summary.json, load.csv and the manifest."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from sto_engine.assign.channels import limits_of
from sto_engine.assign.market import EVEN, Market
from sto_engine.assign.plan_json import prices_to_json
from sto_engine.assign.resources import BIN_MS, TOTAL, settings
from sto_engine.assign.spread import SpreadKey
from sto_engine.output.load import Load, peaks, totals
from sto_engine.rounds import Priced
from sto_kernels.journal import DAY_MS
from sto_kernels.spread import bin_counts


def load_before(sends: Mapping[SpreadKey, int], bins: int) -> dict[tuple[int, str], int]:
    """Messages of each quarter-hour and provider, from the sends of all buckets, spread over windows of that length."""
    load: Counter[tuple[int, str]] = Counter()
    starts = sorted({start for start, _ in sends})
    for start in starts:
        names = sorted(name for at, name in sends if at == start)
        n_PB = bin_counts([sends[start, name] for name in names], bins)
        for name, n_B in zip(names, n_PB.tolist(), strict=True):
            for j, n in enumerate(n_B):
                load[(start + j * BIN_MS) // BIN_MS * BIN_MS, name] += n
    return {key: n for key, n in load.items() if n}


def capacity_block(priced: Priced, before: Load, after: Load) -> dict[str, Any]:
    """The certificate, what was moved and left out, how full the fullest quarter-hours are, what limits cost."""
    outcome, market, moves = priced.outcome, priced.market, priced.moves
    violations = messages_over(market, after)
    return {
        "bound": round(outcome.given + outcome.bound - outcome.value, 6),
        "value": round(outcome.given, 6),
        "gap": round(outcome.gap, 9),
        "moved": moves.moved,
        "expected_opens": {"unlimited": round(moves.opens_before, 3), "planned": round(moves.opens_after, 3)},
        "deferred": outcome.deferred,
        "violations": violations,
        "over_before": messages_over(market, before),
        "window_minutes": priced.window_minutes,
        "limits": int(market.limits.hard_R.sum()),
        "binding": int((outcome.price_R > 0).sum()),
        "passes": outcome.passes,
        "eps": outcome.eps,
    }


def summary_blocks(priced: Priced, before: Load, after: Load) -> dict[str, Any]:
    """All that the summary of a run, or of a scenario, tells of its limits."""
    return {
        "capacity": capacity_block(priced, before, after),
        "peaks_per_second": peaks(before, after),
        "one_percent_more": limit_prices(priced),
        "dearest_limits": dearest(priced),
        "load": load_block(priced.market.capacities(), before, after),
    }


def load_block(capacity: Load, before: Load, after: Load) -> dict[str, Any]:
    """What each quarter-hour sends in total, before and after the limits, and the most that it may; by UTC time."""
    sides, limits = (totals(before), totals(after)), [n for (_, who), n in capacity.items() if who == TOTAL]
    times = sorted(sides[0].keys() | sides[1].keys())
    return {
        "capacity": max(limits, default=None),
        "bins": {utc(at): [side.get(at, 0) for side in sides] for at in times},
    }


def utc(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%MZ")


def messages_over(market: Market, load: Load) -> int:
    """Messages above what quarter-hours and days take; the share of a slot is no matter of time."""
    taken: Counter[tuple[str, int, str]] = Counter()
    for (at, lane), n in load.items():
        for who in (*limits_of(lane, market.channels), TOTAL):
            taken["bin", at, who] += n
            taken["day", at // DAY_MS * DAY_MS, who] += n
    limits = [(r, int(room)) for r, room in zip(market.resources, market.room_R, strict=True) if r.kind != "slot"]
    return sum(max(taken[r.kind, r.at_ms, r.provider or TOTAL] - room, 0) for r, room in limits)


def dearest(priced: Priced, most: int = 10) -> dict[str, float]:
    """The limits whose next message is worth most, and what it is worth in expected opens."""
    market, price_R = priced.market, priced.outcome.price_R * priced.market.unit_R
    order = np.argsort(-price_R, kind="stable")[:most]
    return {market.resources[r].text(): round(float(price_R[r]), 6) for r in order.tolist() if price_R[r] > 0}


def limit_prices(priced: Priced) -> dict[str, float]:
    """What one percent more of each limit of the configuration would bring, in expected opens."""
    market, found = priced.market, dict[str, float]()
    worth_R = priced.outcome.price_R * market.limits.capacity_R / 100
    for resource, worth in zip(market.resources, worth_R.tolist(), strict=True):
        if worth > 0 and resource.provider != EVEN:
            key = settings([resource])[0]
            found[key] = found.get(key, 0.0) + worth
    return {key: round(worth, 3) for key, worth in sorted(found.items())}


def plan_block(priced: Priced) -> dict[str, Any]:
    """What the manifest keeps of the plan: enough to replay it and to prove what it is worth."""
    outcome = priced.outcome
    return {
        "prices": prices_to_json(priced.market, outcome),
        "window_minutes": priced.window_minutes,
        "eps": outcome.eps,
        "bound": outcome.bound,
        "value": outcome.value,
        "gap": outcome.gap,
        "deferred": outcome.deferred,
    }
