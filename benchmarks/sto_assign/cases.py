"""What is measured, as data: senders of one size, the shape of their curves, and what is short.

curves   habit   smooth personal curves on a population's
         ties    the same, and 40 % of users share 48 curves to the last bit, as those without history do
         gbdt    the same with logits rounded to 1/12, as a small forest has them
limits   tight      every slot takes 1.05/24 of all
         providers  1.1/24 in all and 1.25/24 of each of twenty providers: 504 resources
         zones      twelve zones on 96 quarter-hours of UTC, a send takes four of them; quiet from 23 to 7
         both       zones and providers: 2,016 resources
"""

from dataclasses import dataclass
from typing import Literal

from sto_bench.tiers import pick

Kind = Literal["limits", "spread"]
PLAIN = ("argmax", "greedy", "regret")
EXACT = ("flow", "lp")
SPREADS = ("jitter", "stratified")
_KNOWN = {"limits": (*PLAIN, *EXACT), "spread": SPREADS}


@dataclass(frozen=True)
class Case:
    """One problem; `tier` says which runs hold it: quick, default or full; "test" is in none.

    `rounds` are the timings of ours and of plain peers; those that find the optimum have one.
    """

    name: str
    users: int
    tier: str
    peers: tuple[str, ...] = PLAIN
    curves: str = "habit"
    limits: str = "tight"
    rounds: int = 3
    kind: Kind = "limits"


_FLOW = (*PLAIN, "flow")
_ALL = (
    Case("assign_u2k_zones", 2_000, "quick", (*PLAIN, "lp"), "habit", "zones"),
    Case("assign_u20k_habit", 20_000, "quick", _FLOW),
    Case("assign_u20k_ties", 20_000, "quick", _FLOW, "ties"),
    Case("assign_u20k_gbdt", 20_000, "quick", _FLOW, "gbdt"),
    Case("spread_u200k", 200_000, "quick", SPREADS, kind="spread"),
    Case("assign_u100k_habit", 100_000, "default", _FLOW),
    Case("assign_u100k_ties", 100_000, "default", _FLOW, "ties"),
    Case("assign_u100k_gbdt", 100_000, "default", _FLOW, "gbdt"),
    Case("assign_u100k_providers", 100_000, "default", _FLOW, "habit", "providers"),
    Case("assign_u1m_habit", 1_000_000, "default"),
    Case("assign_u1m_ties", 1_000_000, "default", PLAIN, "ties"),
    Case("assign_u1m_gbdt", 1_000_000, "default", PLAIN, "gbdt"),
    Case("assign_u1m_providers", 1_000_000, "default", PLAIN, "habit", "providers"),
    Case("assign_u1m_zones", 1_000_000, "default", PLAIN, "habit", "zones"),
    Case("assign_u1m_both", 1_000_000, "full", PLAIN, "ties", "both"),
    Case("assign_u10m_habit", 10_000_000, "full", ("argmax", "greedy"), rounds=1),
    Case("assign_u10m_ties", 10_000_000, "full", ("argmax", "greedy"), "ties", rounds=1),
    Case("assign_u1k", 1_000, "test", _FLOW, "ties", rounds=2),
    Case("spread_u20k", 20_000, "test", SPREADS, rounds=2, kind="spread"),
)
CASES = {case.name: case for case in _ALL}
_TIERS = {"quick": ("quick",), "default": ("quick", "default"), "full": ("quick", "default", "full")}


def select(names: tuple[str, ...], tier: str) -> list[Case]:
    """The named cases, or those of a tier (quick, default, full); ValueError for a name that is not registered."""
    return pick(_ALL, names, _TIERS[tier])


def contestants(case: Case, peers: tuple[str, ...]) -> list[str]:
    """Names of the peers of a case, or of those asked for that are of its kind; "none" means no peers.

    Raises ValueError for an unknown one.
    """
    known = (*PLAIN, *EXACT, *SPREADS, "none")
    unknown = [name for name in peers if name not in known]
    if unknown:
        raise ValueError(f"peer must be one of {', '.join(known)}; found {', '.join(unknown)}")
    return [name for name in peers or case.peers if name in _KNOWN[case.kind]]
