"""What is measured, as data: a part of the nightly data path on a sender of one size.

features   compacted bucket files -> the counting tensors of every recipient (recipe 1-5), decoding included
ingest     raw event files -> a new store, the shipped command as a process of its own
score      compacted store and bundle -> committed assignments, the shipped command as a process of its own
outcomes   compacted store -> the committed state of a bandit, the shipped command as a process of its own
"""

from dataclasses import dataclass
from typing import Literal

from sto_bench.tiers import pick

Kind = Literal["features", "ingest", "score", "outcomes"]
ENGINES = ("polars", "polars-bucket", "duckdb", "chdb")
WRITERS = ("polars", "duckdb")


@dataclass(frozen=True)
class Case:
    """One part and one size; `tier` says which runs hold it: quick, default or full; "test" is in none.

    `buckets` are those of the store; with 80,000 recipients or fewer each, as the engine chooses them. `rounds` are the
    timings of everybody, `peer_rounds` of the peers where theirs take minutes.
    """

    name: str
    kind: Kind
    users: int
    buckets: int
    tier: str
    rounds: int = 5
    peer_rounds: int = 3
    peers: tuple[str, ...] = ()


_ALL = (
    Case("features_u100k", "features", 100_000, 2, "quick", 3, 3, ENGINES),
    Case("features_u1m", "features", 1_000_000, 16, "default", 5, 3, ENGINES),
    Case("features_u5m", "features", 5_000_000, 64, "full", 3, 1, ("polars-bucket", "duckdb")),
    Case("features_u3k", "features", 3_000, 2, "test", 2, 2, ENGINES),
    Case("ingest_u100k", "ingest", 100_000, 2, "quick", 2, 2, WRITERS),
    Case("ingest_u1m", "ingest", 1_000_000, 16, "default", 3, 3, WRITERS),
    Case("ingest_u2k", "ingest", 2_000, 2, "test", 1, 1, WRITERS),
    Case("score_u50k", "score", 50_000, 2, "quick", 2, 2),
    Case("score_u1m", "score", 1_000_000, 16, "default", 3, 3),
    Case("score_u2k", "score", 2_000, 2, "test", 1, 1),
    Case("outcomes_u50k", "outcomes", 50_000, 2, "quick", 2, 2),
    Case("outcomes_u1m", "outcomes", 1_000_000, 16, "default", 3, 3),
    Case("outcomes_u2k", "outcomes", 2_000, 2, "test", 1, 1),
)
CASES = {case.name: case for case in _ALL}
_TIERS = {"quick": ("quick",), "default": ("default",), "full": ("default", "full")}
# the gate's sender: few enough for the plain twins, enough for every rule of the clock
GATE = CASES["features_u3k"]


def select(kind: Kind, names: tuple[str, ...], tier: str) -> list[Case]:
    """The named cases of a kind, or those of a tier (quick, default, full) in the order of the registry.

    Raises ValueError for a name that is not registered.
    """
    return pick([case for case in _ALL if case.kind == kind], names, _TIERS[tier])


def contestants(case: Case, peers: tuple[str, ...]) -> list[str]:
    """Names of the peers of a case, or of those asked for; "none" means no peers. ValueError for an unknown one."""
    known = {"features": ENGINES, "ingest": WRITERS, "score": (), "outcomes": ()}[case.kind]
    unknown = [name for name in peers if name not in (*known, "none")]
    if unknown:
        raise ValueError(f"peer must be one of {', '.join((*known, 'none'))}; found {', '.join(unknown)}")
    return [name for name in peers or case.peers if name != "none"]
