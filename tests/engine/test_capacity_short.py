"""Mail that does not fit: refused before anyone is scored, or left out by exactly what is missing; shares, weights."""

import math
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from nights import (
    BIN_MS,
    ORDINARY,
    TOTAL,
    Sender,
    by_day,
    load_of,
    make_sender,
    open_slots,
    over,
    people,
    run_folder,
    run_night,
    start_of,
    told_load,
)
from sto_engine import rounds
from sto_engine.assign.book import Outcome, Terms
from sto_engine.errors import ConfigError
from sto_engine.models.attention import Attention
from sto_engine.staged_book import StagedBook
from support import table

NO_CONTROL = "experiment.control_share=0"
WINDOW = ('window.start="08:00"', 'window.end="12:00"')
# zones of whole hours: the quarter-hours of a slot are those of no other
TIGHT = (NO_CONTROL, *WINDOW, 'capacity.total="60/h"', 'capacity.providers={gmail="20/h"}')


def town(users: int, zones: tuple[str, ...] = ("UTC", "Europe/Berlin", "America/New_York")) -> pl.DataFrame:
    """Recipients with consent and all hours, in these zones."""
    zone = pl.Series("timezone", [zones[n % len(zones)] for n in range(users)])
    hours = pl.Series("allowed_hours", [None] * users, dtype=pl.String)
    return people(users, 1).with_columns(zone, hours, consent=True)


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Sender:
    return make_sender(tmp_path_factory.mktemp("town"), town(600))


