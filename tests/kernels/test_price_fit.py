"""Gradient, Hessian and fit of the smooth dual, against differences of its slow twin and an optimum by scipy."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from limited import Floats, Problem, everything, habit_curves, hashes, in_parts, per_slot, small_problem
from sto_kernels import naive_prices
from sto_kernels.limits import Limits, counts_GS, limits_of
from sto_kernels.offers import Offers, offers_of
from sto_kernels.price_fit import (
    RIDGES,
    STAGES,
    Descent,
    _gradient,
    _newton,
    fit_prices,
    last_eps,
    make_sample,
    smooth_dual,
)
from sto_kernels.prices import Moments, moments

EPS = 0.1
WEIGHT_G = np.array([2.0, 1.0])


def weighted_problem(seed: int) -> tuple[Problem, Floats]:
    """Options with several resources of weights above one, some of them soft; prices above 0."""
    rng = np.random.default_rng(seed)
    problem = small_problem(seed, users=12, slots=5, width=int(rng.integers(1, 4)))
    limits = problem.limits
    soft_R = np.where(rng.random(len(limits.capacity_R)) < 0.3, rng.uniform(0.5, 5, len(limits.capacity_R)), 0.0)
    weight_K = rng.integers(1, 4, len(limits.weight_K)).astype(np.int32)
    limits = replace(limits, weight_K=weight_K, softness_R=soft_R)
    return Problem(problem.offers, limits), rng.uniform(0.02, 0.5, len(soft_R))


def gradient(problem: Problem, price_R: Floats, none: float) -> Floats:
    found = moments(problem.offers, problem.limits.cost_GS(price_R), EPS, none, WEIGHT_G)
    return _gradient(found, problem.limits, problem.limits.capacity_R.astype(float), price_R)


@given(st.integers(0, 10_000), st.sampled_from([-np.inf, 0.2]))
@settings(max_examples=25, deadline=None)
def test_the_gradient_is_the_difference_of_the_dual(seed: int, none: float) -> None:
    problem, price_R = weighted_problem(seed)
    capacity_R, step = problem.limits.capacity_R.astype(float), 1e-5
    terms = (EPS, none, WEIGHT_G)
    by_difference = [
        naive_prices.dual(problem.offers, problem.limits, capacity_R, price_R + step * one_R, *terms)
        - naive_prices.dual(problem.offers, problem.limits, capacity_R, price_R - step * one_R, *terms)
        for one_R in np.eye(len(price_R))
    ]
    found = gradient(problem, price_R, none)
    np.testing.assert_allclose(found, np.array(by_difference) / (2 * step), atol=1e-4, rtol=1e-5)


@given(st.integers(0, 10_000), st.sampled_from([-np.inf, 0.2]))
@settings(max_examples=25, deadline=None)
def test_the_newton_step_solves_with_the_difference_of_the_gradient(seed: int, none: float) -> None:
    problem, price_R = weighted_problem(seed)
    step, ridge = 1e-5, 1e-3
    columns = [
        (gradient(problem, price_R + step * one_R, none) - gradient(problem, price_R - step * one_R, none)) / (2 * step)
        for one_R in np.eye(len(price_R))
    ]
    hessian = np.array(columns)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-3)
    found = moments(problem.offers, problem.limits.cost_GS(price_R), EPS, none, WEIGHT_G)
    gradient_R = gradient(problem, price_R, none)
    step_R = _newton(found, problem.limits, price_R, gradient_R, EPS, ridge)
    np.testing.assert_allclose(hessian @ step_R + ridge / EPS * step_R, -gradient_R, atol=2e-3, rtol=1e-4)


def test_prices_at_zero_whose_resources_have_room_do_not_move() -> None:
    problem, price_R = weighted_problem(3)
    price_R[[0, 2]] = 0.0
    limits = replace(problem.limits, capacity_R=problem.limits.capacity_R + np.array([100, *[0] * (len(price_R) - 1)]))
    problem = Problem(problem.offers, limits)
    gradient_R = gradient(problem, price_R, -np.inf)
    found = moments(problem.offers, limits.cost_GS(price_R), EPS, -np.inf, WEIGHT_G)
    step_R = _newton(found, limits, price_R, gradient_R, EPS, 1e-9)
    assert gradient_R[0] > 0
    assert step_R[0] == 0


@pytest.mark.parametrize("softness", [0.0, 2_000.0])
def test_prices_are_those_of_a_general_minimiser(softness: float) -> None:
    users, slots = 400, 6
    offers = everything(habit_curves(np.random.default_rng(1), users, slots))
    limits = replace(per_slot([70] * slots), softness_R=np.full(slots, softness))
    sample = make_sample(offers, np.array([users]))
    capacity_R = limits.capacity_R.astype(float)
    fit = fit_prices(sample, limits, capacity_R, -np.inf, None)
    eps, once_G = last_eps(sample.scale), np.ones(1)

    def dual(price_R: Floats) -> tuple[float, Floats]:
        found = moments(offers, limits.cost_GS(price_R), eps, -np.inf, once_G)
        return smooth_dual(found, limits, capacity_R, price_R), _gradient(found, limits, capacity_R, price_R)

    best = minimize(dual, fit.price_R + 0.003, jac=True, method="L-BFGS-B", bounds=[(0, None)] * slots)
    assert dual(fit.price_R)[0] <= best.fun + 1e-6 * users * sample.scale
    assert (fit.price_R >= 0).all()
    assert (fit.price_R > 0).any()
    assert dual(fit.price_R)[0] == pytest.approx(
        naive_prices.dual(offers, limits, capacity_R, fit.price_R, eps, -np.inf, once_G), rel=1e-9
    )


def test_yesterdays_prices_need_fewer_passes_to_the_same_dual() -> None:
    users = 3_000
    offers, limits = everything(habit_curves(np.random.default_rng(2), users)), per_slot([130] * 24)
    sample, capacity_R = make_sample(offers, np.array([users])), np.full(24, 130.0)
    cold = fit_prices(sample, limits, capacity_R, -np.inf, None)
    warm = fit_prices(sample, limits, capacity_R, -np.inf, cold.price_R * 1.02)
    assert warm.passes < cold.passes

    def dual(price_R: Floats) -> float:
        found = moments(offers, limits.cost_GS(price_R), last_eps(sample.scale), -np.inf, np.ones(1))
        return smooth_dual(found, limits, capacity_R, price_R)

    assert dual(warm.price_R) == pytest.approx(dual(cold.price_R), rel=1e-5)


def descent(offers: Offers, limits: Limits, eps: float, scale: float) -> Descent:
    def evaluate(price_R: Floats) -> Moments:
        return moments(offers, limits.cost_GS(price_R), eps, -np.inf, np.ones(limits.groups))

    return Descent(evaluate, limits, limits.capacity_R.astype(float), eps, scale, len(offers))


def test_passes_over_everybody_take_the_prices_of_a_part_to_the_dual_of_all() -> None:
    users = 6_000
    offers, limits = everything(habit_curves(np.random.default_rng(3), users)), per_slot([265] * 24)
    capacity_R = limits.capacity_R.astype(float)
    sample = make_sample(in_parts(offers, 8)[0], np.array([users]))
    rough = fit_prices(sample, limits, capacity_R, -np.inf, None)
    eps = last_eps(sample.scale)

    def dual(price_R: Floats) -> float:
        found = moments(offers, limits.cost_GS(price_R), eps, -np.inf, np.ones(1))
        return smooth_dual(found, limits, capacity_R, price_R)

    whole = descent(offers, limits, eps, sample.scale)
    finer, off, _ = whole.minimise(rough.price_R, rough.ridge, 6)
    best = descent(offers, limits, eps, sample.scale).minimise(finer, 0, 60)[0]
    assert whole.passes <= 6
    assert (finer >= 0).all()
    assert dual(finer) < dual(rough.price_R) - 1e-7 * abs(dual(rough.price_R))
    assert dual(finer) == pytest.approx(dual(best), rel=1e-6)
    assert off < 0.05


def test_ties_of_most_users_still_lead_to_loads_that_fit() -> None:
    """Steps at the least ridge lead astray where nearly all users have one curve: the Hessian knows two slots only."""
    rng = np.random.default_rng(7)
    shared = np.full((4_000, 24), 0.1) + 0.02 * (np.arange(24) % 12 == 9)
    worth_US = np.where(rng.random(4_000)[:, None] < 0.9, shared, habit_curves(rng, 4_000)).astype(np.float32)
    offers, limits = everything(worth_US), per_slot([175] * 24)
    sample = make_sample(offers, np.array([4_000]))
    fit = fit_prices(sample, limits, limits.capacity_R.astype(float), -np.inf, None)
    assert fit.off < 0.02


def test_nothing_is_fitted_without_resources() -> None:
    offers = everything(habit_curves(np.random.default_rng(0), 9, 3))
    limits = limits_of(np.full((1, 3, 1), -1, np.int32), np.ones((1, 3, 1), np.int32), np.zeros(0, np.int64))
    assert len(descent(offers, limits, 0.1, 1.0).minimise(np.zeros(0), len(RIDGES) - 1, 6)[0]) == 0
    assert fit_prices(make_sample(offers, np.array([9])), limits, np.zeros(0), -np.inf, None).passes == 0


def test_a_sample_stands_for_everyone_of_each_group() -> None:
    rng = np.random.default_rng(5)
    offers = offers_of(
        habit_curves(rng, 20_000), np.ones((20_000, 24), bool), rng.integers(0, 2, 20_000), hashes(20_000)
    )
    sample = make_sample(offers, np.array([50_000, 7_000, 3_000]))
    m_G = np.bincount(offers.group_U, minlength=3)
    assert sample.weight_G.tolist() == [50_000 / m_G[0], 7_000 / m_G[1], 0.0]
    assert sum(len(block) for block in sample.blocks) == 20_000
    some = sample.part(0.3)
    some_G = sum(np.bincount(block.group_U, minlength=3) for block in some.blocks)
    assert len(some.blocks) == 1
    np.testing.assert_allclose(some.weight_G * some_G, [50_000, 7_000, 0])
    best_U = naive_best(offers)
    weight_U = sample.weight_G[offers.group_U]
    assert sample.scale == pytest.approx(float((best_U * weight_U).sum() / weight_U.sum()), rel=1e-5)


def naive_best(offers: Offers) -> Floats:
    return np.asarray(naive_prices.worths(offers).max(axis=1))


def test_nobody_and_worths_of_zero_have_a_scale() -> None:
    nobody = everything(np.zeros((0, 3), np.float32))
    assert make_sample(nobody, np.array([0])).scale == 1.0
    assert make_sample(nobody, np.array([0])).blocks == []
    assert make_sample(everything(np.zeros((4, 3), np.float32)), np.array([4])).scale == 1.0
    assert last_eps(2.0) == 2.0 * STAGES[-1][0]


def test_counts_leave_out_those_without_a_slot() -> None:
    group_U, slot_U = np.array([0, 1, 1, 1], np.int32), np.array([2, 0, 255, 0], np.uint8)
    assert counts_GS(group_U, slot_U, 2, 3).tolist() == [[0, 0, 1], [2, 0, 0]]
