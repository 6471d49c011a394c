import json

import numpy as np
import pytest
import xgboost

from sto_kernels.pack import PackError, pack_xgboost

NAMES = ["a", "b", "c"]
X = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > 0).astype(np.float32)
EMPTY = np.zeros((24, 0), np.float32)


def booster(**params: object) -> xgboost.Booster:
    objective = {"objective": "binary:logistic", "max_depth": 3, **params}
    return xgboost.train(objective, xgboost.DMatrix(X, Y, feature_names=NAMES), 3)


def pack(data: bytes, names: list[str] = NAMES) -> object:
    return pack_xgboost(data, names, [], [], EMPTY)


UBJ, JSON = (bytes(booster().save_raw(kind)) for kind in ("ubj", "json"))


def test_json_and_ubjson_give_the_same_forest() -> None:
    a, b = pack_xgboost(UBJ, NAMES, [], [], EMPTY), pack_xgboost(JSON, NAMES, [], [], EMPTY)
    for name in ("root_T", "feature_N", "cut_N", "left_N", "right_N", "default_left_N"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.base_margin == b.base_margin


@pytest.mark.parametrize("text", ["2.5E-1", "[2.5E-1]"])
def test_both_forms_of_base_score_are_read(text: str) -> None:
    model = json.loads(JSON)
    model["learner"]["learner_model_param"]["base_score"] = text
    forest = pack_xgboost(json.dumps(model).encode(), NAMES, [], [], EMPTY)
    assert forest.base_margin == pytest.approx(np.log(0.25 / 0.75))


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"booster": "dart"}, "gbtree.*inplace_predict"),
        ({"booster": "gblinear"}, "gbtree.*inplace_predict"),
        ({"objective": "multi:softprob", "num_class": 3}, "multi:softprob.*inplace_predict"),
        ({"objective": "rank:pairwise"}, "rank:pairwise.*inplace_predict"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_models_of_another_kind_are_refused_by_name(params: dict[str, object], text: str) -> None:
    if params.get("booster") == "gblinear":
        trained = xgboost.train(
            {**params, "objective": "binary:logistic"}, xgboost.DMatrix(X, Y, feature_names=NAMES), 2
        )
    else:
        trained = booster(**params)
    with pytest.raises(PackError, match=text):
        pack(bytes(trained.save_raw("ubj")))


def test_categorical_splits_are_refused() -> None:
    category = np.random.default_rng(1).integers(0, 6, 400).astype(np.float32)
    data = xgboost.DMatrix(category[:, None], (category % 2 == 0), feature_types=["c"], enable_categorical=True)
    trained = xgboost.train({"objective": "binary:logistic", "max_cat_to_onehot": 1}, data, 2)
    with pytest.raises(PackError, match=r"categorical.*inplace_predict"):
        pack(bytes(trained.save_raw("ubj")), ["a"])


@pytest.mark.parametrize("names", [["a", "b"], ["a", "c", "b"], ["a", "b", "c", "d"]])
def test_another_feature_list_is_refused(names: list[str]) -> None:
    with pytest.raises(PackError, match="features must be"):
        pack(UBJ, names)


def _edit(key: str, value: object) -> bytes:
    model = json.loads(JSON)
    model["learner"]["gradient_booster"]["model"]["trees"][0][key] = value
    return json.dumps(model).encode()


def _tree(key: str) -> list[float]:
    return list(json.loads(JSON)["learner"]["gradient_booster"]["model"]["trees"][0][key])


@pytest.mark.parametrize(
    ("key", "at", "value"),
    [
        ("left_children", 0, 9999),
        ("left_children", 0, 0),
        ("left_children", 1, 0),
        ("right_children", 0, -1),
        ("right_children", 0, -7),
        ("right_children", 0, 1),
        ("split_indices", 0, 2**31 - 1),
        ("split_indices", 0, 3),
        ("split_conditions", 0, float("nan")),
        ("split_conditions", -1, float("inf")),
    ],
)
def test_trees_that_are_no_trees_are_refused(key: str, at: int, value: float) -> None:
    values = _tree(key)
    values[at] = value
    with pytest.raises(PackError):
        pack(_edit(key, values))


def test_truncated_models_are_refused() -> None:
    for data in (UBJ, JSON):
        for cut in range(0, len(data), max(1, len(data) // 150)):
            with pytest.raises(PackError):
                pack(data[:cut])


def test_a_flipped_bit_gives_an_error_or_a_checked_forest() -> None:
    rng, refused = np.random.default_rng(3), 0
    for _ in range(400):
        data = bytearray(UBJ)
        at = int(rng.integers(len(data)))
        data[at] ^= 1 << int(rng.integers(8))
        try:
            pack(bytes(data))
        except PackError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("data", [b"", b"\x80\x04\x95pickle", b"{}", b"[]", b"{L" + b"\xff" * 8, b"{" * 5000])
def test_what_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(PackError):
        pack(data)