@pytest.fixture
def unscored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy must not be asked."""

    def asked(*_: object) -> None:
        raise AssertionError("somebody was scored")

    monkeypatch.setattr(Attention, "utilities", asked)


def written(out: Path) -> list[str]:
    """What a refused night leaves but for its staging."""
    return [str(p) for p in out.rglob("*") if p.is_file() and "_staging" not in p.parts and p.name != "LOCK"]


@pytest.mark.usefixtures("unscored")
def test_a_shortage_is_told_before_anyone_is_scored(tmp_path: Path) -> None:
    sender = make_sender(tmp_path, town(100, ("UTC",)))
    keys = (NO_CONTROL, 'window.start="08:00"', 'window.end="10:00"', 'capacity.total="40/h"')
    for dry_run in (False, True):
        with pytest.raises(ConfigError) as error:
            run_night(sender, tmp_path / "out", *keys, dry_run=dry_run)
        assert error.value.exit_code == 78
        for words in (
            "20 of 100 recipients fit nowhere",
            "all mail 2026-04-20 08:00Z-10:00Z: 100 recipients need it, 80 fit",
            "raise capacity.total",
            'set capacity.on_infeasible = "defer"',
        ):
            assert words in str(error.value)
        assert written(tmp_path / "out") == []
    assert not list((tmp_path / "out").glob("run=*/manifest.json"))


@pytest.mark.usefixtures("unscored")
def test_a_control_arm_that_is_too_big_is_named(sender: Sender, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        run_night(sender, tmp_path, "experiment.control_share=0.9", 'capacity.providers={gmail="60/h"}')
    found = re.search(r"gmail [^;]*: the arms of the experiment alone send (\d+), (\d+) fit", str(error.value))
    assert found is not None
    assert int(found[1]) > int(found[2])
    assert "experiment.control_share" in str(error.value)


def most_that_fit(sender: Sender, window: str, of_start: dict[str, int]) -> int:
    """The most recipients that slots take where each start takes `of_start` of a provider (or of all mail)."""
    from scipy.optimize import LinearConstraint, milp

    zones, groups = sender.by_user("timezone"), Counter[tuple[str, str]]()
    for user, provider in sender.provider_of.items():
        groups[zones[user], provider] += 1
    options = [
        (g, start_of(g[0], ORDINARY, s, 24)) for g in groups for s in open_slots(g[0], None, ORDINARY, 24, window)
    ]
    rows, most = [], []
    for group, n in groups.items():
        rows.append([float(g == group) for g, _ in options])
        most.append(n)
    for start in {at for _, at in options}:
        for name, room in of_start.items():
            rows.append([float(at == start and name in (g[1], TOTAL)) for g, at in options])
            most.append(room)
    solved = milp(-np.ones(len(options)), constraints=LinearConstraint(np.array(rows), ub=most), integrality=1)
    return round(-solved.fun)


@pytest.mark.parametrize(("how", "reason"), [("defer", "deferred"), ("suppress", "no_capacity")])
def test_exactly_what_is_missing_is_left_out(sender: Sender, tmp_path: Path, how: str, reason: str) -> None:
    result = run_night(sender, tmp_path, *TIGHT, f"capacity.on_infeasible={how}")
    run = result.run_dir
    assert run is not None
    assert over(load_of(run), {TOTAL: 15, "gmail": 5}) == {}
    left = table(run, "suppressed")
    assert left["reason"].unique().to_list() == [reason]
    missing = 600 - most_that_fit(sender, "08:00-12:00", {TOTAL: 60, "gmail": 20})
    assert len(left) == missing > 0
    assert result.summary["capacity"]["deferred"] == missing
    assert result.summary["by_suppression"] == {reason: missing}
    everyone = Counter(table(run, "assignments")["user_id"].to_list() + left["user_id"].to_list())
    assert everyone == Counter(sender.recipients["user_id"].to_list())
    assert result.summary["counts"] == {
        "audience": 600,
        "assigned": 600 - missing,
        "suppressed": missing,
        "quarantined": 0,
    }
    assert any("fit nowhere" in warning for warning in result.summary["warnings"])
    # what they would have been sent counts as load before the limits
    assert sum(n for (_, name), (n, _, _) in told_load(run).items() if name == TOTAL) == 600


def test_nobody_is_left_out_who_would_fit(sender: Sender, tmp_path: Path) -> None:
    run = run_folder(sender, tmp_path, *TIGHT, "capacity.on_infeasible=defer")
    load, zones, providers = load_of(run), sender.by_user("timezone"), sender.provider_of
    for user in table(run, "suppressed")["user_id"]:
        for slot in open_slots(zones[user], None, ORDINARY, 24, "08:00-12:00"):
            start = start_of(zones[user], ORDINARY, slot, 24)
            assert start is not None
            begin = int(start.timestamp() * 1000)
            room = {
                name: 4 * most - sum(load[begin + j * BIN_MS, name] for j in range(4))
                for name, most in {TOTAL: 15, "gmail": 5}.items()
                if name in (TOTAL, providers[user])
            }
            assert min(room.values()) <= 0, (user, slot, room)


def test_a_control_arm_that_does_not_fit_is_left_out_in_part(sender: Sender, tmp_path: Path) -> None:
    keys = ("experiment.control_share=0.9", 'capacity.providers={gmail="60/h"}', "capacity.on_infeasible=defer")
    result = run_night(sender, tmp_path, *keys)
    assert result.run_dir is not None
    assert over(load_of(result.run_dir), {"gmail": 15}) == {}
    assert result.summary["by_suppression"]["deferred"] == len(table(result.run_dir, "suppressed")) > 0
    assert {sender.provider_of[user] for user in table(result.run_dir, "suppressed")["user_id"]} == {"gmail"}


def test_defer_leaves_out_nobody_where_all_fit(sender: Sender, tmp_path: Path) -> None:
    loose = ('capacity.total="100/h"', "capacity.on_infeasible=defer")
    result = run_night(sender, tmp_path, *loose)
    assert result.summary["counts"]["suppressed"] == result.summary["capacity"]["deferred"] == 0


@pytest.mark.parametrize("how", ["fail", "defer"])
def test_where_no_plan_is_found_some_are_left_out_if_they_may(
    sender: Sender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """As where whole messages do not fit that fit in parts."""
    solve = rounds.solve

    def stuck(book: StagedBook, terms: Terms, *rest: Any) -> Outcome:
        found = solve(book, terms, *rest)
        found.violations += not terms.may_defer
        return found

    monkeypatch.setattr(rounds, "solve", stuck)
    keys = ('capacity.total="100/h"', f"capacity.on_infeasible={how}")
    if how == "fail":
        with pytest.raises(ConfigError, match="no plan was found within the limits"):
            run_night(sender, tmp_path, *keys)
        assert written(tmp_path) == []
    else:
        assert over(load_of(run_folder(sender, tmp_path, *keys)), {TOTAL: 25}) == {}


def test_limits_of_nobody_hold(tmp_path: Path) -> None:
    sender = make_sender(tmp_path, town(40).with_columns(consent=False), 2)
    result = run_night(sender, tmp_path / "out", 'capacity.total="40/h"', "capacity.max_slot_share=0.2")
    assert result.summary["counts"] == {"audience": 40, "assigned": 0, "suppressed": 40, "quarantined": 0}


def test_a_rate_of_one_message_a_quarter_hour_holds(tmp_path: Path) -> None:
    sender = make_sender(tmp_path, town(70), 16)
    run = run_folder(sender, tmp_path / "out", NO_CONTROL, 'capacity.total="4/h"')
    assert len(table(run, "assignments")) == 70
    assert over(load_of(run), {TOTAL: 1}) == {}


def shares(run: Path) -> list[float]:
    rows = table(run, "assignments").filter(pl.col("arm") != "control")
    return [float((rows["slot"] == slot).sum()) / len(rows) for slot in range(24)]


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_no_slot_holds_more_than_its_share(sender: Sender, tmp_path: Path, share: float) -> None:
    result = run_night(sender, tmp_path, f"capacity.max_slot_share={share}")
    assert result.run_dir is not None
    model = table(result.run_dir, "assignments").filter(pl.col("arm") == "model")
    most = max(Counter(model["slot"].to_list()).values())
    assert most <= math.ceil(share * len(model))
    assert result.summary["capacity"]["violations"] == 0
    control = table(result.run_dir, "assignments").filter(pl.col("arm") == "control")
    assert control["slot"].unique().to_list() == [10]


def test_a_share_that_cannot_be_held_is_raised_with_a_word(sender: Sender, tmp_path: Path) -> None:
    result = run_night(sender, tmp_path, NO_CONTROL, *WINDOW, "capacity.max_slot_share=0.1")
    assert result.run_dir is not None
    assert max(shares(result.run_dir)) == pytest.approx(0.25, abs=0.002)
    assert any("capacity.max_slot_share raised from 0.1 to 0.25" in word for word in result.summary["warnings"])


def test_declustering_lowers_the_fullest_slot_step_by_step(sender: Sender, tmp_path: Path) -> None:
    tops, opens = [], []
    for much in (0, 0.1, 0.5, 2, 10):
        result = run_night(sender, tmp_path, NO_CONTROL, f"capacity.decluster={much}")
        assert result.run_dir is not None
        tops.append(max(shares(result.run_dir)))
        opens.append(table(result.run_dir, "assignments")["p_open"].sum())
    assert tops == sorted(tops, reverse=True)
    assert opens == sorted(opens, reverse=True)
    assert len(set(tops)) == len(tops)
    assert tops[-1] < tops[0] / 3


def lost(free: Path, limited: Path) -> pl.DataFrame:
    rows = table(limited, "assignments").join(table(free, "assignments"), on="user_id", suffix="_free")
    return rows.select("user_id", lost=pl.col("p_open_free") - pl.col("p_open"))


def test_recipients_of_more_value_lose_less(sender: Sender, tmp_path: Path) -> None:
    limits = (NO_CONTROL, 'capacity.total="48/h"')
    free = run_folder(sender, tmp_path, NO_CONTROL)
    rich = set(sender.recipients.sort("clv", descending=True)["user_id"].head(150))
    of_rich = []
    for keys in (limits, (*limits, "capacity.weight=clv")):
        run = run_folder(sender, tmp_path, *keys)
        assert over(load_of(run), {TOTAL: 12}) == {}
        rows = lost(free, run)
        of_rich.append(rows.filter(pl.col("user_id").is_in(rich))["lost"].sum())
    assert of_rich[1] < of_rich[0] / 2


@pytest.mark.parametrize("column", ["value", "timezone", "consent", "user_id_"])
def test_a_weight_that_is_no_column_of_numbers_is_refused(sender: Sender, tmp_path: Path, column: str) -> None:
    with pytest.raises(ConfigError, match=f'found "{column}"; known: .*clv, .*engagement_score'):
        run_night(sender, tmp_path, f"capacity.weight={column}", 'capacity.total="100/h"')
    assert written(tmp_path) == []


def test_weights_that_are_missing_or_no_numbers_do_no_harm(tmp_path: Path) -> None:
    odd = [None, float("nan"), float("inf"), -5.0, 0.0, 1e-300, 1e30, 7.0]
    sender = make_sender(tmp_path, town(160).with_columns(clv=pl.Series([odd[n % 8] for n in range(160)])))
    result = run_night(sender, tmp_path / "out", 'capacity.total="20/h"', "capacity.weight=clv")
    assert result.run_dir is not None
    assert over(load_of(result.run_dir), {TOTAL: 5}) == {}
    assert len(table(result.run_dir, "assignments")) == 160
    assert result.summary["capacity"]["gap"] < 0.01


def test_a_day_is_counted_by_when_mail_leaves_not_by_when_its_window_begins(tmp_path: Path) -> None:
    """A window of 40 minutes from 23:30 UTC on ends on the next day."""
    sender = make_sender(tmp_path, town(300, ("Asia/Kolkata",)))
    keys = (NO_CONTROL, 'window.start="04:00"', 'window.end="08:00"', "spread.min_minutes=40")
    run = run_folder(sender, tmp_path / "out", *keys, 'capacity.total="180/day"')
    days = by_day(load_of(run))
    assert {datetime.fromtimestamp(ms / 1000, UTC).date() for ms, _ in days} == {ORDINARY - timedelta(days=1), ORDINARY}
    assert max(n for (_, name), n in days.items() if name == TOTAL) <= 180


def test_a_window_of_any_length_is_told_as_it_leaves(sender: Sender, tmp_path: Path) -> None:
    run = run_folder(sender, tmp_path, "spread.min_minutes=40", "capacity.max_slot_share=0.2")
    assert {key: after for key, (_, after, _) in told_load(run).items() if after} == dict(load_of(run))
    before = sum(n for (_, name), (n, _, _) in told_load(run).items() if name == TOTAL)
    assert before == 600


@pytest.mark.usefixtures("unscored")
def test_windows_too_short_for_rates_are_told_before_anyone_is_scored(sender: Sender, tmp_path: Path) -> None:
    keys = ("spread.min_minutes=5", "spread.max_minutes=10", 'capacity.total="1k/h"')
    with pytest.raises(
        ConfigError, match=r"spread\.min_minutes must be at most spread\.max_minutes in whole quarter-hours"
    ):
        run_night(sender, tmp_path, *keys)
    assert written(tmp_path) == []
