"""The contest: every contestant once a round, in changing order, so that a busy moment of the machine hits all alike.

    first call, timed by itself; gate                     a wrong contestant goes no further
    size: users a call and calls a timing, so that one timing takes about `target_s`
    for each round:  for each contestant, order rotated and every other round reversed:
        wait until the threads of the one before sleep; collect garbage; time its calls without the collector
    check the answers of the last timed call

Rates are users/s, so contestants of different speed score different numbers of users; ratios are taken within rounds.
"""

import gc
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np

from sto_bench import machine
from sto_bench.contest import Choice, Clock, Contestant, GateFailed, Missing, Outcome, Scorer, Watch

T = TypeVar("T")
# messages of libraries run to pages; a results file keeps a line of them
REASON_CHARS = 300


@dataclass(frozen=True)
class Rules:
    """`rounds` timings of about `target_s` seconds each, `settle_s` of rest before each; the rest is for tests."""

    rounds: int = 7
    target_s: float = 0.5
    settle_s: float = 0.05
    clock: Clock = time.perf_counter
    sleep: Callable[[float], None] = time.sleep
    collect: Callable[[], object] = gc.collect


@dataclass
class _Entry:
    """A contestant on its way."""

    contestant: Contestant
    scorer: Scorer
    first_call_s: float
    users: int
    calls: int = 1
    rates: list[float] = field(default_factory=list)
    peak_mib: float | None = None
    others: list[float] = field(default_factory=list)
    last: Choice | None = None

    def outcome(self) -> Outcome:
        who = self.contestant
        return Outcome(
            *(who.name, who.is_ours, "ok", "", self.users, self.calls),
            *(self.first_call_s, self.rates, self.peak_mib),
            others_cores=float(np.median(self.others)) if self.others else None,
            note=self.scorer.note,
        )


def contest(contestants: Sequence[Contestant], users: int, rules: Rules, watch: Watch) -> list[Outcome]:
    """Let the contestants run on at most `users` users a call; one outcome each, in the order given.

    An exception of a contestant is its outcome and never stops the others.
    """
    ended: dict[str, Outcome] = {}
    entered = [_attempt(c, partial(_enter, c, users, rules), ended) for c in contestants]
    entries = [entry for entry in entered if entry is not None]
    running = list(entries)
    with ExitStack() as stack:
        for entry in entries:
            stack.callback(entry.scorer.close)
        for number in range(rules.rounds):
            for entry in order(running, number):
                if _attempt(entry.contestant, partial(_turn, entry, rules), ended) is None:
                    running.remove(entry)
            watch.info("round_ended", round=number + 1, of=rules.rounds)
        for entry in running:
            _attempt(entry.contestant, partial(_finish, entry), ended)
    ran = {entry.contestant.name: entry.outcome() for entry in entries}
    return [ended.get(c.name) or ran[c.name] for c in contestants]


def _attempt(contestant: Contestant, step: Callable[[], _Entry], ended: dict[str, Outcome]) -> _Entry | None:
    """The entry after the step; None when the step raised, which ends the contestant with the reason."""
    who = (contestant.name, contestant.is_ours)
    try:
        return step()
    except Missing as error:
        ended[contestant.name] = Outcome(*who, "skipped", str(error))
    except GateFailed as error:
        ended[contestant.name] = Outcome(*who, "wrong", str(error))
    except Exception as error:
        ended[contestant.name] = Outcome(*who, "failed", f"{type(error).__name__}: {error}"[:REASON_CHARS])
    return None


def _enter(contestant: Contestant, users: int, rules: Rules) -> _Entry:
    """Prepare, make the first call and pass the gate, find the size of a timing."""
    scorer = contestant.prepare()
    try:
        first = min(users, contestant.first_users)
        scorer.load(first)
        first_call_s, _ = scorer.time_calls(1, rules.clock)
        contestant.gate()
        least = min(users, contestant.least_users)
        scorer.load(least)
        size, calls = _size(scorer, least, users, rules)
    except BaseException:
        scorer.close()
        raise
    return _Entry(contestant, scorer, first_call_s, size, calls)


def _size(scorer: Scorer, users: int, limit: int, rules: Rules) -> tuple[int, int]:
    """Users a call and calls a timing for about `target_s`; the scorer is left with that many users loaded."""
    while True:
        # the better of two: one hiccup must not end the search at a size that is too small
        elapsed_s = max(min(scorer.time_calls(1, rules.clock)[0] for _ in range(2)), 1e-9)
        if users == limit or elapsed_s >= rules.target_s / 2:
            return users, max(1, round(rules.target_s / elapsed_s))
        # at most 16 times as many at once: the rate of a small call says little about that of a large one
        users = min(limit, math.ceil(users * min(16.0, rules.target_s / elapsed_s)))
        scorer.load(users)


def order(entries: list[T], number: int) -> list[T]:
    """Another one first in every round, and another one before it: rotated, every other round reversed."""
    at = number % max(1, len(entries))
    rotated = entries[at:] + entries[:at]
    return rotated[::-1] if number % 2 else rotated


def _turn(entry: _Entry, rules: Rules) -> _Entry:
    """One timing of one contestant."""
    rules.sleep(rules.settle_s)
    rules.collect()
    gc.disable()
    machine.reset_peak()
    meter = machine.OthersMeter()
    try:
        elapsed_s, entry.last = entry.scorer.time_calls(entry.calls, rules.clock)
    finally:
        gc.enable()
    others = meter.cores() if entry.scorer.in_process else None
    entry.others += [] if others is None else [others]
    entry.peak_mib = max(entry.peak_mib or 0.0, entry.scorer.peak_mib() or 0.0) or None
    entry.rates.append(entry.users * entry.calls / elapsed_s)
    return entry


def _finish(entry: _Entry) -> _Entry:
    """What was timed must have been right as well."""
    assert entry.last is not None
    entry.contestant.check(entry.last, entry.users)
    return entry


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, 20th and 80th percentile."""
    median, low, high = (float(q) for q in np.quantile(np.asarray(values, np.float64), (0.5, 0.2, 0.8)))
    return median, low, high


def ratio(ours: Outcome, other: Outcome) -> tuple[float, float, float]:
    """How many times as fast ours is, within rounds: median, 20th and 80th percentile of the rounds' ratios."""
    return spread([a / b for a, b in zip(ours.rates, other.rates, strict=True)])
