"""A simulation keeps its format and its seed, and its events have the frequencies that its truth states."""

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sto_engine import cli
from sto_engine.errors import CannotCreate, ConfigError, UsageError
from sto_engine.progress import Silent
from sto_engine.simulate import HISTORIES, WORLDS, simulate


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*.parquet"))}


def sends_with_truth(out: Path) -> pl.DataFrame:
    """Promo sends of the eligible with their true local hour, p2h at it, and whether they were opened within 2 h."""
    events, truth = pl.read_parquet(out / "events"), pl.read_parquet(out / "truth.parquet").filter(pl.col("eligible"))
    keys = ["user_id", "campaign_id"]
    promo = events.filter(pl.col("campaign_type") == "promo")
    opens = promo.filter(pl.col("event_type") == "open").select(*keys, opened="event_ts")
    sends = promo.filter(pl.col("event_type") == "send").join(opens, on=keys, how="left", maintain_order="left")
    late = pl.col("true_offset").cast(pl.Int64) - pl.col("profile_offset").cast(pl.Int64)
    local = pl.col("event_ts") + pl.duration(minutes=pl.col("tz_offset").cast(pl.Int64) + late)
    sends = sends.join(truth, on="user_id", how="inner", maintain_order="left").with_columns(local=local)
    week_hour = (sends["local"].dt.weekday().cast(pl.Int64) - 1) * 24 + sends["local"].dt.hour()
    p = sends["p2h_week"].to_numpy()[np.arange(len(sends)), week_hour.to_numpy()]
    is_open = (sends["opened"] - sends["event_ts"]).dt.total_milliseconds() <= 7_200_000
    return sends.select("user_id", "event_ts", "local", p=pl.Series(p), is_open=is_open.fill_null(False))


def test_a_seed_fixes_every_byte_on_any_number_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sto_engine.simulate.run.CHUNK_USERS", 70)
    for name, seed, threads in (("a", 1, 1), ("b", 1, 3), ("c", 2, 1)):
        simulate(tmp_path / name, "blend", 300, 20, seed, Silent(), threads=threads)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert digests(tmp_path / "a") != digests(tmp_path / "c")


def test_a_simulation_replaces_an_older_one_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sto_engine.simulate.run.CHUNK_USERS", 70)
    for name, users in (("a", 300), ("a", 100), ("b", 100)):
        simulate(tmp_path / name, "attention", users, 20, 1, Silent())
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_a_chunk_does_not_depend_on_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sto_engine.simulate.run.CHUNK_USERS", 70)
    for name, users in (("a", 140), ("b", 300)):
        simulate(tmp_path / name, "dirty", users, 20, 1, Silent())
    for part in ("part-0000.parquet", "part-0001.parquet"):
        assert digests(tmp_path / "a")[part] == digests(tmp_path / "b")[part]


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_every_world_has_the_fixed_format(name: str, tmp_path: Path) -> None:
    report = simulate(tmp_path, name, 250, 30, 5, Silent())
    truth, people = pl.read_parquet(tmp_path / "truth.parquet"), pl.read_parquet(tmp_path / "recipients.parquet")
    assert truth.schema == {
        "user_id": pl.UInt64,
        "true_timezone": pl.String,
        "true_offset": pl.Int16,
        "profile_offset": pl.Int16,
        "eligible": pl.Boolean,
        "p2h": pl.Array(pl.Float32, 24),
        "p24h": pl.Array(pl.Float32, 24),
        "p2h_week": pl.Array(pl.Float32, 168),
        "p24h_week": pl.Array(pl.Float32, 168),
    }
    assert truth["user_id"].n_unique() == 250
    assert truth["user_id"].equals(people["user_id"])
    assert truth["profile_offset"].equals(people["tz_offset"], check_names=False)
    p2h, p24h = truth["p2h_week"].to_numpy(), truth["p24h_week"].to_numpy()
    assert p24h.max() <= 1
    assert p2h.min() >= 0
    assert (p2h <= p24h + 1e-6).all()
    np.testing.assert_array_equal(truth["p2h"].to_numpy(), p2h[:, :24])  # 20 April 2026 is a Monday
    events = pl.read_parquet(tmp_path / "events")
    assert len(events) == report.events
    assert str(events["event_ts"].max()) < "2026-04-20"
    assert set(events["event_type"]) == {"send", "open", "click"}
    assert set(events["campaign_type"]) == {"promo", "trigger", "transactional"}
    assert set(events["user_id"]) <= set(truth["user_id"])


def test_ineligible_are_the_dead_and_those_who_may_not_be_mailed(tmp_path: Path) -> None:
    simulate(tmp_path, "dirty", 2000, 30, 5, Silent())
    truth, people = pl.read_parquet(tmp_path / "truth.parquet"), pl.read_parquet(tmp_path / "recipients.parquet")
    may_be_mailed = people["consent"] & (people["address_status"] == "valid")
    assert not (truth["eligible"] & ~may_be_mailed).any()
    is_dead = truth["p24h"].arr.max() == 0
    assert not (truth["eligible"] & is_dead).any()
    assert 0.08 < is_dead.mean() < 0.16
    acts = pl.read_parquet(tmp_path / "events").filter(pl.col("event_type") != "send")
    assert set(acts["user_id"]).isdisjoint(truth.filter(is_dead)["user_id"])


