"""The gate: XGBoost's own margins are the truth, and a kernel that differs from them is not timed.

The sample is spread over the whole input and holds its first and last users, where blocks are cut; what a contestant
returned from its last timed call is checked against the same truth. N sampled users, S slots.
"""

from dataclasses import dataclass

import numpy as np
import xgboost
from numpy.typing import NDArray

from sto_bench.contest import Choice, GateFailed
from sto_bench.worlds import World

EDGE_USERS, SPREAD_USERS = 130, 700
TOLERANCE, PEER_TOLERANCE = 2e-5, 1e-4


@dataclass(frozen=True)
class Oracle:
    """XGBoost's margins float64 [N, S] of the sampled users int64 [N], ascending; `scale` multiplies tolerances."""

    user_N: NDArray[np.int64]
    margin_NS: NDArray[np.float64]
    scale: float

    def before(self, users: int) -> "Oracle":
        """The sampled ones among the first `users` users."""
        kept = int(np.searchsorted(self.user_N, users))
        return Oracle(self.user_N[:kept], self.margin_NS[:kept], self.scale)


def ask_xgboost(world: World, threads: int) -> Oracle:
    """Score a sample of a case's users with XGBoost, `predict(output_margin=True)`."""
    users = world.case.users
    spread_N = np.linspace(0, users - 1, min(users, SPREAD_USERS)).astype(np.int64)
    edges = (np.arange(min(users, EDGE_USERS)), np.arange(max(0, users - EDGE_USERS), users))
    user_N = np.unique(np.concatenate([*edges, spread_N]))
    names = world.booster.feature_names
    data = xgboost.DMatrix(world.rows(user_N), base_margin=world.base(user_N), feature_names=names, nthread=threads)
    margin_NS = world.booster.predict(data, output_margin=True).reshape(len(user_N), -1)
    return Oracle(user_N, margin_NS.astype(np.float64), max(1.0, world.forest.leaf_range))


def check_margins(oracle: Oracle, margin_NS: NDArray[np.floating]) -> None:
    """GateFailed unless every margin of the sampled users is XGBoost's to within 2e-5 of the leaves' range."""
    if margin_NS.shape != oracle.margin_NS.shape:
        raise GateFailed(f"margins must have shape {oracle.margin_NS.shape}; found {margin_NS.shape}")
    _within(oracle, np.abs(margin_NS - oracle.margin_NS), TOLERANCE, "margin")


def check_choice(oracle: Oracle, choice: Choice, users: int, tolerance: float = TOLERANCE) -> None:
    """GateFailed unless, of the first `users` users, those sampled got XGBoost's best slot and its margin.

    A slot whose margin is within the tolerance of the best one is as good.
    """
    check_finite(choice, users, oracle.margin_NS.shape[1])
    part = oracle.before(users)
    slot_N = np.asarray(choice.slot_U)[part.user_N].astype(np.int64)
    chosen_N = np.take_along_axis(part.margin_NS, slot_N[:, None], axis=1)[:, 0]
    _within(part, part.margin_NS.max(axis=1) - chosen_N, tolerance, "margin of the chosen slot, below the best,")
    _within(part, np.abs(np.asarray(choice.margin_U)[part.user_N] - chosen_N), tolerance, "margin of the chosen slot")


def check_runner_up(
    oracle: Oracle, choice: Choice, runner_U: NDArray[np.integer], tolerance: float = TOLERANCE
) -> None:
    """GateFailed unless the runner-up is another slot and the best of the others, for users that are all sampled."""
    slot_N, runner_N = (np.asarray(a).astype(np.int64) for a in (choice.slot_U, runner_U))
    if (slot_N == runner_N).any():
        raise GateFailed(f"the runner-up must be another slot; found slot {slot_N[slot_N == runner_N][0]} twice")
    rest_NS = oracle.margin_NS.copy()
    np.put_along_axis(rest_NS, slot_N[:, None], -np.inf, axis=1)
    found_N = np.take_along_axis(rest_NS, runner_N[:, None], axis=1)[:, 0]
    _within(oracle, rest_NS.max(axis=1) - found_N, tolerance, "margin of the runner-up, below the second best,")


def check_finite(choice: Choice, users: int, slots: int) -> None:
    """GateFailed unless there is a slot and a finite margin for every user: all that an own model can be held to."""
    slot_U, margin_U = np.asarray(choice.slot_U), np.asarray(choice.margin_U)
    if slot_U.shape != (users,) or margin_U.shape != (users,):
        raise GateFailed(f"one slot and one margin for each of {users} users expected; found {slot_U.shape}")
    if users and (int(slot_U.max()) >= slots or int(slot_U.min()) < 0):
        raise GateFailed(f"slots must be in 0..{slots - 1}; found {int(slot_U.min())}..{int(slot_U.max())}")
    if not np.isfinite(margin_U).all():
        raise GateFailed(f"margins must be finite; found {margin_U[~np.isfinite(margin_U)][0]}")


def _within(oracle: Oracle, off: NDArray[np.float64], tolerance: float, what: str) -> None:
    """`off` must be at most the tolerance everywhere; NaN is not."""
    allowed = tolerance * oracle.scale
    wrong = ~(off <= allowed)
    if wrong.any():
        at = np.argwhere(wrong)[0]
        where = f"user {oracle.user_N[at[0]]}" + (f", slot {at[1]}" if len(at) > 1 else "")
        raise GateFailed(
            f"{what} must be XGBoost's to within {allowed:.2g}; off by {off[tuple(at)]:.3g} at {where}, "
            f"and at {int(wrong.sum())} of {wrong.size} places in all"
        )
