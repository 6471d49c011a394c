"""The Triton kernels of bitslice_gpu.py, which tells the whole; the only home of triton.

A lane owns one (word, slot) pair from load to sum, so that values are plain [LANES] vectors: a register of each thread,
with no layouts to convert and no shared memory. What a lane has several of, users or planes, is a tuple, which the
compiler unrolls. Parameters in capitals are known when it compiles. Others it would look at too, and compile anew for a
1 or a multiple of 16, hence do_not_specialize.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator, assignment"

import triton
import triton.language as tl

# Lanes of a program, one a thread: three programs of up to 168 registers a thread fit a multiprocessor.
LANES = 128
# Without fused multiply-adds margins round as on every other processor.
OPTIONS = {"num_warps": LANES // 32, "enable_fp_fusion": False}
# Rows that the mask kernel makes at once, to have work while cuts are read.
ROWS = 8


@triton.jit(do_not_specialize=["pitch", "users", "words"])
def mask_kernel(
    x_ptr,
    piece_ptr,
    cut_ptr,
    place_ptr,
    table_ptr,
    pitch,
    users,
    words,
    SLOTS: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
):
    """Words of one piece (up to 64 rows of a cut list) x LANES (word, slot) pairs; SLOTS is 1 for user rows."""
    piece = piece_ptr + tl.program_id(1) * 4
    lane = tl.program_id(0) * LANES + tl.arange(0, LANES)
    word = lane // SLOTS
    slot = lane - word * SLOTS
    column = x_ptr + (tl.load(piece) * SLOTS + slot).to(tl.int64) * pitch + word
    missing = tl.where(tl.load(piece + 1) != 0, float("inf"), float("-inf"))
    x = ()
    for j in tl.static_range(64):
        x_j = tl.load(column + j * words, mask=word + j * words < users, other=0.0)
        # + 0.0 makes 0.0 of -0.0, whose difference to a cut at 0.0 would have a minus sign.
        x += (tl.where(x_j != x_j, missing, x_j + 0.0),)
    last = tl.load(piece + 3)
    for row in range(tl.load(piece + 2), last, ROWS):
        rows = row + tl.arange(0, ROWS)
        cut = tl.load(cut_ptr + rows, mask=rows < last, other=0.0)[:, None]
        low = tl.zeros((ROWS, LANES), tl.int32)
        high = tl.zeros((ROWS, LANES), tl.int32)
        # Bits x < cut, last user first, are the signs of x - cut: one subtraction and one funnel shift, where compare,
        # select and or are three. Floats underflow gradually, so that only equal ones differ by 0, and by +0.
        for j in tl.static_range(32):
            low = low << 1 | ((x[31 - j][None, :] - cut).to(tl.int32, bitcast=True) >> 31 & 1)
            high = high << 1 | ((x[63 - j][None, :] - cut).to(tl.int32, bitcast=True) >> 31 & 1)
        both = (~high).to(tl.int64) << 32 | ((~low).to(tl.int64) & 0xFFFFFFFF)
        place = tl.load(place_ptr + rows, mask=rows < last, other=0)[:, None] + (word * WIDTH + slot)[None, :]
        tl.store(table_ptr + place, both, mask=(rows < last)[:, None] & (lane < words * SLOTS)[None, :])


@triton.jit(do_not_specialize=["trees", "chunk", "words"])
def forest_kernel(
    table_ptr,
    node_ptr,
    leaf_ptr,
    sum_ptr,
    trees,
    chunk,
    words,
    SLOTS: tl.constexpr,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
    BLOCK: tl.constexpr,
    LANES: tl.constexpr,
):
    """Add the leaves of one chunk of trees to the sums of LANES pairs x 64 users."""
    lane = tl.program_id(0) * LANES + tl.arange(0, LANES)
    inside = lane < words * SLOTS
    pair = tl.minimum(lane, words * SLOTS - 1)
    at = pair // SLOTS * WIDTH + pair % SLOTS
    sums = ()
    for _ in tl.static_range(64):
        sums += (tl.zeros((LANES,), tl.int32),)
    first = tl.program_id(1) * chunk
    for tree in range(first, tl.minimum(first + chunk, trees)):
        planes = _planes(table_ptr, node_ptr + tree * (1 << DEPTH), at, DEPTH, BLOCK)
        for _ in tl.static_range(8 - DEPTH):
            planes += (tl.zeros((LANES,), tl.int64),)
        sums = _add_leaves(sums, _codes(planes), leaf_ptr + tree * (1 << DEPTH))
    for j in tl.static_range(64):
        # Whole numbers add up to the same in any order, so atomics cost no repeatability.
        tl.atomic_add(sum_ptr + (j * words * SLOTS + pair), sums[j].to(tl.int64), mask=inside, sem="relaxed")


@triton.jit
def _planes(table_ptr, node_ptr, at, DEPTH: tl.constexpr, BLOCK: tl.constexpr):
    """The DEPTH bit planes of a tree's codes, for 64 users a lane.

    A deeper tree than BLOCK is walked in pieces, each of which gives the codes of the users who get there: registers,
    code and compile time stay those of one piece.
    """
    if DEPTH <= BLOCK:
        planes = _walk(table_ptr, node_ptr, at, DEPTH, 1)
    else:
        top = _walk(table_ptr, node_ptr + ((1 << BLOCK) - 1), at, DEPTH - BLOCK, 1 << BLOCK)
        below = ()
        for _ in tl.static_range(BLOCK):
            below += (tl.zeros_like(at).to(tl.int64),)
        for block in range(1 << (DEPTH - BLOCK)):
            here = top[0] ^ ((block & 1) - 1)
            for d in tl.static_range(1, DEPTH - BLOCK):
                here &= top[d] ^ ((block >> d & 1) - 1)
            found = _walk(table_ptr, node_ptr + block * (1 << BLOCK), at, BLOCK, 1)
            merged = ()
            for d in tl.static_range(BLOCK):
                merged += (below[d] | (found[d] & here),)
            below = merged
        planes = top + below
    return planes


@triton.jit
def _walk(table_ptr, node_ptr, at, HEIGHT: tl.constexpr, STEP: tl.constexpr):
    """The planes below a node; nodes stand in preorder, STEP apart, so that a subtree is one stretch.

    A node is read after all below it, when fewer registers are taken: otherwise depth 6 spills.
    """
    if HEIGHT > 1:
        left = _walk(table_ptr, node_ptr + STEP, at, HEIGHT - 1, STEP)
        right = _walk(table_ptr, node_ptr + (STEP << (HEIGHT - 1)), at, HEIGHT - 1, STEP)
    node = tl.load(node_ptr)
    went_right = tl.load(table_ptr + (node.to(tl.int32) + (at & (node >> 32).to(tl.int32))))
    planes = (went_right,)
    if HEIGHT > 1:
        for d in tl.static_range(HEIGHT - 1):
            planes += (left[d] ^ ((left[d] ^ right[d]) & went_right),)
    return planes


@triton.jit
def _codes(p):
    """8 planes of 64 bits -> 8 words of 8 bytes: byte k of word i is the code of user 8k + i.

    Each byte column of the planes is an 8 x 8 matrix of bits, transposed by exchanging blocks of 1, 2 and 4.
    """
    a0, a1 = _exchange(p[0], p[1], 1, 0x5555555555555555)
    a2, a3 = _exchange(p[2], p[3], 1, 0x5555555555555555)
    a4, a5 = _exchange(p[4], p[5], 1, 0x5555555555555555)
    a6, a7 = _exchange(p[6], p[7], 1, 0x5555555555555555)
    b0, b2 = _exchange(a0, a2, 2, 0x3333333333333333)
    b1, b3 = _exchange(a1, a3, 2, 0x3333333333333333)
    b4, b6 = _exchange(a4, a6, 2, 0x3333333333333333)
    b5, b7 = _exchange(a5, a7, 2, 0x3333333333333333)
    c0, c4 = _exchange(b0, b4, 4, 0x0F0F0F0F0F0F0F0F)
    c1, c5 = _exchange(b1, b5, 4, 0x0F0F0F0F0F0F0F0F)
    c2, c6 = _exchange(b2, b6, 4, 0x0F0F0F0F0F0F0F0F)
    c3, c7 = _exchange(b3, b7, 4, 0x0F0F0F0F0F0F0F0F)
    return c0, c1, c2, c3, c4, c5, c6, c7


@triton.jit
def _exchange(a, b, STEP: tl.constexpr, LOW: tl.constexpr):
    return (a & LOW) | ((b & LOW) << STEP), ((a >> STEP) & LOW) | (b & ~LOW)


@triton.jit
def _add_leaves(sums, codes, leaf_ptr):
    added = ()
    for j in tl.static_range(64):
        code = codes[j % 8] >> (j // 8 * 8) & 255
        added += (sums[j] + tl.load(leaf_ptr + code),)
    return added


@triton.jit(do_not_specialize=["pitch", "users"])
def finish_kernel(
    sum_ptr,
    line_ptr,
    base_ptr,
    allowed_ptr,
    margin_ptr,
    slot_ptr,
    value_ptr,
    runner_ptr,
    pitch,
    users,
    SLOTS: tl.constexpr,
    WIDTH: tl.constexpr,
    USERS: tl.constexpr,
):
    """Margins, or best slot, its margin and the runner-up, of USERS users; pointers that are None are left out."""
    user = tl.program_id(0) * USERS + tl.arange(0, USERS)
    slot = tl.arange(0, WIDTH)[None, :]
    inside = (user < users)[:, None] & (slot < SLOTS)
    at = user[:, None] * SLOTS + slot
    margin = tl.load(sum_ptr + at, mask=inside, other=0).to(tl.float64) * tl.load(line_ptr) + tl.load(line_ptr + 1)
    if base_ptr is not None:
        from_base = tl.load(base_ptr + slot.to(tl.int64) * pitch + user[:, None], mask=inside, other=0.0)
        margin += from_base.to(tl.float64)
    margin = margin.to(tl.float32)
    if margin_ptr is not None:
        tl.store(margin_ptr + at, margin, mask=inside)
    if slot_ptr is not None:
        if allowed_ptr is not None:
            inside = inside & (tl.load(allowed_ptr + at, mask=inside, other=0) != 0)
        # What is not a number is never chosen.
        open_slot = inside & (margin == margin)
        best, value, rest = _first_max(tl.where(open_slot, margin, float("-inf")), slot)
        runner, _, _ = _first_max(rest, slot)
        tl.store(slot_ptr + user, best.to(tl.uint8), mask=user < users)
        tl.store(value_ptr + user, value, mask=user < users)
        tl.store(runner_ptr + user, runner.to(tl.uint8), mask=user < users)


@triton.jit
def _first_max(margin, slot):
    """The earliest slot with the largest margin (255 where all are -inf), that margin, and the margins without it."""
    value = tl.max(margin, axis=1)
    first = tl.min(tl.where((margin == value[:, None]) & (margin > float("-inf")), slot, 255), axis=1)
    return first, value, tl.where(slot == first[:, None], float("-inf"), margin)
