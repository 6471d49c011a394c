"""The judge against truths made by hand, whose every figure can be worked out on paper."""

import json
import math
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sto_engine.cli import run_command
from sto_engine.errors import BadData, InputMissing, UsageError
from sto_engine.evaluate.assignments import read_sent
from sto_engine.evaluate.measures import calibration, captured, equal_groups, slot_shape
from sto_engine.evaluate.world import evaluate_world

MONDAY = date(2026, 4, 20)
FLAT = [0.1] * 168


def week(**hours: float) -> list[float]:
    """Chances over the week: .1 but where said, as mon10=.5 or all19=.8."""
    out = list(FLAT)
    for name, p in hours.items():
        days = range(7) if name[:3] == "all" else [("mon", "tue", "wed", "thu", "fri", "sat", "sun").index(name[:3])]
        for day in days:
            out[day * 24 + int(name[3:])] = p
    return out


def write_truth(world: Path, *users: tuple[int, str, list[float]], eligible: tuple[bool, ...] | None = None) -> Path:
    """A truth of Monday, 20 April 2026: (id, true zone, chances within 2 h over the week); within 24 h half as much."""
    world.mkdir(exist_ok=True)
    offsets = [datetime(2026, 4, 20, 12, tzinfo=ZoneInfo(zone)).utcoffset() for _, zone, _ in users]
    weeks = np.array([p for _, _, p in users], np.float32)
    columns = {
        "user_id": pl.Series([user for user, _, _ in users], dtype=pl.UInt64),
        "true_timezone": [zone for _, zone, _ in users],
        "true_offset": pl.Series([int(o.total_seconds() // 60) for o in offsets if o is not None], dtype=pl.Int16),
        "profile_offset": pl.Series([0] * len(users), dtype=pl.Int16),
        "eligible": list(eligible or [True] * len(users)),
    }
    for name, scale in (("p2h", 1.0), ("p24h", 0.5)):
        columns[name] = pl.Series(weeks[:, :24] * scale, dtype=pl.Array(pl.Float32, 24))
        columns[f"{name}_week"] = pl.Series(weeks * scale, dtype=pl.Array(pl.Float32, 168))
    pl.DataFrame(columns).write_parquet(world / "truth.parquet")
    return world


def write_sent(path: Path, *rows: tuple[int, str], **more: list[object]) -> Path:
    """Assignments: (id, send_at as ISO text in UTC), further columns by name."""
    times = [datetime.fromisoformat(text).replace(tzinfo=UTC) for _, text in rows]
    ids = pl.Series([user for user, _ in rows], dtype=pl.UInt64)
    pl.DataFrame({"user_id": ids, "send_at": pl.Series(times, dtype=pl.Datetime("ms", "UTC")), **more}).write_parquet(
        path
    )
    return path


def test_opens_are_the_sums_of_the_truth_at_the_true_local_hour(tmp_path: Path) -> None:
    """Two in Berlin (+2 h): one gets his best hour, 19; one gets 12 and would be best off at 20."""
    world = write_truth(
        tmp_path,
        (1, "Europe/Berlin", week(all10=0.2, all19=0.8)),
        (2, "Europe/Berlin", week(all10=0.3, all12=0.4, all20=0.6)),
    )
    found = evaluate_world(world, write_sent(tmp_path / "a.parquet", (1, "2026-04-20T17:07"), (2, "2026-04-20T10:00")))
    assert found["within_2h"] == {
        "ours": pytest.approx(0.8 + 0.4),
        "fixed_10": pytest.approx(0.2 + 0.3),
        "oracle_common_hour": 19,
        "oracle_common": pytest.approx(0.8 + 0.1),
        "oracle": pytest.approx(0.8 + 0.6),
        "regret_per_user": pytest.approx(0.2 / 2),
        "regret_percent": pytest.approx(100 * 0.2 / 1.4, abs=0.01),
        "captured_percent": pytest.approx(100 * 0.7 / 0.9, abs=0.01),
        "captured_low": pytest.approx(100 * (0.7 / 0.9 - 1.959964 * delta_error()), abs=0.01),
        "captured_high": pytest.approx(100 * (0.7 / 0.9 + 1.959964 * delta_error()), abs=0.01),
    }
    assert found["within_24h"]["ours"] == pytest.approx(0.6)
    assert found["within_24h"]["captured_percent"] == found["within_2h"]["captured_percent"]
    assert found["slots"] == {
        "entropy_bits": 1.0,
        "fullest": 12,
        "max_share": 0.5,
        "top3_share": 1.0,
        "edge_share": None,
    }
    assert (found["date"], found["by_reason"], found["by_n_eff"], found["warnings"]) == ("2026-04-20", {}, {}, [])
    assert found["calibration"] == {"users": 0, "ece": None, "ratio": None}


def delta_error() -> float:
    """Standard error of the ratio above: lifts .6 and .1, gains .6 and .3."""
    ratio = 0.7 / 0.9
    squares = (0.6 - ratio * 0.6) ** 2 + (0.1 - ratio * 0.3) ** 2
    return math.sqrt(squares / 0.9**2 * 2 / 1)


def test_a_wrong_zone_is_paid_for_at_the_hour_that_the_mail_really_has(tmp_path: Path) -> None:
    """Sent at what London's clocks call 19: it is 20 in Berlin, and already Tuesday, 3 in Tokyo."""
    world = write_truth(
        tmp_path,
        (1, "Europe/London", week(mon19=0.8)),
        (2, "Europe/Berlin", week(mon19=0.8, mon20=0.3)),
        (3, "Asia/Tokyo", week(mon3=0.7, tue3=0.05)),
    )
    rows = [(user, "2026-04-20T18:00") for user in (1, 2, 3)]
    found = evaluate_world(world, write_sent(tmp_path / "a.parquet", *rows, slot=[19] * 3, tz_offset=[60] * 3))
    assert found["within_2h"]["ours"] == pytest.approx(0.8 + 0.3 + 0.05)
    assert found["within_2h"]["oracle"] == pytest.approx(0.8 + 0.8 + 0.7)
    assert found["by_slot"]["19"] == 3


@pytest.mark.parametrize(
    ("zone", "time", "hour"),
    [
        ("Asia/Kathmandu", "2026-04-20T04:15", 10),  # +05:45: the hour begins at a quarter past
        ("Asia/Kathmandu", "2026-04-20T04:14:59", 9),
        ("Europe/Berlin", "2026-03-29T00:59", 1),  # Sunday: clocks go from 2 to 3 at 01:00 UTC
        ("Europe/Berlin", "2026-03-29T01:00", 3),
        ("America/New_York", "2026-11-01T05:30", 1),  # Sunday: 1:30 comes twice
        ("America/New_York", "2026-11-01T06:30", 1),
    ],
)
def test_local_hours_follow_the_zone_through_quarters_and_changes_of_the_clock(
    tmp_path: Path, zone: str, time: str, hour: int
) -> None:
    local = datetime.fromisoformat(time).replace(tzinfo=UTC).astimezone(ZoneInfo(zone))
    ladder = [h / 1000 for h in range(168)]
    world = write_truth(tmp_path, (7, zone, ladder))
    found = evaluate_world(world, write_sent(tmp_path / "a.parquet", (7, time)))
    assert local.hour == hour
    assert found["within_2h"]["ours"] == pytest.approx((local.weekday() * 24 + hour) / 1000, abs=0.005)
    assert found["within_2h"]["fixed_10"] == pytest.approx((local.weekday() * 24 + 10) / 1000, abs=0.005)


def test_a_table_of_slots_and_offsets_is_judged_on_the_day_of_the_truth(tmp_path: Path) -> None:
    """Slot 19 of a clock at +60 in a zone at +120 is 20; slot 23 at -300 for somebody at +345 is 9:45 of some day."""
    world = write_truth(
        tmp_path,
        (1, "Europe/Berlin", week(mon20=0.4)),
        (2, "Asia/Kathmandu", week(mon9=0.7)),
        (3, "UTC", week(mon5=0.9)),
    )
    table = pl.DataFrame({"user_id": ["1", "2"], "slot": [19, 23], "tz_offset": [60, -300], "p_open": [[0.5] * 24] * 2})
    table.write_parquet(tmp_path / "a.parquet")
    found = evaluate_world(world, tmp_path / "a.parquet")
    assert found["within_2h"]["ours"] == pytest.approx(0.4 + 0.7)
    assert (found["date"], found["by_slot"]["19"], found["by_slot"]["23"]) == (None, 1, 1)
    assert found["calibration"] == {"users": 2, "ece": pytest.approx(0.15), "ratio": pytest.approx(1 / 1.1, abs=1e-4)}
    assert found["users"]["coverage"] == pytest.approx(2 / 3, abs=1e-6)


def test_who_may_not_be_mailed_and_who_is_unknown_is_counted_and_not_judged(tmp_path: Path) -> None:
    users = [(user, "UTC", week(all10=0.2, all19=0.8)) for user in (1, 2, 3)]
    world = write_truth(tmp_path, *users, eligible=(True, True, False))
    rows = [(user, "2026-04-20T19:00") for user in (1, 3, 99)]
    found = evaluate_world(world, write_sent(tmp_path / "a.parquet", *rows))
    expected = {"judged": 1, "eligible": 2, "eligible_mailed": 1, "coverage": 0.5, "ineligible_mailed": 1}
    assert found["users"] == {**expected, "unknown_ids": 1}
    assert found["within_2h"]["captured_percent"] == 100


def test_arms_are_judged_apart(tmp_path: Path) -> None:
    world = write_truth(tmp_path, *[(user, "UTC", week(all10=0.2, all19=0.8)) for user in range(4)])
    times = ["2026-04-20T19:00", "2026-04-20T10:00", "2026-04-20T10:00", "2026-04-20T03:00"]
    sent = tmp_path / "a.parquet"
    write_sent(
        sent, *enumerate(times), arm=["model", "control", "control", None], reason=["model", "control", "b2b", "b2b"]
    )
    found = {arm: evaluate_world(world, sent, arm) for arm in ("model", "control", "all")}
    assert {arm: f["users"]["judged"] for arm, f in found.items()} == {"model": 1, "control": 2, "all": 4}
    assert {arm: f["within_2h"]["captured_percent"] for arm, f in found.items()} == {
        "model": 100,
        "control": 0,
        "all": pytest.approx(100 * (0.6 - 0.1) / 2.4, abs=0.01),
    }
    assert found["all"]["by_reason"]["b2b"] == {"users": 2, "captured_2h": -8.33, "captured_24h": -8.33}
    with pytest.raises(UsageError, match=r'"random" must have eligible users .* none .there: control, model'):
        evaluate_world(world, sent, "random")
    with pytest.raises(UsageError, match="must be one of model, control, random, explore, all"):
        evaluate_world(world, sent, "modle")


def test_a_world_without_an_hour_effect_claims_no_lift(tmp_path: Path) -> None:
    world = write_truth(tmp_path, (1, "UTC", [0.3] * 168), (2, "UTC", [0.1] * 168))
    found = evaluate_world(world, write_sent(tmp_path / "a.parquet", (1, "2026-04-20T19:00"), (2, "2026-04-20T20:00")))
    for horizon in ("within_2h", "within_24h"):
        assert found[horizon]["captured_percent"] is found[horizon]["captured_low"] is None
        assert found[horizon]["regret_percent"] == 0
    assert len(found["warnings"]) == 2
    assert all("no lift exists" in warning for warning in found["warnings"])


hours = st.lists(st.integers(0, 23), min_size=2, max_size=30)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), picks=hours)
def test_the_oracle_captures_all_the_fixed_hour_nothing_and_nobody_more_than_the_oracle(
    tmp_path_factory: pytest.TempPathFactory, seed: int, picks: list[int]
) -> None:
    folder, rng = tmp_path_factory.mktemp("world"), np.random.default_rng(seed)
    p_UH = rng.random((len(picks), 168)).astype(np.float32)
    zones = ["UTC", "Asia/Kathmandu", "America/New_York"]
    world = write_truth(folder, *[(u, zones[u % 3], p.tolist()) for u, p in enumerate(p_UH)])
    day_U24 = p_UH[:, :24]

    def percent(hour_U: list[int]) -> dict[str, float]:
        locals_ = [datetime(2026, 4, 20, h, tzinfo=ZoneInfo(zones[u % 3])) for u, h in enumerate(hour_U)]
        rows = [(u, t.astimezone(UTC).replace(tzinfo=None).isoformat()) for u, t in enumerate(locals_)]
        found = evaluate_world(world, write_sent(folder / "a.parquet", *rows))["within_2h"]
        assert isinstance(found, dict)
        return found

    assert percent(day_U24.argmax(axis=1).tolist())["captured_percent"] == 100
    assert percent([10] * len(picks))["captured_percent"] == 0
    ours = percent(picks)
    assert ours["captured_percent"] <= 100
    assert ours["captured_low"] <= ours["captured_percent"] <= ours["captured_high"]
    assert ours["ours"] == pytest.approx(float(day_U24[np.arange(len(picks)), picks].sum()), abs=0.01)


def test_the_interval_holds_the_captured_share_of_all_in_19_of_20_samples() -> None:
    rng = np.random.default_rng(1)
    fixed, best = rng.random(200_000) * 0.2, 0.2 + rng.random(200_000) * 0.5
    ours = np.where(rng.random(200_000) < 0.4, best, fixed * rng.random(200_000))
    whole, hits = captured(ours, fixed, best)["captured_percent"], 0
    for _ in range(400):
        mine = rng.integers(0, 200_000, 300)
        found = captured(ours[mine], fixed[mine], best[mine])
        assert whole is not None
        assert found["captured_low"] is not None
        assert found["captured_high"] is not None
        hits += found["captured_low"] <= whole <= found["captured_high"]
    assert 0.92 <= hits / 400 <= 0.98


def test_nobody_has_no_figures() -> None:
    none = np.zeros(0)
    assert captured(none, none, none) == dict.fromkeys(("captured_percent", "captured_low", "captured_high"))
    assert slot_shape(none.astype(np.int64), 24, None)["fullest"] is None
    assert equal_groups(np.full(3, np.nan)) == []


def test_edges_are_the_allowed_slots_beside_a_closed_one() -> None:
    allowed_S = np.zeros(24, np.bool_)
    allowed_S[8:21] = True
    shape = slot_shape(np.array([8, 8, 9, 12, 20]), 24, allowed_S)
    assert shape["edge_share"] == 0.6
    assert (shape["fullest"], shape["max_share"], shape["top3_share"]) == (8, 0.4, 0.8)
    assert shape["entropy_bits"] == pytest.approx(-0.4 * math.log2(0.4) - 3 * 0.2 * math.log2(0.2), abs=1e-4)


def test_calibration_is_the_gap_of_stated_and_true_means_by_equal_counts() -> None:
    p_U = np.repeat([0.1, 0.3], 50)
    true_U = np.concatenate([np.tile([0.0, 0.4], 25), np.full(50, 0.3)])
    found = calibration(np.append(p_U, np.nan), np.append(true_U, 0.9))
    assert found == {"users": 100, "ece": pytest.approx(0.05, abs=0.01), "ratio": pytest.approx(0.2 / 0.25)}
    assert calibration(true_U, true_U)["ece"] == 0


def test_groups_of_n_eff_never_part_equal_values() -> None:
    values = np.array([0.0] * 60 + [float(i) for i in range(1, 41)] + [np.nan])
    groups = equal_groups(values)
    assert groups[0][0] == "0"
    assert [int(mine.sum()) for _, mine in groups] == [60, 10, 10, 10, 10]
    assert [name for name, _ in groups][1:] == ["1 to 10", "11 to 20", "21 to 30", "31 to 40"]


def test_a_truth_that_is_missing_or_lacks_columns_is_refused(tmp_path: Path) -> None:
    sent = write_sent(tmp_path / "a.parquet", (1, "2026-04-20T19:00"))
    with pytest.raises(InputMissing, match="folder of `sto-engine simulate`"):
        evaluate_world(tmp_path, sent)
    world = write_truth(tmp_path / "world", (1, "UTC", FLAT))
    truth = pl.read_parquet(world / "truth.parquet")
    for broken, message in [
        (truth.drop("p24h_week", "eligible"), "lacks eligible, p24h_week"),
        (truth.with_columns(p2h="p2h_week"), "p2h must be a fixed-size list of 24"),
        (pl.concat([truth, truth]), "found 1 ids in 2 rows"),
        (
            truth.with_columns(p2h_week=pl.Series([[1.5] * 168], dtype=pl.Array(pl.Float32, 168))),
            "probabilities in 0..1",
        ),
    ]:
        broken.write_parquet(world / "truth.parquet")
        with pytest.raises(BadData, match=message):
            evaluate_world(world, sent)
    (world / "truth.parquet").write_bytes(b"PAR0" * 9)
    with pytest.raises(BadData, match="must be a Parquet file"):
        evaluate_world(world, sent)


def test_assignments_that_say_not_whom_to_mail_when_are_refused(tmp_path: Path) -> None:
    world = write_truth(tmp_path, (1, "UTC", FLAT))
    at = pl.Series([datetime(2026, 4, 20, 19, tzinfo=UTC)], dtype=pl.Datetime("ms", "UTC"))
    for table, message in [
        (pl.DataFrame({"user_id": [1], "hour": [19]}), "either send_at or slot and tz_offset; found user_id, hour"),
        (pl.DataFrame({"user_id": [1, 1], "slot": [1, 2], "tz_offset": [0, 0]}), "found 1 ids in 2 rows"),
        (pl.DataFrame({"user_id": [1], "slot": [24], "tz_offset": [0]}), "first: slot 24, tz_offset 0"),
        (pl.DataFrame({"user_id": [1], "slot": ["ten"], "tz_offset": [0]}), "types of a run's assignments"),
        (pl.DataFrame({"user_id": [1], "send_at": at.dt.replace_time_zone(None)}), "with its zone"),
        (pl.DataFrame({"user_id": [1], "send_at": at.shift(1)}), "must not be null; found 1"),
        (pl.DataFrame({"user_id": [2], "send_at": at}), "found none of its 1 users"),
    ]:
        table.write_parquet(tmp_path / "a.parquet")
        with pytest.raises(BadData, match=message):
            evaluate_world(world, tmp_path / "a.parquet")
    with pytest.raises(InputMissing, match="found nothing there"):
        evaluate_world(world, tmp_path / "none")


def test_a_run_that_is_not_committed_or_was_changed_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "run=0123456789abcdef"
    (run / "assignments").mkdir(parents=True)
    with pytest.raises(InputMissing, match="not committed"):
        read_sent(run)
    with pytest.raises(InputMissing, match="pass one of its runs: run=0123456789abcdef"):
        read_sent(tmp_path / "runs")
    write_sent(run / "assignments" / "part-0000.parquet", (1, "2026-04-20T19:00"))
    (run / "manifest.json").write_text(json.dumps({"files": {"assignments/part-0000.parquet": "0" * 64}}))
    with pytest.raises(BadData, match="sha256 of the manifest"):
        read_sent(run)


def test_the_command_judges_a_plain_table_and_keeps_its_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = write_truth(tmp_path / "world", *[(user, "UTC", week(all10=0.2, all19=0.8)) for user in (1, 2)])
    write_sent(tmp_path / "part-1.parquet", (1, "2026-04-20T19:00"))
    write_sent(tmp_path / "part-2.parquet", (2, "2026-04-20T10:00"))
    line = ["evaluate", "world", "--world", str(world), "--run", str(tmp_path), "--quiet"]
    assert run_command([*line, "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "found.json").read_text())
    assert found["within_2h"]["captured_percent"] == 50
    assert "never evidence of lift" in found["note"]
    assert run_command([*line, "--arm", "control"]) == 2
    assert run_command([*line, "--json", str(tmp_path / "none" / "found.json")]) == 73
    assert run_command([*line[:3], str(tmp_path), *line[4:]]) == 66


def test_a_run_of_the_engine_is_judged_by_the_world_of_its_history(world: Path, store: Path, tmp_path: Path) -> None:
    """Everyone of the control arm gets 10:00 by the profile's zone, which in this world is the true one."""
    line = ["score", "--store", str(store), "--out", str(tmp_path), "--set", "experiment.control_share=0.5", "--quiet"]
    assert run_command([*line, "--set", "window.start=08:00", "--set", "window.end=21:00"]) == 0
    run = next(tmp_path.glob("run=*"))
    control, model = evaluate_world(world, run, "control"), evaluate_world(world, run)
    assert control["within_2h"]["captured_percent"] == control["within_24h"]["captured_percent"] == 0
    assert control["slots"]["max_share"] == 1
    assert control["by_reason"].keys() == {"control"}
    assert model["within_2h"]["captured_percent"] > 0
    assert model["users"]["unknown_ids"] == model["users"]["ineligible_mailed"] == 0
    assert model["users"]["coverage"] == 1
    assert 0 < model["slots"]["edge_share"] < 1
    assert model["date"] == (MONDAY + timedelta(0)).isoformat()
    assert sum(group["users"] for group in model["by_n_eff"].values()) == model["users"]["judged"]
