"""`beta.draw_betas` of tensors, on the device where they lie: the same numbers, by the same steps one after the other.

Every step is one operation of torch that rounds as IEEE 754 says, so the bits are those of the compiled kernel. Torch
has no arithmetic of uint64, but int64 wraps alike in sums and products, and a shift to the right is masked.

U users, S slots; inside, flat cells of a block.
"""

import torch
from torch import Tensor

from sto_kernels import beta_lanes, beta_math
from sto_kernels.beta_inputs import check_places, check_shapes, round_key
from sto_kernels.beta_math import cosine, exp_sum, log_sum, sine
from sto_kernels.choose_torch import shifted, signed, splitmix64
from sto_kernels.hashing import GOLDEN

# cells a step: what a CPU's cache holds, and what keeps a GPU busy
CPU_CELLS, GPU_CELLS = 1 << 16, 1 << 22
# the kernel's float32 constants, as torch likes them
_UNIT, _HALF_UNIT, _EIGHTH_TURN = (float(x) for x in (beta_lanes.UNIT, beta_lanes.HALF_UNIT, beta_lanes.EIGHTH_TURN))
_THIRD, _TWO_THIRDS, _LEAST_SHAPE = (float(x) for x in (beta_math.THIRD, beta_lanes.TWO_THIRDS, beta_lanes.LEAST_SHAPE))
_LN2_HIGH, _LN2_LOW, _LOG2_E = (float(x) for x in (beta_math.LN2_HIGH, beta_math.LN2_LOW, beta_math.LOG2_E))
_ROOT, _E_SHIFT, _STEP = int(beta_math.ROOT), int(beta_math.E_SHIFT), signed(int(beta_lanes.STEP))
_SQUEEZE, _FADE = float(beta_lanes.SQUEEZE), float(beta_lanes.FADE)
_LOW_31, _ANGLE_BITS, _SWAP_BIT, _SIGN_BIT = (1 << 31) - 1, -4, 1, 2


