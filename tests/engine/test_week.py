"""Grids of several days: which day is chosen, how long mail may wait, and limits over the whole horizon."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from histories import DAY, Row, before, people, store_of
from nights import (
    BIN_MS,
    GAP_BERLIN,
    GAP_NEW_YORK,
    ORDINARY,
    OVERLAP,
    Sender,
    by_day,
    load_of,
    make_sender,
    over,
    run_night,
)
from nights import people as many
from sto_engine.assign.census import take_census
from sto_engine.assign.market import _unpacked
from sto_engine.assign.window import zone_slots
from sto_engine.config import load_config
from sto_engine.errors import ConfigError, UsageError
from sto_engine.evaluate.world import evaluate_world
from sto_engine.explain.run import explain_user
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Silent
from sto_engine.slots import grid_of
from support import digest, table

WEEK = "model.policy=hour_of_week"
ALL_MODEL = "experiment.control_share=0"


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Sender:
    return make_sender(tmp_path_factory.mktemp("week"), many(400))


def habit(user: int, weekend: bool, hour: int) -> list[Row]:
    """A mail each morning, opened at an hour of the days of one kind alone."""
    rows = []
    for day in range(1, 85):
        sent = before(day, 1)
        rows.append(Row(user, "send", sent, day))
        if (sent.weekday() >= 5) == weekend:
            rows.append(Row(user, "open", before(day, hour) + timedelta(minutes=20), day))
    return rows


def test_who_reads_on_weekends_waits_for_one_and_who_reads_on_weekdays_gets_the_first(tmp_path: Path) -> None:
    rows = [row for user in range(1, 9) for row in habit(user, user <= 4, 19)]
    store = store_of(rows, tmp_path / "store", people(range(1, 9), timezone="UTC"))
    run = run_score(
        ScoreRequest(store.path, tmp_path, date=DAY), load_config(None, [WEEK, ALL_MODEL]), Silent()
    ).run_dir
    assert run is not None
    local = dict(table(run, "assignments").select("user_id", "slot_local").iter_rows())
    saturday = DAY + timedelta(days=3)  # DAY is a Wednesday
    assert {local[user].date() for user in range(1, 5)} <= {saturday, saturday + timedelta(days=1)}
    assert {local[user].date() for user in range(5, 9)} == {DAY}
    assert all(local[user].hour in (18, 19) for user in range(1, 9))
    told = explain_user(
        ScoreRequest(store.path, tmp_path, date=DAY), "1", load_config(None, [WEEK, ALL_MODEL]), Silent()
    )
    assert told["decision"]["slot_local"] == f"{local[1]:%Y-%m-%dT%H:%M}"
    assert len(told["slots"]["p_2h_own"]) == len(told["slots"]["local"]) == 168


@pytest.mark.parametrize(
    ("day", "days"), [(GAP_NEW_YORK, 1), (GAP_NEW_YORK, 7), (GAP_BERLIN, 3), (OVERLAP, 7)], ids=str
)
def test_mail_goes_out_on_the_days_of_the_horizon_at_hours_that_exist(
    sender: Sender, tmp_path: Path, day: date, days: int
) -> None:
    result = run_night(sender, tmp_path, WEEK, "experiment.random_share=0.5", day=day, horizon_days=days)
    assert result.run_dir is not None
    rows, zone_of = table(result.run_dir, "assignments"), sender.by_user("timezone")
    counts = result.summary["counts"]
    assert counts["audience"] == counts["assigned"] + counts["suppressed"] == 400
    last = day + timedelta(days=days)
    for user, slot, local, at in rows.select("user_id", "slot", "slot_local", "send_at").iter_rows():
        assert day <= local.date() < last
        assert slot == local.weekday() * 24 + local.hour
        zone = ZoneInfo(zone_of[user])
        start = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
        assert start.astimezone(zone).replace(tzinfo=None) == local
        assert timedelta() <= at - start < timedelta(hours=1)
    assert sum(result.summary["by_day"].values()) == len(rows)
    assert len(rows["slot_local"].dt.date().unique()) == days
    control = rows.filter(pl.col("arm") == "control")["slot_local"].unique().to_list()
    assert control == [datetime(day.year, day.month, day.day, 10)]


def test_limits_hold_over_the_whole_horizon(sender: Sender, tmp_path: Path) -> None:
    """A tenth of what one day would want: most must wait, nobody is lost, no quarter-hour and no day is over-full."""
    keys = (WEEK, "experiment.control_share=0.02", "capacity.total=60/day", "capacity.providers.gmail=12/h")
    result = run_night(sender, tmp_path, *keys, day=ORDINARY)
    assert result.run_dir is not None
    load = load_of(result.run_dir)
    assert not over(load, {"gmail": 3})
    assert max(n for (_, name), n in by_day(load).items() if name == "total") <= 60
    assert result.summary["counts"]["assigned"] + result.summary["counts"]["suppressed"] == 400
    assert sum(n > 0 for n in result.summary["by_day"].values()) >= 6
    assert result.summary["capacity"]["gap"] < 0.05


def test_a_cap_moves_mail_to_the_day_that_it_leaves(tmp_path: Path) -> None:
    """One message in three days: who had one yesterday gets the next two days later."""
    rows = [row for user in (1, 2) for row in habit(user, False, 19)]
    rows = [row for row in rows if row.user == 1 or row.at < before(4)]
    store = store_of(rows, tmp_path / "store", people([1, 2], timezone="UTC"))
    config = load_config(None, [WEEK, ALL_MODEL, "frequency.cap=1", "frequency.days=3"])
    run = run_score(ScoreRequest(store.path, tmp_path, date=DAY), config, Silent()).run_dir
    assert run is not None
    local = dict(table(run, "assignments").select("user_id", "slot_local").iter_rows())
    assert local[2].date() == DAY
    assert local[1] >= datetime(2026, 4, 3, 1)


def test_bytes_do_not_depend_on_threads(sender: Sender, tmp_path: Path) -> None:
    runs = [run_night(sender, tmp_path / str(n), WEEK, day=ORDINARY, threads=n).run_dir for n in (1, 2)]
    assert runs[0] is not None
    assert runs[1] is not None
    assert digest(runs[0]) == digest(runs[1])


def test_choices_do_not_depend_on_buckets(sender: Sender, tmp_path: Path) -> None:
    one = make_sender(tmp_path, sender.recipients, buckets=1)
    found = []
    for number, it in enumerate((sender, one)):
        run = run_night(it, tmp_path / f"runs-{number}", WEEK, day=ORDINARY).run_dir
        assert run is not None
        found.append(table(run, "assignments").select("user_id", "slot", "arm", "p_open", "propensity"))
    assert found[0].sort("user_id").equals(found[1].sort("user_id"))


def test_a_bundle_chooses_the_hour_of_the_week_too(world: Path, store: Path, bundle: Path, tmp_path: Path) -> None:
    day, found = date(2026, 4, 20), {}
    for name, keys, days in (("day", (), None), ("week", (WEEK,), None), ("first", (WEEK,), 1)):
        request = ScoreRequest(store, tmp_path / name, bundle, day, horizon_days=days)
        run = run_score(request, load_config(None, [ALL_MODEL, *keys]), Silent()).run_dir
        assert run is not None
        found[name] = table(run, "assignments").select("user_id", "slot", "p_open"), evaluate_world(world, run)
    one, first = found["day"][0], found["first"][0]
    # sigmoids of margins that differ by less than float32 tells may tie
    assert ((one["slot"] + 24 * day.weekday()) == first["slot"]).mean() > 0.99
    assert found["week"][0]["p_open"].mean() >= one["p_open"].mean()
    judged = found["week"][1]["within_2h"]
    assert judged["oracle"] >= found["day"][1]["within_2h"]["oracle"]
    assert judged["ours"] <= judged["oracle"]


def test_a_set_of_168_slots_goes_through_the_census_and_back() -> None:
    rng, grid = np.random.default_rng(0), grid_of(168)
    zones = zone_slots(pl.Series(["UTC", "Europe/Berlin"] * 20), grid, date(2026, 4, 1), load_config(None, []), None)
    closed_US = rng.random((40, 168)) < 0.5
    zones = zones.with_closed(closed_US)
    census = take_census(zones, np.zeros(40, np.int32), [""], np.zeros(40, np.bool_), np.zeros(40, np.uint8))
    masks = [mask for _, _, mask in census.free]
    assert sum(census.free.values()) == 40
    wanted = {tuple(row) for row in zones.allowed_US().tolist()}
    assert {tuple(row) for row in _unpacked(masks, 168).tolist()} == wanted
    assert type(census).from_json(census.to_json()) == census


@pytest.mark.parametrize(
    ("keys", "days", "kind", "text"),
    [
        ((), 2, UsageError, "hour_of_week"),
        ((WEEK,), 8, UsageError, "1 to 7"),
        ((WEEK,), 0, UsageError, "1 to 7"),
        ((WEEK, "slots.grid=24"), None, ConfigError, "168"),
        ((WEEK, "model.w24=0.5"), None, ConfigError, "w24"),
        (("model.policy=attention", "slots.grid=168"), None, ConfigError, "policy of the week"),
    ],
)
def test_what_does_not_go_together_is_refused(
    sender: Sender, tmp_path: Path, keys: tuple[str, ...], days: int | None, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        run_night(sender, tmp_path, *keys, horizon_days=days)
    assert not list(tmp_path.iterdir())


def test_day_slots_leave_at_the_control_time(sender: Sender) -> None:
    grid = grid_of(7)
    zones = zone_slots(pl.Series(["Asia/Kathmandu"]), grid, ORDINARY, load_config(None, []), None, 2)
    assert np.flatnonzero(zones.allowed_US()[0]).tolist() == [0, 1]
    assert zones.start_ms_ZS[0, 0] % (24 * 4 * BIN_MS) == (10 * 60 - 345) * 60_000
    assert grid.send_minutes == 60
