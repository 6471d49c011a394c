import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from sto_engine.assign.demand import Demand, reduce_demand
from sto_engine.assign.preflight import check_feasibility, check_provider_names
from sto_engine.assign.resources import Resource, describe
from sto_engine.assign.shortage import Feasibility, Shortage, explain
from sto_engine.config import load_config
from sto_engine.errors import ConfigError

EIGHT = 1_776_672_000_000  # 2026-04-20 08:00Z
DAY = EIGHT - 8 * 3_600_000
Option = dict[int, int]  # resource -> units
Group = tuple[int, Sequence[Option]]


def bins(n: int, provider: str | None = "gmail") -> list[Resource]:
    return [Resource("bin", provider, EIGHT + place * 900_000) for place in range(n)]


def demand(
    groups: Sequence[Group], capacity: Sequence[int], resources: Sequence[Resource] = (), unit: int = 1
) -> Demand:
    """Groups of (recipients, options); a group that has fewer options than another is not allowed the rest."""
    slots = max([1, *(len(options) for _, options in groups)])
    padded = [[*options, *[{}] * (slots - len(options))] for _, options in groups]
    uses = [sorted(option.items()) for options in padded for option in options]
    flat = np.array([use for option in uses for use in option], np.int32).reshape(-1, 2)
    return Demand(
        count_G=np.array([n for n, _ in groups], np.int64),
        allowed_GS=np.array([np.arange(slots) < len(options) for _, options in groups], np.bool_).reshape(-1, slots),
        first_O=np.cumsum([0, *(len(option) for option in uses)]),
        resource_K=flat[:, 0],
        weight_K=flat[:, 1],
        capacity_R=np.array(capacity, np.int64),
        pinned_R=np.zeros(len(capacity), np.int64),
        unit_R=np.full(len(capacity), unit, np.int64),
        resources_R=resources or bins(len(capacity)),
    )


def unmatched(groups: Sequence[Group], capacity: Sequence[int]) -> int:
    """Recipients beyond a largest matching to places of resources, one augmenting path at a time."""
    placed: list[list[int]] = [[] for _ in capacity]  # the people in each resource
    people = [{r for option in options for r in option} for n, options in groups for _ in range(n)]

    def seat(person: int, seen: set[int]) -> bool:
        for r in sorted(people[person] - seen):
            seen.add(r)
            if len(placed[r]) < capacity[r]:
                placed[r].append(person)
                return True
            for place, other in enumerate(placed[r]):
                if seat(other, seen):
                    placed[r][place] = person
                    return True
        return False

    return sum(not seat(person, set()) for person in range(len(people)))


def least_short(groups: Sequence[Group], capacity: Sequence[int]) -> float:
    """The same program written out: all groups, all resources, the recipients left over as variables of their own."""
    columns = [(g, option) for g, (_, options) in enumerate(groups) for option in options]
    left = len(groups)
    cost = np.concatenate([np.zeros(len(columns)), np.ones(left)])
    a_eq = np.array(
        [[float(g == row) for g, _ in columns] + [float(g == row) for g in range(left)] for row in range(left)]
    )
    a_ub = np.array([[float(option.get(r, 0)) for _, option in columns] + [0.0] * left for r in range(len(capacity))])
    solved = linprog(cost, A_ub=a_ub, b_ub=list(capacity), A_eq=a_eq, b_eq=[n for n, _ in groups], method="highs-ds")
    return float(solved.fun)


def shortfall(found: Feasibility) -> int:
    return sum(shortage.need - shortage.have for shortage in found.blocking)


R = 4
single = st.lists(st.integers(0, R - 1).map(lambda r: {r: 1}), min_size=1, max_size=3)
several = st.lists(st.dictionaries(st.integers(0, R - 1), st.integers(1, 4), max_size=3), min_size=1, max_size=3)
room = st.lists(st.integers(0, 12), min_size=R, max_size=R)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), single), min_size=1, max_size=5), room)
def test_one_resource_a_send_is_a_matching(groups: list[Group], capacity: list[int]) -> None:
    found = check_feasibility(demand(groups, capacity))
    assert found.short == unmatched(groups, capacity)
    assert shortfall(found) == found.short
    assert found.is_feasible == (found.short == 0)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), several), min_size=1, max_size=6), room)