def draw_betas_torch(key_U: Tensor, a_US: Tensor, b_US: Tensor, round: int = 0) -> Tensor:
    """One draw of Beta(a, b) for each (user, slot), float32 [U, S]; keys int64 or uint64 [U], all on one device.

    Raises ValueError as `draw_betas` does.
    """
    check_places(key_U, a_US, b_US)
    check_shapes(a_US, b_US)
    users, slots = a_US.shape
    base_U = splitmix64(key_U.view(torch.int64) ^ signed(int(round_key(round))))
    counter_S = torch.arange(slots, device=a_US.device) * signed(int(GOLDEN))
    out_US = torch.empty(a_US.shape, dtype=torch.float32, device=a_US.device)
    block = max(1, (CPU_CELLS if a_US.device.type == "cpu" else GPU_CELLS) // max(slots, 1))
    for first in range(0, users, block):
        rows = slice(first, first + block)
        start = (base_U[rows, None] + counter_S).flatten()
        out_US[rows] = _draws(start, a_US[rows].float().flatten(), b_US[rows].float().flatten()).view(-1, slots)
    return out_US


def _draws(start: Tensor, a: Tensor, b: Tensor) -> Tensor:
    d_a, d_b = (shape + torch.where(shape < 1, _TWO_THIRDS, -_THIRD) for shape in (a, b))
    root_a, root_b = _root(d_a), _root(d_b)
    shared = _quotient(_THIRD, root_a * root_b)
    c_a, c_b = shared * root_b, shared * root_a
    word = splitmix64(start + 2 * _STEP)
    normal_a, normal_b = _normals(splitmix64(start + _STEP))
    x = _squeezed(d_a, c_a, normal_a, _uniform(shifted(word, 33)))
    y = _squeezed(d_b, c_b, normal_b, _uniform(word & _LOW_31))
    _try_again(x, start, d_a, c_a, is_x=True)
    _try_again(y, start, d_b, c_b, is_x=False)
    if bool((torch.minimum(a, b) < 1).any()):
        x, y = _boosted(x, y, start, a, b)
    return x / (x + y)


def _quotient(number: float, by: Tensor) -> Tensor:
    """number / by, a division: torch would multiply by the reciprocal."""
    return torch.full_like(by, number) / by


def _root(x: Tensor) -> Tensor:
    """The square root, rounded rightly: the library that torch asks on a CPU is off by a unit now and then."""
    return x.sqrt() if x.is_cuda else x.double().sqrt().float()


def _uniform(bits: Tensor) -> Tensor:
    return bits.float() * _UNIT + _HALF_UNIT


def _normals(word: Tensor) -> tuple[Tensor, Tensor]:
    radius = _root(_log(_uniform(shifted(word, 33))) * -2.0)
    turn = ((word << 32 >> 32) & _ANGLE_BITS).float() * _EIGHTH_TURN
    s, c = sine(turn), cosine(turn)
    signed_radius = torch.where((word & _SIGN_BIT) != 0, -radius, radius)
    swap = (word & _SWAP_BIT) != 0
    return signed_radius * torch.where(swap, s, c), signed_radius * torch.where(swap, c, s)


def _squeezed(d: Tensor, c: Tensor, x: Tensor, u: Tensor) -> Tensor:
    p, square = c * x + 1.0, x * x
    accepted = d * _SQUEEZE * u * p.clamp(max=1) > square * square
    return torch.where(accepted, d * 0.25 * (p * p * p), -1.0)


def _tested(d: Tensor, c: Tensor, x: Tensor, u: Tensor) -> Tensor:
    w = c * x
    p = w + 1.0
    bound = d * 3.0 * (_log(p) - w + w * w * 0.5 - w * w * w * _THIRD)
    accepted = (p > 0) & (_log(1 - u) < bound)
    return torch.where(accepted, d * 0.25 * (p * p * p), -1.0)


def _try_again(gamma: Tensor, start: Tensor, d: Tensor, c: Tensor, is_x: bool) -> None:
    """Those that failed, in place: first their own try by the whole test, then try after try."""
    failed = torch.nonzero(gamma < 0)[:, 0]
    start, d, c = start[failed], d[failed], c[failed]
    step = _STEP
    while len(failed):
        start = start + step
        word = splitmix64(start + step)
        normal = _normals(splitmix64(start))[0 if is_x else 1]
        tried = _tested(d, c, normal, _uniform(shifted(word, 33) if is_x else word & _LOW_31))
        gamma[failed] = tried
        kept = tried < 0
        failed, start, d, c = failed[kept], start[kept] + step, d[kept], c[kept]


def _boosted(x: Tensor, y: Tensor, start: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    inverse_a, inverse_b = (
        torch.where(shape < 1, _quotient(1, shape.clamp(min=_LEAST_SHAPE)), 0.0) for shape in (a, b)
    )
    word = splitmix64(start)
    log_a, log_b = _log(_uniform(shifted(word, 33))) * inverse_a, _log(_uniform(word & _LOW_31)) * inverse_b
    gap = -(log_a - log_b).abs()
    factor = torch.where(gap > _FADE, _exp(gap.clamp(min=_FADE)), 0.0)
    return x * torch.where(log_a < log_b, factor, 1.0), y * torch.where(log_b < log_a, factor, 1.0)


def _log(x: Tensor) -> Tensor:
    bits = x.view(torch.int32)
    e = (bits - _ROOT) >> _E_SHIFT
    log: Tensor = log_sum((bits - (e << _E_SHIFT)).view(torch.float32) - 1.0, e.float())
    return log


def _exp(x: Tensor) -> Tensor:
    n = (x * _LOG2_E - 0.5).int()
    e = n.float()
    power: Tensor = exp_sum(x - e * _LN2_HIGH - e * _LN2_LOW) * ((n + 127) << _E_SHIFT).view(torch.float32)
    return power
