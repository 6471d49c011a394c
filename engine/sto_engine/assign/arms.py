"""Experiment arms: who is left alone, who is randomised, who explores, who follows the model.

    | control | random | explore | model ... |   a user's place on this line, in [0, 1), is fixed

An arm depends on the user and the experiment's name only, so it is sticky over campaigns, nights, seeds and bucket
counts. `modulo` is for senders whose other systems already split by user_id % 100. The slot that `random` (uniformly)
and `explore` (in proportion to the chance of an open) get is drawn anew for every date and campaign, since a slot that
stayed would teach the same thing every night. U users, S slots.
"""

from datetime import date
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.config import Experiment
from sto_engine.errors import ConfigError
from sto_kernels.hashing import derive, unit_interval

MODEL, CONTROL, RANDOM, OUTSIDE, EXPLORE = 0, 1, 2, 3, 4
ARM_NAMES: tuple[str | None, ...] = ("model", "control", "random", None, "explore")


def check_experiment(experiment: Experiment, id_type: str) -> None:
    """Raise ConfigError (78) where this store cannot run the experiment."""
    if experiment.bucket == "modulo":
        if id_type == "string":
            raise ConfigError('experiment.bucket = "modulo" needs integer user ids; this store has strings: use "hash"')
        for key in ("control_share", "random_share", "explore_share"):
            share = getattr(experiment, key)
            if abs(share * 100 - round(share * 100)) > 1e-9:
                raise ConfigError(f'experiment.{key} must be whole percents under bucket = "modulo"; found {share}')


def draw_arms(frame: pl.DataFrame, experiment: Experiment, in_experiment_U: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Arm code of each row of `frame` (columns h, user_id) -> uint8 [U]; OUTSIDE where not `in_experiment_U`."""
    edges = np.cumsum([experiment.control_share, experiment.random_share, experiment.explore_share])
    if experiment.bucket == "modulo":
        place_U, edges = (frame["user_id"] % 100).to_numpy().astype(np.float64), np.round(edges * 100)
    else:
        place_U = unit_interval(derive(frame["h"].to_numpy(), f"experiment:{experiment.name}"))
        # 0.1 + 0.2 + 0.7 must leave nothing to the model
        edges = np.where(edges > 1 - 1e-9, 1.0, edges)
    arm_U = np.array([CONTROL, RANDOM, EXPLORE, MODEL], np.uint8)[np.searchsorted(edges, place_U, side="right")]
    arm_U[~in_experiment_U] = OUTSIDE
    return arm_U


def occasion_of(day: date, campaign: str | None) -> str:
    """What draws of slots are made anew for."""
    return f"{day.isoformat()}:{campaign or ''}"


def random_slots(
    h_U: NDArray[np.uint64], allowed_US: NDArray[np.bool_], seed: int, occasion: str = "", tag: str = "random-slot"
) -> NDArray[np.uint8]:
    """A uniform draw among each user's allowed slots -> uint8 [U] (0 where none is allowed); draws of other tags are
    others."""
    n_U = allowed_US.sum(axis=1)
    wanted_U = np.floor(unit_interval(derive(h_U, f"{tag}:{occasion}", seed)) * n_U).astype(np.int64)
    rank_US = np.cumsum(allowed_US, axis=1) - 1
    return np.asarray((allowed_US & (rank_US == wanted_U[:, None])).argmax(axis=1), dtype=np.uint8)


def explore_chances(worth_US: NDArray[np.float32], allowed_US: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The chance of each slot under `explore`: in proportion to its worth among the allowed, float64 [U, S].

    What is no number or below 0 is worth 0; where all is, every allowed slot has the same chance.
    """
    usable_US = allowed_US & np.isfinite(worth_US) & (worth_US > 0)
    weight_US = np.where(usable_US, worth_US, 0.0).astype(np.float64)
    weight_US = np.where(usable_US.any(axis=1, keepdims=True), weight_US, allowed_US)
    total_U = np.cumsum(weight_US, axis=1)[:, -1]
    return np.asarray(weight_US / np.where(total_U > 0, total_U, 1.0)[:, None])


def explore_slots(
    h_U: NDArray[np.uint64], chance_US: NDArray[np.float64], seed: int, occasion: str
) -> NDArray[np.uint8]:
    """A draw of each user's slot by the chances of `explore_chances` -> uint8 [U] (0 where all are 0)."""
    upto_US = np.cumsum(chance_US, axis=1)
    at_U = unit_interval(derive(h_U, f"explore-slot:{occasion}", seed)) * upto_US[:, -1]
    # rounding must not lift a draw to the end of the line
    at_U = np.minimum(at_U, np.nextafter(upto_US[:, -1], 0.0))
    return np.asarray((upto_US > at_U[:, None]).argmax(axis=1), dtype=np.uint8)


def propensities(
    slot_U: NDArray[np.uint8],
    model_chance_U: NDArray[np.floating[Any]] | NDArray[np.bool_],
    control_slot: int,
    n_allowed_U: NDArray[np.int64],
    arm_U: NDArray[np.uint8],
    experiment: Experiment,
    explore_US: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """Marginal P(slot_U) over the draw of the arm and of its slot, float32 [U] in (0, 1]: what off-policy estimators
    divide by.

    `model_chance_U` is P(slot_U) in the model arm, 1 or 0 where the model chooses without a draw; it is all there is to
    users outside the experiment. `explore_US` holds
    `explore_chances`; it must be given where `explore_share` is above 0.
    """
    control, random, explore = experiment.control_share, experiment.random_share, experiment.explore_share
    model = max(1 - control - random - explore, 0.0)
    p_U = model * model_chance_U + control * (slot_U == control_slot)
    p_U = p_U + random / np.maximum(n_allowed_U, 1)
    if explore > 0:
        assert explore_US is not None
        p_U = p_U + explore * explore_US[np.arange(len(slot_U)), slot_U]
    return np.where(arm_U == OUTSIDE, model_chance_U, np.minimum(p_U, 1.0)).astype(np.float32)
