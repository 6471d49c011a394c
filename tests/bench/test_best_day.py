"""The simulated CDP and its judges: lifts in closed form, choices that are true, a split not to be believed."""

from pathlib import Path

import numpy as np
import pytest

from sto_decisions.best_day import HISTORY, POLICIES, SUITE, WORLD, Mails, common_day, lift, run_cell
from sto_decisions.best_day_report import best_day
from sto_decisions.cdp import DAYS, make_sender, write_sender
from sto_decisions.records import Cell

TUESDAY = 1


def mails(users: int = 700) -> Mails:
    """Seven mails a user, one a weekday; those of Tuesday are clicked by half, others by a tenth."""
    user_N, weekday_N = np.repeat(np.arange(users), 7), np.tile(np.arange(7), users)
    click_N = np.where(weekday_N == TUESDAY, user_N % 2 == 0, user_N % 10 == 0)
    return Mails(user_N, user_N * 7919 % 97, weekday_N, click_N)


def test_a_lift_is_the_ratio_of_two_click_rates() -> None:
    found, any_day = mails(), np.full(700, -1)
    assert common_day(found) == TUESDAY
    low, middle, high = lift(found, np.full(700, TUESDAY), any_day, 0)
    assert middle == pytest.approx(100 * (0.5 / ((0.5 + 6 * 0.1) / 7) - 1))
    assert low < middle < high
    assert lift(found, any_day, any_day, 0) == (0, 0, 0)


def test_clicks_are_drawn_from_the_chances_that_are_told() -> None:
    sender = make_sender(400, 1, 2_000)
    again = make_sender(400, 1, 2_000)
    assert np.array_equal(sender.click_N, again.click_N)
    p_U7 = sender.customers.chances(DAYS // 2)
    expected = p_U7[sender.user_N, sender.day_N % 7].mean()
    # campaigns of differing appeal are clicked a little more than an ordinary one
    assert 1.0 < sender.click_N.mean() / expected < 1.35
    assert sender.open_N[sender.click_N].all()


def test_a_sender_s_files_hold_a_row_an_event(tmp_path: Path) -> None:
    import polars as pl

    sender = make_sender(50, 0, 40)
    events, people = (pl.read_parquet(path) for path in write_sender(sender, tmp_path))
    counts = dict(events["event_type"].value_counts().iter_rows())
    assert counts == {"send": len(sender.user_N), "open": sender.open_N.sum(), "click": sender.click_N.sum()}
    assert len(people) == 50


@pytest.mark.long
def test_a_random_split_says_more_than_is_true_and_the_oracle_is_first() -> None:
    cell = Cell(SUITE, WORLD, HISTORY, 0, 600)
    records = run_cell(cell, 2, ("train.min_rows=200", "train.trees=20"), 400)
    found = {record.policy: record.values for record in records}
    assert set(found) == set(POLICIES)
    own = found["ours:day_of_week"]
    assert own["split_any"] > 50 + own["split_any_true"], "features that know the labels"
    assert max(found, key=lambda name: found[name]["late_any_true"]) == "oracle"
    text = "\n".join(best_day(records))
    assert "**day_of_week**" in text
    assert "±" in text
