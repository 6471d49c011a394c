"""Effect of the send hour itself: a Poisson model of opens within 24 h, random harmonics a user (recipe, section 4).

    opens_s ~ Poisson(n_s p0 exp(theta . F_s)),  F_s = [1, cos h, sin h, cos 2h, sin 2h],  theta ~ N(mean_cohort, Sigma)

Each user's theta is the posterior mode by Newton steps held to a length of 1.5; the curve is p0 exp(theta.F + var / 2).

Products of harmonics are harmonics, so gradient, Hessian and variance need no more than nine sums over the hours:

    waves w = [1, cos h, sin h, cos 2h, sin 2h, cos 3h, sin 3h, cos 4h, sin 4h];  moments m = sum_s rate_s w_s

and twelve hours apart the odd waves change their sign alone, so hours are taken in pairs. A user whose step is nothing
stays where he is, whoever stands beside him; a block is done when all are.
U users, S = 24 send hours, 5 harmonics, L lanes. `naive_attention.send_hour_curve` is the twin.
"""

import numpy as np
from numpy.typing import NDArray

from sto_kernels.compiled import jit
from sto_kernels.lanes import LANES, Array, Floats, load, store
from sto_kernels.small_solve import ORDER, PAIRS, backward, cholesky, forward

HARMONICS, SLOTS, WAVES, HALF_DAY = ORDER, 24, 9, 12
STEPS, MAX_STEP, MAX_LOG, MAX_VARIANCE = 7, 1.5, 8.0, 2.0
# A Newton step this small leaves an error of about its square.
STILL = 1e-8
MAX_CURVE_LOG = 20.0


def harmonics() -> Floats:
    """F: the send hour at a quarter past in five harmonics, float64 [24, 5]."""
    angle = 2 * np.pi / 24 * (np.arange(24) + 0.25)
    columns = [np.ones(24), np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)]
    return np.stack(columns, axis=1)


def waves() -> Floats:
    """w of the first twelve hours, float64 [12, 9]; those of the other twelve differ by the sign of the odd waves."""
    angle = 2 * np.pi / 24 * (np.arange(HALF_DAY) + 0.25)
    turns = [wave(k * angle) for k in range(1, 5) for wave in (np.cos, np.sin)]
    return np.stack([np.ones(HALF_DAY), *turns], axis=1)


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
    _modes(opens_U24, sends_U24, mean_U5, precision_55, p0, steps, waves(), theta_5U, covariance_25U)
    return theta_5U, covariance_25U


def send_hour_curve(
    opens_U24: NDArray[np.float32], sends_U24: NDArray[np.float32], mean_U5: Floats, precision_55: Floats, p0: float
) -> Floats:
    """P(open within 24 h | sent at hour) held to [1e-5, 0.95], float64 [24, U]."""
    p_24U = np.empty((SLOTS, len(opens_U24)))
    _curves(opens_U24, sends_U24, mean_U5, precision_55, p0, waves(), p_24U)
    return p_24U


@jit
def _modes(
    opens_U24: Array,
    sends_U24: Array,
    mean_U5: Array,
    precision: Array,
    p0: float,
    steps: int,
    wave: Array,
    theta_5U: Array,
    covariance_25U: Array,
) -> None:
    opens, sends, mean = np.empty((SLOTS, LANES)), np.empty((SLOTS, LANES)), np.empty((HARMONICS, LANES))
    theta, factor = np.empty((HARMONICS, LANES)), np.empty((PAIRS, LANES))
    covariance = np.empty((HARMONICS * HARMONICS, LANES))
    for first in range(0, len(opens_U24), LANES):
        load(opens_U24, first, opens)
        load(sends_U24, first, sends)
        load(mean_U5, first, mean)
        newton(opens, sends, mean, precision, p0, steps, wave, theta, factor)
        _invert(factor, covariance)
        store(theta, first, theta_5U)
        store(covariance, first, covariance_25U)


