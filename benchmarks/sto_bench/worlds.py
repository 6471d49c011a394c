"""The inputs of a case: its forest and recipients that it was not trained on.

U users, S slots, F user features, C cross features, P pairs (user-major: all slots of a user, then the next user).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xgboost
from numpy.typing import NDArray

from sto_bench import recipients
from sto_bench.cases import Case
from sto_bench.recipients import BLOCK_USERS, F32
from sto_bench.training import feature_names, load_model
from sto_kernels.forest import Forest
from sto_kernels.pack import pack_xgboost

INPUT_SEED = 1_000_003


@dataclass(frozen=True)
class World:
    """A case with everything that its contestants need; inputs are C-contiguous float32."""

    case: Case
    model: bytes
    forest: Forest
    user_FU: F32
    cross_CSU: F32 | None
    base_SU: F32 | None

    @cached_property
    def booster(self) -> xgboost.Booster:
        return xgboost.Booster(model_file=bytearray(self.model))

    def rows(self, user_U: NDArray[np.int64] | slice) -> F32:
        """The pairs of some users expanded for libraries that know rows only, float32 [P, F + G + C], C-contiguous."""
        user_UF = self.user_FU[:, user_U].T
        users, slots, own, shared = len(user_UF), self.case.slots, self.forest.n_user, self.forest.n_slot
        rows_USF = np.empty((users, slots, own + shared + self.forest.n_cross), np.float32)
        rows_USF[:, :, :own] = user_UF[:, None, :]
        rows_USF[:, :, own : own + shared] = self.forest.slot_values_SG
        if self.cross_CSU is not None:
            rows_USF[:, :, own + shared :] = self.cross_CSU[:, :, user_U].transpose(2, 1, 0)
        return rows_USF.reshape(users * slots, -1)

    def base(self, user_U: NDArray[np.int64] | slice) -> F32 | None:
        """Base margin of the pairs of some users, float32 [P]; None where the case has none."""
        return None if self.base_SU is None else np.ascontiguousarray(self.base_SU[:, user_U].T).reshape(-1)


def make_world(case: Case, seed: int, threads: int) -> World:
    """Train or load the forest of a case and make its recipients; the same seed gives the same inputs."""
    hour_S, weekday_S = recipients.slot_hours(case.slots)
    slot_SG = recipients.slot_rows(hour_S, weekday_S, np.zeros(case.slots, bool))[:, : case.slot_features]
    model = load_model(case, threads)
    blocks = [recipients.make_block(INPUT_SEED + seed, b, case.slots) for b in range(-(-case.users // BLOCK_USERS))]
    user_FU = np.concatenate([b.user_FU[: case.user_features] for b in blocks], axis=1)[:, : case.users]
    cross_CSU = base_SU = None
    if case.cross:
        cross_CSU = np.concatenate([b.cross_CSU[: case.cross] for b in blocks], axis=2)[:, :, : case.users]
    if case.with_base:
        base_SU = np.concatenate([b.base_SU for b in blocks], axis=1)[:, : case.users]
    kept = [None if part is None else np.ascontiguousarray(part) for part in (user_FU, cross_CSU, base_SU)]
    assert kept[0] is not None
    forest = pack_xgboost(model, *feature_names(case), slot_SG)
    return World(case, model, forest, kept[0], kept[1], kept[2])
