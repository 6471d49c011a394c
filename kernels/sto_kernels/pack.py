"""XGBoost model bytes (UBJSON or JSON) -> checked `Forest`.

XGBoost's own loader follows child numbers out of range without looking (it crashes on hostile files), so scoring never
calls it. What a forest of plain numeric splits cannot express is refused by name.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels import ubjson
from sto_kernels.forest import Forest, check_forest

LOGISTIC = ("binary:logistic", "reg:logistic", "binary:logitraw")
OBJECTIVES = (*LOGISTIC, "reg:squarederror", "count:poisson")


# What another kind of model can still be scored by: at XGBoost's speed, a hundredth of this engine's.
FALLBACK = "or score it with XGBoost itself: Booster.inplace_predict on one row a (user, slot)"


class PackError(ValueError):
    """A model that is damaged or that this engine cannot score."""


def pack_xgboost(
    booster_bytes: bytes,
    user_features: Sequence[str],
    slot_features: Sequence[str],
    cross_features: Sequence[str],
    slot_values_SG: NDArray[np.float32],
) -> Forest:
    """The forest of `Booster.save_raw("ubj" | "json")`.

    The model's features must be user, slot and cross features in that order; `slot_values_SG` float32 [S, G] holds the
    slot features of each slot. Raises PackError for damaged bytes, unsupported boosters and another feature list.
    """
    try:
        learner = _parse(booster_bytes)["learner"]
        names = [*user_features, *slot_features, *cross_features]
        trees = _trees(learner, names)
        forest = Forest(
            **_join(trees),
            n_user=len(user_features),
            n_slot=len(slot_features),
            n_cross=len(cross_features),
            slot_values_SG=np.ascontiguousarray(slot_values_SG, dtype=np.float32),
            base_margin=_base_margin(learner),
        )
        check_forest(forest)
    except PackError:
        raise
    except (KeyError, TypeError, IndexError, ValueError, OverflowError, AttributeError, RecursionError) as error:
        raise PackError(f"not a whole XGBoost model: {type(error).__name__}: {error}") from error
    return forest


def _parse(data: bytes) -> Any:
    """JSON and UBJSON both open with a brace; JSON goes on with a quote (or white space), UBJSON with a length."""
    if data[:1] != b"{":
        raise PackError(f"model bytes must be XGBoost JSON or UBJSON; found {data[:8]!r} (pickles are never loaded)")
    return json.loads(data) if data[1:2] in (b'"', b" ", b"\n", b"\t", b"\r") else ubjson.loads(data)


def _trees(learner: Any, names: Sequence[str]) -> list[dict[str, Any]]:
    booster, objective = learner["gradient_booster"], learner["objective"]["name"]
    if booster["name"] != "gbtree":
        raise PackError(f'booster must be gbtree; found "{booster["name"]}"; train with booster = gbtree, {FALLBACK}')
    if objective not in OBJECTIVES:
        raise PackError(
            f'objective must be one of {", ".join(OBJECTIVES)}; found "{objective}"; train it so, {FALLBACK}'
        )
    param = learner["learner_model_param"]
    if int(param.get("num_class", 0)) > 1 or int(param.get("num_target", 1)) > 1:
        raise PackError(
            f"the model must have one output; found several classes or targets; train one a class, {FALLBACK}"
        )
    found = [str(name) for name in learner.get("feature_names", [])]
    if int(param["num_feature"]) != len(names) or (found and found != list(names)):
        raise PackError(f"model features must be {list(names)}; found {found or param['num_feature']}")
    trees: list[dict[str, Any]] = booster["model"]["trees"]
    declared = int(booster["model"]["gbtree_model_param"]["num_trees"])
    if len(trees) != declared or not trees:
        raise PackError(f"the model must hold its {declared} trees; found {len(trees)}")
    return trees


def _join(trees: list[dict[str, Any]]) -> dict[str, NDArray[Any]]:
    """All trees in one set of arrays; child numbers shift by the nodes before their tree."""
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in ("root", "feature", "cut", "left", "right", "default")}
    nodes = 0
    for tree in trees:
        left, right = _ints(tree["left_children"]), _ints(tree["right_children"])
        size = len(left)
        columns = (right, tree["split_indices"], tree["split_conditions"], tree["default_left"])
        if size == 0 or any(len(column) != size for column in columns):
            raise PackError("node arrays of a tree must have one length; found different ones")
        if np.asarray(tree.get("split_type", []), np.int64).any():
            raise PackError(f"splits must be numeric; found categorical ones; encode categories as numbers, {FALLBACK}")
        if int(tree.get("tree_param", {}).get("size_leaf_vector", 1)) > 1:
            raise PackError("leaves must be single numbers; found vector leaves")
        if max(left.max(), right.max()) >= size or min(left.min(), right.min()) < -1:
            raise PackError(f"children must be nodes of their tree (-1..{size - 1}); found others")
        parts["root"].append(np.array([nodes]))
        parts["left"].append(np.where(left < 0, -1, left + nodes))
        parts["right"].append(np.where(right < 0, -1, right + nodes))
        parts["feature"].append(_ints(tree["split_indices"]))
        parts["cut"].append(np.asarray(tree["split_conditions"], np.float32))
        parts["default"].append(np.asarray(tree["default_left"], np.int64) != 0)
        nodes += size
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    cut = joined["cut"].astype(np.float32)
    return {
        "root_T": joined["root"].astype(np.int32),
        "feature_N": joined["feature"].astype(np.int32),
        "cut_N": cut,
        "left_N": joined["left"].astype(np.int32),
        "right_N": joined["right"].astype(np.int32),
        "default_left_N": joined["default"],
        "leaf_N": cut,
    }


def _ints(values: Any) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise PackError(f"node numbers must be a list of integers; found {array.dtype} of {array.ndim} dimensions")
    return array.astype(np.int64)


def _base_margin(learner: Any) -> float:
    """base_score is text: "5E-1", and since XGBoost 3.1 "[5E-1]"; for logistic objectives it is a probability."""
    text = str(learner["learner_model_param"]["base_score"]).strip("[]")
    base = float(np.float32(float(text)))
    name = learner["objective"]["name"]
    if name in LOGISTIC and name != "binary:logitraw":
        if not 0 < base < 1:
            raise PackError(f"base_score must lie in (0, 1); found {base}")
        return math.log(base / (1 - base))
    if name == "count:poisson":
        return math.log(base)
    return base
