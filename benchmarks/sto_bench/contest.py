"""What takes part in a contest: a scorer behind one small interface, the checks it must pass, and how it came out."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from sto_bench import machine

Clock = Callable[[], float]


class Missing(Exception):
    """A contestant cannot take part here: no such library, CPU feature or device; the text is the reason."""


class GateFailed(Exception):
    """A contestant's answers are wrong; no time of it is reported."""


@dataclass(frozen=True)
class Choice:
    """What every contestant must produce: the best slot of each user, integers [U], and its margin, floats [U]."""

    slot_U: NDArray[Any]
    margin_U: NDArray[Any]


class Scorer(ABC):
    """A prepared contestant: model loaded, threads set."""

    note = ""
    # False for a scorer in a process of its own, whose CPU time would look like that of others
    in_process = True

    @abstractmethod
    def load(self, users: int) -> None:
        """Lay out the inputs of the first `users` users as this library likes them best; never timed."""

    @abstractmethod
    def score(self) -> Choice:
        """Score the loaded users; this is what is timed."""

    def time_calls(self, calls: int, clock: Clock) -> tuple[float, Choice]:
        """Seconds that `calls` calls of `score` take, and the last one's answer; other processes time themselves."""
        began = clock()
        for _ in range(calls):
            choice = self.score()
        return clock() - began, choice

    def peak_mib(self) -> float | None:
        """Peak memory since `machine.reset_peak`, MiB; of this process unless the scorer has one of its own."""
        return machine.peak_mib()

    def close(self) -> None:  # noqa: B027 - most have nothing to free
        """Free what the scorer holds."""


def _accept(*_: object) -> None:
    """The check of what needs none."""


@dataclass(frozen=True)
class Contestant:
    """One entry of a contest.

    `prepare` raises Missing where it cannot run. `gate` runs before any timing and `check` on the answers of the last
    timed call (of the first n users); both raise GateFailed. `first_users` is the size of the first call,
    `least_users` that of the smallest call that this contestant is not held back by.
    """

    name: str
    is_ours: bool
    prepare: Callable[[], Scorer]
    gate: Callable[[], None] = _accept
    check: Callable[[Choice, int], None] = _accept
    first_users: int = 64
    least_users: int = 64


@dataclass(frozen=True)
class Outcome:
    """How a contestant came out: `rates` are users/s, one a round; empty unless the status is "ok"."""

    name: str
    is_ours: bool
    status: Literal["ok", "skipped", "failed", "wrong"]
    reason: str = ""
    users: int = 0
    calls: int = 0
    first_call_s: float = 0.0
    rates: list[float] = field(default_factory=list)
    peak_mib: float | None = None
    others_cores: float | None = None
    note: str = ""


class Watch(Protocol):
    """Whoever is told how far the benchmark is; the engine's Progress fits."""

    def start(self, phase: str, total: int) -> None: ...

    def advance(self, phase: str, steps: int = 1) -> None: ...

    def info(self, event: str, **fields: object) -> None: ...

    def warn(self, event: str, **fields: object) -> None: ...