def test_what_is_left_out_and_merged_changes_no_shortage(groups: list[Group], capacity: list[int]) -> None:
    found = check_feasibility(demand(groups, capacity))
    exact = least_short(groups, capacity)
    assert found.short == int(np.ceil(exact - 1e-5))
    assert abs(shortfall(found) - exact) <= 2 * len(found.blocking) + 1e-5


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 50), several), min_size=1, max_size=6), room, st.randoms())
def test_the_order_of_groups_slots_and_splits_does_not_matter(
    groups: list[Group], capacity: list[int], random: Random
) -> None:
    split = [part for n, options in groups for part in ((n // 2, options), (n - n // 2, options[::-1]))]
    random.shuffle(split)
    assert check_feasibility(demand(split, capacity)).short == check_feasibility(demand(groups, capacity)).short


def test_recipients_who_have_only_full_bins_are_named_with_them_and_others_are_not() -> None:
    groups = [(50, [{0: 1}, {1: 1}]), (20, [{1: 1}, {2: 1}]), (7, [{3: 1}])]
    found = check_feasibility(demand(groups, [15, 10, 100, 6]))
    assert found.short == 26
    assert found.blocking == (
        Shortage("gmail 2026-04-20 08:00Z-08:30Z", 50, 25, ("capacity.providers.gmail",)),
        Shortage("gmail 2026-04-20 08:45Z", 7, 6, ("capacity.providers.gmail",)),
    )


def test_sends_spread_over_an_hour_take_a_quarter_of_each_bin() -> None:
    hours = [{4 * hour + bin_: 1 for bin_ in range(4)} for hour in range(3)]
    found = check_feasibility(demand([(53_580, hours)], [4 * 2_777 + 2] * 12, bins(12), unit=4))
    assert found.short == 53_580 - 33_330
    assert found.blocking[0].name == "gmail 2026-04-20 08:00Z-11:00Z"
    assert (found.blocking[0].need, found.blocking[0].have) == (53_580, 33_330)


def test_a_total_is_short_where_every_provider_has_room() -> None:
    resources = [*bins(1), *bins(1, "yahoo"), *bins(1, None)]
    groups = [(60, [{0: 1, 2: 1}]), (60, [{1: 1, 2: 1}])]
    found = check_feasibility(demand(groups, [60, 60, 100], resources))
    assert found.blocking == (Shortage("all mail 2026-04-20 08:00Z", 120, 100, ("capacity.total",)),)


def test_a_budget_of_the_day_is_short_where_every_bin_has_room() -> None:
    resources = [*bins(2), Resource("day", "gmail", DAY)]
    found = check_feasibility(demand([(60, [{0: 1, 2: 1}, {1: 1, 2: 1}])], [60, 60, 35], resources))
    keys = ("capacity.providers.gmail", "capacity.warmup.gmail")
    assert found.blocking == (Shortage("gmail 2026-04-20", 60, 35, keys),)


def test_a_cap_on_a_slot_is_a_resource_too() -> None:
    resources = [Resource("slot", None, 9), Resource("slot", None, 10)]
    found = check_feasibility(demand([(60, [{0: 1}, {1: 1}])], [20, 30], resources))
    assert found.blocking == (Shortage("slot 9, slot 10", 60, 50, ("capacity.max_slot_share",)),)


def test_too_many_pinned_sends_are_named_first() -> None:
    tight = demand([(10, [{1: 1}])], [4 * (8_333 - 13_395), 4], bins(2), unit=4)
    found = check_feasibility(replace(tight, pinned_R=np.array([4 * 13_395, 0]), weight_K=np.array([4], np.int32)))
    pinned = Shortage("gmail 2026-04-20 08:00Z", 13_395, 8_333, ("capacity.providers.gmail",), is_pinned=True)
    assert found.blocking == (pinned, Shortage("gmail 2026-04-20 08:15Z", 10, 1, ("capacity.providers.gmail",)))
    assert found.short == 9


def test_too_many_pinned_sends_are_infeasible_though_everyone_else_fits() -> None:
    found = check_feasibility(demand([(10, [{1: 1}])], [-1, 10]))
    assert (found.short, found.is_feasible) == (0, False)
    assert "experiment.control_share" in explain(found)
    assert "on_infeasible" not in explain(found)


def test_no_slot_at_all_is_a_shortage_of_slots() -> None:
    found = check_feasibility(demand([(3, []), (4, [{}])], []))
    assert (found.short, found.blocking) == (3, (Shortage("an allowed slot", 3, 0, ()),))


def test_nobody_fits_anything() -> None:
    assert check_feasibility(demand([], [0, 0])).is_feasible
    assert check_feasibility(demand([(0, [{0: 1}])], [0])).is_feasible
    assert check_feasibility(demand([(9, [{}])], [])).is_feasible


def test_like_groups_are_one_for_the_solver() -> None:
    options = [{0: 1}, {1: 1}]
    program = reduce_demand(demand([(5, options), (6, options[::-1]), (7, [{0: 1}]), (8, [{2: 1}])], [3, 3, 8]))
    assert sorted(program.count_G.tolist()) == [7, 11]
    assert program.resources_R == [bins(3)[:1], bins(3)[1:2]]


def test_resources_that_every_send_uses_alike_are_one_for_the_solver_and_the_least_of_them_counts() -> None:
    resources = [*bins(2), *bins(1, None)]
    tight = demand([(50, [{0: 1, 1: 1, 2: 1}, {0: 2, 1: 2, 2: 2}])], [20, 10, 15], resources)
    program = reduce_demand(tight)
    assert program.capacity_R.tolist() == [10]
    assert program.resources_R == [bins(2)]
    assert check_feasibility(tight).blocking == (
        Shortage("gmail 2026-04-20 08:00Z-08:30Z", 50, 10, ("capacity.providers.gmail",)),
    )


def test_a_resource_that_an_option_names_twice_is_used_twice() -> None:
    twice = demand([(10, [{0: 1, 1: 1}])], [10, 10])
    assert check_feasibility(twice).short == 0
    assert check_feasibility(replace(twice, resource_K=np.zeros(2, np.int32))).short == 5


def test_mail_that_fits_by_far_needs_no_solver() -> None:
    code = (
        "import sys; import numpy as np\n"
        "from sto_engine.assign.demand import Demand\n"
        "from sto_engine.assign.preflight import check_feasibility\n"
        "one = np.ones(1, np.int64); place = np.zeros(1, np.int32)\n"
        "d = Demand(one, np.ones((1, 1), bool), np.array([0, 1]), place, place + 1, one, one, one, [None])\n"
        "assert check_feasibility(d).is_feasible and 'scipy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_resource_is_named_by_provider_and_time() -> None:
    assert Resource("bin", "gmail", EIGHT).text() == "gmail 2026-04-20 08:00Z"
    assert Resource("day", None, DAY).text() == "all mail 2026-04-20"


@pytest.mark.parametrize(
    ("places", "text"),
    [
        ([0], "gmail 2026-04-20 08:00Z"),
        ([2, 0, 1], "gmail 2026-04-20 08:00Z-08:45Z"),
        ([0, 1, 4], "gmail 2026-04-20 08:00Z-08:30Z, 2026-04-20 09:00Z"),
        ([0, 4, 8], "gmail 3 bins of 2026-04-20 08:00Z-10:15Z"),
        (range(62, 66), "gmail 2026-04-20 23:30Z-2026-04-21 00:30Z"),
        (range(62, 64), "gmail 2026-04-20 23:30Z-2026-04-21 00:00Z"),
    ],
)
def test_bins_without_a_gap_are_one_span(places: Sequence[int], text: str) -> None:
    assert describe([bins(66)[place] for place in places]) == text


def test_limits_of_all_mail_come_first_and_a_long_list_is_cut() -> None:
    named = describe([*bins(1), *bins(1, None), *bins(1, "yahoo"), *bins(1, "apple"), *bins(1, "gmx")])
    assert named.startswith("all mail 2026-04-20 08:00Z + apple 2026-04-20 08:00Z + gmail")
    assert named.endswith("and 2 more limits")


def test_a_shortage_is_told_with_what_to_do() -> None:
    shortage = Shortage("gmail 2026-04-20 08:00Z-11:00Z", 53_580, 33_332, ("capacity.providers.gmail",))
    assert explain(Feasibility(120_000, 20_248, (shortage,))) == (
        "the capacity does not take this mail: 20,248 of 120,000 recipients fit nowhere: "
        "gmail 2026-04-20 08:00Z-11:00Z: 53,580 recipients need it, 33,332 fit; raise capacity.providers.gmail, or "
        "widen the window (window.start, window.end, window.quiet) or spread.max_minutes, or "
        'set capacity.on_infeasible = "defer"'
    )


def test_of_many_shortages_five_are_told() -> None:
    many = tuple(Shortage(f"p{i} 2026-04-20", 2, 1, (f"capacity.providers.p{i}",)) for i in range(8))
    text = explain(Feasibility(100, 8, many))
    assert "p4 2026-04-20: 2 recipients need it, 1 fit; and 3 more; raise" in text
    assert "p5" not in text


@pytest.mark.parametrize(
    ("override", "text"),
    [
        (
            "capacity.providers.gmial=5/s",
            r'capacity\.providers\.gmial .*"gmial"; nearest known: "gmail"; all: gmail, yahoo',
        ),
        (
            "capacity.warmup.yaho={first_day=2026-04-20, per_day=[5]}",
            r'capacity\.warmup\.yaho .*nearest known: "yahoo"',
        ),
    ],
)
def test_a_limit_of_an_unknown_provider_is_refused(override: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        check_provider_names(load_config(None, [override]), {"gmail", "yahoo"})


def test_known_providers_and_the_total_may_be_limited() -> None:
    warmup = "capacity.warmup.total={first_day=2026-04-20, per_day=[5]}"
    check_provider_names(load_config(None, ["capacity.total=5/s", "capacity.providers.gmail=5/s", warmup]), {"gmail"})
