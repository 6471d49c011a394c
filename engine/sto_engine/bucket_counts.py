"""What is counted of a bucket's choices: all that leaves it, and the same in whatever order it is summed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sto_engine.assign import arms
from sto_engine.assign.census import Census
from sto_engine.assign.channels import Options
from sto_engine.assign.gain import Gain
from sto_engine.assign.regret import Regret
from sto_engine.assign.spread import SpreadKey
from sto_engine.assign.window import ZoneSlots
from sto_engine.tables import REASONS

K = TypeVar("K")


@dataclass
class BucketCounts:
    """What crosses buckets after phase A: small, and the same in whatever order it is summed."""

    audience: int = 0
    nan_rows: int = 0
    suppressed: Counter[str] = field(default_factory=Counter)
    reason: Counter[str] = field(default_factory=Counter)
    arm: Counter[str] = field(default_factory=Counter)
    slot: Counter[int] = field(default_factory=Counter)
    channel: Counter[str] = field(default_factory=Counter)
    preferred: Counter[int] = field(default_factory=Counter)
    provider: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    days: Counter[str] = field(default_factory=Counter)
    cold: Counter[str] = field(default_factory=Counter)
    urgency: Counter[str] = field(default_factory=Counter)
    spread: Counter[SpreadKey] = field(default_factory=Counter)
    gain: Gain = field(default_factory=Gain)
    regret: Regret = field(default_factory=Regret)
    census: Census = field(default_factory=Census)


def count(
    options: Options,
    counts: BucketCounts,
    zones: ZoneSlots,
    slot_U: NDArray[np.uint8],
    arm_U: NDArray[np.uint8],
    reason_U: NDArray[np.uint8],
    provider: tuple[list[str], NDArray[np.int32]],
) -> None:
    """Add users with these slots to the counts of a bucket; what is spread is told by lane (assign.channels)."""
    slots, (providers, provider_U) = range(256), provider
    counts.reason.update(tally(reason_U, REASONS))
    counts.arm.update(tally(arm_U, [name or "outside" for name in arms.ARM_NAMES]))
    counts.slot.update(tally(options.slot_of(slot_U), slots))
    counts.channel.update(tally(options.channel_of(slot_U), options.channels))
    counts.provider.update(tally(provider_U, providers))
    counts.spread.update(options.starts(zones, slot_U, providers, provider_U))


def tally(code_U: NDArray[Any], names: Sequence[K]) -> dict[K, int]:
    """How often each name occurs, by its place."""
    n_C = np.bincount(code_U)
    return {names[code]: n for code, n in enumerate(n_C.tolist()) if n}
