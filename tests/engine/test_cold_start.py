"""Bursts, epsilon and office hours: draws against their stated chances, and who gets what in whole runs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from histories import DAY, Row, before, mail, people, store_of
from nights import ORDINARY, Sender, make_sender
from nights import people as sender_people
from sto_engine.assign import cold_start
from sto_engine.config import load_config
from sto_engine.config_policies import ColdStart
from sto_engine.errors import ConfigError
from sto_engine.explain.run import explain_user
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Silent
from sto_engine.slots import grid_of
from sto_kernels.hashing import hash_integers
from support import digest, table

OFFICE = range(8, 18)
NO_ARMS = "experiment.control_share=0"


def score(store: Path, out: Path, *keys: str, **asked: object) -> Path:
    request = replace(ScoreRequest(store, out, date=DAY), **asked)
    run = run_score(request, load_config(None, keys), Silent()).run_dir
    assert run is not None
    return run


def rows_of(store: Path, out: Path, *keys: str, **asked: object) -> pl.DataFrame:
    return table(score(store, out, *keys, **asked), "assignments")


def test_over_many_nights_slots_come_as_often_as_stated() -> None:
    """Four users with masks of their own: new, new and an office, an office whose hours are closed, and known."""
    settings = ColdStart(burst_campaigns=3, burst_share=0.7, epsilon=0.4, b2b_hours="08:00-18:00")
    hours_S = cold_start.office_hours(settings, grid_of(24))
    yes, allowed_US = np.ones(5, np.bool_), np.ones((5, 24), np.bool_)
    allowed_US[0, :20], allowed_US[2, 8:18] = False, False
    new_U, b2b_U = np.array([1, 1, 1, 0, 0], np.bool_), np.array([0, 1, 1, 1, 0], np.bool_)
    known = cold_start.Newness(np.array([1, 1, 1, 1, 0], np.bool_), new_U, b2b_U, ~yes)
    h_U, model_U, nights = hash_integers(np.arange(5)), np.array([23, 20, 5, 9, 9], np.uint8), 8_000
    seen_US = np.zeros((5, 24))
    for night in range(nights):
        draw = cold_start.draw(settings, hours_S, known, allowed_US, yes, (h_U, night % 7, f"night {night}"))
        assert draw is not None
        seen_US[np.arange(5), np.where(draw.drawn_U, draw.slot_U, model_U)] += 1
    for slot in range(24):
        at_U = np.full(5, slot, np.uint8)
        chance_U = cold_start.mixed(draw.share_U, draw.target_US, at_U, at_U == model_U)
        np.testing.assert_allclose(seen_US[:, slot] / nights, chance_U, atol=4 * np.sqrt(0.25 / nights), rtol=0)
        assert (seen_US[chance_U == 0, slot] == 0).all()
    assert seen_US[1, list(OFFICE)].sum() > 0.69 * nights
    assert seen_US[4, 9] == nights
    assert (seen_US[3] > 0).all()


def test_office_hours_are_of_weekdays_where_the_grid_has_days() -> None:
    assert np.flatnonzero(cold_start.office_hours(ColdStart(), grid_of(24))).tolist() == list(OFFICE)
    assert np.flatnonzero(cold_start.office_hours(ColdStart(), grid_of(48))).tolist() == list(range(16, 36))
    week_S = cold_start.office_hours(ColdStart(), grid_of(168)).reshape(7, 24)
    assert week_S[:5, 8:18].all()
    assert week_S.sum() == 50
    assert cold_start.office_hours(ColdStart(), grid_of(7)).tolist() == [True] * 5 + [False] * 2
    assert cold_start.office_hours(ColdStart(b2b_hours=""), grid_of(24)).all()


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("burst_campaigns=-1", "burst_campaigns"),
        ("burst_share=1.5", "burst_share"),
        ("epsilon=2", "epsilon"),
        ('b2b_hours="8-18"', "b2b_hours"),
        ('b2b_hours="08:10-08:50"', "at least one whole slot of 60 minutes"),
        ('b2b_hours="09:00-09:00"', "must not start where they end"),
    ],
)
def test_settings_that_mean_nothing_are_refused(store: Path, tmp_path: Path, key: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        score(store, tmp_path, f"cold_start.{key}")


@pytest.fixture(scope="module")
def brand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cohort `web` reads at 21:00. Users of 0 to 5 mails, activity without mails, a machine, one who refuses."""
    rows = [
        row
        for user in range(1, 31)
        for d in range(2, 40, 2)
        for row in mail(user, before(d, (user + d) % 24 + 0.0), (21.5 - user - d) % 24)
    ]
    rows += [row for user in range(100, 106) for d in range(user - 100) for row in mail(user, before(3 + d, 9), 12.5)]
    rows += [Row(110, "open", before(d, 20), d) for d in range(1, 9)]
    rows += [row for d in range(2, 6) for row in mail(111, before(d, 9), 0.01)]
    rows += [row for row in mail(112, before(2, 9), 1.0)]
    ids = [*range(1, 31), *range(100, 106), 110, 111, 112, *range(200, 240)]
    office = [user >= 220 for user in ids]
    refuses = [False if user in (112, 239) else None for user in ids]
    recipients = people(ids, timezone="UTC", signup_source="web", b2b=office, consent_profiling=refuses)
    return store_of(rows, tmp_path_factory.mktemp("brand"), recipients, buckets=4).path


