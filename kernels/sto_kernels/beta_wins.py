"""How often each slot would win a contest of Beta draws: the propensities of Thompson sampling, by fixed-seed rounds.

In round r the slots of a user draw X_s ~ Beta(a_s, b_s), as `beta.draw_betas` does for that round, and the slot with
the highest weight * X_s - less_s wins, of those allowed; the earlier one where two are equal. Round 0 is the draw that
decides; rounds 1..draws count here, so a chance is a function of (key of the user, shapes, draws) alone.

A slot that cannot win is not drawn. By the Bernstein bound of Beta laws (M. Skorski, "Bernstein-type bounds for Beta
distribution", 2023) X lies outside mean - low..mean + high with a chance of at most 2 e^-L, each side e^-L, where

    v = a b / (n^2 (n + 1)),  n = a + b,  t = 2 (b - a) / (n (n + 2))
    high = L t+ / 3 + sqrt((L t+ / 3)^2 + 2 L v), t+ = max(t, 0)        low: the same of -t

With e^-L = MISSED / 2S, a slot whose highest value lies below the lowest of another wins with a chance of at most
MISSED / S, and a user's shares move by less than MISSED in sum. It happens in fewer than one of 1 / (MISSED * draws)
users that a round would have come out otherwise.

U users, S slots.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels.beta import draw_betas
from sto_kernels.beta_inputs import check_places, check_shapes, round_key
from sto_kernels.beta_lanes import COUNTER, KEY, LANES, X, Y, draw, prepare, scratch, start
from sto_kernels.compiled import jit, obstacle, read_only
from sto_kernels.hashing import GOLDEN

Array = NDArray[Any]
Floats = NDArray[np.float32]
MISSED = 1e-6


def win_shares(
    key_U: NDArray[np.uint64],
    a_US: Floats,
    b_US: Floats,
    draws: int,
    allowed_US: NDArray[np.bool_] | None = None,
    less_US: NDArray[Any] | None = None,
    weight_U: NDArray[Any] | None = None,
) -> Floats:
    """Share of `draws` rounds that each slot wins, float32 [U, S]; rows sum to 1, or to 0 where no slot is allowed.

    Raises ValueError for shapes that are not finite and above 0, and for weights or `less` that are not finite or
    weights below 0.
    """
    field = _Field(key_U, a_US, b_US, draws, allowed_US, less_US, weight_U)
    best_U1 = np.max(field.low_US, axis=1, keepdims=True, initial=-np.inf)
    return (field.wins_US(field.allowed_US & (field.high_US >= best_U1)) / np.float32(draws)).astype(np.float32)


def win_chance_of(
    key_U: NDArray[np.uint64],
    a_US: Floats,
    b_US: Floats,
    slot_U: NDArray[Any],
    draws: int,
    allowed_US: NDArray[np.bool_] | None = None,
    less_US: NDArray[Any] | None = None,
    weight_U: NDArray[Any] | None = None,
) -> Floats:
    """The chance with which the slot that won round 0 wins, (wins + 1) / (draws + 1), float32 [U].

    Who has no slot (255, any beyond the grid) has 0.

    The round that was won counts among the rounds, so the estimate is above 0. Of a chance p its mean is
    p + (1 - p) / (draws + 1), too high, as it must be near 0; the mean of its inverse, which is what off-policy
    estimates weigh by, is (1 - (1 - p)^(draws + 1)) / p: too low by that share only, which is nothing unless p is as
    small as 1 / draws. Only rivals that may beat the slot are drawn. Raises ValueError for a slot that is not allowed.
    """
    field = _Field(key_U, a_US, b_US, draws, allowed_US, less_US, weight_U)
    slot_U = np.asarray(slot_U).astype(np.int64)
    has_U = slot_U < a_US.shape[1]
    safe_U = np.where(has_U, slot_U, 0)
    user_U = np.arange(len(slot_U))
    if slot_U.shape != (len(a_US),) or (slot_U < 0).any():
        raise ValueError(f"win_chance_of needs a slot of each of {len(a_US)} users, 0 or above; found {slot_U.shape}")
    if not field.allowed_US[user_U[has_U], slot_U[has_U]].all():
        raise ValueError("win_chance_of needs slots that are allowed: another could not have won")
    rivals_US = field.allowed_US & (field.high_US >= field.low_US[user_U, safe_U][:, None])
    wins_U = field.wins_US(rivals_US & has_U[:, None])[user_U, safe_U]
    return np.where(has_U, (wins_U + 1) / (draws + 1), 0).astype(np.float32)


class _Field:
    """The contest of each user: who takes part, and between which values his draws lie."""

    def __init__(
        self,
        key_U: Array,
        a_US: Array,
        b_US: Array,
        draws: int,
        allowed_US: Array | None,
        less_US: Array | None,
        weight_U: Array | None,
    ) -> None:
        check_places(key_U, a_US, b_US)
        check_shapes(a_US, b_US)
        if draws < 1:
            raise ValueError(f"shares of wins need at least 1 draw; found {draws}")
        self.key_U, self.a_US, self.b_US, self.draws = key_U, a_US, b_US, draws
        self.allowed_US = np.ones(a_US.shape, np.bool_) if allowed_US is None else allowed_US
        self.less_US = np.zeros(a_US.shape) if less_US is None else np.asarray(less_US, np.float64)
        self.weight_U = np.ones(len(a_US)) if weight_U is None else np.asarray(weight_U, np.float64)
        shapes = self.allowed_US.shape, self.less_US.shape, self.weight_U.shape
        if shapes != (a_US.shape, a_US.shape, a_US.shape[:1]):
            raise ValueError(f"allowed_US, less_US and weight_U must fit {a_US.shape}; found {shapes}")
        known = np.isfinite(self.weight_U).all() and np.isfinite(self.less_US[self.allowed_US]).all()
        if not known or self.weight_U.min(initial=0) < 0:
            raise ValueError("weights must be finite and not below 0, and what is taken off finite")
        self.low_US, self.high_US = self._bounds()

    def _bounds(self) -> tuple[Array, Array]:
        a_US, b_US = self.a_US.astype(np.float64), self.b_US.astype(np.float64)
        n_US, logs = a_US + b_US, np.log(2 * max(1, a_US.shape[1]) / MISSED)
        mean_US = a_US / n_US
        twice_US = 2 * logs * mean_US * (b_US / n_US) / (n_US + 1)
        skew_US = logs / 3 * 2 * (b_US - a_US) / n_US / (n_US + 2)
        up_US, down_US = np.maximum(skew_US, 0), np.maximum(-skew_US, 0)
        high_US = np.minimum(mean_US + up_US + np.sqrt(up_US**2 + twice_US), 1)
        low_US = np.maximum(mean_US - down_US - np.sqrt(down_US**2 + twice_US), 0)
        worth_US = [self.weight_U[:, None] * x_US - self.less_US for x_US in (low_US, high_US)]
        return np.where(self.allowed_US, worth_US[0], -np.inf), np.where(self.allowed_US, worth_US[1], -np.inf)

    def wins_US(self, plays_US: Array) -> NDArray[np.int32]:
        """Rounds that each slot wins, of those that play, int32 [U, S]."""
        wins_US = np.zeros(self.a_US.shape, np.int32)
        shapes = read_only(self.key_U, np.uint64), *(read_only(x_US, np.float32) for x_US in (self.a_US, self.b_US))
        worth = read_only(self.less_US, np.float64), read_only(self.weight_U, np.float64)
        if obstacle() is not None:
            self._play_plainly(plays_US, wins_US)
        else:
            _count(*shapes, *worth, read_only(plays_US, np.bool_), read_only(_keys(self.draws), np.uint64), wins_US)
        return wins_US

    def _play_plainly(self, plays_US: Array, wins_US: Array) -> None:
        """Round after round of all users, without compiled code."""
        user_U = np.flatnonzero(plays_US.any(axis=1))
        for number in range(1, self.draws + 1):
            x_US = draw_betas(self.key_U, self.a_US, self.b_US, number).astype(np.float64)
            worth_US = np.where(plays_US, self.weight_U[:, None] * x_US - self.less_US, -np.inf)
            wins_US[user_U, worth_US[user_U].argmax(axis=1)] += 1


@lru_cache(maxsize=16)
def _keys(draws: int) -> NDArray[np.uint64]:
    return np.array([round_key(number) for number in range(1, draws + 1)], np.uint64)


@jit
def _count(
    key_U: Array,
    a_US: Array,
    b_US: Array,
    less_US: Array,
    weight_U: Array,
    plays_US: Array,
    key_R: Array,
    wins_US: Array,
) -> None:
    """Users by groups whose cells fill some blocks, at least one user a group; then round after round of each group."""
    users, slots = a_US.shape
    blocks = (slots + LANES - 1) // LANES
    room, scratches = blocks * LANES, [scratch() for _ in range(blocks)]
    shapes = np.empty(room, np.float32), np.empty(room, np.float32)
    cells = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room), np.empty(room), np.empty(room)
    u = 0
    while u < users:
        count = 0
        while u < users and count + slots <= room:
            playing = _enter(u, count, a_US, b_US, less_US, weight_U, plays_US, shapes, cells)
            if playing == 1:  # who is alone wins without a draw
                wins_US[u, cells[1][count]] = len(key_R)
            else:
                count += playing
            u += 1
        _play(count, key_U, shapes, cells, scratches, key_R, wins_US)


@jit
def _enter(
    u: int, at: int, a_US: Array, b_US: Array, less_US: Array, weight_U: Array, plays_US: Array, shapes: Any, cells: Any
) -> int:
    """The cells of user u, from `at` on; how many they are."""
    a_C, b_C = shapes
    user_C, slot_C, weight_C, less_C, _ = cells
    i = at
    for s in range(a_US.shape[1]):
        if plays_US[u, s]:
            a_C[i], b_C[i] = a_US[u, s], b_US[u, s]
            user_C[i], slot_C[i], weight_C[i], less_C[i] = u, s, weight_U[u], less_US[u, s]
            i += 1
    return i - at


@jit
def _play(cells_n: int, key_U: Array, shapes: Any, cells: Any, scratches: Any, key_R: Array, wins_US: Array) -> None:
    """All rounds of a group of users."""
    a_C, b_C = shapes
    user_C, slot_C, weight_C, less_C, worth_C = cells
    blocks = (cells_n + LANES - 1) // LANES
    small_K = np.zeros(blocks, np.int64)
    for block in range(blocks):
        cells_W, _, cells_F = scratches[block][0]
        first, count = block * LANES, min(LANES, cells_n - block * LANES)
        for i in range(count):
            cells_W[KEY + i] = key_U[user_C[first + i]]
            cells_W[COUNTER + i] = np.uint64(slot_C[first + i]) * GOLDEN
        small_K[block] = prepare(cells_F, a_C, b_C, first, count)
    for key in key_R:
        for block in range(blocks):
            first, count = block * LANES, min(LANES, cells_n - block * LANES)
            cells_W, _, cells_F = scratches[block][0]
            start(cells_W, key, count)
            draw(scratches[block], count, small_K[block])
            for i in range(count):
                worth_C[first + i] = (
                    weight_C[first + i] * np.float64(cells_F[X + i] / (cells_F[X + i] + cells_F[Y + i]))
                    - less_C[first + i]
                )
        _award(cells_n, worth_C, user_C, slot_C, wins_US)


@jit
def _award(count: int, worth_C: Array, user_C: Array, slot_C: Array, wins_US: Array) -> None:
    """One win to the best cell of each user."""
    i = 0
    while i < count:
        best, u = i, user_C[i]
        i += 1
        while i < count and user_C[i] == u:
            if worth_C[i] > worth_C[best]:
                best = i
            i += 1
        wins_US[u, slot_C[best]] += 1
