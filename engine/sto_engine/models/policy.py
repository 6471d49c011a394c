"""What every model offers: small sums per bucket, priors from all sums, a utility per (user, slot)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sto_engine.history.profile import Profile

Sums = dict[str, list[float]]


@dataclass(frozen=True)
class Utilities:
    """What a policy says of the users of a bucket; the slot is the argmax of `utility_US` under the mask.

    `p_open_US` is None where the policy has no probabilities; `reason_U` are REASONS of the tables; `n_eff_U` is the
    number of the user's own human opens behind the choice.
    """

    utility_US: NDArray[np.float32]
    p_open_US: NDArray[np.float32] | None
    reason_U: NDArray[Any]
    n_eff_U: NDArray[np.float32]


class Policy(Protocol):
    """A model behind the choice; pure functions of their arguments."""

    @property
    def name(self) -> str: ...

    @property
    def bundle_id(self) -> str | None: ...

    @property
    def needs_sums(self) -> bool:
        """Whether phase 0 must read every bucket."""

    def sums(self, profile: Profile) -> Sums:
        """What a bucket adds to the priors: plain numbers by name."""

    def reduce(self, parts: Sequence[Mapping[str, Sequence[float]]]) -> Sums:
        """Priors from the sums of all buckets, given in bucket order."""

    def utilities(self, profile: Profile, priors: Mapping[str, Sequence[float]], day: date) -> Utilities:
        """Utilities of every user of `profile` for the local day `day`."""


def add_sums(parts: Sequence[Mapping[str, Sequence[float]]]) -> Sums:
    """Sums of the same name added in the order of `parts`; names sorted."""
    total: dict[str, NDArray[np.float64]] = {}
    for part in parts:
        for name, values in part.items():
            total[name] = total.get(name, 0.0) + np.asarray(values, np.float64)
    return {name: total[name].tolist() for name in sorted(total)}
