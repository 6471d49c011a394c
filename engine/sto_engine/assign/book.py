"""What the rounds work on and what they find: offers by bucket, the terms, the outcome."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sto_kernels.hashing import U64
from sto_kernels.limits import Int64s, Limits
from sto_kernels.offers import NONE, Offers
from sto_kernels.prices import NO_SLOT, Floats

T = TypeVar("T")
Slots = NDArray[np.uint8]


class Book(Protocol):
    """Where the offers of each bucket are read from and its slots are kept; `slots` begin with everyone's best.

    Work keeps the slots of its bucket, wherever it runs, and returns what `keep` returned, which `took` is told here;
    from then on they are the slots of the bucket.
    """

    @property
    def buckets(self) -> Sequence[int]: ...

    def offers(self, bucket: int) -> Offers: ...

    def slots(self, bucket: int) -> Slots: ...

    def keep(self, bucket: int, slot_U: Slots) -> Any: ...

    def took(self, bucket: int, kept: Any) -> None: ...


class Each(Protocol):
    """Runs work on every bucket named, several at a time and wherever it likes: partials of plain functions.

    Results come one at a time and in that order; they are all to be taken. With `told`, work is given told(bucket) too.
    """

    def __call__(
        self, name: str, work: Callable[..., T], buckets: Sequence[int], told: Callable[[int], Any] | None = None
    ) -> Iterator[T]: ...


@dataclass(frozen=True)
class Terms:
    """`stratum_G`: groups that are sampled alike (a provider); `may_defer`: users may be left without a slot."""

    limits: Limits
    stratum_G: NDArray[np.int32]
    run_key: U64
    may_defer: bool = False
    start_R: Floats | None = None
    prices_R: Floats | None = None


@dataclass
class Outcome:
    """Prices and what they came to; worths are those of the offers. `load_R` and capacities are in units."""

    price_R: Floats
    eps: float
    scale: float
    none: float
    passes: int = 0
    ridge: int = 0
    bound: float = 0.0
    value: float = 0.0
    moved: int = 0
    chained: int = 0
    deferred: int = 0
    over_before: int = 0
    violations: int = 0
    load_R: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def gap(self) -> float:
        """What the optimum may be above the plan, as a share of the worth of all slots that are given."""
        return (self.bound - self.value) / self.given if self.given > 0 else 0.0

    @property
    def given(self) -> float:
        """Worth of the slots that are given."""
        return self.value - (self.none * self.deferred if self.deferred else 0.0)


@dataclass
class Memory:
    """A book in memory, for tests, benchmarks and small plans."""

    parts: Sequence[Offers]
    slot_B: dict[int, Slots] = field(default_factory=dict)

    @property
    def buckets(self) -> Sequence[int]:
        return range(len(self.parts))

    def offers(self, bucket: int) -> Offers:
        return self.parts[bucket]

    def keep(self, bucket: int, slot_U: Slots) -> Slots:
        return slot_U

    def took(self, bucket: int, kept: Slots) -> None:
        self.slot_B[bucket] = kept

    def slots(self, bucket: int) -> Slots:
        if bucket not in self.slot_B:
            code_US = self.parts[bucket].code_US.astype(np.int64)
            code_US = np.where(code_US == NONE, -1, code_US)
            best_U = np.where(code_US.max(axis=1) >= 0, code_US.argmax(axis=1), NO_SLOT)
            self.slot_B[bucket] = best_U.astype(np.uint8)
        return self.slot_B[bucket]
