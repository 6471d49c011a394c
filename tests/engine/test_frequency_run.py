"""Caps, gaps and `--previous` over whole runs, against a count by hand of events and of what runs wrote."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from sto_engine import cli
from sto_engine.config import load_config
from sto_engine.explain.run import explain_user
from sto_engine.ingest import ingest
from sto_engine.job import ScoreRequest, ScoreResult, run_score
from sto_engine.progress import Silent
from support import table

DAY = date(2026, 4, 20)
MIDNIGHT = datetime(2026, 4, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Asia/Tokyo")
CAPS = (None, 0.0, 1.0, 2.7, 4.0, -3.0)
USERS = range(1, 301)
KEYS = ("frequency.cap=3", "frequency.days=5", "frequency.min_gap_hours=9", "experiment.random_share=0.6")
Times = Mapping[int, list[datetime]]


@dataclass(frozen=True)
class Sender:
    """A store, who is in it, and the times of the sends that a cap of e-mail and one of text messages counts."""

    store: Path
    zone: Mapping[int, str]
    cap: Mapping[int, float | None]
    sent: Times
    texted: Times


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Sender:
    folder, rng, rows = tmp_path_factory.mktemp("sender"), np.random.default_rng(11), []
    sent: dict[int, list[datetime]] = defaultdict(list)
    texted: dict[int, list[datetime]] = defaultdict(list)
    for user in USERS:
        for number in range(rng.integers(0, 9)):
            # the night before tonight is in the plan of a run alone
            at = MIDNIGHT - 26 * HOUR - timedelta(seconds=int(rng.integers(0, 9 * 86_400)))
            kind = rng.choice(["promo", "trigger", "transactional", None], p=[0.5, 0.2, 0.2, 0.1])
            channel = rng.choice(["email", "sms", None], p=[0.5, 0.25, 0.25])
            rows.append((user, number, "send", at, kind, channel))
            for name, times in (("email", sent), ("sms", texted)):
                if kind != "transactional" and channel in (name, None):
                    times[user].append(at)
            if number % 2:
                rows.append((user, number, "open", at + HOUR / 2, kind, channel))
            if number % 5 == 3:
                rows.append((user, number, "bounce", at + HOUR / 60, kind, channel))
    names = ["user_id", "campaign_id", "event_type", "event_ts", "campaign_type", "channel"]
    types = {"user_id": pl.UInt64, "event_ts": pl.Datetime("ms", "UTC")}
    pl.DataFrame(rows, names, orient="row", schema_overrides=types).write_parquet(folder / "e.parquet")
    zone = {user: ZONES[user % len(ZONES)] for user in USERS}
    cap = {user: CAPS[user // 5 % len(CAPS)] for user in USERS}
    people = pl.DataFrame({"user_id": pl.Series(USERS, dtype=pl.UInt64), "timezone": zone.values()})
    people = people.with_columns(pl.Series("frequency_cap", list(cap.values()), dtype=pl.Float64))
    people.write_parquet(folder / "r.parquet")
    config = load_config(None, ["store.buckets=2"])
    ingest([str(folder / "e.parquet")], folder / "s", folder / "r.parquet", config, Silent())
    return Sender(folder / "s", zone, cap, sent, texted)


def score(sender: Sender, out: Path, day: date, *previous: Path, keys: Iterable[str] = KEYS, **asked: object) -> Path:
    return result(sender, out, day, *previous, keys=keys, **asked)[0]


def result(
    sender: Sender, out: Path, day: date, *previous: Path, keys: Iterable[str] = KEYS, **asked: object
) -> tuple[Path, ScoreResult]:
    request = replace(ScoreRequest(sender.store, out, date=day, previous=previous), **asked)
    found = run_score(request, load_config(None, [*keys]), Silent())
    assert found.run_dir is not None
    return found.run_dir, found


def planned(*runs: Path) -> Times:
    """What runs send each user after the last event of the store: before it, events tell."""
    found: dict[int, list[datetime]] = defaultdict(list)
    for run in runs:
        for user, at in table(run, "assignments").select("user_id", "send_at").iter_rows():
            if at >= MIDNIGHT - 26 * HOUR:
                found[user].append(at)
    return found


def together(*parts: Times) -> Times:
    return {user: [at for part in parts for at in part.get(user, [])] for user in USERS}


def cap_of(sender: Sender, user: int, common: int | None) -> float:
    """The most messages that a user may get: his own, in whole messages, before that of all."""
    own = sender.cap[user]
    if own is not None and own >= 0:
        return int(own)
    return float("inf") if common is None else common


def closed_by(at: datetime, sent: list[datetime], cap: float, days: int, gap: timedelta) -> tuple[bool, bool]:
    """Whether the cap and whether the gap closes the hour that begins then."""
    recent = sum(each > at - timedelta(days=days) for each in sent)
    near = any(at - gap < each < at + HOUR + gap for each in sent) if gap else False
    return recent >= cap, near


def assert_run_keeps_limits(
    sender: Sender, run: Path, sent: Times, day: date, cap: int | None, days: int, gap_hours: float
) -> Counter[str]:
    """Every slot written is open, whoever has none has the right reason, and no message written breaks a limit."""
    gap, reasons = gap_hours * HOUR, dict(table(run, "suppressed").iter_rows())
    slots = {user: (slot, at) for user, slot, at in rows_of(run)}
    assert slots.keys() | reasons.keys() == set(USERS)
    for user in USERS:
        midnight, most = datetime(day.year, day.month, day.day), cap_of(sender, user, cap)
        starts = [(midnight + slot * HOUR).replace(tzinfo=ZoneInfo(sender.zone[user])) for slot in range(24)]
        closed = [closed_by(start.astimezone(UTC), sent[user], most, days, gap) for start in starts]
        if user in reasons:
            assert all(capped or near for capped, near in closed)
            assert reasons[user] == ("frequency_cap" if all(capped for capped, _ in closed) else "min_gap")
            continue
        slot, at = slots[user]
        assert closed[slot] == (False, False)
        assert starts[slot] <= at < starts[slot] + HOUR
        times = [*sent[user], at]
        for first in [each for each in times if at - timedelta(days=days) < each <= at]:
            assert sum(first <= each < first + timedelta(days=days) for each in times) <= most
        assert all(abs(at - each) >= gap for each in sent[user])
    return Counter(reasons.values())


def rows_of(run: Path) -> Iterable[tuple[int, int, datetime]]:
    return table(run, "assignments").select("user_id", "slot", "send_at").iter_rows()


@pytest.mark.parametrize(
    ("cap", "days", "gap", "expected"),
    [
        (3, 5, 26.0, {"frequency_cap", "min_gap"}),
        (1, 2, 0.0, {"frequency_cap"}),
        (None, 7, 30.0, {"frequency_cap", "min_gap"}),
    ],
)
def test_two_nights_keep_cap_and_gap_over_events_and_the_first_nights_plan(
    sender: Sender, tmp_path: Path, cap: int | None, days: int, gap: float, expected: set[str]
) -> None:
    keys = [f"frequency.days={days}", f"frequency.min_gap_hours={gap}", "experiment.random_share=0.6"]
    keys += [] if cap is None else [f"frequency.cap={cap}"]
    # the folder does not exist yet on the first night
    first = score(sender, tmp_path / "out", DAY - timedelta(days=1), tmp_path / "out", keys=keys)
    assert_run_keeps_limits(sender, first, sender.sent, DAY - timedelta(days=1), cap, days, gap)
    second = score(sender, tmp_path / "out", DAY, tmp_path / "out", keys=keys)
    sent = together(sender.sent, planned(first))
    reasons = assert_run_keeps_limits(sender, second, sent, DAY, cap, days, gap)
    assert reasons.keys() == expected
    summary = json.loads((second / "summary.json").read_text())
    assert summary["by_suppression"] == reasons
    without = score(sender, tmp_path / "alone", DAY, keys=keys)
    assert dict(table(without, "suppressed").iter_rows()) != dict(table(second, "suppressed").iter_rows())


def test_another_campaign_of_the_same_day_counts_when_it_is_named(sender: Sender, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = score(sender, out, DAY, out, campaign="morning")
    by_folder = score(sender, out, DAY, out, campaign="evening")
    named = score(sender, out, DAY, out, first, campaign="evening")
    assert by_folder != named
    assert_run_keeps_limits(sender, by_folder, together(sender.sent), DAY, 3, 5, 9)
    assert_run_keeps_limits(sender, named, together(sender.sent, planned(first)), DAY, 3, 5, 9)


def test_mail_of_another_channel_does_not_count(sender: Sender, tmp_path: Path) -> None:
    first = score(sender, tmp_path / "mail", DAY - timedelta(days=1))
    text = score(sender, tmp_path / "text", DAY, tmp_path / "mail", first, channel="sms")
    assert text.name == score(sender, tmp_path / "alone", DAY, channel="sms").name
    assert_run_keeps_limits(sender, text, together(sender.texted), DAY, 3, 5, 9)


def test_caps_of_their_own_alone_hold_without_a_cap_for_all(sender: Sender, tmp_path: Path) -> None:
    run = score(sender, tmp_path, DAY, keys=["experiment.random_share=0.5"])
    reasons = assert_run_keeps_limits(sender, run, together(sender.sent), DAY, None, 7, 0)
    assert set(reasons) == {"frequency_cap"}
    mailed = set(table(run, "assignments")["user_id"])
    assert not mailed & {user for user in USERS if sender.cap[user] == 0.0}
    assert mailed >= {user for user in USERS if sender.cap[user] in (None, -3.0)}


def test_the_same_night_again_is_complete_though_its_own_run_lies_in_previous(sender: Sender, tmp_path: Path) -> None:
    out = tmp_path / "out"
    score(sender, out, DAY - timedelta(days=1), out)
    first, was = result(sender, out, DAY, out)
    again, found = result(sender, out, DAY, out)
    assert (first, was.complete_before, found.complete_before) == (again, False, True)


def test_the_run_id_forgets_runs_that_no_longer_matter(sender: Sender, tmp_path: Path) -> None:
    out = tmp_path / "out"
    old = score(sender, out, DAY - timedelta(days=9))
    recent = score(sender, out, DAY - timedelta(days=1))
    both = score(sender, tmp_path / "both", DAY, out)
    assert json.loads((both / "manifest.json").read_text())["previous"] == [recent.name.removeprefix("run=")]
    assert score(sender, tmp_path / "one", DAY, recent).name == both.name
    assert score(sender, tmp_path / "none", DAY).name != both.name
    assert score(sender, tmp_path / "named", DAY, out, old).name != both.name


def test_the_command_counts_earlier_runs_of_the_folder_it_writes_to(
    sender: Sender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    keys = [f"--set={key}" for key in KEYS]
    for day in ("2026-04-19", "2026-04-20"):
        paths = ["--out", "./out", "--previous", str(tmp_path / "out")]
        assert cli.run_command(["score", "--store", str(sender.store), *paths, "--date", day, "--quiet", *keys]) == 0
    dates = {json.loads(path.read_text())["date"]: path.parent for path in tmp_path.glob("out/*/manifest.json")}
    second = dates["2026-04-20"]
    sent = together(sender.sent, planned(dates["2026-04-19"]))
    assert_run_keeps_limits(sender, second, sent, DAY, 3, 5, 9)


def test_explain_names_the_cap_and_shows_the_slots_that_it_leaves(sender: Sender, tmp_path: Path) -> None:
    out, keys = tmp_path / "out", [*KEYS, "frequency.min_gap_hours=26"]
    first = score(sender, out, DAY - timedelta(days=1), keys=keys)
    run, request = score(sender, out, DAY, out, keys=keys), ScoreRequest(sender.store, out, date=DAY, previous=(out,))
    sent, reasons = together(sender.sent, planned(first)), dict(table(run, "suppressed").iter_rows())
    slots = {user: slot for user, slot, _ in rows_of(run)}
    some = [next(user for user in USERS if reasons.get(user) == why) for why in ("frequency_cap", "min_gap", None)]
    limited = next(user for user in slots if sent[user] and sender.zone[user] == "Asia/Tokyo")
    for user in (*some, limited):
        found = explain_user(request, str(user), load_config(None, keys), Silent())
        assert found["decision"]["suppressed"] == reasons.get(user)
        assert found["decision"]["slot"] == slots.get(user)
        midnight, zone = datetime(2026, 4, 20), ZoneInfo(sender.zone[user])
        starts = [(midnight + slot * HOUR).replace(tzinfo=zone).astimezone(UTC) for slot in range(24)]
        closed = [closed_by(start, sent[user], cap_of(sender, user, 3), 5, 26 * HOUR) for start in starts]
        assert found["slots"]["allowed"] == [not any(each) for each in closed]
        assert found["window"]["allowed_slots"] == sum(found["slots"]["allowed"])