COHORT = 'cohort.by=["signup_source"]'


def test_a_newcomers_burst_ends_with_its_mails(brand: Path, tmp_path: Path) -> None:
    run = score(brand, tmp_path, NO_ARMS, COHORT, "cold_start.burst_campaigns=3")
    rows = table(run, "assignments")
    explore = set(rows.filter(reason="explore")["user_id"])
    assert explore == {100, 101, 102, *range(200, 239)}
    assert rows["arm"].unique().to_list() == ["model"]
    offices = rows.filter(pl.col("user_id").is_between(220, 238))
    assert set(offices["slot"]) <= set(OFFICE)
    assert offices["propensity"].to_list() == pytest.approx([0.1] * 19)
    others = rows.filter(pl.col("user_id").is_between(200, 219))
    assert len(set(others["slot"])) > 8
    assert others["propensity"].to_list() == pytest.approx([1 / 24] * 20)
    known = rows.filter(~pl.col("user_id").is_in(explore))
    assert (known["propensity"] == 1).all()
    told = json.loads((run / "summary.json").read_text())
    assert told["cold_start"] == {"new": 42, "burst": 42, "epsilon": 0}
    assert told["by_reason"]["explore"] == 42
    longer = rows_of(brand, tmp_path, NO_ARMS, COHORT, "cold_start.burst_campaigns=5")
    assert set(longer.filter(reason="explore")["user_id"]) == explore | {103, 104}  # 111 has 4 mails, and is a machine


def test_offices_without_a_history_follow_the_cohort_in_office_hours(brand: Path, tmp_path: Path) -> None:
    rows = rows_of(brand, tmp_path, NO_ARMS, COHORT)
    slot, reason = (dict(rows.select("user_id", name).iter_rows()) for name in ("slot", "reason"))
    evening = slot[200]
    assert evening not in OFFICE
    assert {reason[user] for user in range(220, 239)} == {"b2b"}
    assert len({slot[user] for user in range(220, 239)}) == 1
    assert slot[220] in OFFICE
    # who may not be profiled is mailed as his cohort is
    assert (reason[239], slot[239]) == ("cohort", evening)
    assert rows["propensity"].unique().to_list() == [1.0]
    off = rows_of(brand, tmp_path, NO_ARMS, COHORT, "cold_start.b2b_hours=")
    assert off.filter(pl.col("user_id").is_between(220, 239))["slot"].unique().to_list() == [evening]
    assert "b2b" not in off["reason"].to_list()
    night = "window.start=19:00", "window.end=23:00"
    closed = rows_of(brand, tmp_path, NO_ARMS, COHORT, *night, "cold_start.burst_campaigns=1")
    assert closed["slot"].is_between(19, 22).all()
    assert closed.filter(user_id=220)["propensity"].item() == pytest.approx(0.25)
    assert rows_of(brand, tmp_path, NO_ARMS, COHORT, *night).filter(user_id=220)["reason"].item() == "cohort"


@pytest.mark.parametrize("policy", ["histogram", "attention"])
def test_every_policy_keeps_office_hours(brand: Path, tmp_path: Path, policy: str) -> None:
    rows = rows_of(brand, tmp_path, NO_ARMS, COHORT, f"model.policy={policy}").filter(reason="b2b")
    assert len(rows) == 19
    assert rows["slot"].is_between(8, 17).all()


LIMITED = (
    "experiment.control_share=0.02",
    "experiment.random_share=0.1",
    "cold_start.burst_campaigns=8",
    "cold_start.burst_share=0.5",
)


