"""What `explain` says of a user is what `score` does with him, and its parts add up."""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sto_engine import cli
from sto_engine.config import Config, load_config
from sto_engine.errors import InputMissing, Unavailable, UsageError
from sto_engine.explain.margin import contributions
from sto_engine.explain.run import explain_user
from sto_engine.explain_text import explain_text
from sto_engine.ingest import ingest
from sto_engine.ingest.ids import parse_id
from sto_engine.job import ScoreRequest, run_score
from sto_engine.models.bundle import load_bundle
from sto_engine.models.features import FEATURES
from sto_engine.progress import Silent
from support import table

DAY = date(2026, 4, 20)
NEWCOMER = 12345
POLICIES = ("seed_histogram", "histogram", "attention", "boosted")


@dataclass(frozen=True)
class Case:
    """A policy, what it scored, and what was explained so far."""

    policy: str
    request: ScoreRequest
    config: Config
    assigned: pl.DataFrame
    suppressed: pl.DataFrame
    explained: dict[int, dict[str, Any]] = field(default_factory=dict)

    def explain(self, user_id: int) -> dict[str, Any]:
        if user_id not in self.explained:
            self.explained[user_id] = explain_user(self.request, str(user_id), self.config, Silent())
        return self.explained[user_id]


@pytest.fixture(scope="module")
def people(world: Path, small_config: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """The small sender with a newcomer, and with two of his users changed: no consent to mail, none to profiling."""
    folder = tmp_path_factory.mktemp("people")
    known = pl.read_parquet(world / "recipients.parquet")
    ids = known.filter(address_status="valid")["user_id"].head(2).to_list()
    is_refuser, is_private = pl.col("user_id") == ids[0], pl.col("user_id") == ids[1]
    known = known.with_columns(consent=~is_refuser, consent_profiling=~is_private)
    newcomer = pl.Series("user_id", [NEWCOMER], known["user_id"].dtype).to_frame()
    pl.concat([known, newcomer], how="diagonal").write_parquet(folder / "r.parquet")
    ingest([str(world / "events")], folder / "store", folder / "r.parquet", small_config, Silent())
    return folder / "store", ids


@pytest.fixture(scope="module", params=POLICIES)
def case(request: pytest.FixtureRequest, people: tuple[Path, list[int]], bundle: Path, tmp_path_factory) -> Case:
    name = request.param
    kind = "preset" if name.startswith("seed_") else "policy"
    config = load_config(None, [f"model.{kind}={name}", "experiment.random_share=0.2"])
    asked = ScoreRequest(people[0], tmp_path_factory.mktemp("out"), bundle if name == "boosted" else None, DAY, seed=5)
    run = run_score(asked, config, Silent()).run_dir
    assert run is not None
    return Case(name, asked, config, table(run, "assignments"), table(run, "suppressed"))


def first_user(world: Path) -> str:
    return str(pl.read_parquet(world / "recipients.parquet")["user_id"][0])


def chosen_users(case: Case) -> list[int]:
    """One of each arm."""
    return [case.assigned.filter(arm=arm)["user_id"][0] for arm in ("model", "control", "random")]


def test_the_slot_explained_is_the_slot_that_score_writes(case: Case, people: tuple[Path, list[int]]) -> None:
    for user in (*chosen_users(case), people[1][1], NEWCOMER):
        row = case.assigned.row(by_predicate=pl.col("user_id") == user, named=True)
        found = case.explain(user)["decision"]
        assert (found["slot"], found["model_slot"]) == (row["slot"], row["preferred_slot"])
        assert (found["arm"], found["reason"]) == (row["arm"], row["reason"])
        assert found["slot_local"] == row["slot_local"].isoformat(timespec="minutes")
        assert datetime.fromisoformat(found["send_from"]) <= row["send_at"]
        assert row["send_at"] < datetime.fromisoformat(found["send_before"])
        for name in ("p_open", "p_control", "propensity", "n_eff"):
            assert found[name] == pytest.approx(row[name], abs=1e-6), name


def test_a_suppressed_user_has_his_reason_and_no_slot(case: Case, people: tuple[Path, list[int]]) -> None:
    refuser = people[1][0]
    assert (refuser, "no_consent") in case.suppressed.rows()
    found = case.explain(refuser)
    assert (found["decision"]["suppressed"], found["decision"]["slot"]) == ("no_consent", None)
    assert found["contributions"] is None
    assert found["history"]["sends"] > 0
    assert "no_consent" in explain_text(found)


def test_the_runner_up_is_the_best_of_the_other_slots(case: Case) -> None:
    found = case.explain(chosen_users(case)[0])
    utility_S = np.array(found["slots"]["utility"])
    order = np.argsort(-utility_S, kind="stable")
    decision = found["decision"]
    assert (decision["model_slot"], decision["runner_up"]) == (order[0], order[1])
    assert decision["lead"] == pytest.approx(utility_S[order[0]] - utility_S[order[1]], abs=2e-6)


def test_one_who_refuses_profiling_or_is_new_stands_where_his_cohort_does(
    case: Case, people: tuple[Path, list[int]]
) -> None:
    for user in (people[1][1], NEWCOMER):
        found = case.explain(user)
        slots = found["slots"]
        assert (found["history"]["sends"], "p_2h_own" in slots) == (0, case.policy in ("attention", "boosted"))
        if "p_2h_own" not in slots:
            continue
        np.testing.assert_allclose(slots["p_2h_personas"], slots["p_2h_cohort"], atol=2e-6)
        np.testing.assert_allclose(slots["p_2h_own"], slots["p_2h_cohort"], atol=2e-6)
    assert any("profiling" in text for text in case.explain(people[1][1])["warnings"])


def test_attention_ends_at_the_chance_that_it_decides_by(case: Case) -> None:
    found = case.explain(chosen_users(case)[0])
    if case.policy == "attention":
        assert found["slots"]["p_2h_own"] == found["slots"]["p_open"]
        assert 0 < sum(p["weight"] for p in found["priors"]["personas"]) <= 1 + 1e-6
    assert all(len(values) == 24 for values in found["slots"].values() if values is not None)


def test_the_parts_add_up_to_the_margin_of_the_kernel(case: Case) -> None:
    for user in chosen_users(case):
        found = case.explain(user)
        if case.policy != "boosted":
            assert found["contributions"] is None
            continue
        margin, parts = found["contributions"]["margin"], found["contributions"]["parts"]
        assert margin["chosen"] == pytest.approx(found["slots"]["utility"][found["decision"]["model_slot"]], abs=1e-6)
        for name in ("chosen", "runner_up", "mean"):
            assert sum(part[name] for part in parts) == pytest.approx(margin[name], abs=1e-4)
        assert {part["feature"] for part in parts if part["part"] == "forest"} > set(FEATURES)


def test_a_day_that_is_over_leaves_no_slot_and_one_slot_no_runner_up(store: Path, world: Path) -> None:
    user = first_user(world)
    config = load_config(None, ["model.policy=histogram", "window.start=09:00", "window.end=10:00"])
    request = ScoreRequest(store, Path(), date=DAY)
    late = replace(request, not_before_ms=int(datetime(2026, 4, 22, tzinfo=UTC).timestamp() * 1000))
    found = explain_user(late, user, config, Silent())
    assert found["decision"]["suppressed"] == "no_slot_left"
    assert found["slots"]["allowed"] == [False] * 24
    found = explain_user(request, user, config, Silent())
    assert (found["decision"]["slot"], found["decision"]["runner_up"]) == (9, None)
    assert explain_text(found).count("not allowed") == 23


def test_only_slots_inside_his_own_hours_are_allowed_to_a_user(tmp_path: Path) -> None:
    ids = pl.Series("user_id", [1, 2], dtype=pl.UInt64)
    people = pl.DataFrame([ids, pl.Series("allowed_hours", ["20:00-23:00,09:00-10:00", None])])
    request = ScoreRequest(small_store(tmp_path, ids, 0, people), Path(), date=DAY)
    config = load_config(None, ["experiment.control_share=0", "window.end=22:00"])
    for user, slots in (("1", [9, 20, 21]), ("2", list(range(22)))):
        found = explain_user(request, user, config, Silent())
        assert np.flatnonzero(found["slots"]["allowed"]).tolist() == slots
        assert found["window"]["allowed_slots"] == len(slots)
        assert found["decision"]["runner_up"] in slots


def small_store(folder: Path, ids: pl.Series, offset: int | None, people: pl.DataFrame | None = None) -> Path:
    """Each user got three mails at 08:00 UTC and opened two of them at 17:30 UTC."""
    rows = []
    for user in ids:
        for day in range(3):
            at = datetime(2026, 4, 10 + day, 8, tzinfo=UTC)
            rows.append((user, day, "send", at, offset))
            if day < 2:
                rows.append((user, day, "open", at + timedelta(hours=9, minutes=30), offset))
    names = ["user_id", "campaign_id", "event_type", "event_ts", "tz_offset"]
    types = {"user_id": ids.dtype, "event_ts": pl.Datetime("ms", "UTC"), "tz_offset": pl.Int16}
    pl.DataFrame(rows, names, orient="row", schema_overrides=types).write_parquet(folder / "e.parquet")
    if people is not None:
        people.write_parquet(folder / "r.parquet")
    config = load_config(None, ["store.buckets=2"])
    path = folder / "r.parquet" if people is not None else None
    ingest([str(folder / "e.parquet")], folder / "s", path, config, Silent())
    return folder / "s"


@pytest.mark.parametrize(
    ("offset", "profile", "zone", "source", "clock", "hour"),
    [
        (None, None, "UTC", "default", "UTC", 17),
        (120, None, "120", "event", "120", 19),
        (None, "Europe/Berlin", "Europe/Berlin", "profile", "Europe/Berlin", 19),
        (300, "Europe/Berlin", "Europe/Berlin", "profile", "300", 22),
    ],
)
def test_counts_are_those_of_a_count_by_hand_in_the_zone_it_names(
    tmp_path: Path, offset: int | None, profile: str | None, zone: str, source: str, clock: str, hour: int
) -> None:
    ids = pl.Series(range(1, 6), dtype=pl.UInt64)
    people = pl.DataFrame({"user_id": ids, "timezone": [profile] * 5}) if profile else None
    request = ScoreRequest(small_store(tmp_path, ids, offset, people), Path(), date=DAY)
    found = explain_user(request, "3", load_config(None, []), Silent())
    user, past = found["user"], found["history"]
    assert (user["zone"], user["zone_from"], user["clock"]) == (zone, source, clock)
    assert user["shift_min"] == (180 if clock == "300" else 0)
    assert user["in_recipients"] == (True if profile else None)
    assert (past["sends"], past["opened"], past["acts"], past["campaigns"]) == (3, 2, 2, 3)
    assert past["acts_by_hour"] == [2 * (h == hour) for h in range(24)]
    assert (past["first_act"], past["last_act"]) == ("2026-04-10T17:30:00+00:00", "2026-04-11T17:30:00+00:00")
    assert past["sends_by_hour"] == [3 * (h == hour - 9) for h in range(24)]
    assert min(past["exposure_hours_by_hour"]) > 0  # the third mail lay unread for a day


def test_a_user_outside_the_recipients_is_explained_and_told_so(tmp_path: Path) -> None:
    ids = pl.Series("user_id", [1, 2], dtype=pl.UInt64)
    path = small_store(tmp_path, ids, 0, ids.head(1).to_frame())
    found = explain_user(ScoreRequest(path, Path(), date=DAY), "2", load_config(None, []), Silent())
    assert found["user"]["in_recipients"] is False
    assert any("--audience" in text for text in found["warnings"])


def test_what_is_not_known_before_the_day_is_a_missing_input(tmp_path: Path) -> None:
    path = small_store(tmp_path, pl.Series([1], dtype=pl.UInt64), 0)
    for user, day in (("2", DAY), ("1", date(2026, 4, 9))):
        with pytest.raises(InputMissing, match="--user-id"):
            explain_user(ScoreRequest(path, Path(), date=day), user, load_config(None, []), Silent())


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("18446744073709551615", "uint64", 2**64 - 1),
        ("-5", "int64", -5),
        ("-9223372036854775808", "int64", -(2**63)),
        ("-1", "uint64", None),
        ("18446744073709551616", "uint64", None),
        ("secret", "uint64", None),
        ("²", "uint64", None),
        ("9" * 5000, "uint64", None),
    ],
)
def test_an_id_is_read_as_the_store_types_it(text: str, kind: str, expected: int | str | None) -> None:
    if expected is not None:
        assert parse_id(text, kind) == expected
        return
    with pytest.raises(UsageError, match="whole number"):
        parse_id(text, kind)


