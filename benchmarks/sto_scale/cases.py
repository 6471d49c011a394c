"""What is measured, as data: a sender of one size, or one question about many buckets.

cost    the commands of a night, each a process of its own, on a sender of `users` recipients with `per_user` events
pair    the same command by threads and by a Ray of its own, on the same cores, in changing order
driver  the driver of `score` at `buckets` buckets, whose work is replaced by records of real size; or ("open") what the
        manifest of such a store is to whoever opens it
"""

from dataclasses import dataclass
from typing import Literal

from sto_bench.tiers import pick

Kind = Literal["cost", "pair", "driver"]
NIGHT = ("ingest", "compact", "train", "score")
WITHOUT_TRAIN = ("ingest", "compact", "score")
BASE_USERS = 250_000


@dataclass(frozen=True)
class Case:
    """`tier` says which runs hold it: quick, default or full; "test" is in none.

    A sender is simulated for `base` recipients and copied under other ids until there are `users`, so that a large one
    costs no more to invent than to write. Buckets hold about 80,000 recipients each: only their number grows. `parts`
    are the commands that are measured, in their order; `rounds` those of pairs and drivers. A driver has `users` in
    each of its buckets, and a store of `generations` whose files its manifest names.
    """

    name: str
    kind: Kind
    users: int
    buckets: int
    tier: str
    parts: tuple[str, ...] = NIGHT
    per_user: int = 10
    base: int = BASE_USERS
    rounds: int = 1
    generations: int = 1


# the order is that of importance: what a short night has no time for stands last. The large commands are measured once:
# where a pair runs one, its threads stand for the cost of it.
_ALL = (
    Case("cost_u50k", "cost", 50_000, 1, "quick", base=50_000),
    Case("cost_u200k", "cost", 200_000, 4, "quick", base=50_000),
    Case("driver_b512", "driver", 50_000, 512, "quick", ("score",), base=50_000),
    Case("pair_score_u200k", "pair", 200_000, 4, "quick", ("score",), base=50_000),
    Case("cost_u1m", "cost", 1_000_000, 16, "default", WITHOUT_TRAIN),
    Case("cost_u5m", "cost", 5_000_000, 64, "default"),
    Case("driver_b8192", "driver", 80_000, 8192, "default", ("score",), base=80_000),
    Case("pair_train_u1m", "pair", 1_000_000, 16, "default", ("train",)),
    Case("cost_u500k_e30", "cost", 500_000, 8, "default", WITHOUT_TRAIN, 30),
    Case("cost_u20m", "cost", 20_000_000, 256, "full", ("ingest", "compact")),
    Case("pair_score_u20m", "pair", 20_000_000, 256, "full", ("score",)),
    Case("store_b8192_g8", "driver", 80_000, 8192, "full", ("open",), base=80_000, generations=8),
    Case("cost_u3k", "cost", 3_000, 2, "test", base=1_500),
    Case("driver_b8", "driver", 3_000, 8, "test", ("score",), base=1_500, generations=2),
    Case("pair_score_u3k", "pair", 3_000, 2, "test", ("score",), base=1_500),
)
CASES = {case.name: case for case in _ALL}
_TIERS = {"quick": ("quick",), "default": ("default",), "full": ("default", "full")}


def select(names: tuple[str, ...], tier: str) -> list[Case]:
    """The named cases, or those of a tier (quick, default, full); ValueError for a name that is not registered."""
    return pick(_ALL, names, _TIERS[tier])
