"""Nights under limits, recounted from the files alone: nothing above a limit, nobody lost, nothing outside its slot."""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from nights import (
    GAP_BERLIN,
    GAP_NEW_YORK,
    ORDINARY,
    OVERLAP,
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
from support import digest, table

USERS = 700
ARMS = ("experiment.random_share=0.1", "experiment.explore_share=0.05")
WINDOW, QUIET = "06:00-23:00", "13:00-14:00"
HOURS = ('window.start="06:00"', 'window.end="23:00"', f'window.quiet=["{QUIET}"]')


@dataclass(frozen=True)
class Limits:
    """Settings, and what they come to: messages of a quarter-hour and of a UTC day, by provider and in total."""

    keys: tuple[str, ...]
    of_bin: dict[str, int]
    of_day: dict[date, dict[str, int]]


def any_day(**most: int) -> dict[date, dict[str, int]]:
    """The same on every day that a night may touch."""
    days = (ORDINARY, GAP_NEW_YORK, GAP_BERLIN, OVERLAP)
    return {day + timedelta(days=more): most for day in days for more in (-1, 0, 1)}


LIMITS = {
    "total": Limits(('capacity.total="60/h"',), {TOTAL: 15}, {}),
    "providers": Limits(
        ('capacity.providers={gmail="24/h", microsoft="0.3/min", other="20/h"}',),
        {"gmail": 6, "microsoft": 4, "other": 5},
        {},
    ),
    "day": Limits(
        ('capacity.total="480/day"', 'capacity.providers={gmail=["200/day", "1/min"]}'),
        {"gmail": 15},
        any_day(total=480, gmail=200),
    ),
    "warmup": Limits(
        ("capacity.warmup={yahoo={first_day=2026-04-19, per_day=[50, 80, 110, 1000]}}",),
        {},
        {ORDINARY + timedelta(days=n): {"yahoo": most} for n, most in ((-1, 50), (0, 80), (1, 110))},
    ),
    "all": Limits(
        (
            'capacity.total=["100/h", "500/day"]',
            'capacity.providers={gmail="32/h", microsoft="24/h"}',
            "capacity.warmup={yahoo={first_day=2026-12-01, per_day=[90]}}",
            "capacity.max_slot_share=0.2",
        ),
        {TOTAL: 25, "gmail": 8, "microsoft": 6},
        any_day(total=500, yahoo=90),
    ),
}


@pytest.fixture(scope="module")
def senders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Sender]:
    """The same recipients in stores of 1, 4 and 16 buckets."""
    folder = tmp_path_factory.mktemp("senders")
    return {k: make_sender(folder / str(k), people(USERS), k) for k in (1, 4, 16)}


@pytest.fixture(scope="module")
def sender(senders: dict[int, Sender]) -> Sender:
    return senders[4]


def room_of(of_bin: dict[str, int], provider: str, ms: int, avoid: int) -> int | None:
    """What a quarter-hour takes: less after :00 and :30, by the minutes that stay free."""
    whole = of_bin.get(provider)
    return whole if whole is None or ms % 1_800_000 else whole * (15 - avoid) // 15


def check_limits(run: Path, limits: Limits, avoid: int) -> None:
    load = load_of(run)
    assert over(load, limits.of_bin) == {}
    for (ms, provider), n in load.items():
        room = room_of(limits.of_bin, provider, ms, avoid)
        assert room is None or n <= room
    for (ms, provider), n in by_day(load).items():
        day = datetime.fromtimestamp(ms / 1000, UTC).date()
        assert n <= limits.of_day.get(day, {}).get(provider, n), (day, provider)


def check_everyone(run: Path, sender: Sender) -> None:
    written = table(run, "assignments")["user_id"].to_list() + table(run, "suppressed")["user_id"].to_list()
    assert Counter(written) == Counter(sender.recipients["user_id"].to_list())
    counts = json.loads((run / "summary.json").read_text())["counts"]
    assert counts["assigned"] == len(table(run, "assignments"))
    assert counts["suppressed"] == len(table(run, "suppressed"))


