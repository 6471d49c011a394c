"""What a night under limits takes over from others: prices to replay or to start from, and mail that they planned."""

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from nights import ORDINARY, TOTAL, Sender, by_day, load_of, make_sender, over, people, run_folder, run_night, told_load
from support import table

ARMS = ("experiment.random_share=0.1", "experiment.explore_share=0.05")
SHORT = (
    'capacity.total="60/h"',
    'capacity.providers={gmail="24/h"}',
    "capacity.on_infeasible=defer",
    'window.start="08:00"',
    'window.end="14:00"',
)
KINDS = {
    "rates": ('capacity.total="80/h"', 'capacity.providers={gmail="36/h"}'),
    "days": ('capacity.total="450/day"', "capacity.warmup={yahoo={first_day=2026-04-18, per_day=[60, 70, 80, 90]}}"),
    "short": SHORT,
    "shares": ("capacity.max_slot_share=0.15", "capacity.decluster=0.5"),
    "loose": ('capacity.total="1M/h"',),
}


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Sender:
    return make_sender(tmp_path_factory.mktemp("sender"), people(700, 2))


def manifest(run: Path) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((run / "manifest.json").read_text())
    return body


@pytest.mark.parametrize("kind", KINDS)
def test_replayed_prices_give_the_same_slots(sender: Sender, tmp_path: Path, kind: str) -> None:
    keys = (*KINDS[kind], *ARMS)
    first = run_folder(sender, tmp_path, *keys)
    again = run_folder(sender, tmp_path, *keys, prices_from=first)
    third = run_folder(sender, tmp_path, *keys, prices_from=again)
    assert len({first, again, third}) == 3
    assert manifest(again)["prices_from"] == manifest(first)["run_id"] != manifest(again)["run_id"]
    for run in (again, third):
        assert manifest(run)["plan"]["prices"] == manifest(first)["plan"]["prices"]
        rows, was = table(run, "assignments"), table(first, "assignments")
        assert rows.drop("send_at").equals(was.drop("send_at"))
        assert table(run, "suppressed").equals(table(first, "suppressed"))
        assert load_of(run) == load_of(first)
    assert bool(manifest(first)["plan"]["prices"]) == (kind != "loose")


def test_prices_are_said_of_what_they_are_prices_of(sender: Sender, tmp_path: Path) -> None:
    run = run_folder(sender, tmp_path, *KINDS["rates"], *ARMS)
    plan, load = manifest(run)["plan"], load_of(run)
    assert plan["gap"] == pytest.approx((plan["bound"] - plan["value"]) / plan["bound"])
    for kind, provider, at_ms, price in plan["prices"]:
        assert kind == "bin"
        assert price > 0
        # who pays for a quarter-hour fills it but for the parts of messages of four starts, or it would cost nothing
        assert load[at_ms, provider or TOTAL] >= {None: 20, "gmail": 9}[provider] - 3


def night(sender: Sender, out: Path, day: date, *keys: str, **fields: Any) -> tuple[Path, dict[str, Any]]:
    result = run_night(sender, out, *keys, day=day, **fields)
    assert result.run_dir is not None
    return result.run_dir, result.summary["capacity"]


def test_a_night_that_starts_from_the_prices_of_the_last_needs_fewer_passes(sender: Sender, tmp_path: Path) -> None:
    keys = (*KINDS["rates"], "experiment.control_share=0.05")
    yesterday, _ = night(sender, tmp_path, ORDINARY - timedelta(days=1), *keys)
    cold_run, cold = night(sender, tmp_path, ORDINARY, *keys)
    warm_run, warm = night(sender, tmp_path, ORDINARY, *keys, previous=(yesterday,))
    assert cold_run != warm_run
    assert warm["violations"] == cold["violations"] == 0
    assert warm["passes"] < cold["passes"]
    assert warm["gap"] < 0.001
    both = load_of(warm_run) + load_of(yesterday)
    assert over(both, {TOTAL: 20, "gmail": 9}) == {}
    assert over(load_of(cold_run) + load_of(yesterday), {TOTAL: 20, "gmail": 9}) != {}


def test_prices_that_are_far_off_do_no_harm(sender: Sender, tmp_path: Path) -> None:
    """Three days ago everything was short, today little is; and the other way round."""
    for before, after in ((SHORT, KINDS["days"]), (KINDS["loose"], SHORT), (KINDS["shares"], KINDS["rates"])):
        earlier, _ = night(sender, tmp_path, ORDINARY - timedelta(days=3), *before)
        _, cold = night(sender, tmp_path, ORDINARY, *after)
        _, warm = night(sender, tmp_path, ORDINARY, *after, previous=(earlier,))
        assert warm["violations"] == 0
        assert warm["gap"] < 0.005
        assert warm["value"] == pytest.approx(cold["value"], rel=0.02)


@pytest.mark.parametrize("buckets", [4, 16])
@pytest.mark.parametrize(
    ("keys", "of_bin", "of_day"),
    [
        (('capacity.total="160/h"', 'capacity.providers={gmail="72/h"}'), {TOTAL: 40, "gmail": 18}, {}),
        (
            ('capacity.total="900/day"', "capacity.warmup={gmail={first_day=2026-04-20, per_day=[400]}}"),
            {},
            {TOTAL: 900},
        ),
    ],
)
def test_what_two_campaigns_send_together_is_within_the_limits(
    sender: Sender, tmp_path: Path, keys: tuple[str, ...], of_bin: dict[str, int], of_day: dict[str, int], buckets: int
) -> None:
    first = run_folder(sender, tmp_path, *keys, campaign="first")
    other = sender if buckets == 4 else make_sender(tmp_path / "other", sender.recipients, buckets)
    second = run_folder(other, tmp_path, *keys, campaign="second", previous=(first,))
    both = load_of(first) + load_of(second)
    assert over(both, of_bin) == {}
    assert over(by_day(both), of_day) == {}
    alone = run_folder(other, tmp_path, *keys, campaign="second")
    assert over(load_of(first) + load_of(alone), of_bin) or over(by_day(load_of(first) + load_of(alone)), of_day)
    # what is left is what load.csv calls the capacity of the night
    for (ms, provider), (_, after, room) in told_load(second).items():
        if room is not None:
            assert after <= room == of_bin[provider] - load_of(first)[ms, provider]


def test_past_mail_that_fills_a_limit_leaves_none_of_it(sender: Sender, tmp_path: Path) -> None:
    keys = ('capacity.providers={yahoo="10/day"}', "capacity.on_infeasible=defer")
    first = run_folder(sender, tmp_path, *keys, campaign="first")
    yahoo = table(first, "assignments").filter(pl.col("provider") == "yahoo")
    assert len(yahoo) == sum(min(n, 10) for (_, name), n in by_day(load_of(first)).items() if name == "yahoo")
    second = run_folder(sender, tmp_path, *keys, campaign="second", previous=(first,))
    both = by_day(load_of(first) + load_of(second))
    assert max(n for (_, name), n in both.items() if name == "yahoo") <= 10
