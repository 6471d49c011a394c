"""What the margin of a slot is made of: the base margin's parts, and what each feature adds in the forest.

    margin(slot) = sum of weight x input of the base + mean of the forest + contribution of every feature

The contributions are exact Shapley values of the trees (Lundberg et al., "Consistent individualized feature attribution
for tree ensembles", 2018), as XGBoost computes them; a child process loads the model. S slots, F features.
"""

import base64
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.errors import Unavailable
from sto_engine.models.boosted import slot_scores
from sto_engine.models.bundle import Bundle
from sto_engine.models.features import CROSS, FEATURES, LEVELS, SHAPES_OF_BASE, Features

TIMEOUT_S = 120
DIGITS = 6
BASE = ("constant", *LEVELS, *(CROSS[row] for row in SHAPES_OF_BASE))
FOREST_MEAN = "mean of the forest"


@dataclass(frozen=True)
class Compared:
    """The slots that are compared; no runner-up where the window leaves one slot only."""

    chosen: int
    runner_up: int | None


def margin_parts(bundle: Bundle, features: Features, compared: Compared) -> dict[str, Any]:
    """Margins of the chosen slot, the runner-up and the user's mean slot, and their parts, which add up to them.

    `features` are those of one user. Parts come with the largest difference to the runner-up (to the mean without one)
    first. Raises Unavailable (69) where XGBoost is not to be had, BadData (65) for a forest that is not whole.
    """
    margin_S = slot_scores(bundle, features)[0].astype(np.float64)
    rows_SF = _rows(features)
    forest_SF = contributions(bundle.forest, FEATURES, rows_SF)
    weight_5 = bundle.table("base_weight_5", (5,))
    inputs_S5 = np.concatenate([np.ones((len(rows_SF), 1)), rows_SF[:, [FEATURES.index(name) for name in BASE[1:]]]], 1)
    base_S5 = inputs_S5 * weight_5
    parts = [
        {**_part("base", name, inputs_S5[:, i], base_S5[:, i], compared), "weight": _round(weight_5[i])}
        for i, name in enumerate(BASE)
    ]
    value_SF = np.concatenate([rows_SF, np.full((len(rows_SF), 1), np.nan)], axis=1)
    for i, name in enumerate((*FEATURES, FOREST_MEAN)):
        parts.append({**_part("forest", name, value_SF[:, i], forest_SF[:, i], compared), "weight": None})
    against = "mean" if compared.runner_up is None else "runner_up"
    parts.sort(key=lambda part: -abs(part["chosen"] - part[against]))
    return {"margin": _three(margin_S, compared), "parts": parts}


def _rows(features: Features) -> NDArray[np.float32]:
    """The forest's rows of one user, one a slot, float32 [S, F]."""
    slots = features.cross_XSU.shape[1]
    user_SF = np.repeat(features.user_FU.T, slots, axis=0)
    return np.concatenate([user_SF, features.cross_XSU[:, :, 0].T], axis=1)


def _part(
    part: str, feature: str, value_S: NDArray[Any], share_S: NDArray[np.float64], compared: Compared
) -> dict[str, Any]:
    value = float(value_S[compared.chosen])
    return {"part": part, "feature": feature, "value": _round(value), **_three(share_S, compared)}


def _three(values_S: NDArray[np.float64], compared: Compared) -> dict[str, float | None]:
    second = None if compared.runner_up is None else _round(values_S[compared.runner_up])
    return {"chosen": _round(values_S[compared.chosen]), "runner_up": second, "mean": _round(values_S.mean())}


def _round(value: float) -> float | None:
    return round(float(value), DIGITS) if np.isfinite(value) else None


def contributions(forest: bytes, names: Sequence[str], rows_NF: NDArray[np.float32]) -> NDArray[np.float64]:
    """What each feature adds to the margin of each row, and last the forest's mean, float64 [N, F + 1].

    Raises Unavailable (69) without XGBoost, or where it does not take the model.
    """
    rows = [[None if np.isnan(value) else value for value in row] for row in rows_NF.tolist()]
    question = {"forest": base64.b64encode(forest).decode(), "features": list(names), "rows": rows}
    command = [sys.executable, "-P", "-m", "sto_engine.explain.child"]
    try:
        done = subprocess.run(
            command, input=json.dumps(question), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"XGBoost must explain the forest within {TIMEOUT_S} s; it did not; try again") from error
    # the last line, since XGBoost may print messages of its own
    answer = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
    if "missing" in answer:
        raise Unavailable(
            f"the contributions of features need XGBoost ({answer['missing']}); "
            "install it with: pip install 'sto-engine[cpu]' (or [gpu])"
        )
    if "contributions" not in answer:
        told = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Unavailable(f"XGBoost must explain the forest; its process ended with {done.returncode}: {told}")
    return np.array(answer["contributions"], np.float64)
