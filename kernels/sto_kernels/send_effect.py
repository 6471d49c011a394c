"""Effect of the send hour itself: a Poisson model of opens within 24 h, random harmonics a user (recipe, section 4).

    opens_s ~ Poisson(n_s p0 exp(theta . F_s)),  F_s = [1, cos h, sin h, cos 2h, sin 2h],  theta ~ N(mean_cohort, Sigma)

Each user's theta is the posterior mode by Newton steps held to a length of 1.5; the curve is p0 exp(theta.F + var / 2).
U users, S = 24 send hours, 5 harmonics, L lanes. `naive_attention.send_hour_curve` is the twin.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sto_kernels.compiled import jit
from sto_kernels.lanes import LANES, Array, Floats, load, store

HARMONICS, PAIRS, SLOTS = 5, 15, 24
STEPS, MAX_STEP, MAX_LOG, MAX_VARIANCE = 7, 1.5, 8.0, 2.0


def harmonics() -> Floats:
    """F: the send hour at a quarter past in five harmonics, float64 [24, 5]."""
    angle = 2 * np.pi / 24 * (np.arange(24) + 0.25)
    columns = [np.ones(24), np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)]
    return np.stack(columns, axis=1)


def send_hour_modes(
    opens_U24: NDArray[np.float32],
    sends_U24: NDArray[np.float32],
    mean_U5: Floats,
    precision_55: Floats,
    p0: float,
    steps: int,
) -> tuple[Floats, Floats]:
    """Posterior modes float64 [5, U] and posterior covariances float64 [25, U] (row-major 5 x 5)."""
    users = len(opens_U24)
    theta_5U, covariance_25U = np.empty((HARMONICS, users)), np.empty((HARMONICS * HARMONICS, users))
    _modes(opens_U24, sends_U24, mean_U5, precision_55, p0, steps, harmonics(), theta_5U, covariance_25U)
    return theta_5U, covariance_25U


def send_hour_curve(
    opens_U24: NDArray[np.float32], sends_U24: NDArray[np.float32], mean_U5: Floats, precision_55: Floats, p0: float
) -> Floats:
    """P(open within 24 h | sent at hour) held to [1e-5, 0.95], float64 [24, U]."""
    p_24U = np.empty((SLOTS, len(opens_U24)))
    _curves(opens_U24, sends_U24, mean_U5, precision_55, p0, harmonics(), p_24U)
    return p_24U


@jit
def _modes(
    opens_U24: Array,
    sends_U24: Array,
    mean_U5: Array,
    precision: Array,
    p0: float,
    steps: int,
    F: Array,
    theta_5U: Array,
    covariance_25U: Array,
) -> None:
    opens, sends, mean = np.empty((SLOTS, LANES)), np.empty((SLOTS, LANES)), np.empty((HARMONICS, LANES))
    theta, factor = np.empty((HARMONICS, LANES)), np.empty((PAIRS, LANES))
    unit, covariance = np.empty((HARMONICS, LANES)), np.empty((HARMONICS * HARMONICS, LANES))
    for first in range(0, len(opens_U24), LANES):
        load(opens_U24, first, opens)
        load(sends_U24, first, sends)
        load(mean_U5, first, mean)
        newton(opens, sends, mean, precision, p0, steps, F, theta, factor)
        for column in range(HARMONICS):
            unit[:] = 0.0
            unit[column] = 1.0
            forward(factor, unit)
            backward(factor, unit)
            for row in range(HARMONICS):
                covariance[row * HARMONICS + column] = unit[row]
        store(theta, first, theta_5U)
        store(covariance, first, covariance_25U)


@jit
def _curves(
    opens_U24: Array, sends_U24: Array, mean_U5: Array, precision: Array, p0: float, F: Array, p_24U: Array
) -> None:
    opens, sends, mean = np.empty((SLOTS, LANES)), np.empty((SLOTS, LANES)), np.empty((HARMONICS, LANES))
    theta, factor, p = np.empty((HARMONICS, LANES)), np.empty((PAIRS, LANES)), np.empty((SLOTS, LANES))
    half = np.empty((HARMONICS, LANES))
    for first in range(0, len(opens_U24), LANES):
        load(opens_U24, first, opens)
        load(sends_U24, first, sends)
        load(mean_U5, first, mean)
        newton(opens, sends, mean, precision, p0, STEPS, F, theta, factor)
        for slot in range(SLOTS):
            for j in range(HARMONICS):
                half[j] = F[slot, j]
            forward(factor, half)
            for lane in range(LANES):
                log_rate, variance = 0.0, 0.0
                for j in range(HARMONICS):
                    log_rate += theta[j, lane] * F[slot, j]
                    variance += half[j, lane] * half[j, lane]
                rate = p0 * math.exp(log_rate + 0.5 * min(variance, MAX_VARIANCE))
                p[slot, lane] = min(max(rate, 1e-5), 0.95)
        store(p, first, p_24U)


@jit
def newton(
    opens: Array,
    sends: Array,
    mean: Array,
    precision: Array,
    p0: float,
    steps: int,
    F: Array,
    theta: Array,
    factor: Array,
) -> None:
    """Newton steps from the mean to the mode of each lane; `factor` ends as the Cholesky factor of its precision."""
    gradient = np.empty((HARMONICS, LANES))
    theta[:] = mean
    for _ in range(steps):
        _derivatives(opens, sends, mean, precision, p0, F, theta, gradient, factor)
        cholesky(factor)
        forward(factor, gradient)
        backward(factor, gradient)
        for lane in range(LANES):
            longest = 1e-9
            for j in range(HARMONICS):
                longest = max(longest, abs(gradient[j, lane]))
            scale = min(1.0, MAX_STEP / longest)
            for j in range(HARMONICS):
                theta[j, lane] += scale * gradient[j, lane]
    _derivatives(opens, sends, mean, precision, p0, F, theta, gradient, factor)
    cholesky(factor)


@jit
def _derivatives(
    opens: Array,
    sends: Array,
    mean: Array,
    precision: Array,
    p0: float,
    F: Array,
    theta: Array,
    gradient: Array,
    hessian: Array,
) -> None:
    """Gradient [5, L] and packed lower Hessian [15, L] of the log posterior, signs as a minimum."""
    rate = np.empty(LANES)
    _from_prior(mean, precision, theta, gradient, hessian)
    for slot in range(SLOTS):
        for lane in range(LANES):
            log_rate = 0.0
            for j in range(HARMONICS):
                log_rate += theta[j, lane] * F[slot, j]
            rate[lane] = sends[slot, lane] * p0 * small_exp(min(max(log_rate, -MAX_LOG), MAX_LOG))
        for i in range(HARMONICS):
            for lane in range(LANES):
                gradient[i, lane] += (opens[slot, lane] - rate[lane]) * F[slot, i]
            for j in range(i + 1):
                weight = F[slot, i] * F[slot, j]
                for lane in range(LANES):
                    hessian[i * (i + 1) // 2 + j, lane] += rate[lane] * weight


@jit
def small_exp(x: float) -> float:
    """exp for |x| <= MAX_LOG, to 1e-12 of itself, in plain arithmetic that runs on all lanes at once.

    exp(x / 64) by its Taylor polynomial, squared six times.
    """
    r = x * (1 / 64)
    y = 1 + r * (
        1 + r * (1 / 2 + r * (1 / 6 + r * (1 / 24 + r * (1 / 120 + r * (1 / 720 + r * (1 / 5040 + r * (1 / 40320)))))))
    )
    y = y * y
    y = y * y
    y = y * y
    y = y * y
    y = y * y
    return y * y


@jit
def _from_prior(mean: Array, precision: Array, theta: Array, gradient: Array, hessian: Array) -> None:
    """The share of the prior in both derivatives."""
    for i in range(HARMONICS):
        gradient[i] = 0.0
        for j in range(HARMONICS):
            for lane in range(LANES):
                gradient[i, lane] -= precision[i, j] * (theta[j, lane] - mean[j, lane])
        for j in range(i + 1):
            hessian[i * (i + 1) // 2 + j] = precision[i, j]


@jit
def cholesky(a: Array) -> None:
    """Packed lower Cholesky factor of each lane's positive definite 5 x 5 matrix, in place."""
    for i in range(HARMONICS):
        for j in range(i + 1):
            row, column = i * (i + 1) // 2, j * (j + 1) // 2
            for k in range(j):
                for lane in range(LANES):
                    a[row + j, lane] -= a[row + k, lane] * a[column + k, lane]
            if i == j:
                for lane in range(LANES):
                    a[row + i, lane] = math.sqrt(a[row + i, lane])
            else:
                for lane in range(LANES):
                    a[row + j, lane] /= a[column + j, lane]


@jit
def forward(factor: Array, x: Array) -> None:
    """Solve L y = x of each lane, in place."""
    for i in range(HARMONICS):
        row = i * (i + 1) // 2
        for j in range(i):
            for lane in range(LANES):
                x[i, lane] -= factor[row + j, lane] * x[j, lane]
        for lane in range(LANES):
            x[i, lane] /= factor[row + i, lane]


@jit
def backward(factor: Array, x: Array) -> None:
    """Solve L^T y = x of each lane, in place."""
    for back in range(HARMONICS):
        i = HARMONICS - 1 - back
        for j in range(i + 1, HARMONICS):
            for lane in range(LANES):
                x[i, lane] -= factor[j * (j + 1) // 2 + i, lane] * x[j, lane]
        for lane in range(LANES):
            x[i, lane] /= factor[i * (i + 1) // 2 + i, lane]