@pytest.mark.parametrize(
    ("name", "history"), [("attention", "uniform"), ("attention", "optimiser"), ("send_hour", "few"), ("drift", "few")]
)
def test_opens_of_a_history_are_as_frequent_as_the_truth_says(name: str, history: str, tmp_path: Path) -> None:
    simulate(tmp_path, name, 4000, 60, 2, Silent(), history=history, campaigns_per_day=2)
    sends = sends_with_truth(tmp_path)
    if name == "drift":  # the truth is that of the end, and homes have changed
        sends = sends.filter(pl.col("event_ts").dt.date() >= pl.date(2026, 4, 14))
    stated, found = sends["p"].sum(), sends["is_open"].sum()
    assert found == pytest.approx(stated, rel=0.12)  # campaigns differ in appeal; their mean is 1 only in the long run
    # and the hours that the truth calls good are the good ones
    halves = sends.with_columns(is_good=pl.col("p") > pl.col("p").median().over("user_id"))
    rate = halves.group_by("is_good").agg(pl.col("is_open").mean(), pl.col("p").mean()).sort("is_good")
    ratio = rate["is_open"][1] / rate["is_open"][0]
    assert ratio == pytest.approx(rate["p"][1] / rate["p"][0], rel=0.15)


def send_hours(out: Path) -> pl.DataFrame:
    sends = pl.read_parquet(out / "events").filter(
        (pl.col("event_type") == "send") & (pl.col("campaign_type") == "promo")
    )
    local = pl.col("event_ts") + pl.duration(minutes=pl.col("tz_offset").cast(pl.Int64))
    return sends.select("user_id", "event_ts", hour=local.dt.hour())


@pytest.mark.parametrize(("history", "hours"), [("few", {8, 10, 13, 18}), ("fixed", {10}), ("uniform", set(range(24)))])
def test_campaigns_go_out_at_the_hours_of_the_history(history: str, hours: set[int], tmp_path: Path) -> None:
    simulate(tmp_path, "attention", 300, 60, 5, Silent(), history=history)
    assert set(send_hours(tmp_path)["hour"]) == hours


def test_an_optimiser_mails_each_user_around_an_hour_of_his_own(tmp_path: Path) -> None:
    simulate(tmp_path, "attention", 800, 90, 5, Silent(), history="optimiser", campaigns_per_day=1)
    sends = send_hours(tmp_path)
    turn = 2 * np.pi * pl.col("hour") / 24
    length = (turn.cos().mean() ** 2 + turn.sin().mean() ** 2).sqrt()
    is_late = pl.col("event_ts").dt.date() > pl.date(2026, 3, 1)
    spread = {
        late: sends.filter(is_late == late).group_by("user_id").agg(r=length)["r"].mean() for late in (True, False)
    }
    assert spread[True] > 0.9
    assert spread[False] < 0.4
    assert sends.filter(is_late)["hour"].n_unique() == 24


def test_nobody_is_mailed_before_signing_up(tmp_path: Path) -> None:
    simulate(tmp_path, "sparse", 2000, 90, 5, Silent())
    people = pl.read_parquet(tmp_path / "recipients.parquet", columns=["user_id", "signup_ts"])
    first = pl.read_parquet(tmp_path / "events").group_by("user_id").agg(pl.col("event_ts").min())
    both = people.join(first, on="user_id", how="left", maintain_order="left")
    assert (both["event_ts"].fill_null(both["signup_ts"]) >= both["signup_ts"]).all()
    assert both["event_ts"].is_null().mean() > 0.15


def test_campaigns_per_day_sets_the_amount_of_mail(tmp_path: Path) -> None:
    few = simulate(tmp_path / "few", "attention", 500, 90, 5, Silent(), campaigns_per_day=0.1)
    many = simulate(tmp_path / "many", "attention", 500, 90, 5, Silent(), campaigns_per_day=1)
    assert 5 < few.events / 500 < 15
    assert many.sends / few.sends == pytest.approx(10, rel=0.2)


def test_clocks_change_within_the_history(world: Path) -> None:
    events = pl.read_parquet(world / "events").join(
        pl.read_parquet(world / "recipients.parquet", columns=["user_id", "timezone"]), on="user_id"
    )
    offsets = events.group_by("timezone").agg(pl.col("tz_offset").unique().sort())
    found = dict(zip(offsets["timezone"], offsets["tz_offset"].to_list(), strict=True))
    assert found["Europe/Berlin"] == [60, 120]
    assert found["America/New_York"] == [-300, -240]
    assert found["Asia/Kathmandu"] == [345]


def test_other_folders_and_wrong_counts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(CannotCreate, match="holds other files"):
        simulate(tmp_path, "attention", 10, 10, 0, Silent())
    with pytest.raises(UsageError, match="at least 1"):
        simulate(tmp_path / "x", "attention", 0, 10, 0, Silent())
    with pytest.raises(UsageError, match="campaigns-per-day"):
        simulate(tmp_path / "x", "attention", 10, 10, 0, Silent(), campaigns_per_day=0)
    with pytest.raises(ConfigError, match=r'--world.*nearest: "attention"'):
        simulate(tmp_path / "x", "atention", 10, 10, 0, Silent())
    with pytest.raises(ConfigError, match=r'--history.*nearest: "optimiser"'):
        simulate(tmp_path / "x", "attention", 10, 10, 0, Silent(), history="optimizer")


def test_one_user_and_one_day_are_a_world(tmp_path: Path) -> None:
    for name in WORLDS:
        assert simulate(tmp_path / name, name, 1, 1, 0, Silent()).users == 1


def test_help_has_a_line_for_each_world_and_history(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command(["simulate", "--help"]) == 0
    lines = {tuple(line.strip().split(maxsplit=1)) for line in capsys.readouterr().out.splitlines()}
    assert lines >= {*((name, world.about) for name, world in WORLDS.items()), *HISTORIES.items()}
