"""With what chance a policy that draws takes a slot: how often it wins a contest of draws (sto_kernels.beta_wins).

    the model takes argmax over its slots of  weight * draw + gain - cost

where `gain` is what holds a slot (`assign.min_gain`, `assign.keep_gain`) and `cost` what prices ask for it. Two
approximations under limits of capacity: the noise that splits ties at prices is left out, and so is the repair of the
last few messages. Where users have no belief of their own (fallback) the slot is certain. U users, S slots.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from sto_engine.models.policy import Belief, Utilities
from sto_engine.plan import Plan
from sto_kernels.beta_wins import win_chance_of

CONTEST = "contest_"
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Contest:
    """What decides: beliefs, the slots the model looks among [U, S], whether a user's slot is drawn at all [U], gains
    [U, S] and weights [U], None for none."""

    belief: Belief
    suits_US: NDArray[np.bool_]
    draws_U: NDArray[np.bool_]
    gain_US: Floats | None = None
    weight_U: Floats | None = None

    def chances(
        self, slot_U: NDArray[Any], model_slot_U: NDArray[Any], rounds: int, cost_US: Floats | None = None
    ) -> NDArray[np.float64]:
        """P(the model takes slot_U), float64 [U]; above 0 where it did.

        Of slots that others gave, and the model did not take, the share of `rounds` won; of those that it took, the
        round in which it took them counts too.
        """
        took_U = np.asarray(slot_U == model_slot_U)
        chance_U = took_U.astype(np.float64)
        rows = np.flatnonzero(self.draws_U)
        slot_N, belief = slot_U[rows], self.belief
        suits = self.suits_US[rows].copy()
        suits[np.arange(len(rows)), slot_N] = True
        less, weight_U = self._less(cost_US, rows), None if self.weight_U is None else self.weight_U[rows]
        shapes = belief.a_US[rows], belief.b_US[rows]
        won_N = win_chance_of(belief.key_U[rows], *shapes, slot_N, rounds, suits, less, weight_U).astype(np.float64)
        others_N = np.maximum(won_N * (rounds + 1) - 1, 0) / rounds
        chance_U[rows] = np.where(took_U[rows], won_N, others_N)
        return chance_U

    def _less(self, cost_US: Floats | None, rows: NDArray[np.int64]) -> Floats | None:
        if cost_US is None and self.gain_US is None:
            return None
        cost = np.zeros((len(rows), self.suits_US.shape[1])) if cost_US is None else cost_US[rows].astype(np.float64)
        return cost if self.gain_US is None else np.asarray(cost - self.gain_US[rows])

    def staged(self, weight_U: Floats | None) -> dict[str, pl.Series]:
        """Columns of the staged rows."""
        belief = self.belief
        columns: dict[str, NDArray[Any]] = {"key": belief.key_U, "a": belief.a_US, "b": belief.b_US}
        columns |= {"draws": self.draws_U, "suits": self.suits_US}
        if self.gain_US is not None:
            columns["gain"] = self.gain_US.astype(np.float32)
        if weight_U is not None:
            columns["weight"] = weight_U.astype(np.float32)
        return {CONTEST + name: pl.Series(values) for name, values in columns.items()}


def contest_of(
    allowed_US: NDArray[np.bool_],
    utilities: Utilities,
    suits_US: NDArray[np.bool_] | None,
    with_data_U: NDArray[np.bool_],
    worths: tuple[NDArray[np.float32] | None, NDArray[np.float32] | None],
) -> Contest | None:
    """What the model's draws decide among; `worths` without and with what holds a slot."""
    if utilities.belief is None:
        return None
    suits_US = allowed_US if suits_US is None else suits_US
    worth, wanted = worths
    gain_US = None if wanted is None or worth is None or wanted is worth else wanted - worth
    return Contest(utilities.belief, suits_US, with_data_U, gain_US)


def model_chances(
    plan: Plan,
    contest: Contest | None,
    slot_U: NDArray[np.uint8],
    model_slot_U: NDArray[np.uint8],
    cost_US: NDArray[np.float64] | None = None,
) -> NDArray[Any]:
    """P(slot_U) by the model alone: 1 or 0 where it does not draw."""
    if contest is None:
        return np.asarray(slot_U == model_slot_U)
    return contest.chances(slot_U, model_slot_U, plan.config.bandit.propensity_draws, cost_US)


def staged_contest(table: pa.Table, slots: int) -> Contest | None:
    """What `Contest.staged` wrote; None where nothing was drawn."""
    if f"{CONTEST}key" not in table.column_names:
        return None

    def column(name: str) -> NDArray[Any] | None:
        if CONTEST + name not in table.column_names:
            return None
        values = table[CONTEST + name].combine_chunks()
        if name in ("a", "b", "suits", "gain"):
            return np.asarray(values.flatten().to_numpy(zero_copy_only=False)).reshape(-1, slots)
        return np.asarray(values.to_numpy(zero_copy_only=False))

    key_U, a_US, b_US, suits_US, draws_U = (column(name) for name in ("key", "a", "b", "suits", "draws"))
    assert key_U is not None
    assert a_US is not None
    assert b_US is not None
    assert suits_US is not None
    assert draws_U is not None
    gain_US, weight_U = column("gain"), column("weight")
    gain_US = None if gain_US is None else gain_US * (1 if weight_U is None else weight_U[:, None])
    return Contest(Belief(key_U, a_US, b_US), suits_US, draws_U, gain_US, weight_U)