def counted(rows: pl.DataFrame) -> np.ndarray:
    """Users at each slot, each counting for as many as his propensity says that he stands for."""
    return np.bincount(rows["slot"].to_numpy(), 1 / rows["propensity"].to_numpy(), 24)


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Sender:
    """Everyone may get every slot."""
    recipients = sender_people(400).with_columns(allowed_hours=pl.lit(None, pl.String), consent=pl.lit(True))
    return make_sender(tmp_path_factory.mktemp("sender"), recipients)


FEW = "capacity.max_slot_share=0.06"


@pytest.mark.parametrize("keys", [[], [FEW]], ids=["free", "limited"])
def test_propensities_weigh_every_slot_to_all_recipients(sender: Sender, tmp_path: Path, keys: list[str]) -> None:
    """The sum of 1 / P over a slot's rows is the number of recipients, on average over draws."""
    seeds, total_S = 3, np.zeros(24)
    for seed in range(seeds):
        rows = rows_of(sender.store, tmp_path, *LIMITED, *keys, seed=seed, date=ORDINARY)
        total_S += counted(rows)
    drawn = rows.filter(reason="explore")
    assert {"model"} == set(drawn["arm"])
    assert len(drawn) > 120
    # half of 88 % of the rows are drawn, so P is about .45 / 24 at most slots
    assert np.abs(total_S / (seeds * 400) - 1).max() < 4 * np.sqrt(24 / 0.45 / (seeds * 400))


def test_limits_move_nobody_who_explores(sender: Sender, tmp_path: Path) -> None:
    free = rows_of(sender.store, tmp_path, *LIMITED, date=ORDINARY)
    tight = rows_of(sender.store, tmp_path, *LIMITED, FEW, date=ORDINARY)
    assert not tight["slot"].equals(free["slot"])
    columns = ["user_id", "arm", "reason", "slot"]
    explored = free.filter(reason="explore").select(columns)
    assert tight.filter(reason="explore").select(columns).equals(explored)
    assert tight.filter(reason="model")["slot"].value_counts()["count"].max() < 0.06 * len(tight)
    # elsewhere than the model would have sent him, but for one in 24
    assert (tight.filter(reason="explore")["propensity"] < 0.2).mean() > 0.7


def test_draws_depend_on_neither_buckets_nor_threads(tmp_path: Path) -> None:
    keys, asked = (*LIMITED, FEW), {"date": ORDINARY}
    senders = [make_sender(tmp_path / f"{buckets}", sender_people(150), buckets) for buckets in (1, 4)]
    asked_for = ((0, 3), (1, 1), (1, 3))
    runs = [
        score(senders[n].store, tmp_path / f"out-{n}-{threads}", *keys, threads=threads, **asked)
        for n, threads in asked_for
    ]
    assert digest(runs[1]) == digest(runs[2])
    one, four = (table(run, "assignments").filter(reason="explore") for run in runs[:2])
    assert one.select("user_id", "slot").equals(four.select("user_id", "slot"))
    others = score(senders[0].store, tmp_path / "out", *keys, seed=1, **asked)
    assert not table(others, "assignments").filter(reason="explore")["user_id"].equals(one["user_id"])


def test_outside_the_experiment_draws_have_their_chances(brand: Path, tmp_path: Path) -> None:
    """A control time that quiet hours close leaves nobody in the experiment; the model and its draws go on."""
    rows = rows_of(brand, tmp_path, COHORT, 'window.quiet=["09:00-11:00"]', "cold_start.epsilon=0.5")
    assert rows["arm"].null_count() == len(rows)
    drawn = rows.filter(reason="explore")
    assert 20 < len(drawn) < 60
    chosen_U = drawn["slot"].to_numpy() == drawn["preferred_slot"].to_numpy()
    np.testing.assert_allclose(drawn["propensity"].to_numpy(), 0.5 * chosen_U + 0.5 / 22, rtol=1e-6)


def test_explain_tells_of_a_draw_and_of_office_hours(brand: Path, tmp_path: Path) -> None:
    config = load_config(None, [NO_ARMS, COHORT, "cold_start.burst_campaigns=3"])
    drawn = explain_user(ScoreRequest(brand, tmp_path, date=DAY), "200", config, Silent())
    assert drawn["decision"]["reason"] == "explore"
    assert any("explores tonight, by cold_start" in warning for warning in drawn["warnings"])
    config = load_config(None, [NO_ARMS, COHORT])
    office = explain_user(ScoreRequest(brand, tmp_path, date=DAY), "220", config, Silent())["decision"]
    assert office["reason"] == "b2b"
    assert {office["slot"], office["runner_up"]} <= set(OFFICE)
