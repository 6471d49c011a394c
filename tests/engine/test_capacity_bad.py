"""Limits that are none: each ends with its exit code and a sentence that says key, value and what is allowed."""

from pathlib import Path

import pytest

from badness import Shop, Told
from nights import ORDINARY, make_sender, people, run_folder

FORMS = '"100/s", "6000/min", "500k/h" or "1.5M/day"'


@pytest.fixture
def shop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shop:
    return Shop(tmp_path, capsys)


def score(shop: Shop, *keys: str, more: tuple[object, ...] = ()) -> Told:
    settings = [each for key in keys for each in ("--set", key)]
    out = ("--out", shop.folder / "out", "--date", ORDINARY)
    return shop.run("score", "--store", shop.store, *out, *settings, *more, "--quiet")


BAD = [
    ('capacity.total="fast"', "capacity.total", FORMS, "'fast'"),
    ('capacity.total=""', "capacity.total", FORMS, "''"),
    ("capacity.total=100", "capacity.total", FORMS, "100"),
    ("capacity.total=[]", "capacity.total", FORMS, "[]"),
    ("capacity.total=[100]", "capacity.total", FORMS, "[100]"),
    ("capacity.total=true", "capacity.total", FORMS, "True"),
    ('capacity.total="0/s"', "capacity.total", "over 0", "0/s"),
    ('capacity.total="0.0/day"', "capacity.total", "over 0", "0.0/day"),
    ('capacity.total="-5/s"', "capacity.total", FORMS, "-5/s"),
    ('capacity.total="nan/s"', "capacity.total", FORMS, "nan/s"),
    ('capacity.total="inf/s"', "capacity.total", FORMS, "inf/s"),
    ('capacity.total="1e9/s"', "capacity.total", FORMS, "1e9/s"),
    ('capacity.total="99999999999999/s"', "capacity.total", "at most 1e12", "99999999999999/s"),
    ('capacity.total="9999999999M/h"', "capacity.total", "at most 1e12", "9999999999M/h"),
    ('capacity.total="100/fortnight"', "capacity.total", "write s, min, h or day", "fortnight"),
    ('capacity.total="100/m"', "capacity.total", "write min", "100/m"),
    ('capacity.total="100"', "capacity.total", FORMS, "'100'"),
    ('capacity.total="1/h"', "capacity.total", '"24/day"', "1/h"),
    ('capacity.total=["100/s", "1/h"]', "capacity.total", '"24/day"', "1/h"),
    ('capacity.total="0.5/day"', "capacity.total", "at least one message", "0.5/day"),
    ('capacity.providers={gmail="1/h"}', "capacity.providers.gmail", '"24/day"', "1/h"),
    ('capacity.providers={gmail="quick"}', "capacity.providers.gmail", FORMS, "quick"),
    ('capacity.providers={gmial="10/s"}', "capacity.providers.gmial", 'nearest known: "gmail"', "gmial"),
    ('capacity.providers={Gmail="10/s"}', "capacity.providers.Gmail", 'nearest known: "gmail"', "Gmail"),
    ('capacity.providers={total="10/s"}', "capacity.total", "", "capacity.providers.total"),
    ('capacity.providers={""="10/s"}', "capacity.providers", "at least 1 character", "''"),
    ("capacity.providers=5", "capacity.providers", "dictionary", "5"),
    ("capacity.warmup={yahooo={first_day=2026-04-20, per_day=[5]}}", "capacity.warmup.yahooo", '"yahoo"', "yahooo"),
    ("capacity.warmup={gmail={first_day=2026-04-20, per_day=[]}}", "warmup.gmail.per_day", "at least 1 item", "[]"),
    ("capacity.warmup={gmail={first_day=2026-04-20, per_day=[0]}}", "warmup.gmail.per_day.0", "equal to 1", "0"),
    ("capacity.warmup={gmail={first_day=2026-04-20, per_day=[5, -1]}}", "warmup.gmail.per_day.1", "equal to 1", "-1"),
    ("capacity.warmup={gmail={first_day=2026-04-20, per_day=[1.5]}}", "warmup.gmail.per_day.0", "integer", "1.5"),
    ('capacity.warmup={gmail={first_day="soon", per_day=[5]}}', "warmup.gmail.first_day", "date", "soon"),
    ('capacity.warmup={gmail={first_day="2026-02-30", per_day=[5]}}', "warmup.gmail.first_day", "date", "2026-02-30"),
    ("capacity.warmup={gmail={per_day=[5]}}", "warmup.gmail.first_day", "required", "per_day"),
    ("capacity.warmup={gmail={first_day=2026-04-20}}", "warmup.gmail.per_day", "required", "first_day"),
    ("capacity.on_infeasible=wait", "capacity.on_infeasible", "'fail', 'defer' or 'suppress'", "wait"),
    ("capacity.max_slot_share=0", "capacity.max_slot_share", "greater than 0", "0"),
    ("capacity.max_slot_share=1.5", "capacity.max_slot_share", "less than or equal to 1", "1.5"),
    ("capacity.max_slot_share=nan", "capacity.max_slot_share", "finite", "nan"),
    ("capacity.decluster=-0.1", "capacity.decluster", "greater than or equal to 0", "-0.1"),
    ("capacity.decluster=nan", "capacity.decluster", "finite", "nan"),
    ("capacity.decluster=inf", "capacity.decluster", "finite", "inf"),
    ('capacity.weight=""', "capacity.weight", "at least 1 character", "''"),
    ("capacity.limit=5", "capacity.limit", "nearest known", "capacity.limit"),
    ("assign.min_gain=-1", "assign.min_gain", "greater than or equal to 0", "-1"),
    ("assign.min_gain=nan", "assign.min_gain", "finite", "nan"),
    ("assign.min_gain=inf", "assign.min_gain", "finite", "inf"),
    ("assign.keep_gain=-0.5", "assign.keep_gain", "greater than or equal to 0", "-0.5"),
    ("frequency.cap=0", "frequency.cap", "greater than or equal to 1", "0"),
    ("frequency.cap=2.5", "frequency.cap", "integer", "2.5"),
    ("frequency.days=0", "frequency.days", "greater than or equal to 1", "0"),
    ("frequency.min_gap_hours=-1", "frequency.min_gap_hours", "greater than or equal to 0", "-1"),
    ("frequency.min_gap_hours=nan", "frequency.min_gap_hours", "finite", "nan"),
    ("spread.max_minutes=61", "spread.max_minutes", "at most the length of a slot, 60 minutes", "61"),
    ("spread.max_minutes=0", "spread.max_minutes", "greater than or equal to 1", "0"),
    ("spread.min_minutes=0", "spread.min_minutes", "greater than or equal to 1", "0"),
    ("spread.avoid_minutes=15", "spread.avoid_minutes", "less than or equal to 14", "15"),
    ("spread.avoid_minutes=-1", "spread.avoid_minutes", "greater than or equal to 0", "-1"),
    ("experiment.control_share=1.01", "experiment.control_share", "less than or equal to 1", "1.01"),
    ("experiment.control_share=-0.1", "experiment.control_share", "greater than or equal to 0", "-0.1"),
    ("experiment.explore_share=nan", "experiment.explore_share", "finite", "nan"),
    ('experiment.control_time="24:30"', "experiment.control_time", "pattern", "24:30"),
    ('experiment.control_time="10:15"', "experiment.control_time", "start of a slot of 60 minutes", "10:15"),
    ('window.quiet=["22:00"]', "window.quiet.0", "pattern", "22:00"),
    ('window.quiet=["07:00-25:00"]', "window.quiet.0", "pattern", "07:00-25:00"),
]


