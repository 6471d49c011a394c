"""What the CPU could do at best: the bit-sliced kernel's vector instructions and loads through the ports of a core.

A 512-bit register holds one bit of 8 slots x 64 users. For a tree of depth D, 3 digits a leaf, such a register takes

    selects     2^D - D - 1                       a multiplexer network
    transpose   2 ceil(D/2) + 4 ceil(D/4) + 16    D bit planes -> 8 vectors of leaf codes: interleave, then 8x8 bits
    leaves      8 x 9                             three look-ups of 7 bits; two trees' bytes added, then widened
    loads       2^D - 1 rows, 8 vectors of codes, 12 leaf tables (two vectors share one), 6 sums (8 trees share one)

and a core starts two 512-bit instructions a cycle (Intel: two ports; Zen 4: four of half the width). Intel loads two
registers a cycle, Zen 4 one, and there the loads bind. Making the rows, choosing the slot, and everything that misses
the first-level cache are left out, so the bound is above what a program of this design can reach. Above depth 6 a leaf
takes several look-ups: the true bound is lower still.
"""

from sto_bench.cases import Case
from sto_bench.clock import measured_mhz
from sto_kernels.pieces import MAX_DEPTH

SLOTS, USERS = 8, 64
VECTORS, LEAF_OPS, DIGITS, BATCH, TOGETHER = 8, 9, 3, 8, 2
INSTRUCTIONS_A_CYCLE = 2
LIMITED = ("bitslice", "bitslice-avx512")


def vector_ops(depth: int) -> int:
    """512-bit instructions for one tree and one register of slots."""
    transpose = 2 * -(-depth // 2) + 4 * -(-depth // 4) + 2 * VECTORS
    return (1 << depth) - depth - 1 + transpose + VECTORS * LEAF_OPS


def vector_loads(depth: int) -> float:
    """512-bit loads for the same."""
    sums = VECTORS * 2 * DIGITS / BATCH
    return (1 << depth) - 1 + VECTORS + VECTORS * DIGITS / TOGETHER + sums


def loads_a_cycle(cpu: str) -> int:
    """512-bit loads that a core starts in a cycle: one on AMD's family 25 (Zen 4), else two."""
    return 1 if "AMD" in cpu and "family 25" in cpu else 2


def port_limit_users_per_s(case: Case, cpu: str, mhz: float, threads: int) -> float:
    """Upper bound of users/s of a case on `threads` cores of `mhz`."""
    by_ports = vector_ops(case.depth) / INSTRUCTIONS_A_CYCLE
    by_loads = vector_loads(case.depth) / loads_a_cycle(cpu)
    cycles = max(by_ports, by_loads) * -(-case.slots // SLOTS) * case.trees
    return threads * mhz * 1e6 * USERS / cycles


def limit_of(case: Case, impl: str, cpu: str, threads: int) -> float | None:
    """The bound, for the implementations and depths that it speaks of: deeper trees are scored in pieces."""
    if impl not in LIMITED or case.depth > MAX_DEPTH:
        return None
    return port_limit_users_per_s(case, cpu, measured_mhz(), threads)
