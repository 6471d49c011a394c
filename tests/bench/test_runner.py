import gc
from itertools import pairwise

import pytest

from bench.fakes import FakeClock, FakeScorer, fake, rules
from sto_bench.contest import Choice, Contestant, Missing, Scorer
from sto_bench.runner import contest, ratio, spread
from sto_engine.progress import Silent

QUIET = Silent()


def test_rates_and_ratios_are_those_of_the_contestants() -> None:
    clock = FakeClock()
    fast, slow = FakeScorer("fast", 120_000, clock), FakeScorer("slow", 1_000, clock)
    a, b = contest([fake(fast, is_ours=True), fake(slow)], 50_000, rules(clock), QUIET)
    assert (a.status, b.status) == ("ok", "ok")
    assert a.rates == pytest.approx([120_000] * 5)
    assert ratio(a, b) == pytest.approx((120, 120, 120))


def test_a_timing_takes_about_its_target_and_never_more_users_than_there_are() -> None:
    clock = FakeClock()
    fast, slow = FakeScorer("fast", 400_000, clock), FakeScorer("slow", 1_000, clock)
    a, b = contest([fake(fast), fake(slow)], 50_000, rules(clock), QUIET)
    assert (a.users, a.calls) == (50_000, 4)
    assert b.calls == 1
    assert 0.25 <= b.users / 1_000 <= 1.0


def test_every_round_has_every_contestant_once_and_its_own_order() -> None:
    clock = FakeClock()
    scorers = [FakeScorer(name, 1_000, clock) for name in "abc"]
    contest([fake(s) for s in scorers], 400, rules(clock, rounds=6), QUIET)
    turns = [part[0] for part in "".join(clock.log).split("|")[1:]]
    rounds = ["".join(turns[at : at + 3]) for at in range(0, 18, 3)]
    assert {"".join(sorted(one)) for one in rounds} == {"abc"}
    assert rounds == ["abc", "acb", "cab", "cba", "bca", "bac"]
    assert all(one != other for one, other in pairwise(rounds))


def test_ratios_are_taken_within_rounds_so_a_busy_moment_cancels() -> None:
    clock = FakeClock()
    a, b = FakeScorer("a", 8_000, clock), FakeScorer("b", 1_000, clock)
    busy = rules(clock)
    naps = iter([1.0, 1.0, 5.0, 5.0, 1.0, 1.0, 3.0, 3.0, 1.0, 1.0])

    def sleep(seconds: float) -> None:
        clock.slowness = next(naps)

    object.__setattr__(busy, "sleep", sleep)
    ours, other = contest([fake(a, is_ours=True), fake(b)], 50_000, busy, QUIET)
    assert max(ours.rates) / min(ours.rates) == pytest.approx(5)
    assert ratio(ours, other) == pytest.approx((8, 8, 8))


def test_a_failing_contestant_is_a_failure_with_its_reason_and_the_others_go_on() -> None:
    clock = FakeClock()
    good, bad = FakeScorer("good", 1_000, clock), FakeScorer("bad", 1_000, clock, dies_at_call=8)
    ended, other = contest([fake(bad), fake(good)], 400, rules(clock), QUIET)
    assert (ended.status, ended.reason, ended.rates) == ("failed", "MemoryError: no room", [])
    assert len(other.rates) == 5
    assert good.is_closed
    assert bad.is_closed


def test_a_contestant_that_cannot_run_here_is_skipped_with_its_reason() -> None:
    def prepare() -> Scorer:
        raise Missing("no such library")

    (ended,) = contest([Contestant("gone", False, prepare)], 10, rules(FakeClock()), QUIET)
    assert (ended.status, ended.reason) == ("skipped", "no such library")


@pytest.mark.parametrize("where", ["gate_error", "check_error"])
def test_a_wrong_contestant_has_no_time(where: str) -> None:
    clock = FakeClock()
    scorer = FakeScorer("wrong", 1_000, clock)
    (ended,) = contest([fake(scorer, True, **{where: "off by 3"})], 400, rules(clock), QUIET)  # type: ignore[arg-type]
    assert (ended.status, ended.reason, ended.rates) == ("wrong", "off by 3", [])
    assert ("|" in clock.log) == (where == "check_error")
    assert scorer.is_closed


def test_the_first_call_is_timed_by_itself() -> None:
    class Cold(FakeScorer):
        def score(self) -> Choice:
            if not self.calls:
                self.clock.now += 7.0
            return super().score()

    clock = FakeClock()
    (ended,) = contest([fake(Cold("cold", 64_000, clock))], 50_000, rules(clock), QUIET)
    assert ended.first_call_s == pytest.approx(7.001)
    assert ended.rates == pytest.approx([64_000] * 5)


def test_the_collector_rests_while_the_clock_runs_and_is_on_afterwards() -> None:
    states = []

    class Watching(FakeScorer):
        def time_calls(self, calls: int, clock: object) -> tuple[float, Choice]:
            states.append(gc.isenabled())
            return super().time_calls(calls, self.clock)

    clock = FakeClock()
    contest([fake(Watching("w", 1_000, clock))], 400, rules(clock, rounds=2), QUIET)
    assert states[-2:] == [False, False]
    assert gc.isenabled()


def test_a_scorer_in_another_process_gives_its_own_time() -> None:
    class Remote(FakeScorer):
        in_process = False

        def time_calls(self, calls: int, clock: object) -> tuple[float, Choice]:
            return calls * self.users / 2_000, super().score()

    clock = FakeClock()
    (ended,) = contest([fake(Remote("far", 1, clock))], 400, rules(clock), QUIET)
    assert ended.rates == pytest.approx([2_000] * 5)
    assert ended.others_cores is None


def test_spread_is_median_and_quantiles() -> None:
    assert spread([5.0, 1.0, 2.0, 3.0, 4.0, 0.0]) == pytest.approx((2.5, 1.0, 4.0))
