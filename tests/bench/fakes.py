"""Contestants whose speed is known, on a clock that only they move."""

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from sto_bench.contest import Choice, Contestant, GateFailed, Scorer
from sto_bench.runner import Rules


@dataclass
class FakeClock:
    now: float = 0.0
    log: list[str] = field(default_factory=list)
    # seconds stretch by this factor: a busy machine
    slowness: float = 1.0

    def __call__(self) -> float:
        return self.now


class FakeScorer(Scorer):
    def __init__(self, name: str, users_per_s: float, clock: FakeClock, dies_at_call: int = 0) -> None:
        self.name, self.rate, self.clock, self.users = name, users_per_s, clock, 0
        self.calls, self.dies_at_call, self.is_closed = 0, dies_at_call, False

    def load(self, users: int) -> None:
        self.users = users

    def score(self) -> Choice:
        self.calls += 1
        if self.calls == self.dies_at_call:
            raise MemoryError("no room")
        self.clock.now += self.clock.slowness * self.users / self.rate
        self.clock.log.append(self.name)
        return Choice(np.zeros(self.users, np.uint8), np.zeros(self.users, np.float32))

    def close(self) -> None:
        self.is_closed = True


def fake(scorer: FakeScorer, is_ours: bool = False, gate_error: str = "", check_error: str = "") -> Contestant:
    """A contestant around a fake scorer, with a gate or a check that is red when it has a text."""

    def judge(text: str, *_: object) -> None:
        if text:
            raise GateFailed(text)

    return Contestant(
        scorer.name, is_ours, lambda: scorer, gate=partial(judge, gate_error), check=partial(judge, check_error)
    )


def rules(clock: FakeClock, rounds: int = 5) -> Rules:
    return Rules(
        rounds, target_s=0.5, settle_s=0.0, clock=clock, sleep=lambda seconds: clock.log.append("|"), collect=int
    )
