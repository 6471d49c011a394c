"""What is measured, as data: each case is one forest and one batch of recipients.

The headline case is the field's usual large forest; the others vary one thing of it at a time, so that a figure can be
blamed on trees, depth, slots, cross features or users. `product_*` is the forest that the engine itself trains.
"""

from dataclasses import dataclass

from sto_bench.tiers import pick

HEADLINE, PRODUCT, TINY = "t500_d6_c4_s24", "product_t150_d4_c7", "tiny_t8_d3_c2_s24"
PATHS = ("bitslice", "bitslice-avx2", "bitslice-generic", "bitslice-gpu")
ALL_PEERS = ("xgboost", "xgboost-expand", "lightgbm", "lleaves", "onnxruntime", "ydf", "nvforest", "gather")


@dataclass(frozen=True)
class Case:
    """One shape of forest and inputs.

    `users` are the recipients of the largest call, enough that the inputs (over 80 MB from 24 slots on) do not fit a
    cache, except where the number of users is what varies. `grown` trees are trained and the first `trees` kept, so
    that cases which differ in trees share their first ones. `tier` says which runs hold it: quick, default or full;
    "test" is in none.
    """

    name: str
    trees: int
    depth: int
    slots: int = 24
    cross: int = 4
    users: int = 200_000
    user_features: int = 40
    slot_features: int = 6
    with_base: bool = False
    grown: int = 0
    train_rows: int = 500_000
    tier: str = "full"
    impls: tuple[str, ...] = ("bitslice",)
    peers: tuple[str, ...] = ("xgboost",)

    @property
    def trained_trees(self) -> int:
        return self.grown or self.trees


_ALL = (
    Case(HEADLINE, 500, 6, tier="default", impls=PATHS, peers=ALL_PEERS),
    Case(
        PRODUCT,
        150,
        4,
        cross=7,
        user_features=17,
        slot_features=0,
        with_base=True,
        train_rows=200_000,
        tier="default",
        peers=("xgboost", "lightgbm", "onnxruntime"),
    ),
    Case("t100_d6_c4_s24", 100, 6, grown=500, tier="default"),
    Case("t150_d6_c4_s24", 150, 6, grown=500),
    Case("t500_d4_c4_s24", 500, 4),
    Case("t500_d8_c4_s24", 500, 8),
    Case("t100_d10_c4_s24", 100, 10, users=50_000),
    Case("t500_d6_c0_s24", 500, 6, cross=0, tier="default"),
    Case("t500_d6_c8_s24", 500, 6, cross=8),
    Case("t500_d6_c4_s48", 500, 6, slots=48, users=100_000),
    Case("t500_d6_c4_s168", 500, 6, slots=168, users=30_000, tier="default"),
    Case("t500_d6_c4_s24_u640", 500, 6, users=640),
    Case("t500_d6_c4_s24_u1m", 500, 6, users=1_000_000),
    Case("quick_t100_d6_c4_s24", 100, 6, users=100_000, train_rows=40_000, tier="quick", peers=("xgboost", "gather")),
    Case("quick_t500_d6_c4_s24", 500, 6, users=50_000, train_rows=12_000, tier="quick"),
    Case(TINY, 8, 3, cross=2, users=700, train_rows=4_000, tier="test", peers=("xgboost",)),
)
CASES = {case.name: case for case in _ALL}
_TIERS = {"quick": ("quick",), "default": ("default",), "full": ("default", "full")}


def select(names: tuple[str, ...], tier: str) -> list[Case]:
    """The named cases, or those of a tier (quick, default, full) in the order of the registry.

    Raises ValueError for a name that is not registered.
    """
    return pick(_ALL, names, _TIERS[tier])
