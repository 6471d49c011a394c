"""Logarithm, exponential, sine and cosine by +, -, *, / and bits alone, for Beta draws: the same bits everywhere.

A mathematics library rounds as it likes, and no compiler turns its functions into vector instructions. The sums here
are written once and serve numba's scalars and torch's tensors alike; only the handling of bits differs. No step may be
fused with another: numba without fast maths and torch's single operations both round after each.

Coefficients of the float32 functions are those of the Cephes library (S. Moshier), good to about one unit in the last
place in the ranges named. Constants are float32, so that nothing is widened.
"""

from typing import Any

import numpy as np

from sto_kernels.compiled import jit

_F, _I = np.float32, np.int32
ONE, HALF, THIRD, QUARTER = _F(1), _F(0.5), _F(1 / 3), _F(0.25)
# the bits of sqrt(1/2): mantissas are taken in [sqrt(1/2), sqrt(2))
ROOT, E_SHIFT = _I(0x3F3504F3), _I(23)
# 1/ln 2, and ln 2 in two parts of which the first has few bits, so that whole multiples of it are exact
LOG2_E, LN2_HIGH, LN2_LOW = _F(1.44269504088896341), _F(0.693359375), _F(-2.12194440e-4)
_L = tuple(map(_F, (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1)))
_L0, _L1, _L2, _L3, _L4 = _L
_L5, _L6, _L7, _L8 = map(_F, (-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1))
_S0, _S1, _S2 = map(_F, (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1))
_C0, _C1, _C2 = map(_F, (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2))
_E0, _E1, _E2 = map(_F, (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3))
_E3, _E4, _E5 = map(_F, (4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1))


def log_sum(f: Any, e: Any) -> Any:
    """log((1 + f) 2^e), f in [sqrt(1/2) - 1, sqrt(2) - 1), e whole; float32."""
    z = f * f
    y = ((((f * _L0 + _L1) * f + _L2) * f + _L3) * f + _L4) * f
    y = ((((y + _L5) * f + _L6) * f + _L7) * f + _L8) * f * z
    return f + (y + e * LN2_LOW - z * HALF) + e * LN2_HIGH


def sine(t: Any) -> Any:
    """sin(t), |t| at most pi / 4, float32."""
    z = t * t
    return ((z * _S0 + _S1) * z + _S2) * z * t + t


def cosine(t: Any) -> Any:
    """cos(t), |t| at most pi / 4, float32."""
    z = t * t
    return ((z * _C0 + _C1) * z + _C2) * z * z - z * HALF + ONE


def exp_sum(r: Any) -> Any:
    """exp(r), |r| at most 0.35, float32; exactly 1 at 0."""
    y = ((((r * _E0 + _E1) * r + _E2) * r + _E3) * r + _E4) * r + _E5
    return y * r * r + r + ONE


_log_sum, _exp_sum, _sine, _cosine = jit(log_sum), jit(exp_sum), jit(sine), jit(cosine)


@jit
def log_32(x: Any) -> Any:
    """log(x) of a positive normal float32; about -88 at 0."""
    bits = np.float32(x).view(np.int32)
    e = np.int32(np.int32(bits - ROOT) >> E_SHIFT)
    m = np.int32(bits - np.int32(e << E_SHIFT)).view(np.float32)
    return _log_sum(m - ONE, np.float32(e))


@jit
def exp_32(x: Any) -> Any:
    """exp(x), x in -87..0, float32."""
    n = np.int32(x * LOG2_E - HALF)
    e = np.float32(n)
    r = x - e * LN2_HIGH - e * LN2_LOW
    return _exp_sum(r) * np.int32((n + _I(127)) << E_SHIFT).view(np.float32)


@jit
def sin_cos(t: Any) -> Any:
    return _sine(t), _cosine(t)
