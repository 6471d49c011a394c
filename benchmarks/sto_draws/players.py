"""Whoever draws: the same shapes, the same blocks of users, as many threads; each is asked for his law before his time.

Ours and torch take float32 as they come; numpy draws float64 and is given it, made before the clock starts.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sto_assign.players import timed
from sto_bench.contest import Missing
from sto_draws import gate
from sto_draws.cases import Case, Floats, shapes
from sto_kernels.beta import draw_betas
from sto_kernels.beta_torch import draw_betas_torch
from sto_kernels.beta_wins import win_shares
from sto_kernels.hashing import derive
from sto_pipeline.contest import Entrant, Turn

# users a call; a GPU is only busy with many
BLOCK, GPU_BLOCK = 16_384, 1 << 20
Array = NDArray[Any]
# the answer for some users, by thread number so and so
Player = Callable[[slice, int], Array]
NOTES = {
    "ours": "float32, compiled, by user, slot and round",
    "numpy": "float64, Generator.beta on SFC64, one generator a thread",
    "torch": "float32, our draws in plain torch operations, the same bits",
    "torch_cuda": "the same on a CUDA device that holds the shapes; answers are copied back within its time",
    "torch_distributions": "float32, torch.distributions.Beta; its threads share one generator",
}


@dataclass(frozen=True)
class Field:
    """What is drawn from: a key a user, a and b [U, S]."""

    case: Case
    key_U: NDArray[np.uint64]
    a_US: Floats
    b_US: Floats
    threads: int
    seed: int


def make_field(case: Case, threads: int, seed: int) -> Field:
    """The inputs of a case."""
    key_U = derive(np.arange(case.users, dtype=np.uint64), "bench", seed)
    return Field(case, key_U, *shapes(case, seed), threads, seed)


def entrants(field: Field, names: Sequence[str]) -> list[Entrant]:
    """Ours, then the peers."""
    return [_entrant(field, name) for name in ("ours", *names)]


def _entrant(field: Field, name: str) -> Entrant:
    player: list[Player] = []
    block = GPU_BLOCK if name == "torch_cuda" else BLOCK

    def turn() -> Turn:
        first = not player
        if first:
            _hold_to_the_law(name, field)
            player.append(_player(name, field))
            _play(replace(field, key_U=field.key_U[:1]), player[0], block)
        found, seconds, core_s, peak_mib = timed(lambda: _play(field, player[0], block), first=first)
        if field.case.kind == "draws":
            gate.hold_moments(found, field.a_US, field.b_US, block)
        else:
            gate.hold_shares(found)
        return Turn(seconds, core_s, field.a_US.size * field.case.draws, peak_mib)

    return Entrant(name, name == "ours", turn, field.case.rounds, NOTES[name])


def _play(field: Field, player: Player, block: int = BLOCK) -> list[Array]:
    """The answers of every block of users, each thread taking its turn of them."""
    users = len(field.key_U)
    rows = [slice(first, min(first + block, users)) for first in range(0, users, block)]
    found: list[Array] = [np.empty(0)] * len(rows)

    def run(thread: int) -> None:
        for part in range(thread, len(rows), field.threads):
            found[part] = player(rows[part], thread)

    with ThreadPoolExecutor(field.threads) as pool:
        list(pool.map(run, range(field.threads)))
    return found


def _hold_to_the_law(name: str, field: Field) -> None:
    """The same code on shapes whose law is known."""
    case = replace(field.case, users=gate.USERS, draws=min(field.case.draws, gate.ROUNDS))
    a_S, b_S = gate.SHAPES if case.kind == "draws" else gate.PAIR
    a_US, b_US = (np.tile(np.array(x, np.float32), (gate.USERS, 1)) for x in (a_S, b_S))
    key_U = derive(np.arange(gate.USERS, dtype=np.uint64), "law", field.seed)
    sample = Field(case, key_U, a_US, b_US, field.threads, field.seed)
    found = np.concatenate(_play(sample, _player(name, sample)))
    (gate.hold_law if case.kind == "draws" else gate.hold_pair)(found)


def _player(name: str, field: Field) -> Player:
    make: dict[str, Callable[[Field], Player]] = {
        "ours": _ours if field.case.kind == "draws" else _our_wins,
        "numpy": partial(_numpy, field.case.kind),
        "torch": _torch,
        "torch_cuda": _torch_cuda,
        "torch_distributions": _distributions,
    }
    return make[name](field)


def _ours(field: Field) -> Player:
    return lambda rows, _: draw_betas(field.key_U[rows], field.a_US[rows], field.b_US[rows])


def _our_wins(field: Field) -> Player:
    return lambda rows, _: win_shares(field.key_U[rows], field.a_US[rows], field.b_US[rows], field.case.draws)


def _numpy(kind: str, field: Field) -> Player:
    a_US, b_US = field.a_US.astype(np.float64), field.b_US.astype(np.float64)
    seeds = np.random.SeedSequence(field.seed).spawn(field.threads)
    generators = [np.random.Generator(np.random.SFC64(seed)) for seed in seeds]

    def draw(rows: slice, thread: int) -> Array:
        return generators[thread].beta(a_US[rows], b_US[rows])

    def wins(rows: slice, thread: int) -> Array:
        won_US = np.zeros(a_US[rows].shape)
        users = np.arange(len(won_US))
        for _ in range(field.case.draws):
            won_US[users, draw(rows, thread).argmax(axis=1)] += 1
        return won_US / field.case.draws

    return draw if kind == "draws" else wins


def _torch(field: Field) -> Player:
    key_U, a_US, b_US = _tensors(field)
    return lambda rows, _: draw_betas_torch(key_U[rows], a_US[rows], b_US[rows]).numpy()


def _torch_cuda(field: Field) -> Player:
    if not torch.cuda.is_available():
        raise Missing("torch finds no CUDA device")
    key_U, a_US, b_US = (tensor.cuda() for tensor in _tensors(field))
    return lambda rows, _: draw_betas_torch(key_U[rows], a_US[rows], b_US[rows]).cpu().numpy()


def _distributions(field: Field) -> Player:
    _, a_US, b_US = _tensors(field)
    torch.manual_seed(field.seed)

    def draw(rows: slice, _: int) -> Array:
        found: Array = torch.distributions.Beta(a_US[rows], b_US[rows], validate_args=False).sample().numpy()
        return found

    return draw


def _tensors(field: Field) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    # threads of ours take blocks of users: threads of torch within them would wait for each other at every operation
    torch.set_num_threads(1)
    key_U = torch.from_numpy(field.key_U.view(np.int64))
    return key_U, torch.from_numpy(field.a_US), torch.from_numpy(field.b_US)
