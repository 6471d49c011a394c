"""What every model offers: small sums per bucket, priors from all sums, a utility per (user, slot)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sto_engine.history.bucket import Bucket
from sto_engine.models.priors import Priors

Tensors = Mapping[str, NDArray[Any]]
# chance: P(open); logit: its margin; share: only its ratio to the user's other slots means anything
Measure = Literal["chance", "logit", "share"]


@dataclass(frozen=True)
class Belief:
    """Beta(a, b) of each (user, slot), float32 [U, S], of which the utilities are one draw by `key_U` (uint64)."""

    key_U: NDArray[np.uint64]
    a_US: NDArray[np.float32]
    b_US: NDArray[np.float32]

    def of(self, keep_U: NDArray[np.bool_]) -> "Belief":
        """The same of some of the users."""
        return Belief(self.key_U[keep_U], self.a_US[keep_U], self.b_US[keep_U])


@dataclass(frozen=True)
class Utilities:
    """What a policy says of the users of a bucket; the slot is the argmax of `utility_US` under the mask.

    `p_open_US` is None where the policy has no probabilities; `reason_U` are REASONS of the tables, or places in it;
    `n_eff_U` is the number of the user's own human acts behind the choice; `measure` says on which scale utilities are
    (`assign.worth` makes expected opens of them). `belief`: where utilities are drawn, what they are drawn from;
    `urgency_U`: names of URGENCIES of the tables, None where a policy knows none.
    """

    utility_US: NDArray[np.float32]
    p_open_US: NDArray[np.float32] | None
    reason_U: NDArray[Any]
    n_eff_U: NDArray[np.float32]
    measure: Measure = "chance"
    belief: Belief | None = None
    urgency_U: NDArray[Any] | None = None

    def of(self, keep_U: NDArray[np.bool_]) -> "Utilities":
        """The same of some of the users."""
        p_US = None if self.p_open_US is None else self.p_open_US[keep_U]
        return replace(
            self,
            utility_US=self.utility_US[keep_U],
            p_open_US=p_US,
            reason_U=self.reason_U[keep_U],
            n_eff_U=self.n_eff_U[keep_U],
            belief=None if self.belief is None else self.belief.of(keep_U),
            urgency_U=None if self.urgency_U is None else self.urgency_U[keep_U],
        )


class Policy(Protocol):
    """A model behind the choice; pure functions of their arguments."""

    @property
    def name(self) -> str: ...

    @property
    def bundle_id(self) -> str | None: ...

    @property
    def needs_sums(self) -> bool:
        """Whether phase 0 must read every bucket."""

    @property
    def has_chances(self) -> bool:
        """Whether the policy has probabilities of an open."""

    def sums(self, bucket: Bucket, buckets: int) -> dict[str, NDArray[Any]]:
        """What this bucket, one of `buckets`, adds to the priors: small arrays by name."""

    def reduce(self, parts: Iterable[Tensors]) -> dict[str, NDArray[Any]]:
        """Priors from the sums of all buckets, given in bucket order; read once, a few at a time."""

    def weighed_by(self, priors: Tensors) -> Priors | None:
        """What the policy weighs the sends of its counts by; None where all weigh the same."""

    def utilities(self, bucket: Bucket, priors: Tensors, day: date) -> Utilities:
        """Utilities of every user of the bucket for sends on the local day `day`."""


def history_act(policy: Policy) -> str:
    """The acts of a history that a policy asks for beside opens ("none" or "click"): most look at none."""
    return str(getattr(policy, "history_act", "none"))
