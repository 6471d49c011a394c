"""How even sends are within a quarter-hour: the golden ratio by provider, beside random times and one shared rank."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sto_assign.cases import Case
from sto_assign.players import Player, timed
from sto_bench.contest import GateFailed
from sto_engine.assign.spread import Ranking, plan_spread, send_times
from sto_kernels.hashing import derive
from sto_pipeline.contest import Entrant, Turn

MINUTES, BUCKETS = 15, 64
WINDOW_MS = MINUTES * 60_000
CELLS_S = (1, 10, 60)
# twenty providers; the first has 45 %
SHARES = np.array([0.45, 0.18, 0.09, *np.linspace(0.03, 0.006, 17)])
MOST = 1.05
# below this many sends a second a second cannot be even
DENSE = 100
NAMES = [f"provider-{p:02d}" for p in range(len(SHARES))]
NOTES = {
    "ours": "golden ratio of the rank in (start, provider) over 64 buckets, counts included",
    "jitter": "a hash of the user, as random times are",
    "stratified": "rank among all sends, providers or not: needs all in one place",
}
Times = NDArray[np.int64]


def players(case: Case, names: Sequence[str], seed: int) -> list[Player]:
    """Ours first; all lay the same sends of one start over a quarter-hour."""
    rng = np.random.default_rng([seed, case.users, 4])
    provider_U = rng.choice(len(SHARES), case.users, p=SHARES / SHARES.sum()).astype(np.uint32)
    h_U = np.sort(rng.integers(0, 2**64, case.users, dtype=np.uint64))
    lay: dict[str, Callable[[], Times]] = {
        "ours": partial(_golden, provider_U, seed),
        "jitter": lambda: ((derive(h_U, "jitter") >> np.uint64(32)) * np.uint64(WINDOW_MS) >> np.uint64(32)).astype(
            int
        ),
        "stratified": lambda: np.arange(case.users) * WINDOW_MS // case.users,
    }
    return [_player(name, lay[name], provider_U, case) for name in ("ours", *names)]


def _golden(provider_U: NDArray[np.uint32], seed: int) -> Times:
    """As the nightly run does it: counts of every bucket, ranks over all of them, then times bucket by bucket."""
    cuts = np.linspace(0, len(provider_U), BUCKETS + 1).astype(int)
    parts = [provider_U[first:end] for first, end in pairwise(cuts)]
    counts = [Counter({(0, NAMES[p]): int(n) for p, n in enumerate(np.bincount(part)) if n}) for part in parts]
    plan = plan_spread(sum(counts, Counter()), MINUTES)
    ranking = Ranking(plan, counts.__getitem__)
    starts = [np.zeros(len(part), np.int64) for part in parts]
    return np.concatenate(
        [send_times(plan, ranking.of(b), starts[b], part, NAMES, f"bench {seed}") for b, part in enumerate(parts)]
    )


def _player(name: str, lay: Callable[[], Times], provider_U: NDArray[np.uint32], case: Case) -> Player:
    def turn() -> Turn:
        times_U, seconds, core_s, peak_mib = timed(lay, first=not player.entrant.turns)
        player.figures = evenness(times_U, provider_U)
        if name == "ours":
            check(player.figures, times_U, provider_U)
        return Turn(seconds, core_s, case.users, peak_mib)

    player = Player(Entrant(name, name == "ours", turn, case.rounds, NOTES[name]))
    return player


def evenness(times_U: Times, provider_U: NDArray[np.uint32]) -> dict[str, float]:
    """The fullest cell over the mean, of 1, 10 and 60 seconds, of all sends and of the largest provider."""
    found = {}
    for what, part_U in (("all", times_U), ("largest", times_U[provider_U == 0])):
        for cell_s in CELLS_S:
            n = np.bincount(part_U // (cell_s * 1000), minlength=MINUTES * 60 // cell_s)
            found[f"{what}_{cell_s}s"] = float(n.max() / n.mean())
    return found


def check(figures: dict[str, float], times_U: Times, provider_U: NDArray[np.uint32]) -> None:
    """GateFailed for a time outside the window, and for a dense window's second more than 5 % above the mean."""
    if times_U.min() < 0 or times_U.max() >= WINDOW_MS:
        raise GateFailed(f"times must lie in 0..{WINDOW_MS - 1} ms; found {times_U.min()} and {times_U.max()}")
    per_second = len(times_U) / (WINDOW_MS / 1000)
    for name, ratio in figures.items():
        cell_s = int(name.split("_")[1].removesuffix("s"))
        sends = per_second * cell_s * (SHARES[0] / SHARES.sum() if name.startswith("largest") else 1.0)
        if sends >= DENSE and ratio > MOST:
            raise GateFailed(f"{name} must be at most {MOST}; found {ratio:.3f}")
