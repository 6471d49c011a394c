"""What each rule of cleaning is worth: opens of a campaign that are lost where slots are chosen without it.

Slots are chosen with all rules and again with one left out; both are judged by the p_open of all rules. A rule that
changes nothing in the sample costs nothing and is not run. U users of the sample, S slots.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, get_args

import numpy as np

from sto_engine.audit.sample import Outlook, Sampled
from sto_engine.config import CleanRule
from sto_kernels.journal import Cleaned

FLAGGED = ("flags", "agents")
MACHINES = (*FLAGGED, "prefetch", "scanner", "fast_clicks", "flood")
# rules one by one, then those that stand for each other
VARIANTS: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("duplicates", *MACHINES, "invalid", "dead", "bounces", "shifts", "tests")},
    "flagged_opens": FLAGGED,
    "all_machines": MACHINES,
}
assert set(get_args(CleanRule)) <= set(VARIANTS)


@dataclass(frozen=True)
class Price:
    """What leaving rules out does to the sample: users whose slot moves, opens a campaign, their share of all."""

    moved: int
    opens: float
    share: float


def price_rules(sampled: Sampled, full: Outlook, tell: Callable[[str], None]) -> dict[str, Price]:
    """The price of every variant; `tell` hears the name of each when it is done."""
    found: dict[str, Price] = {}
    known: dict[tuple[str, ...], Price] = {}
    for name, rules in VARIANTS.items():
        skipped = tuple(rule for rule in rules if rule not in sampled.config.clean.skip)
        if skipped not in known:
            known[skipped] = _price(sampled, full, skipped)
        found[name] = known[skipped]
        tell(name)
    return found


def _price(sampled: Sampled, full: Outlook, skipped: tuple[str, ...]) -> Price:
    other = sampled.without(skipped) if skipped else full
    if other is full or _same(full, other):
        return Price(0, 0.0, 0.0)
    rows = np.flatnonzero(sampled.mailed_U)
    chosen_U, best_U = full.slots_by_my_clock(other)[rows], full.slot_U[rows]
    best, got = full.p_US[rows, best_U], full.p_US[rows, chosen_U]
    lost = float(np.maximum(best - got, 0.0).sum())  # a slot outside the window is worth no more than the best inside
    return Price(int((chosen_U != best_U).sum()), lost, lost / max(float(best.sum()), 1e-12))


def _same(one: Outlook, two: Outlook) -> bool:
    """Whether two sets of rules leave the same history."""

    def columns(outlook: Outlook) -> list[Any]:
        table = outlook.bucket.cleaned
        return [getattr(table, f.name) for f in fields(Cleaned) if not f.name.endswith("_D")]

    pairs = zip(columns(one), columns(two), strict=True)
    same_keys = np.array_equal(one.bucket.campaign_key_C, two.bucket.campaign_key_C)
    return same_keys and all(np.array_equal(mine, other) for mine, other in pairs)
