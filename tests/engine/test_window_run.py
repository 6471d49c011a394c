"""Send windows and recipients' own hours over whole runs: who is mailed when, and what the window costs."""

import json
import math
from collections import Counter
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sto_engine.config import Config, load_config
from sto_engine.explain.run import explain_user
from sto_engine.ingest import ingest
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Silent
from sto_engine.zones import load_zone
from support import table

DAY = date(2026, 4, 20)
CONTROL = 10
# as they are written -> the hours that they leave
HOURS = {
    None: set(range(24)),
    "08:00-12:00": {8, 9, 10, 11},
    "18:30-22:00": {19, 20, 21},
    "22:00-02:00,09:00-11:00": {22, 23, 0, 1, 9, 10},
    "03:10-03:50": set(),
    " 17:00 - 18:00 ": {17},
    "not hours": set(range(24)),
}


def score(store: Path, out: Path, *keys: str, **asked: object) -> Path:
    request = replace(ScoreRequest(store, out, date=DAY), **asked)
    run = run_score(request, load_config(None, keys), Silent()).run_dir
    assert run is not None
    return run


def summary(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text())


@pytest.fixture(scope="module")
def people(world: Path, small_config: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, Any]]:
    """The small sender, whose recipients have hours of their own, and what each of them wrote."""
    folder = tmp_path_factory.mktemp("people")
    known = pl.read_parquet(world / "recipients.parquet")
    texts = [list(HOURS)[user % len(HOURS)] for user in known["user_id"]]
    known.with_columns(allowed_hours=pl.Series(texts, dtype=pl.String)).write_parquet(folder / "r.parquet")
    ingest([str(world / "events")], folder / "s", folder / "r.parquet", small_config, Silent())
    return folder / "s", dict(zip(known["user_id"], texts, strict=True))


@pytest.mark.parametrize(
    ("keys", "window"),
    [([], set(range(24))), (["window.start=09:00", "window.end=20:00"], set(range(9, 20)))],
    ids=["all day", "window"],
)
def test_every_message_lies_in_the_recipients_own_hours_and_who_has_none_is_told_so(
    people: tuple[Path, dict[int, Any]], world: Path, tmp_path: Path, keys: list[str], window: set[int]
) -> None:
    store, hours = people
    run = score(store, tmp_path, *keys, "experiment.random_share=0.3", "experiment.explore_share=0.3")
    rows, gone = table(run, "assignments"), dict(table(run, "suppressed").iter_rows())
    zones = dict(pl.read_parquet(world / "recipients.parquet").select("user_id", "timezone").iter_rows())
    for user, slot, at in rows.select("user_id", "slot", "send_at").iter_rows():
        assert slot in HOURS[hours[user]] & window
        assert zones[user] is None or at.astimezone(load_zone(zones[user])).hour == slot
    closed = {user for user, text in hours.items() if not HOURS[text] & window}
    others = {user for user, why in gone.items() if why != "window_closed"}
    assert {user for user, why in gone.items() if why == "window_closed"} == closed - others
    assert len(closed - others) > 50
    shut = Counter(list(gone.values()))
    assert summary(run)["by_suppression"] == shut
    # who cannot have the control time is in no arm
    arms = dict(rows.select("user_id", "arm").iter_rows())
    assert all((arms[user] is None) == (CONTROL not in HOURS[hours[user]] & window) for user in arms)


def test_half_hours_are_kept_to_the_minute(people: tuple[Path, dict[int, Any]], tmp_path: Path) -> None:
    store, hours = people
    rows = table(score(store, tmp_path, "slots.grid=48"), "assignments")
    found = {slot for user, slot in rows.select("user_id", "slot").iter_rows() if hours[user] == "18:30-22:00"}
    assert found <= set(range(37, 44))
    assert "03:10-03:50" not in {hours[user] for user in rows["user_id"]}


def test_explain_agrees_with_score_about_own_hours(people: tuple[Path, dict[int, Any]], tmp_path: Path) -> None:
    store, hours = people
    keys, request = ["window.end=20:00"], ScoreRequest(store, tmp_path, date=DAY)
    run = score(store, tmp_path, *keys)
    slots = dict(table(run, "assignments").select("user_id", "slot").iter_rows())
    gone = dict(table(run, "suppressed").iter_rows())
    for text, open_hours in HOURS.items():
        user = next(
            each for each in hours if hours[each] == text and gone.get(each, "window_closed") == "window_closed"
        )
        found = explain_user(request, str(user), load_config(None, keys), Silent())
        assert set(np.flatnonzero(found["slots"]["allowed"])) == open_hours & set(range(20))
        assert (found["decision"]["slot"], found["decision"]["suppressed"]) == (slots.get(user), gone.get(user))


