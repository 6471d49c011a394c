"""`assign.min_gain` and `assign.keep_gain` over whole runs, recounted from the chances of --dump-scores."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sto_engine.config import load_config
from sto_engine.explain.run import explain_user
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Silent
from support import table

DAY = date(2026, 4, 20)
NEXT = DAY + timedelta(days=1)
CONTROL = 10


def score(store: Path, out: Path, *keys: str, **asked: object) -> Path:
    request = replace(ScoreRequest(store, out, date=DAY, dump_scores=True), **asked)
    run = run_score(request, load_config(None, keys), Silent()).run_dir
    assert run is not None
    return run


def scored(run: Path) -> tuple[pl.DataFrame, np.ndarray]:
    """The rows of a run and, beside each, its chance at every slot, float32 [U, S]."""
    rows, scores = table(run, "assignments"), table(run, "scores")
    assert rows["user_id"].equals(scores["user_id"])
    return rows, np.array(scores["p_open"].to_list(), np.float32)


def at(p_US: np.ndarray, slot_U: pl.Series | int) -> np.ndarray:
    """Each user's chance at his slot."""
    slot_U = np.full(len(p_US), slot_U) if isinstance(slot_U, int) else slot_U.to_numpy()
    return p_US[np.arange(len(p_US)), slot_U]


def held(run: Path) -> dict[str, int]:
    return json.loads((run / "summary.json").read_text())["held"]


def follows(rows: pl.DataFrame) -> np.ndarray:
    """Who gets the model's slot and has data, in the experiment or outside of it."""
    in_arm = rows["arm"].is_null() | (rows["arm"] == "model")
    return (in_arm & (rows["reason"] != "fallback")).to_numpy()


def slots(run: Path) -> pl.DataFrame:
    return table(run, "assignments").select("user_id", "slot", "arm", "reason", "propensity", "preferred_slot")


def test_without_gains_nothing_changes_whatever_was_before(store: Path, tmp_path: Path) -> None:
    plain = score(store, tmp_path)
    zero = score(store, tmp_path / "zero", "assign.min_gain=0", "assign.keep_gain=0", previous=(plain,), date=NEXT)
    alone = score(store, tmp_path / "alone", date=NEXT)
    assert zero.name != alone.name
    assert slots(zero).equals(slots(alone))
    assert held(zero) == held(alone) == {}


def test_a_gain_that_nobody_reaches_leaves_everyone_at_the_control_time(store: Path, tmp_path: Path) -> None:
    plain, run = score(store, tmp_path), score(store, tmp_path, "assign.min_gain=1e6")
    rows, _ = scored(run)
    mine = follows(rows)
    assert mine.sum() > 400
    assert set(rows["slot"].to_numpy()[mine]) == {CONTROL}
    assert rows["preferred_slot"].equals(table(plain, "assignments")["preferred_slot"])
    moved = int((rows["preferred_slot"].to_numpy()[mine] != CONTROL).sum())
    assert held(run) == {"kept": 0, "default": moved}
    # the arm does not matter to who stands there, so everyone's slot is certain
    np.testing.assert_allclose(rows["propensity"].to_numpy()[mine], 1.0, rtol=1e-6)


@pytest.mark.parametrize("gain", [0.002, 0.02])
def test_who_leaves_the_control_time_gains_as_much_as_is_asked_and_who_would_not_stays(
    store: Path, tmp_path: Path, gain: float
) -> None:
    run = score(store, tmp_path, f"assign.min_gain={gain}")
    rows, p_US = scored(run)
    mine, slot_U, best_U = follows(rows), rows["slot"].to_numpy(), p_US.argmax(axis=1)
    gain_U = p_US.max(axis=1) - p_US[:, CONTROL]
    left_U = mine & (slot_U != CONTROL)
    assert 20 < left_U.sum() < mine.sum() - 20
    assert (gain_U[left_U] >= gain - 1e-6).all()
    assert (gain_U[mine & (slot_U == CONTROL) & (best_U != CONTROL)] <= gain + 1e-6).all()
    assert (slot_U[left_U] == best_U[left_U]).all()
    assert held(run) == {"kept": 0, "default": int((mine & (slot_U == CONTROL) & (best_U != CONTROL)).sum())}


def other_slots(run: Path) -> np.ndarray:
    return table(run, "assignments")["slot"].to_numpy()