def check_times(run: Path, sender: Sender, day: date, slots: int, avoid: int = 0) -> None:
    """send_at lies in the spread window of an open slot of the recipient's own clock."""
    zones, own = sender.by_user("timezone"), sender.by_user("allowed_hours")
    minutes = json.loads((run / "summary.json").read_text())["spread"]["window_minutes"]
    for row in table(run, "assignments").iter_rows(named=True):
        user, slot, at = row["user_id"], row["slot"], row["send_at"]
        start = start_of(zones[user], day, slot, slots)
        assert start is not None
        assert start <= at < start + timedelta(minutes=minutes)
        assert slot in open_slots(zones[user], own[user], day, slots, WINDOW, QUIET)
        assert at.minute % 30 >= avoid
        assert row["slot_local"] == start.astimezone(ZoneInfo(zones[user])).replace(tzinfo=None)
        assert timedelta(minutes=row["tz_offset"]) == start.astimezone(ZoneInfo(zones[user])).utcoffset()
        assert row["provider"] == sender.provider_of[user]


def check_told(run: Path, of_bin: dict[str, int], avoid: int) -> None:
    """load.csv and the summary say what the shards say."""
    told, load = told_load(run), load_of(run)
    assert {key: after for key, (_, after, _) in told.items() if after} == dict(load)
    for (ms, provider), (_, _, room) in told.items():
        assert room == room_of(of_bin, provider, ms, avoid)
    summary = json.loads((run / "summary.json").read_text())
    wanted = summary["counts"]["assigned"] + summary["capacity"]["deferred"]
    assert sum(n for (_, name), (n, _, _) in told.items() if name == TOTAL) == wanted
    assert summary["by_slot"] == {
        str(slot): int((table(run, "assignments")["slot"] == slot).sum()) for slot in map(int, summary["by_slot"])
    }
    capacity = summary["capacity"]
    assert capacity["violations"] == 0
    if not avoid:
        assert capacity["deferred"] == 0
        assert 0 <= capacity["gap"] < 0.01
    assert capacity["value"] <= capacity["bound"]
    # p_open of float32, and of codes where a recipient moved
    assert capacity["expected_opens"]["planned"] <= capacity["expected_opens"]["unlimited"] + 0.01
    assert capacity["expected_opens"]["planned"] == pytest.approx(table(run, "assignments")["p_open"].sum(), abs=0.01)


CASES = [
    ("total", GAP_NEW_YORK, 48, 1, 30, 0),
    ("providers", GAP_BERLIN, 24, 16, 60, 5),
    ("day", ORDINARY, 48, 16, 30, 3),
    ("warmup", ORDINARY, 24, 4, 60, 0),
    ("all", OVERLAP, 24, 4, 15, 0),
]
EVERYTHING = [
    (name, day, slots, buckets, minutes, avoid)
    for name in LIMITS
    for day in (ORDINARY, GAP_NEW_YORK, GAP_BERLIN, OVERLAP)
    for slots, buckets, minutes, avoid in ((24, 4, 15, 0), (24, 1, 60, 14), (48, 16, 30, 2), (48, 4, 15, 0))
    if name != "warmup" or day == ORDINARY
] + [
    ("providers", OVERLAP, 48, 4, 15, 14),
    ("warmup", ORDINARY, 24, 1, 15, 10),
    ("all", GAP_BERLIN, 24, 1, 30, 7),
]


