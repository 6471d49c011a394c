import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bench.fakes import FakeClock, rules
from sto_bench.contest import Choice, GateFailed
from sto_bench.ours import our_contestant
from sto_bench.runner import contest
from sto_bench.verify import Oracle, check_choice, check_finite, check_margins, check_runner_up
from sto_bench.worlds import World
from sto_engine.progress import Silent
from sto_kernels import margins

Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def right(oracle: Oracle) -> Choice:
    """XGBoost's own choice, for a case whose users are all sampled."""
    return Choice(oracle.margin_NS.argmax(axis=1).astype(np.uint8), oracle.margin_NS.max(axis=1).astype(np.float32))


def test_the_sample_holds_the_first_and_last_users(tiny: World, oracle: Oracle) -> None:
    assert {0, 64, tiny.case.users - 1} <= set(oracle.user_N.tolist())
    assert oracle.before(100).user_N.tolist() == list(range(100))


def test_xgboosts_own_answers_pass(oracle: Oracle) -> None:
    check_margins(oracle, oracle.margin_NS)
    check_choice(oracle, right(oracle), len(oracle.user_N))


def test_a_margin_that_is_off_anywhere_is_refused_with_its_place(oracle: Oracle) -> None:
    off = oracle.margin_NS.copy()
    off[41, 7] += 3e-5 * oracle.scale
    with pytest.raises(GateFailed, match="at user 41, slot 7, and at 1 of"):
        check_margins(oracle, off)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_margin_that_is_no_number_is_refused(oracle: Oracle, value: float) -> None:
    off = oracle.margin_NS.copy()
    off[0, 0] = value
    with pytest.raises(GateFailed):
        check_margins(oracle, off)
    choice = right(oracle)
    choice.margin_U[3] = value
    with pytest.raises(GateFailed, match="finite"):
        check_finite(choice, len(choice.slot_U), 24)


def test_a_worse_slot_is_refused_and_one_as_good_is_not(oracle: Oracle) -> None:
    worst = dataclasses.replace(right(oracle), slot_U=oracle.margin_NS.argmin(axis=1).astype(np.uint8))
    with pytest.raises(GateFailed, match="chosen slot"):
        check_choice(oracle, worst, len(oracle.user_N))
    tied = Oracle(oracle.user_N, np.zeros_like(oracle.margin_NS), 1.0)
    check_choice(tied, Choice(np.arange(700) % 24, np.zeros(700, np.float32)), 700)


def test_slots_out_of_range_and_missing_users_are_refused(oracle: Oracle) -> None:
    choice = right(oracle)
    with pytest.raises(GateFailed, match="each of 701 users"):
        check_choice(oracle, choice, 701)
    with pytest.raises(GateFailed, match=r"0\.\.23"):
        check_finite(dataclasses.replace(choice, slot_U=np.full(700, 255, np.uint8)), 700, 24)


def test_a_wrong_runner_up_is_refused(oracle: Oracle) -> None:
    choice = right(oracle)
    second = np.argsort(-oracle.margin_NS, axis=1, kind="stable")
    check_runner_up(oracle, choice, second[:, 1])
    with pytest.raises(GateFailed, match="another slot"):
        check_runner_up(oracle, choice, choice.slot_U)
    with pytest.raises(GateFailed, match="runner-up"):
        check_runner_up(oracle, choice, second[:, -1])


def wrong_slot(found: Tensors) -> Tensors:
    return (found[0] + 1) % 24, found[1], found[2]


def wrong_margin(found: Tensors) -> Tensors:
    return found[0], found[1] + 1e-3, found[2]


class WrongAfterTheGate:
    """Right in the first call and the gate, wrong for one user in the calls that are timed."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, found: Tensors) -> Tensors:
        self.calls += 1
        return found[0], found[1] + (self.calls > 2) * (torch.arange(len(found[1])) == 63), found[2]


@pytest.mark.parametrize("spoil", [wrong_slot, wrong_margin, WrongAfterTheGate()])
def test_a_planted_wrong_kernel_gets_no_time(
    tiny: World, oracle: Oracle, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Tensors], Tensors]
) -> None:
    real: Any = margins.best_slots

    def planted(forest: Any, user: Any, cross: Any, base: Any, **options: Any) -> Tensors:
        return spoil(real(forest, user, cross, base, **options))

    monkeypatch.setattr(margins, "best_slots", planted)
    fixed = dataclasses.replace(rules(FakeClock(), rounds=2), clock=iter(np.arange(0, 1e6, 0.3)).__next__)
    (ended,) = contest([our_contestant(tiny, oracle, "gather", 1)], tiny.case.users, fixed, Silent())
    assert (ended.status, ended.rates) == ("wrong", [])


def test_the_real_kernel_passes_and_is_timed(tiny: World, oracle: Oracle) -> None:
    fixed = dataclasses.replace(rules(FakeClock(), rounds=2), clock=iter(np.arange(0, 1e6, 0.3)).__next__)
    for impl in ("gather", "naive"):
        (ended,) = contest([our_contestant(tiny, oracle, impl, 1)], 100, fixed, Silent())
        assert (ended.status, ended.reason, len(ended.rates)) == ("ok", "", 2)
