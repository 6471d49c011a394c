"""What is measured, as data: users of 24 slots whose shapes are those of a bandit at some stage of its life.

flat     1 + opens and 1 + misses of up to ten sends a slot
cohort   a cohort's rate times its strength, and the counts of few sends: most a below 1
known    years of sends: a of 5..50, b of 50..500
tiny     both below 1, where other algorithms are at their best

kind draws   one draw of every (user, slot)
     wins    100 rounds of draws of every user, and which slot wins each
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sto_bench.tiers import pick

SLOTS = 24
PEERS = ("numpy", "torch", "torch_distributions", "torch_cuda")
_KNOWN = {"draws": PEERS, "wins": ("numpy",)}
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """One population; `tier` says which runs hold it: quick, default or full; "test" is in none."""

    name: str
    users: int
    shapes: str
    tier: str
    kind: Literal["draws", "wins"] = "draws"
    rounds: int = 7
    draws: int = 1


_ALL = (
    Case("draws_u50k_flat", 50_000, "flat", "quick"),
    Case("draws_u50k_cohort", 50_000, "cohort", "quick"),
    Case("wins_u5k_cohort", 5_000, "cohort", "quick", "wins", 3, 100),
    Case("draws_u500k_flat", 500_000, "flat", "default"),
    Case("draws_u500k_cohort", 500_000, "cohort", "default"),
    Case("draws_u500k_known", 500_000, "known", "default"),
    Case("draws_u500k_tiny", 500_000, "tiny", "default"),
    Case("wins_u20k_cohort", 20_000, "cohort", "default", "wins", 3, 100),
    Case("draws_u4m_cohort", 4_000_000, "cohort", "full", rounds=3),
    Case("draws_u2k", 2_000, "cohort", "test", rounds=2),
    Case("wins_u200", 200, "cohort", "test", "wins", 2, 20),
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
    known = (*PEERS, "none")
    unknown = [name for name in peers if name not in known]
    if unknown:
        raise ValueError(f"peer must be one of {', '.join(known)}; found {', '.join(unknown)}")
    return [name for name in peers or PEERS if name in _KNOWN[case.kind]]


def shapes(case: Case, seed: int) -> tuple[Floats, Floats]:
    """a and b of each (user, slot), float32 [U, 24]."""
    rng, size = np.random.default_rng([seed, case.users]), (case.users, SLOTS)
    if case.shapes == "known":
        return _uniform(rng, 5, 50, size), _uniform(rng, 50, 500, size)
    if case.shapes == "tiny":
        return _uniform(rng, 0.05, 1, size), _uniform(rng, 0.05, 1, size)
    sends = rng.integers(0, 11 if case.shapes == "flat" else 4, size, dtype=np.int32)
    opens = rng.binomial(sends, 0.2).astype(np.float32)
    misses = sends.astype(np.float32) - opens
    if case.shapes == "flat":
        return 1 + opens, 1 + misses
    rate, strength = _uniform(rng, 0.03, 0.3, size), np.float32(5)
    return rate * strength + opens, (1 - rate) * strength + misses


def _uniform(rng: np.random.Generator, low: float, high: float, size: tuple[int, int]) -> Floats:
    return np.float32(low) + np.float32(high - low) * rng.random(size, np.float32)