@jit
def _curves(
    opens_U24: Array, sends_U24: Array, mean_U5: Array, precision: Array, p0: float, wave: Array, p_24U: Array
) -> None:
    opens, sends, mean = np.empty((SLOTS, LANES)), np.empty((SLOTS, LANES)), np.empty((HARMONICS, LANES))
    theta, factor, p = np.empty((HARMONICS, LANES)), np.empty((PAIRS, LANES)), np.empty((SLOTS, LANES))
    covariance, spread = np.empty((HARMONICS * HARMONICS, LANES)), np.empty((WAVES, LANES))
    for first in range(0, len(opens_U24), LANES):
        load(opens_U24, first, opens)
        load(sends_U24, first, sends)
        load(mean_U5, first, mean)
        newton(opens, sends, mean, precision, p0, STEPS, wave, theta, factor)
        _invert(factor, covariance)
        _spread(covariance, spread)
        for hour in range(HALF_DAY):
            _curve_pair(theta, spread, wave, hour, p0, p)
        store(p, first, p_24U)


@jit
def _invert(factor: Array, covariance: Array) -> None:
    """The inverse [25, L] of the matrix of a Cholesky factor."""
    unit = np.empty((HARMONICS, LANES))
    for column in range(HARMONICS):
        unit[:] = 0.0
        unit[column] = 1.0
        forward(factor, unit)
        backward(factor, unit)
        for row in range(HARMONICS):
            covariance[row * HARMONICS + column] = unit[row]


@jit
def _spread(c: Array, out: Array) -> None:
    """F C F' of any hour as weights [9, L] of its waves."""
    for k in range(LANES):
        out[0, k] = c[0, k] + 0.5 * (c[6, k] + c[12, k] + c[18, k] + c[24, k])
        out[1, k] = 2 * c[1, k] + c[8, k] + c[14, k]
        out[2, k] = 2 * c[2, k] + c[9, k] - c[13, k]
        out[3, k] = 2 * c[3, k] + 0.5 * (c[6, k] - c[12, k])
        out[4, k] = 2 * c[4, k] + c[7, k]
        out[5, k] = c[8, k] - c[14, k]
        out[6, k] = c[9, k] + c[13, k]
        out[7, k] = 0.5 * (c[18, k] - c[24, k])
        out[8, k] = c[19, k]


@jit
def _curve_pair(theta: Array, spread: Array, wave: Array, hour: int, p0: float, p: Array) -> None:
    """The curve at `hour` and twelve hours later."""
    c1, s1, c2, s2, c3, s3, c4, s4 = wave[hour, 1:]
    for k in range(LANES):
        even = theta[0, k] + theta[3, k] * c2 + theta[4, k] * s2
        odd = theta[1, k] * c1 + theta[2, k] * s1
        even_v = spread[0, k] + spread[3, k] * c2 + spread[4, k] * s2 + spread[7, k] * c4 + spread[8, k] * s4
        odd_v = spread[1, k] * c1 + spread[2, k] * s1 + spread[5, k] * c3 + spread[6, k] * s3
        first = even + odd + 0.5 * min(even_v + odd_v, MAX_VARIANCE)
        second = even - odd + 0.5 * min(even_v - odd_v, MAX_VARIANCE)
        first = min(max(first, -MAX_CURVE_LOG), MAX_CURVE_LOG)
        second = min(max(second, -MAX_CURVE_LOG), MAX_CURVE_LOG)
        p[hour, k] = min(max(p0 * small_exp(first), 1e-5), 0.95)
        p[hour + HALF_DAY, k] = min(max(p0 * small_exp(second), 1e-5), 0.95)


@jit
def newton(
    opens: Array,
    sends: Array,
    mean: Array,
    precision: Array,
    p0: float,
    steps: int,
    wave: Array,
    theta: Array,
    factor: Array,
) -> None:
    """Newton steps from the mean to the mode of each lane; `factor` ends as the Cholesky factor of its precision."""
    opened, moment = np.empty((HARMONICS, LANES)), np.empty((WAVES, LANES))
    gradient, hessian = np.empty((HARMONICS, LANES)), np.empty((PAIRS, LANES))
    moving = np.ones(LANES)
    _opened(opens, wave, opened)
    theta[:] = mean
    for step in range(steps + 1):
        _moments(sends, theta, p0, wave, moment)
        _derivatives(opened, mean, precision, theta, moment, gradient, hessian)
        cholesky(hessian)
        for row in range(PAIRS):
            for lane in range(LANES):
                factor[row, lane] = hessian[row, lane] if moving[lane] > 0 else factor[row, lane]
        forward(hessian, gradient)
        backward(hessian, gradient)
        if step == steps or _move(gradient, moving, theta) == 0:
            break


