"""One run, several channels, on a sender known by construction: which pair each user gets, and what holds it back."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sto_engine import cli
from sto_engine.config import load_config
from sto_engine.errors import ConfigError, UsageError
from sto_engine.explain.run import explain_user
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Silent
from support import digest, table
from two_channels import DAY, EVENING, MORNING, World, make_world

BOTH = "email,push"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("two"))


def score(world: World, out: Path, *keys: str, store: Path | None = None, **asked: object) -> Path:
    request = replace(ScoreRequest(store or world.store, out, date=DAY, channel=BOTH), **asked)
    run = run_score(request, load_config(None, keys), Silent()).run_dir
    assert run is not None
    return run


@pytest.fixture(scope="module")
def run(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return score(world, tmp_path_factory.mktemp("out"), dump_scores=True)


def pairs(run: Path, users: set[int] | frozenset[int]) -> Counter[tuple[str, int]]:
    rows = table(run, "assignments").filter(pl.col("user_id").is_in(list(users)), pl.col("arm") == "model")
    return Counter(rows.select("channel", "slot").iter_rows())


def test_who_answers_to_pushes_gets_one_before_he_reads_them_others_a_mail_before_theirs(
    run: Path, world: World
) -> None:
    others = set(range(1, world.users + 1)) - world.fond
    push, mail = pairs(run, world.fond - world.no_push), pairs(run, others)
    assert push["push", MORNING - 1] > 0.9 * push.total()
    assert mail["email", EVENING - 1] > 0.9 * mail.total()


def test_a_channel_that_never_sent_to_a_user_is_not_chosen_for_him(run: Path, world: World) -> None:
    assert {channel for channel, _ in pairs(run, world.no_push)} == {"email"}


def test_chances_are_those_of_the_channel(run: Path, world: World) -> None:
    rows = table(run, "assignments").filter(pl.col("arm") == "model")
    fond = rows["user_id"].is_in(list(world.fond - world.no_push))
    assert rows.filter(fond & (rows["channel"] == "push"))["p_open"].mean() == pytest.approx(0.8, abs=0.1)
    assert rows.filter(~fond)["p_open"].mean() == pytest.approx(0.45, abs=0.1)


def test_the_control_time_is_that_of_the_first_channel(run: Path) -> None:
    control = table(run, "assignments").filter(pl.col("arm") == "control")
    assert control.select("channel", "slot").unique().rows() == [("email", 10)]
    assert control["propensity"].min() >= np.float32(0.1)


def test_scores_hold_the_pairs_channel_by_channel_and_nothing_where_nobody_can_be_reached(
    run: Path, world: World
) -> None:
    scores = table(run, "scores").join(table(run, "assignments"), on="user_id")
    for row in scores.iter_rows(named=True):
        assert len(row["p_open"]) == 48
        at = (24 if row["channel"] == "push" else 0) + row["slot"]
        assert row["p_open"][at] == row["p_open_right"]
        assert (max(row["p_open"][24:]) == 0) == (row["user_id"] in world.no_push)


def test_random_users_are_drawn_evenly_among_the_pairs_that_reach_them(world: World, tmp_path: Path) -> None:
    rows = table(score(world, tmp_path, "experiment.control_share=0", "experiment.random_share=1"), "assignments")
    lost = rows["user_id"].is_in(list(world.no_push))
    assert rows.filter(~lost)["propensity"].to_numpy() == pytest.approx(1 / 48)
    assert rows.filter(lost)["propensity"].to_numpy() == pytest.approx(1 / 24)
    assert 0.4 < (rows.filter(~lost)["channel"] == "push").mean() < 0.6  # type: ignore[operator]
    assert set(rows.filter(lost)["channel"]) == {"email"}


def test_buckets_and_threads_change_no_pair(world: World, run: Path, tmp_path: Path) -> None:
    again = score(world, tmp_path / "threads", dump_scores=True, threads=1)
    assert digest(again) == digest(run)
    other = make_world(_folder(tmp_path / "one"), buckets=1)
    one = table(score(other, tmp_path / "out"), "assignments")
    assert one.drop("send_at").equals(table(run, "assignments").drop("send_at"))


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_the_order_of_the_list_names_the_default_and_changes_no_choice(world: World, run: Path, tmp_path: Path) -> None:
    turned = table(score(world, tmp_path, channel="push,email"), "assignments")
    assert set(turned.filter(pl.col("arm") == "control")["channel"]) == {"push"}
    # who cannot be reached at the control time leaves the experiment
    assert set(turned.filter(pl.col("arm").is_null())["user_id"]) <= world.no_push
    both = (
        table(run, "assignments")
        .join(turned, on="user_id")
        .filter((pl.col("arm") == "model") & pl.col("arm_right").eq("model"))
    )
    assert both["channel"].equals(both["channel_right"], check_names=False)
    assert both["slot"].equals(both["slot_right"], check_names=False)


def test_a_column_of_the_recipients_says_who_can_be_reached(world: World, tmp_path: Path) -> None:
    run = score(world, tmp_path, 'channels.reach={email="push_ok"}')
    gone = dict(table(run, "suppressed").iter_rows())
    assert gone == dict.fromkeys(world.no_push, "no_channel")


@pytest.mark.parametrize("limit", ["push", "email"])
def test_limits_of_a_channel_hold_in_every_quarter_hour(world: World, tmp_path: Path, limit: str) -> None:
    run = score(world, tmp_path, f'capacity.channels={{{limit}="40/h"}}')
    rows = table(run, "assignments").filter(pl.col("channel") == limit)
    load = rows.group_by(pl.col("send_at").dt.truncate("15m")).len()["len"]
    assert len(rows) > 40
    assert load.max() <= 10  # type: ignore[operator]
    told = pl.read_csv(run / "load.csv").filter(pl.col("provider") == f"channel:{limit}")
    assert told["after"].sum() == len(rows)
    assert set(told["capacity"]) == {10}


def test_limits_of_mailbox_providers_are_for_mail_alone(world: World, run: Path, tmp_path: Path) -> None:
    keys = 'capacity.providers={other="40/h"}', "spread.min_minutes=60"
    held = table(score(world, tmp_path, *keys), "assignments")
    mailed = held.filter(pl.col("channel") == "email").group_by(pl.col("send_at").dt.truncate("15m")).len()["len"]
    assert mailed.max() <= 10  # type: ignore[operator]
    pushed = table(run, "assignments").filter(pl.col("channel") == "push").join(held, on="user_id")
    assert (pushed["slot"] == pushed["slot_right"]).mean() > 0.9  # type: ignore[operator]


def test_four_channels_of_half_hours_are_chosen_from_within_limits(world: World, tmp_path: Path) -> None:
    keys = "slots.grid=48", 'capacity.channels={push="30/h"}', "experiment.random_share=0.3"
    rows = table(score(world, tmp_path, *keys, channel="email,push,sms,in_app"), "assignments")
    assert len(rows) == world.users
    assert set(rows["channel"]) == {"email", "push"}  # nobody was ever sent anything else
    assert rows["slot"].max() > 24  # type: ignore[operator]
    load = rows.filter(pl.col("channel") == "push").group_by(pl.col("send_at").dt.truncate("15m")).len()["len"]
    assert load.max() <= 7  # type: ignore[operator]


def test_a_cap_of_a_channel_closes_that_channel_alone(world: World, tmp_path: Path) -> None:
    run = score(world, tmp_path, "frequency.channels={push=1}")
    assert set(table(run, "assignments")["channel"]) == {"email"}
    assert table(run, "suppressed").is_empty()


def test_the_cap_in_total_counts_all_channels(world: World, tmp_path: Path) -> None:
    # a mail and a push a day: within 7 days 14 of those who get both, 7 of the others
    run = score(world, tmp_path, "frequency.cap=10")
    rows = table(run, "assignments")
    assert set(rows["user_id"]) == world.no_push
    assert set(table(run, "suppressed")["reason"]) == {"frequency_cap"}


def test_the_next_night_knows_on_which_channel_it_has_sent(world: World, run: Path, tmp_path: Path) -> None:
    kept = score(world, tmp_path / "a", "assign.keep_gain=1", previous=(run,))
    was = table(run, "assignments").join(table(kept, "assignments"), on="user_id")
    was = was.filter((pl.col("arm") == "model") & (pl.col("arm_right") == "model"))
    assert (was["channel"] == was["channel_right"]).all()
    assert (was["slot"] == was["slot_right"]).all()
    pushed = set(table(run, "assignments").filter(pl.col("channel") == "push")["user_id"])
    alone = score(world, tmp_path / "b", "frequency.cap=1", "frequency.days=1", channel="sms", previous=(run,))
    assert table(alone, "suppressed").is_empty()
    push = score(world, tmp_path / "c", "frequency.min_gap_hours=20", channel="push", previous=(run,))
    assert dict(table(push, "suppressed").iter_rows()) == dict.fromkeys(pushed, "min_gap")


@pytest.mark.parametrize(
    ("channel", "keys", "error", "match"),
    [
        ("email,puhs", [], UsageError, 'found "puhs"; nearest: "push"'),
        ("email,", [], UsageError, 'found ""'),
        ("push,push", [], UsageError, "each channel once"),
        (None, ['channels.choose=["email","sns"]'], UsageError, 'channels.choose .* nearest: "sms"'),
        (BOTH, ["slots.grid=168", "model.policy=hour_of_week"], ConfigError, "grid of one day"),
        ("email,push,sms,in_app,web,tv", ['channels.names=["web","tv"]', "slots.grid=48"], ConfigError, "at most 250"),
        (BOTH, ["model.policy=histogram"], ConfigError, 'model.policy = "attention"'),
        (BOTH, ["model.policy=bandit"], ConfigError, 'model.policy = "attention"'),
        (BOTH, ['channels.reach={push="nope"}'], ConfigError, "recipients.keep"),
        (BOTH, ['capacity.channels={pusch="1/s"}'], ConfigError, 'capacity.channels .* nearest: "push"'),
        (BOTH, ["frequency.channels={mail=1}"], ConfigError, 'frequency.channels .* nearest: "email"'),
    ],
)
def test_what_cannot_be_is_refused_and_says_what_to_do(
    world: World, tmp_path: Path, channel: str | None, keys: list[str], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        score(world, tmp_path, *keys, channel=channel)


def test_a_name_of_the_configuration_is_as_good_as_one_of_the_command(world: World, tmp_path: Path) -> None:
    keys = 'channels.choose=["email","push"]'
    run = score(world, tmp_path, keys, channel=None)
    assert set(table(run, "assignments")["channel"]) == {"email", "push"}
    one = score(world, tmp_path, keys, channel="email")
    assert set(table(one, "assignments")["channel"]) == {"email"}


def test_explain_wants_one_channel(world: World, tmp_path: Path) -> None:
    request = ScoreRequest(world.store, tmp_path, date=DAY, channel=BOTH)
    with pytest.raises(ConfigError, match="one channel"):
        explain_user(request, "1", load_config(None, []), Silent())


def test_the_command_chooses_from_a_list(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["score", "--store", str(world.store), "--out", str(tmp_path), "--date", str(DAY), "--channel", BOTH]
    assert cli.run_command([*arguments, "--log-json"]) == 0
    assert '"by_channel": {"email"' in capsys.readouterr().out.replace('":{', '": {')
