"""Who wants what of the limits, counted by bucket: the only thing about users that the market is made from.

A class of zones are those whose slots start at the same moments; a user's mask is the set of slots that he may get,
as bits. Mail of a provider without limits of its own counts under OTHERS.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.assign.window import ZoneSlots

OTHERS = ""
Starts = tuple[int, ...]


@dataclass
class Census:
    """Counts of one bucket or of all.

    `free`: users with a choice, by class, provider and mask; `fixed`: those whose slot is given (control, random,
    explore), by class, provider and slot; `weights`: the sum of their known weights and how many are known.
    """

    free: Counter[tuple[Starts, str, int]] = field(default_factory=Counter)
    fixed: Counter[tuple[Starts, str, int]] = field(default_factory=Counter)
    past: Counter[tuple[int, str]] = field(default_factory=Counter)
    weights: tuple[float, int] = (0.0, 0)

    def add(self, other: "Census") -> None:
        self.free.update(other.free)
        self.fixed.update(other.fixed)
        self.past.update(other.past)
        self.weights = (self.weights[0] + other.weights[0], self.weights[1] + other.weights[1])

    @property
    def classes(self) -> list[Starts]:
        """The classes that occur, in order."""
        return sorted({starts for starts, _, _ in (*self.free, *self.fixed)})

    @property
    def mean_weight(self) -> float:
        """1 where no weight is known."""
        total, known = self.weights
        return total / known if known and total > 0 else 1.0

    def to_json(self) -> dict[str, Any]:
        """Plain values; classes are written once."""
        classes = self.classes
        place = {starts: i for i, starts in enumerate(classes)}

        def rows(counts: Mapping[tuple[Starts, str, int], int]) -> list[list[Any]]:
            return [[place[starts], *rest, n] for (starts, *rest), n in sorted(counts.items())]

        past = [[*key, n] for key, n in sorted(self.past.items())]
        return {
            "classes": [list(starts) for starts in classes],
            "free": rows(self.free),
            "fixed": rows(self.fixed),
            "past": past,
            "weights": list(self.weights),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Census":
        classes = [tuple(starts) for starts in told["classes"]]

        def counts(rows: Iterable[list[Any]]) -> Counter[tuple[Starts, str, int]]:
            return Counter({(classes[c], name, number): n for c, name, number, n in rows})

        past = Counter({(at, name): n for at, name, n in told["past"]})
        return cls(counts(told["free"]), counts(told["fixed"]), past, (told["weights"][0], told["weights"][1]))


def take_census(
    zones: ZoneSlots,
    provider_U: NDArray[np.int32],
    providers: list[str],
    fixed_U: NDArray[np.bool_],
    slot_U: NDArray[np.uint8],
) -> Census:
    """Counts of the users of a bucket; `provider_U` indexes `providers` (OTHERS among them), `slot_U` is read of the
    fixed."""
    starts = [tuple(row) for row in zones.start_ms_ZS.tolist()]
    census, free_U = Census(), ~fixed_U
    numbered = (
        (free_U, _masks(zones.of(free_U)), census.free),
        (fixed_U, _numbered(slot_U[fixed_U]), census.fixed),
    )
    for rows_U, (numbers, number_of_U), counts in numbered:
        key_U = zones.zone_U[rows_U].astype(np.int64) * len(providers) + provider_U[rows_U]
        cell_K, n_K = np.unique(key_U * max(len(numbers), 1) + number_of_U, return_counts=True)
        for cell, n in zip(cell_K.tolist(), n_K.tolist(), strict=True):
            key, number = divmod(cell, len(numbers))
            zone, provider = divmod(key, len(providers))
            counts[starts[zone], providers[provider], numbers[number]] += n
    return census


def _masks(zones: ZoneSlots) -> tuple[list[int], NDArray[np.int64]]:
    """Distinct sets of allowed slots as bits, slot 0 the lowest, and the place of each user's, int64 [U]."""
    whole = zones.user_US is None and zones.left_US is None
    masks, mask_M = _packed(zones.allowed_ZS if whole else zones.allowed_US())
    return masks, mask_M[zones.zone_U] if whole else mask_M


def _packed(allowed_MS: NDArray[np.bool_]) -> tuple[list[int], NDArray[np.int64]]:
    bytes_MB = np.packbits(allowed_MS, axis=1, bitorder="little")
    distinct, place_M = np.unique(bytes_MB, axis=0, return_inverse=True)
    return [int.from_bytes(row.tobytes(), "little") for row in distinct], place_M.reshape(-1).astype(np.int64)


def _numbered(slot_U: NDArray[np.uint8]) -> tuple[list[int], NDArray[np.int64]]:
    slots, place_U = np.unique(slot_U, return_inverse=True)
    return slots.tolist(), place_U.astype(np.int64)


def priced_providers(names: Iterable[str], limited: Iterable[str]) -> tuple[list[str], dict[str, int]]:
    """OTHERS and the limited providers in order, and the place of each of `names` among them."""
    providers = [OTHERS, *sorted(limited)]
    place = {name: i for i, name in enumerate(providers)}
    return providers, {name: place.get(name, 0) for name in names}
