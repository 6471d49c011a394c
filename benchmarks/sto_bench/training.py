"""The forest of a case: trained once on recipients of another seed than its inputs, then cached.

N rows, F features.
"""

import hashlib
from pathlib import Path

import numpy as np
import xgboost

from sto_bench import cache, recipients
from sto_bench.cases import Case
from sto_bench.recipients import BLOCK_USERS, CROSS_FEATURES, F32, SLOT_FEATURES, USER_FEATURES, Block

TRAIN_SEED = 1
ROWS_PER_USER = 8


def feature_names(case: Case) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Names of the user, slot and cross features of a case."""
    return USER_FEATURES[: case.user_features], SLOT_FEATURES[: case.slot_features], CROSS_FEATURES[: case.cross]


def load_model(case: Case, threads: int) -> bytes:
    """The first `case.trees` trees of the case's forest as UBJSON, from the cache or trained now."""

    def train(path: Path) -> None:
        rows_NF, label_N, base_N = training_rows(case, case.train_rows)
        names = [name for group in feature_names(case) for name in group]
        data = xgboost.QuantileDMatrix(
            rows_NF, label_N, base_margin=base_N, feature_names=names, max_bin=256, nthread=threads
        )
        xgboost.train({**_params(case), "nthread": threads}, data, case.trained_trees).save_model(path)

    facts = {**training_facts(case, case.train_rows), "params": _params(case), "xgboost": xgboost.__version__}
    booster = xgboost.Booster(model_file=cache.made(cache.keyed("xgboost", facts, ".ubj"), train))
    return bytes(booster[: case.trees].save_raw("ubj"))


def training_facts(case: Case, rows: int) -> dict[str, object]:
    """All that decides the data of a model of this shape: the cases' figures and the code that invents recipients."""
    sources = b"".join(Path(name).read_bytes() for name in (recipients.__file__, __file__))
    return {
        "source": hashlib.sha256(sources).hexdigest(),
        "numpy": np.__version__,
        "trees": case.trained_trees,
        "features": feature_names(case),
        "with_base": case.with_base,
        "depth": case.depth,
        "rows": rows,
    }


def _params(case: Case) -> dict[str, object]:
    params: dict[str, object] = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "max_depth": case.depth,
        "eta": 0.05,
        "subsample": 0.8,
        "max_bin": 256,
        "seed": 0,
    }
    # with a base margin XGBoost adds no base score of its own, so the saved one must be neutral
    return {**params, "base_score": 0.5} if case.with_base else params


def training_rows(case: Case, rows: int) -> tuple[F32, F32, F32 | None]:
    """Rows float32 [N, F], labels 0/1 [N], base margins [N] or None: each user at some hours of some days.

    Always on the grid of 24 hours, whatever the case's slots: cases that differ in slots share their forest.
    """
    users = -(-rows // ROWS_PER_USER)
    blocks = range(-(-users // BLOCK_USERS))
    parts = [_block_rows(case, recipients.make_block(TRAIN_SEED, b, 24), b) for b in blocks]
    base_N = np.concatenate([part[2] for part in parts])[:rows] if case.with_base else None
    return (
        np.concatenate([part[0] for part in parts])[:rows],
        np.concatenate([part[1] for part in parts])[:rows],
        base_N,
    )


def _block_rows(case: Case, block: Block, number: int) -> tuple[F32, F32, F32]:
    rng = np.random.default_rng([TRAIN_SEED, 1, number])
    count = BLOCK_USERS * ROWS_PER_USER
    user_N, slot_N = np.repeat(np.arange(BLOCK_USERS), ROWS_PER_USER), rng.integers(0, 24, count)
    weekday_N, holiday_N = rng.integers(0, 7, count), rng.random(count) < 0.04
    slot_NG = recipients.slot_rows(slot_N.astype(np.float64), weekday_N, holiday_N)
    chance_N = block.p_US[user_N, slot_N] * np.where(weekday_N >= 5, 0.75, 1.0) * np.where(holiday_N, 0.7, 1.0)
    parts = (
        block.user_FU[: case.user_features, user_N].T,
        slot_NG[:, : case.slot_features],
        block.cross_CSU[: case.cross, slot_N, user_N].T,
    )
    label_N = (rng.random(count) < chance_N).astype(np.float32)
    return np.ascontiguousarray(np.concatenate(parts, axis=1)), label_N, block.base_SU[slot_N, user_N]
