"""The contest of processes: everybody once a round, in changing order; the first answer wrong, and he is out.

Unlike the contest of `sto_bench`, a turn is a process of its own that does the whole of a case once, so there is no
size to be found. What it answers is checked in every round, after the clock has stopped.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from sto_bench.contest import GateFailed, Missing, Outcome, Watch
from sto_bench.machine import OthersMeter
from sto_bench.runner import REASON_CHARS, order


@dataclass(frozen=True)
class Turn:
    """What one process did: `seconds` and CPU seconds for `work` (events or recipients), and seconds of its stages.

    `totals` are sums over its answer: every contestant of a case must have the same, to within 1e-4.
    """

    seconds: float
    core_s: float
    work: int
    peak_mib: float
    stages: dict[str, float] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)


@dataclass
class Entrant:
    """One entry. `turn` raises Missing where it cannot run here, GateFailed where its answer is wrong."""

    name: str
    is_ours: bool
    turn: Callable[[], Turn]
    rounds: int
    note: str = ""
    turns: list[Turn] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    ended: Outcome | None = None

    def outcome(self) -> Outcome:
        if self.ended is not None or not self.turns:
            return self.ended or Outcome(self.name, self.is_ours, "skipped", "no round was asked for")
        return Outcome(
            *(self.name, self.is_ours, "ok", "", self.turns[0].work, 1, self.turns[0].seconds),
            rates=[turn.work / turn.seconds for turn in self.turns],
            peak_mib=max(turn.peak_mib for turn in self.turns),
            others_cores=median(self.others) if self.others else None,
            note=self.note,
        )

    def core_s(self) -> float | None:
        """Median CPU seconds of a turn: what it needs of one core, however busy the machine was."""
        return median(turn.core_s for turn in self.turns) if self.turns else None

    def stages(self) -> dict[str, float]:
        """Median seconds of each stage."""
        names = self.turns[0].stages if self.turns else {}
        return {name: round(median(turn.stages[name] for turn in self.turns), 4) for name in names}


def contest(entrants: Sequence[Entrant], watch: Watch) -> None:
    """Let the entrants run; an exception of one is its outcome and never stops the others."""
    truth: dict[str, float] = {}
    rounds = max((entrant.rounds for entrant in entrants), default=0)
    for number in range(rounds):
        running = [e for e in entrants if e.ended is None and number < e.rounds]
        # the first of ours says what the totals are; its own gate has held it to the twins
        for entrant in running if number == 0 else order(running, number):
            _turn(entrant, truth)
            watch.info("turn_ended", scorer=entrant.name, round=number + 1, of=rounds, seconds=_last(entrant))
        watch.advance("rounds")


def hold(case: str, entrants: Sequence[Entrant], watch: Watch) -> None:
    """The contest of a case with its progress, and a word on who did not come through."""
    watch.start("rounds", max(entrant.rounds for entrant in entrants))
    contest(entrants, watch)
    for ended in (entrant.ended for entrant in entrants if entrant.ended is not None):
        tell = watch.info if ended.status == "skipped" else watch.warn
        tell(ended.status, case=case, scorer=ended.name, reason=ended.reason)


def _turn(entrant: Entrant, truth: dict[str, float]) -> None:
    who, meter = (entrant.name, entrant.is_ours), OthersMeter()
    try:
        turn = entrant.turn()
        _check_totals(turn.totals, truth)
        truth.update(turn.totals)
        entrant.turns.append(turn)
        others = meter.cores()
        entrant.others += [] if others is None else [others]
    except Missing as error:
        entrant.ended = Outcome(*who, "skipped", str(error))
    except GateFailed as error:
        entrant.ended = Outcome(*who, "wrong", str(error))
    except Exception as error:
        entrant.ended = Outcome(*who, "failed", f"{type(error).__name__}: {error}"[:REASON_CHARS])


def _check_totals(found: dict[str, float], truth: dict[str, float]) -> None:
    for name, value in truth.items():
        if name not in found or not math.isclose(found[name], value, rel_tol=1e-4, abs_tol=1e-6):
            raise GateFailed(f"the sum of {name} must be {value:.8g}; found {found.get(name, math.nan):.8g}")


def _last(entrant: Entrant) -> float | None:
    return round(entrant.turns[-1].seconds, 2) if entrant.turns and entrant.ended is None else None
