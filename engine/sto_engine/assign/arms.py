"""Experiment arms: who is left alone, who is randomised, who follows the model.

An arm depends on the user and the experiment's name only, so it is sticky over campaigns, nights, seeds and bucket
counts. `modulo` is for senders whose other systems already split by user_id % 100.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.config import Experiment
from sto_engine.errors import ConfigError
from sto_kernels.hashing import derive, unit_interval

MODEL, CONTROL, RANDOM, OUTSIDE = 0, 1, 2, 3
ARM_NAMES: tuple[str | None, ...] = ("model", "control", "random", None)


def check_experiment(experiment: Experiment, id_type: str) -> None:
    """Raise ConfigError (78) where this store or this version cannot run the experiment."""
    if experiment.explore_share > 0:
        raise ConfigError("experiment.explore_share is not available in this version; set it to 0 or use random_share")
    if experiment.bucket == "modulo":
        if id_type == "string":
            raise ConfigError('experiment.bucket = "modulo" needs integer user ids; this store has strings: use "hash"')
        for key in ("control_share", "random_share"):
            share = getattr(experiment, key)
            if abs(share * 100 - round(share * 100)) > 1e-9:
                raise ConfigError(f'experiment.{key} must be whole percents under bucket = "modulo"; found {share}')


def draw_arms(frame: pl.DataFrame, experiment: Experiment, in_experiment_U: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Arm code of each row of `frame` (columns h, user_id) -> uint8 [U]; OUTSIDE where not `in_experiment_U`."""
    if experiment.bucket == "modulo":
        place_U = (frame["user_id"] % 100).to_numpy().astype(np.float64) / 100
        edges = [round(experiment.control_share * 100) / 100]
    else:
        place_U = unit_interval(derive(frame["h"].to_numpy(), f"experiment:{experiment.name}"))
        edges = [experiment.control_share]
    edges.append(edges[0] + experiment.random_share)
    arm_U = np.full(len(place_U), MODEL, np.uint8)
    arm_U[place_U < edges[1] - 1e-12] = RANDOM
    arm_U[place_U < edges[0] - 1e-12] = CONTROL
    arm_U[~in_experiment_U] = OUTSIDE
    return arm_U


def random_slots(h_U: NDArray[np.uint64], allowed_US: NDArray[np.bool_], seed: int) -> NDArray[np.uint8]:
    """A uniform draw among each user's allowed slots -> uint8 [U] (0 where none is allowed)."""
    n_U = allowed_US.sum(axis=1)
    wanted_U = np.floor(unit_interval(derive(h_U, "random-slot", seed)) * n_U).astype(np.int64)
    rank_US = np.cumsum(allowed_US, axis=1) - 1
    return np.asarray((allowed_US & (rank_US == wanted_U[:, None])).argmax(axis=1), dtype=np.uint8)


def propensities(
    slot_U: NDArray[np.uint8],
    model_slot_U: NDArray[np.uint8],
    control_slot: int,
    n_allowed_U: NDArray[np.int64],
    arm_U: NDArray[np.uint8],
    experiment: Experiment,
) -> NDArray[np.float32]:
    """Marginal P(slot_U) over the draw of the arm, float32 [U] in (0, 1]: what off-policy estimators divide by."""
    control, random = experiment.control_share, experiment.random_share
    p_U = (1 - control - random) * (slot_U == model_slot_U) + control * (slot_U == control_slot)
    p_U = p_U + random / np.maximum(n_allowed_U, 1)
    return np.where(arm_U == OUTSIDE, 1.0, np.minimum(p_U, 1.0)).astype(np.float32)