@jit
def _move(step: Array, moving: Array, theta: Array) -> float:
    """One step of the lanes that still move, at most MAX_STEP long -> how many move on."""
    left = 0.0
    for lane in range(LANES):
        longest = 1e-9
        for j in range(HARMONICS):
            longest = max(longest, abs(step[j, lane]))
        scale = min(1.0, MAX_STEP / longest) * moving[lane]
        for j in range(HARMONICS):
            theta[j, lane] += scale * step[j, lane]
        moving[lane] = moving[lane] if longest > STILL else 0.0
        left += moving[lane]
    return left


@jit
def _opened(opens: Array, wave: Array, opened: Array) -> None:
    """Opens times harmonics, summed over the hours, [5, L]."""
    opened[:] = 0.0
    for hour in range(HALF_DAY):
        for j in range(HARMONICS):
            weight, sign = wave[hour, j], -1.0 if j in (1, 2) else 1.0
            for lane in range(LANES):
                opened[j, lane] += weight * (opens[hour, lane] + sign * opens[hour + HALF_DAY, lane])


@jit
def _moments(sends: Array, theta: Array, p0: float, wave: Array, moment: Array) -> None:
    """Expected opens times waves, summed over the hours, [9, L]; hours in which nobody got mail add nothing."""
    plus, minus = np.empty(LANES), np.empty(LANES)
    moment[:] = 0.0
    for hour in range(HALF_DAY):
        if not _any(sends[hour], sends[hour + HALF_DAY]):
            continue
        c1, s1, c2, s2 = wave[hour, 1:5]
        for lane in range(LANES):
            even = theta[0, lane] + theta[3, lane] * c2 + theta[4, lane] * s2
            odd = theta[1, lane] * c1 + theta[2, lane] * s1
            first = sends[hour, lane] * p0 * small_exp(min(max(even + odd, -MAX_LOG), MAX_LOG))
            second = sends[hour + HALF_DAY, lane] * p0 * small_exp(min(max(even - odd, -MAX_LOG), MAX_LOG))
            plus[lane], minus[lane] = first + second, first - second
        for k in range(WAVES):
            weight, row = wave[hour, k], minus if k in (1, 2, 5, 6) else plus
            for lane in range(LANES):
                moment[k, lane] += weight * row[lane]


@jit
def _any(first: Array, second: Array) -> bool:
    total = 0.0
    for lane in range(LANES):
        total += first[lane] + second[lane]
    return total > 0


@jit
def _derivatives(
    opened: Array, mean: Array, precision: Array, theta: Array, moment: Array, gradient: Array, hessian: Array
) -> None:
    """Gradient [5, L] and packed lower Hessian [15, L] of the log posterior, signs as a minimum."""
    _from_prior(mean, precision, theta, gradient, hessian)
    for k in range(LANES):
        m0, c1, s1, c2, s2 = moment[0, k], moment[1, k], moment[2, k], moment[3, k], moment[4, k]
        c3, s3, c4, s4 = moment[5, k], moment[6, k], moment[7, k], moment[8, k]
        for j in range(HARMONICS):
            gradient[j, k] += opened[j, k] - moment[j, k]
        hessian[0, k] += m0
        hessian[1, k] += c1
        hessian[2, k] += 0.5 * (m0 + c2)
        hessian[3, k] += s1
        hessian[4, k] += 0.5 * s2
        hessian[5, k] += 0.5 * (m0 - c2)
        hessian[6, k] += c2
        hessian[7, k] += 0.5 * (c1 + c3)
        hessian[8, k] += 0.5 * (s3 - s1)
        hessian[9, k] += 0.5 * (m0 + c4)
        hessian[10, k] += s2
        hessian[11, k] += 0.5 * (s1 + s3)
        hessian[12, k] += 0.5 * (c1 - c3)
        hessian[13, k] += 0.5 * s4
        hessian[14, k] += 0.5 * (m0 - c4)


@jit
def small_exp(x: float) -> float:
    """exp to 1e-12 of itself for |x| up to 8, to 1e-8 up to 20, in plain arithmetic that runs on all lanes at once.

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
