"""The bit-sliced kernel on forests that no training gives: every code path, the same bits, the naive twin's answers."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forests import random_forest, random_inputs, tolerance
from sto_kernels import naive
from sto_kernels.bitslice_cpu import find_isa
from sto_kernels.choice import ImplUnavailable
from sto_kernels.forest import Forest
from sto_kernels.margins import best_slots, slot_margins, slot_probabilities
from sto_kernels.sliced import slice_forest

PATHS = ("bitslice-avx512", "bitslice-avx2", "bitslice-generic")


def runs_here(impl: str) -> bool:
    try:
        find_isa(impl.removeprefix("bitslice-"))
    except ValueError:
        return False
    return True


HERE = [impl for impl in PATHS if runs_here(impl)]


@pytest.fixture(params=PATHS)
def impl(request: pytest.FixtureRequest) -> str:
    if request.param not in HERE:
        pytest.skip(f"{request.param} does not run on this processor")
    return str(request.param)


def agrees(forest: Forest, impl: str, users: int, seed: int = 5) -> np.ndarray:
    """The margins of a path, after they were compared with gather, which test_margins.py holds to XGBoost."""
    user, cross = random_inputs(forest, users, seed)
    found = slot_margins(forest, user, cross, impl=impl).numpy()
    expected = slot_margins(forest, user, cross, impl="gather").numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance(forest))
    return found


@pytest.mark.parametrize(
    "depth", [1, 4, 6, 8, *(pytest.param(depth, marks=pytest.mark.long) for depth in (2, 3, 5, 7))]
)
def test_every_depth_scores_like_the_twin(impl: str, depth: int) -> None:
    agrees(random_forest(depth, trees=11, depth=depth), impl, users=70)


@pytest.mark.parametrize("depth", [9, 10, 15])
def test_deep_trees_score_like_the_twin(impl: str, depth: int) -> None:
    agrees(random_forest(depth, trees=3, depth=depth), impl, users=70)


@pytest.mark.parametrize("slots", [1, 2, 7, 25, 48, 168])
def test_every_number_of_slots(impl: str, slots: int) -> None:
    found = agrees(random_forest(slots, trees=9, depth=4, slots=slots), impl, users=65)
    assert found.shape == (65, slots)


@pytest.mark.parametrize("features", [(3, 0, 0), (0, 2, 0), (0, 0, 2), (1, 0, 9)])
def test_every_mix_of_features(impl: str, features: tuple[int, int, int]) -> None:
    forest = random_forest(1, trees=10, depth=5, features=features)
    user, cross = random_inputs(forest, 66, 1)
    found = slot_margins(forest, user, cross if features[2] else None, impl=impl).numpy()
    expected = slot_margins(forest, user, cross if features[2] else None, impl="gather").numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance(forest))


def test_a_feature_may_have_65_thousand_cuts(impl: str) -> None:
    forest = random_forest(2, trees=1100, depth=7, slots=3, features=(1, 0, 1), grow=1.0, cuts=66_000)
    assert len(np.unique(forest.cut_N[(forest.left_N >= 0) & (forest.feature_N == 0)])) > 32_000
    agrees(forest, impl, users=64)


@pytest.mark.parametrize("trees", [1, 8, 9, 519, 521, 1100])
def test_sums_of_many_trees_do_not_overflow(impl: str, trees: int) -> None:
    forest = random_forest(3, trees=trees, depth=2, slots=2)
    agrees(forest, impl, users=64)
    high = replace(forest, leaf_N=np.where(np.isnan(forest.cut_N), 1.0, 0.0).astype(np.float32))
    high.leaf_N[np.flatnonzero(high.left_N < 0)[0]] = 0.0
    agrees(high, impl, users=64)


SHAPES = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 8), st.sampled_from([1, 5, 24]))


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.integers(1, 130))
def test_all_paths_give_the_same_bits_and_those_of_the_integers(shape: tuple[int, int, int, int], users: int) -> None:
    seed, trees, depth, slots = shape
    forest = random_forest(seed, trees, depth, slots)
    user, cross = random_inputs(forest, users, seed)
    sliced = slice_forest(forest)
    few = slice(0, min(users, 3))  # the loops of the twin are slow
    sums = naive.sliced_sums(sliced, user[:, few], cross[:, :, few])
    expected = (sums * sliced.scale + sliced.bias).astype(np.float32)
    found = [slot_margins(forest, user, cross, impl=impl).numpy() for impl in HERE]
    np.testing.assert_array_equal(found[0][few], expected)
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


def test_threads_and_splits_do_not_change_a_bit(impl: str) -> None:
    forest = random_forest(7, trees=30, depth=6)
    user, cross = random_inputs(forest, 64 * 9 + 17, 7)
    whole = slot_margins(forest, user, cross, impl=impl, threads=1)
    for threads in (2, 3, 50):
        assert torch.equal(whole, slot_margins(forest, user, cross, impl=impl, threads=threads))
    edges = [0, 1, 64, 200, user.shape[1]]
    parts = [slot_margins(forest, user[:, a:b], cross[:, :, a:b], impl=impl) for a, b in pairwise(edges)]
    assert torch.equal(whole, torch.cat(parts))


def test_views_are_scored_like_copies(impl: str) -> None:
    forest = random_forest(8, trees=10, depth=4)
    user, cross = (torch.from_numpy(x) for x in random_inputs(forest, 300, 8))
    part = slice(10, 210)
    views = slot_margins(forest, user[:, part], cross[:, :, part], impl=impl)
    assert torch.equal(views, slot_margins(forest, user[:, part].clone(), cross[:, :, part].clone(), impl=impl))
    one = slot_margins(forest, user[:, :1].T.contiguous().T, cross[:, :, :1], impl=impl)
    assert torch.equal(one, slot_margins(forest, user[:, :1].clone(), cross[:, :, :1].clone(), impl=impl))
    turned = slot_margins(forest, user.T.contiguous().T, cross, impl=impl)
    assert torch.equal(turned, slot_margins(forest, user, cross, impl=impl))


@pytest.mark.parametrize("users", [1, 64, 65, 200])
def test_best_slots_are_the_first_two_maxima_of_the_margins(impl: str, users: int) -> None:
    forest = random_forest(9, trees=3, depth=2)  # few leaves: many ties
    user, cross = random_inputs(forest, users, 9)
    rng = np.random.default_rng(9)
    base = rng.choice([0.0, 0.5, -np.inf], size=(24, users), p=[0.6, 0.3, 0.1]).astype(np.float32)
    allowed = rng.random((users, 24)) < 0.4
    allowed[0] = False
    margins = slot_margins(forest, user, cross, base, impl=impl).numpy()
    found = best_slots(forest, user, cross, base, allowed, impl=impl)
    margins[~allowed] = -np.inf
    allowed &= np.isfinite(margins)
    expected = naive.best_slots(margins, allowed)
    assert tuple(t.tolist() for t in found) == expected
    assert (found[0][0], found[1][0], found[2][0]) == (255, -np.inf, 255)


def test_a_margin_that_is_no_number_is_never_chosen(impl: str) -> None:
    forest = random_forest(9, trees=3, depth=2)
    user, cross = random_inputs(forest, 3, 9)
    base = np.zeros((24, 3), np.float32)
    base[:, 1], base[5:, 2] = np.nan, np.nan
    slot, value, runner = best_slots(forest, user, cross, base, impl=impl)
    assert (slot[1], value[1], runner[1]) == (255, -np.inf, 255)
    assert slot[2] < 5
    other = best_slots(forest, user, cross, base, impl="gather")
    assert all(torch.equal(a, b) for a, b in zip((slot, runner), (other[0], other[2]), strict=True))


def test_probabilities_are_the_rounded_sigmoid(impl: str) -> None:
    forest = random_forest(10, trees=12, depth=3)
    user, cross = random_inputs(forest, 500, 10)
    base = np.random.default_rng(1).uniform(-30, 30, (24, 500)).astype(np.float32)
    base[0, :4] = [-1000, 1000, -np.inf, np.inf]
    margins = slot_margins(forest, user, cross, base, impl=impl).double()
    found = slot_probabilities(forest, user, cross, base, impl=impl)
    steps = found.view(torch.int16).int() - margins.sigmoid().half().view(torch.int16).int()
    assert found.dtype == torch.float16
    assert steps.abs().max() <= 1
    assert (steps == 0).float().mean() > 0.999
    assert found[:4, 0].tolist() == [0, 1, 0, 1]


def test_no_users_is_no_work(impl: str) -> None:
    forest = random_forest(11, trees=2, depth=2)
    user, cross = random_inputs(forest, 0, 0)
    assert slot_margins(forest, user, cross, impl=impl).shape == (0, 24)
    assert [len(t) for t in best_slots(forest, user, cross, impl=impl)] == [0, 0, 0]


def test_a_path_that_this_processor_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sto_kernels.bitslice_cpu.host_features", lambda: {"avx2": True})
    assert find_isa().name == "avx2"
    with pytest.raises(ValueError, match="avx512f"):
        find_isa("avx512")
    forest = random_forest(11, trees=2, depth=2)
    with pytest.raises(ImplUnavailable, match=r"bitslice-avx512 cannot score this.*avx512vbmi"):
        slot_margins(forest, *random_inputs(forest, 3, 0), impl="bitslice-avx512")