def hide_xgboost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "xgboost.py").write_text("raise ImportError('no xgboost here')")
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_contributions_say_what_is_wrong_where_xgboost_does_not_answer(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.zeros((2, len(FEATURES)), np.float32)
    forest = load_bundle(bundle).forest
    assert contributions(forest, FEATURES, rows).shape == (2, len(FEATURES) + 1)
    with pytest.raises(Unavailable, match="ended with 1"):
        contributions(b"{", FEATURES, rows)
    hide_xgboost(tmp_path, monkeypatch)
    with pytest.raises(Unavailable, match="no xgboost here"):
        contributions(forest, FEATURES, rows)


def test_without_xgboost_the_rest_is_explained(
    store: Path, bundle: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_xgboost(tmp_path, monkeypatch)
    user = first_user(world)
    found = explain_user(ScoreRequest(store, Path(), bundle, DAY), user, load_config(None, []), Silent())
    assert found["contributions"] is None
    assert found["decision"]["slot"] is not None
    assert "no xgboost here" in explain_text(found)


def test_the_command_prints_one_object_and_logs_no_id(
    store: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user = first_user(world)
    command = ["explain", "--store", str(store), "--log-json", "--set", "model.policy=histogram", "--user-id"]
    assert cli.run_command([*command, user, "--json", str(tmp_path / "e.json")]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == json.loads((tmp_path / "e.json").read_text())
    assert json.loads(told.out)["user"]["user_id"] == user
    assert {json.loads(line)["command"] for line in told.err.splitlines()} == {"explain"}
    for text, code in (("987654321", 66), ("abc-id", 2)):
        assert cli.run_command([*command, text]) == code
        told = capsys.readouterr()
        assert told.out == ""
        assert text not in told.err
    assert user not in told.err


def test_text_has_a_line_a_slot_and_no_control_characters(tmp_path: Path) -> None:
    ids = pl.Series(["a\x1b[31m", "b", "c"], dtype=pl.String)
    request = ScoreRequest(small_store(tmp_path, ids, 0), Path(), date=DAY)
    found = explain_user(request, ids[0], load_config(None, ["slots.grid=48", "model.policy=histogram"]), Silent())
    text = explain_text(found)
    assert text.startswith("User a\\x1b[31m\n")
    assert "\x1b" not in text
    assert all(f"\n  {clock} " in text for clock in found["slots"]["local"])