@pytest.mark.parametrize(("setting", "key", "allowed", "value"), BAD, ids=[case[0] for case in BAD])
def test_a_wrong_value_is_told_with_its_key_and_what_is_allowed(
    shop: Shop, setting: str, key: str, allowed: str, value: str
) -> None:
    shop.refuses(78, key, allowed, value, told=score(shop, setting))
    assert not (shop.folder / "out").exists()


TOGETHER = [
    (('window.start="10:00"', 'window.end="10:30"'), ("window.start", "10:00", "10:30", "whole slot of 60 minutes")),
    (
        ('window.start="08:00"', 'window.end="20:00"', 'window.quiet=["20:00-14:00", "13:00-21:00"]'),
        ("window.quiet", "20:00-14:00", "leave none", "shorten the quiet hours"),
    ),
    (('window.quiet=["00:00-24:00"]',), ("window.quiet", "00:00-24:00", "leave none")),
    (
        ("experiment.control_share=0.5", "experiment.random_share=0.4", "experiment.explore_share=0.2"),
        ("control_share + random_share + explore_share must be at most 1", "1.1"),
    ),
    (("spread.min_minutes=30", "spread.max_minutes=20"), ("spread.min_minutes", "spread.max_minutes", "30 and 20")),
    (
        ("spread.min_minutes=10", "spread.avoid_minutes=10"),
        ("spread.avoid_minutes must be less than the spread window", "10"),
    ),
    (
        ("spread.min_minutes=20", "spread.max_minutes=25", 'capacity.total="10/s"'),
        ("whole quarter-hours", "20 and 25"),
    ),
    (("slots.grid=48", "spread.max_minutes=45"), ("spread.max_minutes", "30 minutes", "45")),
    (("slots.grid=168", 'capacity.total="10/s"'), ("slots.grid", "168", "policy of the week", "hour_of_week")),
    (("store.retention_days=10", "frequency.cap=1", "frequency.days=30"), ("frequency.days", "30", "10")),
    (('capacity.weight="value"', 'capacity.total="10/s"'), ("capacity.weight", '"value"', "known: ", "clv")),
]


