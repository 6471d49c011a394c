"""Moments and choice at given prices, against loops without a cut-off and against the chances that are meant."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from limited import Floats, habit_curves, hashes
from sto_kernels import naive_prices
from sto_kernels.hashing import tag_key
from sto_kernels.offers import Offers, offers_of
from sto_kernels.price_fit import add_up
from sto_kernels.prices import NO_SLOT, choose, choose_slots, moments, value_of

KEY = tag_key("choice:test")
# e^-20 for each of 48 slots
CUT_OFF = 48 * 2.1e-9


def some_offers(rng: np.random.Generator, users: int, slots: int, groups: int = 3) -> Offers:
    """Curves, ties, flat rows, and users with no slot, one or two."""
    worth_US = rng.choice([rng.random((users, slots)), rng.integers(0, 3, (users, slots)) / 4])
    worth_US[rng.random(users) < 0.1] = 0.5
    allowed_US = rng.random((users, slots)) < rng.choice([0.1, 0.6, 1.0])
    allowed_US[: users // 8] = False
    weight_U = rng.choice([1.0, 1.0, 1e4], users).astype(np.float32) if rng.random() < 0.5 else None
    group_U = rng.integers(0, groups, users).astype(np.int32)
    return offers_of(worth_US.astype(np.float32), allowed_US, group_U, hashes(users, int(rng.integers(99))), weight_U)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Offers, Floats, float, float]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    slots = draw(st.sampled_from([2, 5, 24, 48]))
    offers = some_offers(rng, draw(st.sampled_from([0, 1, 9, 65])), slots)
    cost_GS = rng.random((3, slots)) * draw(st.sampled_from([0.0, 0.3, 3.0]))
    none = draw(st.sampled_from([-np.inf, -1.0, 0.0, 0.7]))
    return offers, cost_GS, draw(st.sampled_from([1e-4, 3e-3, 0.1, 2.0])), none


@given(cases())
@settings(max_examples=80, deadline=None)
def test_moments_are_those_of_the_plain_sums(case: tuple[Offers, Floats, float, float]) -> None:
    offers, cost_GS, eps, none = case
    weight_G = np.array([1.0, 2.5, 0.0])
    found = moments(offers, cost_GS, eps, none, weight_G)
    first_GS, second_GSS, value = naive_prices.moments(offers, cost_GS, eps, none, weight_G)
    tolerance = CUT_OFF * (1 + len(offers)) * 2.5
    np.testing.assert_allclose(found.first_GS, first_GS, rtol=1e-9, atol=tolerance)
    np.testing.assert_allclose(np.tril(found.second_GSS), np.tril(second_GSS), rtol=1e-9, atol=tolerance)
    assert found.value == pytest.approx(value, rel=1e-9, abs=eps * tolerance)
    without = moments(offers, cost_GS, eps, none, weight_G, want_second=False)
    assert (without.first_GS == found.first_GS).all()
    assert without.value == found.value


@given(cases())
@settings(max_examples=80, deadline=None)
def test_choices_are_those_of_noise_on_every_slot(case: tuple[Offers, Floats, float, float]) -> None:
    offers, cost_GS, eps, none = case
    found = choose(offers, cost_GS, KEY, eps, none)
    worth_US = naive_prices.worths(offers)
    expected = naive_prices.choose(worth_US, offers.group_U, offers.h_U, cost_GS, int(KEY), eps, none)
    assert found.slot_U.tolist() == expected
    net_US = worth_US - cost_GS[offers.group_U]
    open_U = np.isfinite(worth_US).sum(axis=1)
    best_U = np.maximum(net_US.max(axis=1, initial=-np.inf), none)  # who has no choice may be left out too
    assert found.best == pytest.approx(best_U[open_U > 0].sum(), rel=1e-12, abs=1e-9)


@given(cases(), st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_any_split_of_users_chooses_the_same_and_adds_up_to_the_same(
    case: tuple[Offers, Floats, float, float], step: int
) -> None:
    offers, cost_GS, eps, none = case
    parts = [offers.take(slice(at, at + step)) for at in range(0, len(offers), step)]
    chosen = [choose(part, cost_GS, KEY, eps, none).slot_U for part in parts]
    whole = choose(offers, cost_GS, KEY, eps, none).slot_U
    assert np.concatenate([*chosen, np.zeros(0, np.uint8)]).tolist() == whole.tolist()
    if parts:
        once_G = np.ones(3)
        sums = [moments(part, cost_GS, eps, none, once_G) for part in parts]
        again = [moments(part, cost_GS, eps, none, once_G) for part in reversed(parts)][::-1]
        one, two, all_at_once = add_up(sums), add_up(again), moments(offers, cost_GS, eps, none, once_G)
        assert one.first_GS.tobytes() == two.first_GS.tobytes()
        assert one.second_GSS.tobytes() == two.second_GSS.tobytes()
        assert one.value == two.value
        np.testing.assert_allclose(one.second_GSS, all_at_once.second_GSS, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose((sums[0] + sums[0]).first_GS, 2 * sums[0].first_GS)


def test_without_noise_ties_go_to_the_earlier_slot() -> None:
    worth_US = np.array([[0.5, 0.75, 0.75], [0.0, 0.0, 0.0]], np.float32)
    offers = offers_of(worth_US, np.ones((2, 3), bool), np.zeros(2, np.int32), hashes(2))
    assert choose(offers, np.zeros((1, 3)), KEY, 0.0).slot_U.tolist() == [1, 0]


def test_users_without_a_choice_keep_what_they_have_at_any_price() -> None:
    allowed_US = np.array([[0, 0, 0], [0, 1, 0]], bool)
    offers = offers_of(np.ones((2, 3), np.float32), allowed_US, np.zeros(2, np.int32), hashes(2))
    assert choose(offers, np.full((1, 3), 1e9), KEY, 1e-3, 0.0).slot_U.tolist() == [NO_SLOT, 1]
    found = moments(offers, np.zeros((1, 3)), 1e-3, 0.0, np.ones(1))
    assert (found.first_GS.sum(), found.second_GSS.sum(), found.value) == (0, 0, 0)


@pytest.mark.parametrize("none", [-np.inf, 0.42])
def test_equal_users_are_drawn_in_the_shares_that_the_dual_expects(none: float) -> None:
    users, eps = 200_000, 0.05
    worths, cost_GS = np.array([0.5, 0.45, 0.3, 0.48, 0.1], np.float32), np.array([[0.02, 0.0, 0.0, 0.05, 0.0]])
    offers = offers_of(np.tile(worths, (users, 1)), np.ones((users, 5), bool), np.zeros(users, np.int32), hashes(users))
    share_US, _ = naive_prices.shares(offers.take(slice(0, 1)), cost_GS, eps, none)
    expected = np.append(share_US[0], 1 - share_US[0].sum()) * users
    slot_U = choose(offers, cost_GS, KEY, eps, none).slot_U
    counted = np.bincount(np.where(slot_U == NO_SLOT, 5, slot_U), minlength=6)
    seen = expected > 1e-6
    assert counted[~seen].sum() == 0
    assert chisquare(counted[seen], expected[seen] * counted.sum() / expected[seen].sum()).pvalue > 1e-3


def test_another_run_draws_anew_and_independently() -> None:
    users = 40_000
    offers = offers_of(np.ones((users, 4), np.float32), np.ones((users, 4), bool), np.zeros(users, int), hashes(users))
    one, two = (choose(offers, np.zeros((1, 4)), tag_key(f"choice:{n}"), 0.1).slot_U for n in "ab")
    table = np.bincount(one.astype(int) * 4 + two, minlength=16)
    assert chisquare(table).pvalue > 1e-3


def test_worth_of_slots_counts_those_without_one_at_none() -> None:
    rng = np.random.default_rng(4)
    offers = some_offers(rng, 65, 5)
    slot_U = choose(offers, np.zeros((3, 5)), KEY, 0.1, 0.3).slot_U
    sent = slot_U != NO_SLOT
    by_hand = naive_prices.worths(offers)[sent, slot_U[sent]].sum() - 2.0 * (~sent).sum()
    assert value_of(offers, slot_U, -2.0) == pytest.approx(by_hand, rel=1e-9)


@given(st.integers(0, 2**32), st.sampled_from([0.0, 1e-3, 0.2]), st.sampled_from([0, 1, 65]))
@settings(max_examples=40, deadline=None)
def test_slots_from_utilities_are_exact_for_arrays_and_for_tensors(seed: int, eps: float, users: int) -> None:
    rng = np.random.default_rng(seed)
    utility_US = rng.choice([rng.random((users, 24)), rng.integers(0, 3, (users, 24)) / 4]).astype(np.float32)
    allowed_US = rng.random((users, 24)) < rng.choice([0.05, 0.6])
    price_GS, group_U, h_U = rng.random((3, 24)) / 9, rng.integers(0, 3, users).astype(np.int32), hashes(users)
    found = choose_slots(utility_US, allowed_US, price_GS, group_U, h_U, "t", eps)
    masked_US = np.where(allowed_US, utility_US, -np.inf)
    key = int(tag_key("t"))
    assert found.tolist() == naive_prices.choose(masked_US, group_U, h_U, price_GS, key, eps, -np.inf)
    columns = utility_US, allowed_US, price_GS, group_U, h_U.view(np.int64)
    tensors = choose_slots(*(torch.from_numpy(column) for column in columns), "t", eps)
    assert tensors.dtype == torch.uint8
    assert_same_but_for_ties(tensors.numpy(), found, columns, eps)


def assert_same_but_for_ties(ours: Floats, theirs: Floats, columns: tuple[Floats, ...], eps: float) -> None:
    utility_US, _, price_GS, group_U, h_U = columns
    for u in np.flatnonzero(ours != theirs).tolist():
        h, key = int(h_U.view(np.uint64)[u]), int(tag_key("t"))
        one, two = (
            float(utility_US[u, s]) - price_GS[group_U[u], s] + eps * naive_prices.gumbel(h, key, int(s))
            for s in (ours[u], theirs[u])
        )
        assert abs(one - two) < 1e-9


@pytest.mark.gpu
def test_a_cuda_device_chooses_as_the_kernel_does() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    rng = np.random.default_rng(1)
    users = 100_000
    columns = (
        *(habit_curves(rng, users), rng.random((users, 24)) < 0.6, rng.random((3, 24)) / 9),
        *(rng.integers(0, 3, users).astype(np.int32), hashes(users).view(np.int64)),
    )
    found = choose_slots(*(torch.from_numpy(column).cuda() for column in columns), "t", 1e-3)
    assert found.is_cuda
    assert_same_but_for_ties(found.cpu().numpy(), choose_slots(*columns, "t", 1e-3), columns, 1e-3)


def test_shapes_and_groups_that_do_not_fit_are_refused() -> None:
    utility_US, allowed_US, h_U = np.zeros((2, 3), np.float32), np.ones((2, 3), bool), hashes(2)
    group_U = np.zeros(2, np.int32)
    with pytest.raises(ValueError, match=r"prices \(1, 4\)"):
        choose_slots(utility_US, allowed_US, np.zeros((1, 4)), group_U, h_U, "t", 0.1)
    with pytest.raises(ValueError, match="1 hashes"):
        choose_slots(utility_US, allowed_US, np.zeros((1, 3)), group_U, h_U[:1], "t", 0.1)
    with pytest.raises(ValueError, match=r"groups must be in 0\.\.0; found 0\.\.1"):
        choose_slots(utility_US, allowed_US, np.zeros((1, 3)), np.arange(2), h_U, "t", 0.1)


def test_without_compiled_code_the_same_slots_are_chosen() -> None:
    code = (
        "import numpy as np; from limited import habit_curves, hashes; from sto_kernels.prices import choose_slots\n"
        "r = np.random.default_rng(3); w = habit_curves(r, 40)\n"
        "print(choose_slots(w, w > 0.1, np.zeros((1, 24)), np.zeros(40, np.int32), hashes(40), 't', 0.01).tolist())"
    )
    outputs = set()
    for switch in ("on", "off"):
        env = {**os.environ, "STO_ENGINE_JIT": switch, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, "-W", "error", "-c", code], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        outputs.add(done.stdout)
    assert len(outputs) == 1
