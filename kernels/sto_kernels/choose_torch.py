"""`prices.choose_slots` of tensors, on the device where they lie: the same noise, hashed in int64.

Torch has no arithmetic of uint64: int64 wraps alike in sums and products, and a shift to the right is masked. The
logarithms of a device may differ in the last bit, so that another slot may win where two nets with noise are closer
than that. U users, S slots, G groups.
"""

import torch
from torch import Tensor

from sto_kernels.draws import NEAR, NO_SLOT
from sto_kernels.hashing import GOLDEN

# users a step, which bounds the memory beside the tensors given
BLOCK = 1 << 16
_MIX_1, _MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def choose_tensors(
    utility_US: Tensor, allowed_US: Tensor, price_GS: Tensor, group_U: Tensor, hash_U: Tensor, key: int, eps: float
) -> Tensor:
    """Slots, uint8 [U]; shapes are checked by `choose_slots`, `key` is that of its tag."""
    hash_U, price_GS = hash_U.view(torch.int64), price_GS.double()
    slot_U = torch.full((len(utility_US),), NO_SLOT, dtype=torch.uint8, device=utility_US.device)
    for at in range(0, len(utility_US), BLOCK):
        rows = slice(at, at + BLOCK)
        cost_US = price_GS[group_U[rows].long()]
        net_US = (utility_US[rows].double() - cost_US).masked_fill(~allowed_US[rows], -torch.inf)
        slot_U[rows] = _drawn(net_US, splitmix64(hash_U[rows] ^ signed(key)), eps)
    return slot_U


def _drawn(net_US: Tensor, key_U: Tensor, eps: float) -> Tensor:
    """The first slot whose net with noise is highest, of those near the best."""
    slots = torch.arange(net_US.shape[1], device=net_US.device)
    noise_US = gumbel(key_U[:, None] + slots * signed(int(GOLDEN)))
    floor_U1 = net_US.amax(dim=1, keepdim=True) - NEAR * eps
    with_noise_US = torch.where(net_US >= floor_U1, net_US + eps * noise_US, -torch.inf)
    highest_U1 = with_noise_US.amax(dim=1, keepdim=True)
    slot_U = torch.where(with_noise_US == highest_U1, slots, NO_SLOT).amin(dim=1)
    return torch.where(highest_U1[:, 0] > -torch.inf, slot_U, NO_SLOT).to(torch.uint8)


def gumbel(state: Tensor) -> Tensor:
    """-log(-log(u)), u of the top 53 bits of the splitmix64 step of each state, float64."""
    u = (shifted(splitmix64(state), 11).double() + 0.5) * 2.0**-53
    return -torch.log(-torch.log(u))


def splitmix64(x: Tensor) -> Tensor:
    z = x + signed(int(GOLDEN))
    z = (z ^ shifted(z, 30)) * signed(_MIX_1)
    z = (z ^ shifted(z, 27)) * signed(_MIX_2)
    return z ^ shifted(z, 31)


def shifted(x: Tensor, bits: int) -> Tensor:
    """A logical shift to the right."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def signed(word: int) -> int:
    """The int64 of the same bits."""
    return word - (1 << 64) if word >= 1 << 63 else word
