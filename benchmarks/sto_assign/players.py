"""Whoever takes part: his answer is timed, then judged; the figures of a line come from the judge."""

import ctypes
import ctypes.util
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sto_assign import exact, ours, peers
from sto_assign.problems import Problem, judge
from sto_bench import machine
from sto_bench.contest import GateFailed
from sto_pipeline.contest import Entrant, Turn

T = TypeVar("T")
# what the rounding of worths to two bytes, or of costs to integers, may do to a sum of them
SAME = 1e-5
NOTES = {
    "ours": "prices on a sample, corrected on all, then exact repair; offers of two bytes a slot made within its time",
    "argmax": "ignores the limits",
    "greedy": "first come, first served",
    "regret": "who loses most by his second slot goes first",
    "flow": "OR-Tools, exact",
    "lp": "HiGHS; its value is that of divided users, which no answer exceeds",
}


@dataclass(frozen=True)
class Answer:
    """Slots (255: none), seconds of stages, and what the contestant claims: a bound with its prices, users moved."""

    slot_U: NDArray[np.uint8]
    stages: dict[str, float] = field(default_factory=dict)
    bound: float | None = None
    price_R: NDArray[np.float64] | None = None
    moved: int | None = None


@dataclass
class Truth:
    """The optimum of a case, or an upper bound of it that an exact solver proved; the slots that ours chose before."""

    optimum: float | None = None
    slot_U: NDArray[np.uint8] | None = None


@dataclass
class Player:
    """An entrant and the figures of his last turn, those of every turn being the same."""

    entrant: Entrant
    figures: dict[str, float] = field(default_factory=dict)


def players(problem: Problem, names: Sequence[str], rounds: int, threads: int, truth: Truth) -> list[Player]:
    """Those who find the optimum first, so that it is known when others are judged; then ours, then plain ways."""
    solve: dict[str, Callable[[], Answer]] = {
        "flow": lambda: _flow(problem, truth),
        "lp": lambda: _lp(problem, truth),
        "ours": lambda: Answer(*ours.solve_problem(problem, threads)),
        **{name: partial(_plain, name, problem) for name in ("argmax", "greedy", "regret")},
    }
    order = sorted({*names, "ours"}, key=list(solve).index)
    return [_player(name, problem, solve[name], 1 if name in ("flow", "lp") else rounds, truth) for name in order]


def _plain(name: str, problem: Problem) -> Answer:
    return Answer(getattr(peers, name)(problem))


def _flow(problem: Problem, truth: Truth) -> Answer:
    slot_U = exact.flow(problem)
    truth.optimum = problem.value(slot_U)
    return Answer(slot_U)


def _lp(problem: Problem, truth: Truth) -> Answer:
    slot_U, value = exact.lp(problem)
    truth.optimum = value if truth.optimum is None else truth.optimum
    return Answer(slot_U)


def _player(name: str, problem: Problem, solve: Callable[[], Answer], rounds: int, truth: Truth) -> Player:
    def turn() -> Turn:
        answer, seconds, core_s, peak_mib = timed(solve, first=not player.entrant.turns)
        player.figures = _judged(name, problem, answer, truth)
        return Turn(seconds, core_s, problem.users, peak_mib, answer.stages)

    player = Player(Entrant(name, name == "ours", turn, rounds, NOTES[name]))
    return player


def timed(work: Callable[[], T], first: bool) -> tuple[T, float, float, float]:
    """The answer, wall and CPU seconds, and the MiB that this process took beyond what it held before.

    Before the first turn freed memory is given back, so that what is taken counts; later turns are timed as in a night,
    which keeps it.
    """
    gc.collect()
    if first:
        _give_back()
    machine.reset_peak()
    held_mib, cpu, began = machine.peak_mib(), time.process_time(), time.perf_counter()
    answer = work()
    seconds, core_s = time.perf_counter() - began, time.process_time() - cpu
    return answer, seconds, core_s, machine.peak_mib() - held_mib


def _give_back() -> None:
    """Return freed memory to the system, where the C library can."""
    name = ctypes.util.find_library("c")
    library = ctypes.CDLL(name) if name else None
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)  # type: ignore[union-attr]


def _judged(name: str, problem: Problem, answer: Answer, truth: Truth) -> dict[str, float]:
    figures = judge(problem, answer.slot_U, must_hold=name in ("ours", "flow"))
    if answer.price_R is not None and answer.bound is not None:
        figures["bound"] = _certified(problem, answer, figures["value"], truth)
    if answer.moved is not None:
        figures["moved_share"] = answer.moved / problem.users
    return figures


def _certified(problem: Problem, answer: Answer, value: float, truth: Truth) -> float:
    """The bound that the prices prove, recomputed; GateFailed where the claim is another or lies below what there is.

    Answers of later rounds must be that of the first.
    """
    assert answer.price_R is not None
    assert answer.bound is not None
    bound = problem.bound(answer.price_R)
    if abs(bound - answer.bound) > SAME * abs(bound):
        raise GateFailed(f"the bound that the prices prove is {bound:.8g}; found {answer.bound:.8g}")
    least = max(value, truth.optimum or value)
    if bound < least * (1 - SAME):
        raise GateFailed(f"a bound must not lie below what can be reached, {least:.8g}; found {bound:.8g}")
    if truth.slot_U is not None and not np.array_equal(truth.slot_U, answer.slot_U):
        raise GateFailed("every round must have the answer of the first")
    truth.slot_U = answer.slot_U
    return bound


def gaps(figures: dict[str, float], optimum: float | None, bound: float | None) -> dict[str, float]:
    """Shares of the optimum and of the proved bound that an answer leaves; negative where limits are broken."""
    found = {}
    for name, best in (("gap_exact", optimum), ("gap_certified", bound)):
        if best:
            found[name] = (best - figures["value"]) / best
    return found
