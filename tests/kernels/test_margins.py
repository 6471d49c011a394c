"""XGBoost itself is the truth; the naive twin agrees with it, the fast kernel agrees with both."""

from typing import Any

import numpy as np
import pytest
import torch
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from forests import random_forest, random_inputs, tolerance
from sto_kernels import naive
from sto_kernels.forest import Forest
from sto_kernels.margins import ImplUnavailable, best_slots, choose_impl, slot_margins
from sto_kernels.pack import pack_xgboost

USER, SLOT, CROSS, SLOTS = ["u0", "u1", "u2"], ["hour", "weekend"], ["x0", "x1"], 24
SLOT_VALUES = np.stack([np.arange(SLOTS), np.zeros(SLOTS)], axis=1).astype(np.float32)


def train(depth: int = 5, trees: int = 12, seed: int = 0, **params: object) -> tuple[xgboost.Booster, Forest]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3000, 7)).astype(np.float32)
    x[:, 3] = rng.integers(0, 24, 3000)
    x[:, 4] = 0
    x[rng.random(x.shape) < 0.25] = np.nan
    x[:, 3:5] = np.nan_to_num(x[:, 3:5])
    logit = np.nan_to_num(x[:, 0], nan=1.5) * np.cos(x[:, 3] / 4) + np.nan_to_num(x[:, 5], nan=-1.0)
    y = (rng.random(3000) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    settings = {"objective": "binary:logistic", "max_depth": depth, "eta": 0.3, "seed": seed, "nthread": 1, **params}
    data = xgboost.DMatrix(x, y, feature_names=USER + SLOT + CROSS)
    booster = xgboost.train(settings, data, trees)
    return booster, pack_xgboost(bytes(booster.save_raw("ubj")), USER, SLOT, CROSS, SLOT_VALUES)


BOOSTER, FOREST = train()
TOLERANCE = 2e-5 * max(1.0, FOREST.leaf_range)


def oracle(booster: xgboost.Booster, user_FU: np.ndarray, cross_CSU: np.ndarray) -> np.ndarray:
    users = user_FU.shape[1]
    rows = [[*user_FU[:, u], *SLOT_VALUES[s], *cross_CSU[:, s, u]] for u in range(users) for s in range(SLOTS)]
    data = xgboost.DMatrix(np.array(rows, np.float32).reshape(-1, 7), feature_names=USER + SLOT + CROSS)
    return booster.predict(data, output_margin=True).reshape(users, SLOTS)


def draw(users: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    user, cross = rng.normal(size=(3, users)), rng.normal(size=(2, SLOTS, users))
    user[rng.random(user.shape) < 0.3] = np.nan
    cross[rng.random(cross.shape) < 0.3] = np.nan
    return user.astype(np.float32), cross.astype(np.float32)


@pytest.fixture(params=["bitslice-avx512", "bitslice-avx2", "bitslice-generic", "gather", "naive"])
def impl(request: pytest.FixtureRequest) -> str:
    try:
        choose_impl(FOREST, torch.device("cpu"), request.param)
    except ImplUnavailable as error:
        pytest.skip(str(error))
    return str(request.param)


@pytest.mark.parametrize("depth", [*range(1, 9), 10])
def test_margins_are_those_of_xgboost(impl: str, depth: int) -> None:
    booster, forest = train(depth=depth)
    user, cross = draw(9)
    found = slot_margins(forest, user, cross, impl=impl).numpy()
    np.testing.assert_allclose(found, oracle(booster, user, cross), atol=TOLERANCE)
    assert forest.default_left_N[forest.left_N >= 0].any()
    assert not forest.default_left_N[forest.left_N >= 0].all()


OTHERS = [
    {"num_parallel_tree": 3, "subsample": 0.5},
    {"objective": "reg:squarederror"},
    {"depth": 0, "grow_policy": "lossguide", "max_leaves": 60, "min_child_weight": 0},
]


@pytest.mark.parametrize("params", OTHERS)
def test_other_boosters_of_plain_trees_score_alike(impl: str, params: dict[str, Any]) -> None:
    booster, forest = train(trees=4, **params)
    user, cross = draw(3)
    np.testing.assert_allclose(
        slot_margins(forest, user, cross, impl=impl).numpy(), oracle(booster, user, cross), atol=TOLERANCE
    )


@pytest.mark.parametrize("kind", ["json", "ubj"])
@pytest.mark.parametrize("base_score", [0.5, 0.02])
def test_base_scores_of_both_forms_are_part_of_the_margin(impl: str, kind: str, base_score: float) -> None:
    booster, _ = train(trees=3, base_score=base_score)
    data = bytes(booster.save_raw(kind))
    if kind == "json":  # as XGBoost wrote it before 3.1: a number, not a list
        data = data.replace(b'"base_score":"[', b'"base_score":"').replace(
            b']","boost_from_average"', b'","boost_from_average"'
        )
        assert b'"base_score":"[' not in data
    forest = pack_xgboost(data, USER, SLOT, CROSS, SLOT_VALUES)
    user, cross = draw(3)
    np.testing.assert_allclose(
        slot_margins(forest, user, cross, impl=impl).numpy(), oracle(booster, user, cross), atol=tolerance(forest)
    )


NASTY = st.sampled_from([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-40, 3e38])
CUTS = st.sampled_from([float(c) for c in FOREST.cut_N[FOREST.left_N >= 0]])


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(np.float32, (3, 2), elements=NASTY | CUTS), hnp.arrays(np.float32, (2, SLOTS, 2), elements=NASTY | CUTS)
)
def test_cuts_hit_exactly_and_odd_numbers_decide_as_in_xgboost(user: np.ndarray, cross: np.ndarray) -> None:
    truth = oracle(
        BOOSTER,
        np.where(np.isinf(user), np.sign(user) * 3e38, user),
        np.where(np.isinf(cross), np.sign(cross) * 3e38, cross),
    )
    np.testing.assert_allclose(slot_margins(FOREST, user, cross).numpy(), truth, atol=TOLERANCE)
    np.testing.assert_allclose(slot_margins(FOREST, user, cross, impl="gather").numpy(), truth, atol=TOLERANCE)


@pytest.mark.slow
def test_the_chosen_slot_is_the_best_of_a_hundred_thousand_users() -> None:
    """Within the tolerance of the float64 maximum for everyone, and its argmax for all but one in ten thousand."""
    booster, forest = train(depth=6, trees=100, eta=0.05)
    user, cross = draw(100_000, seed=4)
    exact_US = np.empty((100_000, SLOTS))
    leaves = forest.leaf_N.astype(np.float64)
    for start in range(0, 100_000, 10_000):
        part = slice(start, start + 10_000)
        rows = np.concatenate(
            [
                np.repeat(user[:, part].T, SLOTS, axis=0),
                np.tile(SLOT_VALUES, (10_000, 1)),
                cross[:, :, part].transpose(2, 1, 0).reshape(-1, 2),
            ],
            axis=1,
        )
        leaf = booster.predict(xgboost.DMatrix(rows, feature_names=USER + SLOT + CROSS), pred_leaf=True).astype(int)
        exact_US[part] = leaves[leaf + forest.root_T].sum(axis=1).reshape(-1, SLOTS) + forest.base_margin
    slot, margin, runner_up = (t.numpy() for t in best_slots(forest, user, cross))
    best = exact_US.max(axis=1)
    chosen = exact_US[np.arange(100_000), slot]
    assert (best - chosen).max() <= tolerance(forest)
    assert np.abs(margin - best).max() <= tolerance(forest)
    assert (slot == exact_US.argmax(axis=1)).mean() >= 0.9999
    assert (slot != runner_up).all()


@pytest.mark.parametrize("users", [0, 1, 65, 2049])
def test_blocks_and_threads_do_not_change_a_bit(users: int) -> None:
    user, cross = draw(users)
    whole = slot_margins(FOREST, user, cross, impl="gather")
    assert whole.shape == (users, SLOTS)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    half = users // 2
    parts = [
        slot_margins(FOREST, user[:, a:b].copy(), cross[:, :, a:b].copy(), impl="gather")
        for a, b in ((0, half), (half, users))
    ]
    torch.set_num_threads(before)
    assert torch.equal(whole, torch.cat(parts))


def test_a_base_margin_is_added(impl: str) -> None:
    user, cross = draw(4)
    base = np.random.default_rng(0).normal(size=(SLOTS, 4)).astype(np.float32)
    plain, shifted = (slot_margins(FOREST, user, cross, b, impl=impl).numpy() for b in (None, base))
    np.testing.assert_allclose(shifted, plain + base.T, atol=1e-6)


def test_best_slots_are_those_of_the_obvious_loop() -> None:
    user, cross = draw(50)
    allowed = np.random.default_rng(2).random((50, SLOTS)) < 0.1
    allowed[0], allowed[1], allowed[1, 7] = False, False, True
    slot, value, runner = best_slots(FOREST, user, cross, allowed_US=allowed)
    expected = naive.best_slots(slot_margins(FOREST, user, cross).numpy(), allowed)
    assert (slot.tolist(), value.tolist(), runner.tolist()) == expected
    assert slot[0] == 255
    assert (slot[1], runner[1]) == (7, 255)


def test_ties_go_to_the_earlier_slot() -> None:
    booster = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(np.zeros((4, 1)), [0, 1, 0, 1]), 1)
    forest = pack_xgboost(bytes(booster.save_raw("json")), ["f0"], [], [], np.zeros((SLOTS, 0), np.float32))
    slot, _, runner = best_slots(forest, np.zeros((1, 3), np.float32))
    assert slot.tolist() == [0, 0, 0]
    assert runner.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("user", "cross", "text"),
    [
        (np.zeros((2, 5), np.float32), np.zeros((2, SLOTS, 5), np.float32), r"user_FU must have shape \(3, 5\)"),
        (np.zeros((3, 5), np.float64), np.zeros((2, SLOTS, 5), np.float32), "float32"),
        (np.zeros((3, 5), np.float32), None, "2 cross features"),
        (np.zeros((3, 5), np.float32), np.zeros((2, SLOTS, 4), np.float32), "cross_CSU"),
    ],
)
def test_wrong_inputs_are_named(user: np.ndarray, cross: np.ndarray | None, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        slot_margins(FOREST, user, cross)


def test_slots_beyond_a_byte_have_margins_but_no_best() -> None:
    forest = random_forest(1, trees=2, depth=2, slots=256)
    inputs = random_inputs(forest, 3, 1)
    assert slot_margins(forest, *inputs).shape == (3, 256)
    with pytest.raises(ValueError, match="at most 255 of them; found 256"):
        best_slots(forest, *inputs)