def check_night(case: tuple[str, date, int, int, int, int], senders: dict[int, Sender], out: Path) -> None:
    name, day, slots, buckets, minutes, avoid = case
    keys = (f"slots.grid={slots}", f"spread.min_minutes={minutes}", f"spread.avoid_minutes={avoid}", *ARMS, *HOURS)
    # what the free minutes leave may be too little
    leave_out = ("capacity.on_infeasible=defer",) if avoid else ()
    run = run_folder(senders[buckets], out, *LIMITS[name].keys, *keys, *leave_out, day=day)
    check_limits(run, LIMITS[name], avoid)
    check_everyone(run, senders[buckets])
    check_times(run, senders[buckets], day, slots, avoid)
    check_told(run, LIMITS[name].of_bin, avoid)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_no_quarter_hour_and_no_day_is_above_its_limit(
    senders: dict[int, Sender], tmp_path: Path, case: tuple[str, date, int, int, int, int]
) -> None:
    check_night(case, senders, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("case", EVERYTHING, ids=lambda case: "-".join(map(str, case)))
def test_no_limit_is_broken_whatever_the_night(
    senders: dict[int, Sender], tmp_path: Path, case: tuple[str, date, int, int, int, int]
) -> None:
    check_night(case, senders, tmp_path)


@pytest.mark.parametrize("name", ["all", "day"])
def test_threads_change_no_byte(senders: dict[int, Sender], tmp_path: Path, name: str) -> None:
    keys = (*LIMITS[name].keys, *ARMS, *HOURS)
    one = run_folder(senders[16], tmp_path / "one", *keys, threads=1)
    two = run_folder(senders[16], tmp_path / "two", *keys, threads=2)
    assert digest(one) == digest(two)
    assert (one / "load.csv").read_bytes() == (two / "load.csv").read_bytes()


def test_before_is_the_load_of_a_night_without_limits(sender: Sender, tmp_path: Path) -> None:
    limited = run_night(sender, tmp_path / "limited", *LIMITS["all"].keys, *ARMS, *HOURS)
    minutes = limited.summary["spread"]["window_minutes"]
    free = run_folder(sender, tmp_path / "free", f"spread.min_minutes={minutes}", *ARMS, *HOURS)
    assert limited.run_dir is not None
    before = {key: n for key, (n, _, _) in told_load(limited.run_dir).items() if n}
    assert before == dict(load_of(free))


@pytest.mark.parametrize("name", ["total", "day", "all"])
def test_what_would_have_been_above_the_limits_is_told(sender: Sender, tmp_path: Path, name: str) -> None:
    result, limits = run_night(sender, tmp_path, *LIMITS[name].keys, *HOURS), LIMITS[name]
    assert result.run_dir is not None
    before = Counter({key: n for key, (n, _, _) in told_load(result.run_dir).items()})
    above = sum(n - limits.of_bin[who] for (_, who), n in over(before, limits.of_bin).items())
    for (ms, who), n in by_day(before).items():
        most = limits.of_day.get(datetime.fromtimestamp(ms / 1000, UTC).date(), {})
        above += max(n - most.get(who, n), 0)
    assert result.summary["capacity"]["over_before"] == above > 0


def test_moved_are_those_who_get_another_slot_than_without_limits(sender: Sender, tmp_path: Path) -> None:
    limited = run_night(sender, tmp_path / "limited", *LIMITS["all"].keys, *ARMS, *HOURS)
    free = run_folder(sender, tmp_path / "free", *ARMS, *HOURS)
    assert limited.run_dir is not None
    rows = table(limited.run_dir, "assignments").join(table(free, "assignments"), on="user_id", suffix="_free")
    assert len(rows) == limited.summary["counts"]["assigned"]
    assert limited.summary["capacity"]["moved"] == int((rows["slot"] != rows["slot_free"]).sum()) > 0
    for column in ("arm", "preferred_slot", "p_control", "n_eff"):
        assert rows[column].equals(rows[f"{column}_free"]), column
    stayed = rows.filter(pl.col("slot") == pl.col("slot_free"))
    assert stayed["p_open"].equals(stayed["p_open_free"])
    assert (rows["p_open"] <= rows["p_open_free"] + 1e-5).filter(rows["arm"] == "model").all()


@pytest.mark.parametrize(
    "keys",
    [
        ('capacity.total="1M/h"',),
        ('capacity.total=["500/s", "1M/day"]', 'capacity.providers={gmail="10k/min"}'),
        ("capacity.warmup={total={first_day=2026-04-01, per_day=[100_000]}}",),
        ("capacity.max_slot_share=0.99",),
    ],
)
def test_a_limit_that_binds_nowhere_changes_no_slot(sender: Sender, tmp_path: Path, keys: tuple[str, ...]) -> None:
    free = table(run_folder(sender, tmp_path, *ARMS), "assignments")
    limited = run_night(sender, tmp_path, *keys, *ARMS)
    assert limited.run_dir is not None
    found, same = table(limited.run_dir, "assignments"), pl.exclude("send_at", "propensity")
    assert [name for name in found.select(same).columns if not found[name].equals(free[name])] == []
    # the chances of explorers come from worths in two bytes
    assert ((found["propensity"] - free["propensity"]).abs() < 1e-5).all()
    capacity = limited.summary["capacity"]
    assert (capacity["moved"], capacity["gap"], capacity["binding"]) == (0, 0, 0)


def test_a_dry_run_counts_the_same_and_writes_nothing(sender: Sender, tmp_path: Path) -> None:
    keys = (*LIMITS["all"].keys, *ARMS)
    dry = run_night(sender, tmp_path / "dry", *keys, dry_run=True)
    real = run_night(sender, tmp_path / "real", *keys)
    assert dry.run_dir is None
    assert not (tmp_path / "dry").exists()
    told, said = ({k: v for k, v in result.summary.items() if k != "timings_s"} for result in (dry, real))
    assert told == said


def test_arms_keep_their_shares_and_slots_under_limits(sender: Sender, tmp_path: Path) -> None:
    keys = ("experiment.control_share=0.2", "experiment.random_share=0.3", 'capacity.total="100/h"')
    rows = table(run_folder(sender, tmp_path, *keys), "assignments")
    own = sender.by_user("allowed_hours")
    rows = rows.with_columns(own=pl.Series([own[user] for user in rows["user_id"]], dtype=pl.String))
    control = rows.filter(pl.col("arm") == "control")
    assert control["slot"].unique().to_list() == [10]
    inside = rows.filter(pl.col("arm").is_not_null())
    assert 0.14 < len(control) / len(inside) < 0.26
    assert 0.24 < (inside["arm"] == "random").mean() < 0.36  # type: ignore[operator]
    # at 10:00 the hours of their own are closed
    assert set(rows.filter(pl.col("arm").is_null())["own"].unique()) == {"17:00-23:30", "22:00-02:00"}
    drawn = rows.filter((pl.col("arm") == "random") & pl.col("own").is_null())["slot"]
    n_S = [int((drawn == slot).sum()) for slot in range(24)]
    expected = len(drawn) / 24
    chi_square = sum((n - expected) ** 2 / expected for n in n_S)
    assert chi_square < 49.7  # one in a thousand of 23 degrees of freedom


@pytest.mark.parametrize("keys", [(), ('capacity.total="100/h"',), ('capacity.providers={gmail="30/h"}', *HOURS)])
def test_propensities_are_the_chances_over_arms(sender: Sender, tmp_path: Path, keys: tuple[str, ...]) -> None:
    control, random = 0.15, 0.2
    shares = (
        f"experiment.control_share={control}",
        f"experiment.random_share={random}",
        'experiment.control_time="19:00"',
    )
    rows = table(run_folder(sender, tmp_path, *keys, *shares), "assignments")
    zones, own = sender.by_user("timezone"), sender.by_user("allowed_hours")
    window, quiet = (WINDOW, QUIET) if HOURS[0] in keys else ("", None)
    assert rows["propensity"].is_between(0, 1, closed="right").all()
    seen: Counter[tuple[str | None, bool]] = Counter()
    for row in rows.iter_rows(named=True):
        user, p = row["user_id"], row["propensity"]
        n = len(open_slots(zones[user], own[user], ORDINARY, 24, window, quiet))
        least = random / n + control * (row["slot"] == 19)
        if row["arm"] is None:
            assert p == 1
            continue
        by_model = p == pytest.approx(least + 1 - control - random, abs=1e-6)
        assert by_model or p == pytest.approx(least, abs=1e-6)
        assert by_model or row["arm"] != "model"
        seen[row["arm"], by_model] += 1
    for arm in ("control", "random"):
        assert seen[arm, True]
        assert seen[arm, False]


def test_explorers_get_the_chance_of_their_slot(sender: Sender, tmp_path: Path) -> None:
    """Their slots stand whatever the prices, and so does what they are drawn by."""
    shares = ("experiment.control_share=0", "experiment.explore_share=1.0")
    free = table(run_folder(sender, tmp_path, *shares), "assignments")
    limited = table(run_folder(sender, tmp_path, *shares, 'capacity.total="400/h"'), "assignments")
    assert set(limited["arm"]) == {"explore", None}
    explorers = limited.filter(pl.col("arm") == "explore")
    assert explorers["slot"].equals(free.filter(pl.col("arm") == "explore")["slot"])
    assert ((explorers["propensity"] - free.filter(pl.col("arm") == "explore")["propensity"]).abs() < 1e-4).all()
