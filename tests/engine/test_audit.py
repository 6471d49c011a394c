"""The audit against stores whose faults were put there by hand, a dirty world, and real opens."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from histories import DAY, Row, before, frame_of, mail, opens, people, store_of
from sto_engine import cli
from sto_engine.audit.days import as_date, newest_day
from sto_engine.audit.run import run_audit
from sto_engine.audit.verdict import check_all, reasons, verdict_of
from sto_engine.config import Audit, Config, load_config
from sto_engine.errors import BadData, InputMissing
from sto_engine.ingest import ingest
from sto_engine.ingest.compact import compact
from sto_engine.progress import Silent
from sto_engine.simulate import simulate
from support import REAL_DATA

CONFIG = load_config(None, ["store.buckets=2"])
SECTIONS = {
    *("verdict", "reasons", "warnings", "checks", "store", "date", "default_date", "events", "ingest", "rules"),
    *("machines", "machine_opens_by_provider", "history", "addresses", "zones", "time", "campaigns", "coverage"),
    *("cost", "sample"),
}


def audit(folder: Path, day: date | None = DAY, config: Config = CONFIG, sample: int = 1000) -> dict[str, Any]:
    return run_audit(folder / "store", day, config, sample, 2, Silent())


def mailed(users: int, days: int = 20, opened_after_h: float | None = 2.5) -> list[Row]:
    """Mail at 9:00 UTC on alternate days, each of them opened."""
    return [
        row for u in range(1, users + 1) for d in range(1, days, 2) for row in mail(u, before(d, 9), opened_after_h)
    ]


def test_a_sound_store_has_nothing_to_fail_for(tmp_path: Path) -> None:
    store_of([r for r in mailed(30)], tmp_path, people(range(1, 31), timezone="UTC"), buckets=2)
    report = audit(tmp_path)
    assert set(report) == SECTIONS
    assert report["verdict"] == "warn"
    assert [check for check, it in report["checks"].items() if it["level"] != "pass"] == ["coverage"]
    assert (report["date"], report["default_date"]) == ("2026-04-01", "2026-04-01")
    assert report["events"]["send"] == report["events"]["open"] == 300
    assert sum(report["rules"].values()) == 0
    assert all(price["moved"] == 0 for price in report["cost"].values())
    assert json.loads(json.dumps(report)) == report


def test_rows_are_counted_by_the_rule_that_takes_them(tmp_path: Path) -> None:
    rows = mailed(10)
    rows += rows[:7]  # equal in every key
    again = [Row(1, "open", r.at + timedelta(seconds=2), r.campaign) for r in rows[:4] if r.kind == "open"]
    flagged = [Row(3, "open", before(3, 12), int(before(3, 9).timestamp()) // 3600, machine=True)]
    early = [Row(4, "open", before(3, 8), int(before(3, 9).timestamp()) // 3600)]
    bounced = [Row(6, "send", before(4), 77), Row(6, "bounce", before(4, 1), 77)]
    store_of([*rows, *again, *flagged, *early, *opens(5, 11, 3), *bounced], tmp_path)
    report = audit(tmp_path)
    assert report["events"]["exact_duplicates"] == 7
    wanted = {"duplicates": 2, "machine_acts": 1, "flagged_acts": 1, "acts_before_send": 1, "acts_without_send": 3}
    assert {name: n for name, n in report["rules"].items() if n} == {**wanted, "bounced_sends": 1}
    assert report["machines"]["machine_opens"] == 1


def test_duplicates_that_a_compaction_dropped_are_still_told(tmp_path: Path) -> None:
    rows = mailed(10)
    store_of([*rows, *rows[:7]], tmp_path)
    before_it = audit(tmp_path)
    compact(tmp_path / "store", 1, Silent())
    after = audit(tmp_path)
    assert before_it["events"] == after["events"]
    assert before_it["checks"] == after["checks"]


def test_addresses_zones_and_refusals_are_counted(tmp_path: Path) -> None:
    silent = [row for user in range(11, 15) for day in range(1, 14) for row in mail(user, before(day, 9))]
    frame = people(
        [*range(1, 11), *range(11, 15), 15, 1],
        timezone=["Europe/Berlin"] * 5 + [None] * 11,
        address_status=[None] * 14 + ["trap", None],
        consent_profiling=[False] + [None] * 15,
        consent=[None, False] + [None] * 14,
    )
    away = [Row(3, "open", before(d, 13), 500 + d, offset=540) for d in range(1, 6)]
    stop = [Row(4, "unsubscribe", before(2), 1), Row(5, "complaint", before(2), 1)]
    store_of([*mailed(10), *silent, *away, *stop], tmp_path, frame, buckets=2)
    report = audit(tmp_path)
    addresses = report["addresses"]
    assert (addresses["audience"], addresses["dead"], addresses["no_sign_of_life"]) == (16, 5, 4)
    assert (addresses["known_dead"], addresses["profiling_refused"]) == (1, 2)
    names = ("complaint", "duplicate", "invalid_address", "no_consent", "unsubscribed")
    assert {f"not_mailed:{name}": 1 for name in names}.items() <= addresses.items()
    zones = report["zones"]
    assert (zones["profile"], zones["none"], zones["comparable"], zones["conflict"]) == (5, 10, 1, 1)


def test_a_few_events_far_ahead_do_not_set_the_date_and_are_told(tmp_path: Path) -> None:
    far = [Row(1, "open", datetime(2031, 5, 1, tzinfo=UTC), 1)]
    store_of([*mailed(40), *far], tmp_path, buckets=2)
    report = audit(tmp_path, day=None)
    assert (report["date"], report["default_date"]) == ("2026-04-01", "2031-05-02")
    assert (report["time"]["events_far_ahead"], report["events"]["after_the_date"]) == (1, 1)
    assert report["events"]["open"] == 400
    assert any("--date 2026-04-01" in text for text in report["warnings"])


@pytest.mark.parametrize(
    ("days", "newest", "after"),
    [({}, None, 0), ({5: 1}, 5, 0), ({5: 900, 6: 900, 99: 1}, 6, 1), ({5: 900, 50: 1}, 50, 0), ({5: 9, 99: 9}, 99, 0)],
)
def test_the_newest_day_is_the_last_that_many_events_speak_for(
    days: dict[int, int], newest: int | None, after: int
) -> None:
    assert newest_day(days) == (newest, after)
    assert as_date(0) == date(1970, 1, 1)


def test_a_sender_who_always_mails_at_ten_is_told_what_he_cannot_know(tmp_path: Path) -> None:
    rows = [row for u in range(1, 60) for d in range(1, 40) for row in mail(u, before(d, 10), 9.5 if u % 2 else None)]
    store_of(rows, tmp_path, people(range(1, 60), timezone="UTC"), buckets=2)
    report = audit(tmp_path)
    covered = report["coverage"]
    assert (covered["hours_tried"], covered["busiest_hour"], covered["busiest_share"]) == (1, 10, 1.0)
    assert covered["entropy"] == 0
    assert covered["opened_2h_or_later_share"] == 1.0
    assert covered["unverified_gain"] == pytest.approx(covered["gain"], abs=0.01) != 0
    assert any("experiment.random_share" in text for text in report["reasons"])
    assert any("left at 10:00" in text for text in report["warnings"])


def test_slots_that_flagged_opens_would_move_are_counted_and_priced(tmp_path: Path) -> None:
    sent = [(user, before(day, 9)) for user in range(1, 41) for day in range(1, 40, 2)]
    rows = [row for user, at in sent for row in mail(user, at, 10)]
    fetched = [row for user, at in sent for row in mail(user, at, 4) if row.kind == "open"]
    rows += [Row(r.user, r.kind, r.at, r.campaign, machine=True) for r in fetched]
    store_of(rows, tmp_path, people(range(1, 41), timezone="UTC"), buckets=2)
    report = audit(tmp_path)
    assert (report["rules"]["flagged_acts"], report["machines"]["share_of_opens"]) == (800, 0.5)
    assert report["cost"]["flags"] == report["cost"]["flagged_opens"] == report["cost"]["all_machines"]
    assert report["cost"]["flags"]["opens"] > 1
    assert report["history"]["slots_that_move_with_flagged_opens"] == report["cost"]["flags"]["moved"] == 40


def test_no_slot_moves_out_of_a_recipients_own_hours(tmp_path: Path) -> None:
    users = range(1, 41)
    rows = [row for user in users for day in range(1, 40, 2) for row in mail(user, before(day, 9), 10)]
    fetched = [
        Row(r.user, "open", r.at + timedelta(hours=4), r.campaign, machine=True) for r in rows if r.kind == "send"
    ]
    hours = ["13:00-14:00" if user % 4 == 0 else None for user in users]
    store_of([*rows, *fetched], tmp_path, people(users, timezone="UTC", allowed_hours=hours), buckets=2)
    report = audit(tmp_path)
    assert report["cost"]["flags"]["moved"] == 30  # everyone else goes from 13:00 to 19:00 with the flagged opens


def test_campaigns_to_a_handful_are_told_where_others_go_to_thousands(tmp_path: Path) -> None:
    config = load_config(None, ["store.buckets=2", "audit.test_recipients=2"])
    rows = frame_of(mailed(250, 6)).with_columns(pl.col("campaign_id").cast(pl.String))
    few = frame_of([Row(1, "send", before(2))]).with_columns(campaign_id=pl.lit("handful"))
    named = frame_of([Row(u, "send", before(3)) for u in range(1, 9)]).with_columns(campaign_id=pl.lit("spring_qa"))
    left_out = frame_of([Row(1, "send", before(3))]).with_columns(campaign_id=pl.lit("test-7"))
    store_of(pl.concat([rows, few, named, left_out]), tmp_path, buckets=2)
    report = audit(tmp_path, config=config)["campaigns"]
    assert (report["campaigns"], report["largest"], report["tests_left_out"]) == (6, 250, 1)
    assert report["look_like_tests"] == ["handful", "spring_qa"]


def test_rows_in_quarantine_are_told_by_rule(tmp_path: Path) -> None:
    rows = frame_of(mailed(10))
    bad = rows.head(5).with_columns(event_type=pl.lit("telepathy"))
    pl.concat([rows, bad]).write_parquet(tmp_path / "e.parquet")
    config = load_config(None, ["store.buckets=2", "ingest.max_bad_share=0.5"])
    ingest([str(tmp_path / "e.parquet")], tmp_path / "store", None, config, Silent())
    report = audit(tmp_path)
    assert report["ingest"]["quarantined:bad_event_type"] == 5
    assert report["checks"]["quarantine_share"]["found"] == pytest.approx(5 / 205, abs=1e-6)


def test_offsets_that_ingest_nulled_are_told_after_a_compaction_too(tmp_path: Path) -> None:
    rows = [*mailed(10), *(Row(1, "open", before(2, hour), 7, offset=901) for hour in range(3))]
    store_of(rows, tmp_path)
    assert audit(tmp_path)["ingest"]["nulled:tz_offset"] == 3
    compact(tmp_path / "store", 1, Silent())
    assert audit(tmp_path)["ingest"]["nulled:tz_offset"] == 3


def test_opens_are_told_by_the_kind_of_their_agent(tmp_path: Path) -> None:
    agents = ["Mozilla/5.0", "Mozilla/5.0", "x GoogleImageProxy", "curl/8", "Thunderbird/115", None]
    rows = frame_of([Row(1, "open", before(2, hour), 7) for hour in range(6)]).drop("is_machine_open")
    store_of(rows.with_columns(user_agent=pl.Series(agents)), tmp_path)
    machines = audit(tmp_path)["machines"]
    by_kind = {name.partition(":")[2]: n for name, n in machines.items() if name.startswith("opens_by_agent:")}
    assert by_kind == {"prefetch": 2, "proxy": 1, "bot": 1, "person": 1}
    assert machines["machine_opens"] == 3


def test_shares_are_judged_by_their_limits() -> None:
    names = [name.removeprefix("max_") for name in Audit.model_fields if name.startswith("max_")]
    sound: dict[str, float | None] = {**dict.fromkeys(names, 0.0), "coverage": 0.5}
    assert verdict_of(check_all(sound, Audit())) == "pass"
    assert verdict_of(check_all({**sound, "dead_share": 0.15}, Audit())) == "warn"
    failed = check_all({**sound, "dead_share": 0.31, "coverage": 0.1, "user_share": None}, Audit())
    assert verdict_of(failed) == "fail"
    assert [text.partition(":")[0] for text in reasons(failed)] == ["fail", "warn"]
    assert "31.0%" in reasons(failed)[0]
    assert verdict_of(check_all({**sound, "coverage": 0.04}, Audit(min_coverage=0.1))) == "fail"


def test_the_command_ends_with_65_where_a_limit_is_broken_and_keeps_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store_of(mailed(20), tmp_path, buckets=2)
    arguments = ["audit", "--store", str(tmp_path / "store"), "--json", str(tmp_path / "a.json"), "--quiet"]
    assert cli.run_command(arguments) == 0
    kept = json.loads((tmp_path / "a.json").read_text())
    assert kept == json.loads(capsys.readouterr().out)
    assert cli.run_command([*arguments, "--set", "audit.min_coverage=0.5"]) == 65
    assert json.loads((tmp_path / "a.json").read_text())["verdict"] == "fail"
    assert cli.run_command(["audit", "--store", "s", "--json", str(tmp_path / "no" / "a.json"), "--quiet"]) == 73


def test_what_cannot_be_audited_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match="holds no store"):
        audit(tmp_path)
    people([1, 2]).write_parquet(tmp_path / "p.parquet")
    ingest([], tmp_path / "store", tmp_path / "p.parquet", CONFIG, Silent())
    with pytest.raises(BadData, match="no events"):
        audit(tmp_path)


def test_in_a_dirty_world_machines_cost_opens_and_a_sample_stands_for_all(tmp_path: Path) -> None:
    simulate(tmp_path, "dirty", users=1500, days=90, seed=2, progress=Silent())
    config = load_config(None, ["store.buckets=4"])
    ingest([str(tmp_path / "events")], tmp_path / "store", tmp_path / "recipients.parquet", config, Silent())
    report, sampled = audit(tmp_path, None, config, 1500), audit(tmp_path, None, config, 500)
    cost = report["cost"]
    assert cost["all_machines"]["opens"] > max(cost["prefetch"]["opens"], cost["scanner"]["opens"]) > 0
    assert min(price["opens"] for price in cost.values()) >= 0
    assert cost["flood"] == cost["tests"] == {"opens": 0.0, "share": 0.0, "moved": 0}
    assert 0.3 < report["machines"]["share_of_opens"] < 0.6
    assert report["machines"]["flood"] == 0
    assert report["history"]["below_history_cleaned"] > report["history"]["below_history_as_it_came"]
    assert sampled["sample"] == {"users": 500, "mailed": sampled["sample"]["mailed"], "scale": 3.0}
    assert {name: report[name] for name in ("rules", "events", "machines")} == {
        name: sampled[name] for name in ("rules", "events", "machines")
    }
    assert sampled["cost"]["all_machines"]["opens"] == pytest.approx(cost["all_machines"]["opens"], rel=0.5)


def test_the_report_does_not_depend_on_threads(store: Path) -> None:
    one, two = (run_audit(store, None, CONFIG, 300, threads, Silent()) for threads in (1, 2))
    assert one == two


def test_real_opens_survive_their_machine_and_it_is_told(tmp_path: Path) -> None:
    events = REAL_DATA / "outspot_opens" / "events.parquet"
    if not events.exists():
        pytest.skip(f"real opens are not on this machine ({events})")
    ingest([str(events)], tmp_path / "store", None, CONFIG, Silent())
    config = load_config(None, ["model.history_days=5400"])
    report = audit(tmp_path, None, config, 1000)
    assert report["events"]["exact_duplicates"] == 38_007
    assert report["machines"]["flood"] == 2
    assert report["machines"]["share_of_opens_by_one_user"] == pytest.approx(13_047 / 20_232, abs=1e-6)
    assert report["verdict"] == "fail"
    assert report["cost"]["flood"]["moved"] > 0
    assert report["cost"]["flood"]["opens"] is None  # nothing was sent: there is no chance of an open to price in