@pytest.fixture(scope="module")
def first_night(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A night whose slots are not those of the next: half of them are drawn."""
    return score(store, tmp_path_factory.mktemp("first"), "experiment.random_share=0.6", "experiment.control_share=0.1")


def last_slots(first: Path, rows: pl.DataFrame) -> np.ndarray:
    """The slot of the first night, -1 for who had none."""
    last = table(first, "assignments").select("user_id", last=pl.col("slot").cast(pl.Int64))
    joined = rows.join(last, on="user_id", how="left", maintain_order="left")
    return joined["last"].fill_null(-1).to_numpy()


@pytest.mark.parametrize("gain", [0.005, 0.05])
def test_the_slot_of_the_last_night_is_kept_unless_another_is_worth_that_much_more(
    store: Path, first_night: Path, tmp_path: Path, gain: float
) -> None:
    run = score(store, tmp_path, f"assign.keep_gain={gain}", previous=(first_night,), date=NEXT)
    rows, p_US = scored(run)
    last_U, slot_U, best_U, mine = last_slots(first_night, rows), other_slots(run), p_US.argmax(axis=1), follows(rows)
    lost_U = p_US.max(axis=1) - p_US[np.arange(len(p_US)), np.maximum(last_U, 0)]
    kept_U = mine & (last_U >= 0) & (slot_U == last_U) & (best_U != last_U)
    moved_U = mine & (last_U >= 0) & (slot_U != last_U)
    assert min(kept_U.sum(), moved_U.sum()) > 20
    assert (lost_U[kept_U] <= gain + 1e-6).all()
    assert (lost_U[moved_U] >= gain - 1e-6).all()
    assert (slot_U[moved_U] == best_U[moved_U]).all()
    assert held(run) == {"kept": int(kept_U.sum()), "default": 0}


def test_the_more_a_change_must_bring_the_more_slots_are_kept(store: Path, first_night: Path, tmp_path: Path) -> None:
    kept, chances = [], []
    for gain in (0, 0.003, 0.01, 0.03, 1):
        run = score(store, tmp_path, f"assign.keep_gain={gain}", previous=(first_night,), date=NEXT)
        rows, p_US = scored(run)
        mine, last_U = follows(rows), last_slots(first_night, rows)
        kept.append(int((mine & (other_slots(run) == last_U)).sum()))
        chances.append(float(at(p_US, rows["slot"])[mine].sum()))
    assert kept == sorted(set(kept))
    assert chances == sorted(chances, reverse=True)
    # offices without a history of their own are not kept outside of office hours
    office_U = (rows["reason"] == "b2b").to_numpy() & ((last_U < 8) | (last_U >= 18))
    assert kept[-1] == int((mine & (last_U >= 0) & ~office_U).sum())


def test_both_gains_add_up_on_a_slot_that_is_both(store: Path, first_night: Path, tmp_path: Path) -> None:
    keys = "assign.min_gain=0.01", "assign.keep_gain=0.015"
    run = score(store, tmp_path, *keys, previous=(first_night,), date=NEXT)
    rows, p_US = scored(run)
    wanted_US, last_U = p_US.astype(np.float64), last_slots(first_night, rows)
    wanted_US[:, CONTROL] += 0.01
    wanted_US[last_U >= 0, last_U[last_U >= 0]] += 0.015
    mine, slot_U = follows(rows), other_slots(run)
    lead_U = np.sort(wanted_US, axis=1)[:, -1] - np.sort(wanted_US, axis=1)[:, -2]
    clear_U = mine & (lead_U > 1e-6)
    assert clear_U.sum() > 400
    np.testing.assert_array_equal(slot_U[clear_U], wanted_US.argmax(axis=1)[clear_U])


@pytest.mark.parametrize("keys", [["assign.min_gain=0.5"], ["assign.min_gain=0.5", "window.start=08:00"]])
def test_explorers_and_the_windows_cost_go_by_what_slots_are_worth_without_the_gain(
    store: Path, tmp_path: Path, keys: Sequence[str]
) -> None:
    share = "experiment.explore_share=0.5"
    plain, run = (score(store, tmp_path, share, *some) for some in (keys[1:], keys))
    rows = [table(each, "assignments").filter(arm="explore") for each in (plain, run)]
    assert len(rows[0]) > 200
    assert rows[0]["slot"].equals(rows[1]["slot"])
    windows = [json.loads((each / "summary.json").read_text())["window"] for each in (plain, run)]
    for found in windows:
        if found is not None:
            found.pop("edge_share")
    assert windows[0] == windows[1]
    assert (windows[0] is None) == (len(keys) == 1)


def test_explain_gives_the_slot_that_is_held_and_says_so(store: Path, first_night: Path, tmp_path: Path) -> None:
    keys, asked = ["assign.min_gain=0.01", "assign.keep_gain=0.02"], {"previous": (first_night,), "date": NEXT}
    rows = table(score(store, tmp_path, *keys, **asked), "assignments").filter(arm="model")
    request = replace(ScoreRequest(store, tmp_path), **asked)
    for is_held in (True, False):
        row = rows.filter((pl.col("slot") != pl.col("preferred_slot")) == is_held).row(3, named=True)
        found = explain_user(request, str(row["user_id"]), load_config(None, keys), Silent())
        assert (found["decision"]["slot"], found["decision"]["model_slot"]) == (row["slot"], row["preferred_slot"])
        assert any("holds the user at" in warning for warning in found["warnings"]) == is_held