@pytest.mark.parametrize(("settings", "words"), TOGETHER, ids=[" ".join(case[0]) for case in TOGETHER])
def test_values_that_do_not_go_together_are_told(shop: Shop, settings: tuple[str, ...], words: tuple[str, ...]) -> None:
    shop.refuses(78, *words, told=score(shop, *settings))
    assert not list((shop.folder / "out").rglob("manifest.json"))


def test_a_rate_below_one_message_is_told_as_a_budget_of_the_day_that_works(shop: Shop) -> None:
    assert score(shop, 'capacity.total="24/day"', "capacity.on_infeasible=defer").code == 0


@pytest.mark.parametrize("option", ["--previous", "--prices-from"])
@pytest.mark.parametrize("kind", ["nothing", "file", "folder", "unfinished"])
def test_a_folder_that_is_no_run_is_told(shop: Shop, option: str, kind: str) -> None:
    path = shop.folder / "elsewhere"
    if kind == "file":
        path.write_text("run")
    elif kind != "nothing":
        path.mkdir()
        (path / ("notes" if kind == "folder" else "assignments")).mkdir()
    shop.refuses(66, "elsewhere", option, told=score(shop, 'capacity.total="10/s"', more=(option, path)))
    assert not list((shop.folder / "out").glob("run=*"))


@pytest.mark.parametrize("option", ["--previous", "--prices-from"])
def test_a_manifest_that_is_no_run_s_is_told(shop: Shop, option: str) -> None:
    path = shop.folder / "elsewhere"
    path.mkdir()
    (path / "manifest.json").write_text('{"run_id": "x"}')
    shop.refuses(65, "elsewhere", "manifest.json", told=score(shop, 'capacity.total="10/s"', more=(option, path)))


def test_prices_of_a_night_without_limits_are_refused(shop: Shop) -> None:
    run = score(shop).result["run"]
    shop.refuses(
        65, "--prices-from", "no prices", told=score(shop, 'capacity.total="10/s"', more=("--prices-from", run))
    )


def test_prices_of_another_day_are_refused(shop: Shop) -> None:
    run = score(shop, 'capacity.total="10/s"').result["run"]
    told = score(shop, 'capacity.total="10/s"', more=("--prices-from", run, "--date", "2026-04-21"))
    shop.refuses(2, "--prices-from expects a run for 2026-04-21", "is for 2026-04-20", told=told)


def test_prices_of_limits_that_this_night_has_not_are_refused(shop: Shop) -> None:
    tight = ('capacity.providers={other="4/h"}', "experiment.control_share=0")
    run = score(shop, *tight, "capacity.on_infeasible=defer").result["run"]
    told = score(shop, 'capacity.total="10/s"', more=("--prices-from", run))
    shop.refuses(78, "--prices-from has prices for limits that this run does not have: other ", told=told)


def test_runs_of_another_sender_are_refused(shop: Shop, tmp_path: Path) -> None:
    """Their ids are of the same type, yet nobody knows them: they count for nobody."""
    other = run_folder(make_sender(tmp_path / "other", people(50)), tmp_path / "runs", 'capacity.total="10/s"')
    assert score(shop, more=("--previous", other)).code == 0