def recount(run: Path, hours_US: np.ndarray) -> tuple[dict[str, Any], float, float]:
    """The window's figures from the files of a run, and the gains with and without the window."""
    rows, scores = table(run, "assignments"), table(run, "scores")
    assert rows["user_id"].equals(scores["user_id"])
    p_US = np.array(scores["p_open"].to_list())
    mine = ((rows["arm"].is_null() | (rows["arm"] == "model")) & (rows["reason"] != "fallback")).to_numpy()
    p_US, hours_US, slot_U = p_US[mine], hours_US[mine], rows["slot"].to_numpy()[mine]
    base_U = p_US[:, CONTROL]
    free, inside = (p_US.max(axis=1) - base_U).mean(), (np.where(hours_US, p_US, 0).max(axis=1) - base_U).mean()
    beside_US = ~np.roll(hours_US, 1, axis=1) | ~np.roll(hours_US, -1, axis=1)
    n_model, n_control = (int((rows["arm"] == arm).sum()) for arm in ("model", "control"))
    rate = base_U.mean()
    least = 2.8 * math.sqrt(rate * (1 - rate) * (1 / n_control + 1 / n_model)) if n_control and n_model else None
    found = {
        "window_cost": 1 - inside / free,
        "edge_share": beside_US[np.arange(len(slot_U)), slot_U].mean(),
        "gain_per_recipient": inside,
        "least_measurable": least,
    }
    return found, free, rate


@pytest.mark.parametrize(
    ("start", "end", "control", "text"),
    [
        (8, 13, 0.1, "the window costs 59% of the gain"),
        (7, 23, 0.1, None),
        (7, 23, 0.5, None),
        (9, 22, 0.5, "the window leaves an expected gain of 5."),
        (8, 12, 0.5, "the window leaves an expected gain of 2.57% opens a recipient (6.77% without it)"),
        (20, 22, 0.1, "the window costs 139% of the gain"),
    ],
)
def test_figures_of_a_window_are_those_of_a_count_by_hand_and_it_warns_where_it_costs_much(
    store: Path, tmp_path: Path, start: int, end: int, control: float, text: str | None
) -> None:
    keys = [f"window.start={start:02d}:00", f"window.end={end:02d}:00", f"experiment.control_share={control}"]
    run = score(store, tmp_path, *keys, dump_scores=True)
    open_S = (np.arange(24) >= start) & (np.arange(24) < end)
    told = summary(run)
    expected, free, rate = recount(run, np.tile(open_S, (told["counts"]["assigned"], 1)))
    least, inside = expected.pop("least_measurable"), expected["gain_per_recipient"]
    assert told["window"].pop("least_measurable") == (least and pytest.approx(least, rel=1e-4))
    assert told["window"] == pytest.approx(expected, rel=1e-4)
    warnings = [warning for warning in told["warnings"] if warning.startswith("the window")]
    hidden = least is not None and inside < least <= free
    assert bool(warnings) == (hidden or (expected["window_cost"] > 0.5 and free > 0.01 * rate))
    assert [warning.startswith(text or "?") for warning in warnings] == ([True] if text else [])


def test_own_hours_cost_too(people: tuple[Path, dict[int, Any]], tmp_path: Path) -> None:
    store, hours = people
    run = score(store, tmp_path, dump_scores=True)
    mine = [HOURS[hours[user]] for user in table(run, "assignments")["user_id"]]
    expected, _, _ = recount(run, np.array([[slot in own for slot in range(24)] for own in mine]))
    assert summary(run)["window"] == pytest.approx(expected, rel=1e-4)


def test_a_night_without_new_settings_is_the_plain_best_slot_of_everyone(
    store: Path, bundle: Path, tmp_path: Path
) -> None:
    for policy in ("attention", "boosted"):
        trained = bundle if policy == "boosted" else None
        run = score(store, tmp_path, f"model.policy={policy}", dump_scores=True, bundle=trained)
        rows, scores = table(run, "assignments"), table(run, "scores")
        best_U = np.array(scores["p_open"].to_list(), np.float32).argmax(axis=1)
        np.testing.assert_array_equal(rows["preferred_slot"].to_numpy(), best_U)
        control = (rows["arm"] == "control").to_numpy()
        np.testing.assert_array_equal(rows["slot"].to_numpy(), np.where(control, CONTROL, best_U))
        assert set(rows["arm"].unique()) == {"model", "control"}
        told = summary(run)
        assert (told["held"], told["window"], told["capacity"]["bound"]) == ({}, None, None)
        assert not [warning for warning in told["warnings"] if "window" in warning]
