"""The state of a bandit: exact, the same however outcomes came, whole or refused; runs by it and without it agree."""

import json
import shutil
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from histories import ORIGIN, Row, before, frame_of, mail
from sto_engine import bandit_job
from sto_engine.bandit_job import describe, update
from sto_engine.cli import run_command
from sto_engine.config import Config, load_config
from sto_engine.errors import BadData, ConfigError, InputMissing, StoError, TryLater, UsageError
from sto_engine.files import folder_lock
from sto_engine.ingest import ingest
from sto_engine.ingest.erase import erase
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Silent
from support import files_of, table

USERS, DAY = 32, date(2026, 4, 1)


def rows_of(users: int = USERS, seed: int = 0) -> list[Row]:
    """Mail at all hours; each user likes one, and is mailed at it most."""
    rng, rows = np.random.default_rng(seed), []
    for user in range(users):
        for day in range(2, 60):
            hour = 7 * user % 24 if rng.random() < 0.5 else int(rng.integers(0, 24))
            chance = 0.5 if hour == 7 * user % 24 else 0.1
            rows += mail(user, before(day, hour), 0.3 if rng.random() < chance else None)
    return rows


def configured(*keys: str) -> Config:
    return load_config(None, ["model.policy=bandit", "bandit.prior=cohort", "store.buckets=4", *keys])


def add(store: Path, rows: list[Row], name: str) -> Path:
    store.parent.mkdir(parents=True, exist_ok=True)
    file = store.parent / f"{name}.parquet"
    frame_of(rows).write_parquet(file)
    ingest([str(file)], store, None, configured(), Silent())
    return store


def bring(store: Path, state: Path, *keys: str, as_of: date | None = None) -> dict[str, object]:
    return update(store, state, as_of, None, configured(*keys), 2, Silent())


def content(state: Path) -> dict[str, str]:
    return {name: sha for name, sha in files_of(state).items() if not name.endswith("state.json")}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add(tmp_path_factory.mktemp("state") / "store", rows_of(), "all")


@pytest.fixture(scope="module")
def state(store: Path) -> Path:
    path = store.parent / "state"
    bring(store, path)
    return path


def counted(state: Path) -> dict[int, tuple[list[float], list[float]]]:
    rows = pl.read_parquet(state / "content=*" / "outcomes" / "*.parquet")
    return {user: (sends, hits) for user, sends, hits in rows.iter_rows()}


def test_outcomes_are_what_plain_counting_finds(tmp_path: Path) -> None:
    """One type of mail, every campaign as appealing as another but for what few sends can tell: sends by the hour."""
    config = load_config(None, ["bandit.prior=flat", "store.buckets=4"])
    rows = [
        row
        for user in range(5)
        for day in range(3, 9)
        for row in mail(user, before(day, 9), 0.5 if user < day else None)
    ]
    store = add(tmp_path / "store", [*rows, *mail(0, ORIGIN - timedelta(hours=7), 0.5)], "few")
    update(store, tmp_path / "state", DAY, None, config, 2, Silent())
    found = counted(tmp_path / "state")
    assert {user: hits[9] for user, (_, hits) in found.items()} == {0: 6, 1: 6, 2: 6, 3: 5, 4: 4}
    assert all(sum(hits) == hits[9] for _, hits in found.values())
    assert all(4 < sends[9] < 8 for sends, _ in found.values())


def test_the_same_outcomes_twice_change_nothing(store: Path, state: Path) -> None:
    was = files_of(state)
    again = bring(store, state)
    assert again["up_to_date"]
    assert files_of(state) == was


def test_order_pieces_and_repetition_of_events_change_no_byte(state: Path, tmp_path: Path) -> None:
    rows = rows_of()
    pieces = [rows[2::3], rows[1::3] + rows[2::9], rows[0::3]]
    other = tmp_path / "store"
    for number, piece in enumerate(pieces):
        add(other, piece, str(number))
        bring(other, tmp_path / "state")
    assert content(tmp_path / "state") == content(state)
    shutil.rmtree(tmp_path / "state")
    bring(other, tmp_path / "state")
    assert content(tmp_path / "state") == content(state)


def test_late_events_are_right_after_the_next_update(store: Path, tmp_path: Path) -> None:
    rows = rows_of()
    late = [row for row in rows if row.kind == "open" and row.user % 2]
    early = [row for row in rows if not (row.kind == "open" and row.user % 2)]
    other = add(tmp_path / "store", early, "early")
    bring(other, tmp_path / "state", as_of=DAY)
    assert {user % 2 for user in counted(tmp_path / "state")} == {0}  # the others seem to be dead
    add(other, late, "late")
    assert bring(other, tmp_path / "state", as_of=DAY)["changed_buckets"] == 4
    bring(store, tmp_path / "direct", as_of=DAY)
    assert content(tmp_path / "state") == content(tmp_path / "direct")


def test_as_of_knows_nothing_later(store: Path, tmp_path: Path) -> None:
    rows = [row for row in rows_of() if row.at < datetime(2026, 3, 10, tzinfo=ORIGIN.tzinfo)]
    old = add(tmp_path / "store", rows, "old")
    for source, name in ((store, "a"), (old, "b")):
        bring(source, tmp_path / name, as_of=date(2026, 3, 10))
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_who_was_erased_is_gone(tmp_path: Path) -> None:
    store = add(tmp_path / "store", rows_of(12), "all")
    bring(store, tmp_path / "state")
    assert 3 in counted(tmp_path / "state")
    erase(store, ("3",), None, configured(), Silent())
    assert not bring(store, tmp_path / "state")["up_to_date"]
    assert set(counted(tmp_path / "state")) == set(range(12)) - {3}
    assert len(list((tmp_path / "state").glob("content=*"))) == 1


@pytest.mark.parametrize("prior", ["cohort", "contextual"])
def test_a_run_by_a_state_is_the_run_without_one(store: Path, tmp_path: Path, prior: str) -> None:
    keys = (f"bandit.prior={prior}",)
    bring(store, tmp_path / "state", *keys)
    rows = []
    for known in (None, tmp_path / "state"):
        request = ScoreRequest(store, tmp_path / "out", bandit_state=known)
        done = run_score(request, configured(*keys), Silent())
        assert done.run_dir is not None
        # seconds inside of a slot are spread by the id of the run
        rows.append(table(done.run_dir, "assignments").drop("send_at"))
        assert done.summary["bandit"]["prior"] == prior
    assert rows[0].equals(rows[1])
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_killed_update_goes_on_from_its_records(
    store: Path, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = bandit_job.Counting.count, []

    def failing(self: bandit_job.Counting, priors: dict[str, np.ndarray], bucket: int) -> dict[str, object]:
        seen.append(bucket)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return real(self, priors, bucket)

    monkeypatch.setattr(bandit_job.Counting, "count", failing)
    with pytest.raises(KeyboardInterrupt):
        update(store, tmp_path / "state", None, None, configured(), 1, Silent())
    with pytest.raises(InputMissing, match=r"no state\.json"):
        describe(tmp_path / "state")
    bring(store, tmp_path / "state")
    assert len(seen) < 3 + 4
    assert files_of(tmp_path / "state") == files_of(state)


def test_what_a_state_holds_is_told(state: Path) -> None:
    found = describe(state)
    last = datetime(2026, 3, 31, tzinfo=ORIGIN.tzinfo) - timedelta(hours=8)
    sends = sum(row.kind == "send" and row.at <= last for row in rows_of())
    assert (found["users"], found["sends"], found["through"]) == (USERS, sends, "2026-03-31")
    assert found["prior"] == "cohort"
    assert 1 <= found["strength"] < 60
    assert set(found["cohorts"]) == {"europe|unknown|unknown"}


def damaged(state: Path, folder: Path, name: str) -> Path:
    shutil.copytree(state, folder)
    (file,) = folder.glob(name)
    body = file.read_bytes()
    file.write_bytes(body[:-20] + bytes([body[-20] ^ 1]) + body[-19:])
    return folder


@pytest.mark.parametrize("name", ["state.json", "content=*/priors.safetensors", "content=*/outcomes/part-0002.parquet"])
def test_a_damaged_state_is_refused_and_made_again(store: Path, state: Path, tmp_path: Path, name: str) -> None:
    bad = damaged(state, tmp_path / "state", name)
    request = ScoreRequest(store, tmp_path / "out", bandit_state=bad)
    with pytest.raises(BadData, match="delete the folder"):
        run_score(request, configured(), Silent())
    if not name.endswith("parquet"):
        with pytest.raises(BadData, match="delete the folder"):
            bring(store, bad)
        shutil.rmtree(bad)
    assert not bring(store, bad)["up_to_date"]
    assert files_of(bad) == files_of(state)


@pytest.mark.parametrize(
    ("keys", "error", "text"),
    [
        (("slots.grid=48",), ConfigError, r"slots\.grid = 24 for 48"),
        (("bandit.prior=flat",), ConfigError, r"bandit\.prior = cohort for flat"),
        (("model.label=open_24h",), ConfigError, "open_2h for open_24h"),
        (("model.policy=attention",), ConfigError, "--bandit-state is for"),
    ],
)
def test_a_state_by_other_settings_is_refused(
    store: Path, state: Path, tmp_path: Path, keys: tuple[str, ...], error: type[StoError], text: str
) -> None:
    with pytest.raises(error, match=text):
        run_score(ScoreRequest(store, tmp_path, bandit_state=state), configured(*keys), Silent())


def test_a_state_of_another_store_or_of_a_later_day_is_refused(store: Path, state: Path, tmp_path: Path) -> None:
    other = add(tmp_path / "store", rows_of(8, 1), "other")
    with pytest.raises(BadData, match="1 sources were never ingested there"):
        run_score(ScoreRequest(other, tmp_path, bandit_state=state), configured(), Silent())
    with pytest.raises(BadData, match="after the day 2026-03-20"):
        run_score(ScoreRequest(store, tmp_path, bandit_state=state, date=date(2026, 3, 20)), configured(), Silent())
    with pytest.raises(InputMissing, match="bandit update"):
        run_score(ScoreRequest(store, tmp_path, bandit_state=tmp_path / "none"), configured(), Silent())


def test_updates_that_cannot_be_are_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match="holds no store"):
        bring(tmp_path / "none", tmp_path / "state")
    with pytest.raises(ConfigError, match="histogram"):
        bring(store, tmp_path / "state", "model.policy=histogram")
    (tmp_path / "state").mkdir(exist_ok=True)
    with folder_lock(tmp_path / "state", "bandit state"), pytest.raises(TryLater, match="in use"):
        bring(store, tmp_path / "state")
    empty = add(tmp_path / "empty" / "store", [], "nothing")
    with pytest.raises(UsageError, match="--as-of"):
        bring(empty, tmp_path / "state")


def test_the_commands_say_what_they_did(store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    state = str(tmp_path / "state")
    settings = ["--set", "bandit.prior=cohort", "--threads", "2", "--quiet", "--log-json"]
    assert run_command(["bandit", "update", "--store", str(store), "--state", state, *settings]) == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["users"], told["up_to_date"], told["changed_buckets"]) == (USERS, False, 4)
    assert run_command(["bandit", "show", "--state", state, "--log-json"]) == 0
    assert json.loads(capfd.readouterr().out)["users"] == USERS
    assert run_command(["bandit", "show", "--state", str(tmp_path / "none"), "--log-json"]) == 66


def test_what_runs_came_to_is_told_against_what_was_expected(tmp_path: Path) -> None:
    """A run for the first of April; half of its recipients open, one is mailed by another campaign, one too young."""
    store = add(tmp_path / "store", rows_of(30), "all")
    request = ScoreRequest(store, tmp_path / "out", campaign="77", date=DAY)
    run = run_score(request, configured("experiment.control_share=0"), Silent()).run_dir
    assert run is not None
    rows = table(run, "assignments").sort("user_id")
    events = []
    for user, at in rows.select("user_id", "send_at").iter_rows():
        campaign = 78 if user == 5 else 77
        events.append(Row(user, "send", at + timedelta(minutes=3), campaign))
        if user % 2:
            events.append(Row(user, "open", at + timedelta(minutes=20), campaign))
    add(store, events, "sent")
    told = update(
        store, tmp_path / "state", date(2026, 4, 3), None, configured(), 2, Silent(), past=(tmp_path / "out",)
    )
    (found,) = json.loads((tmp_path / "state" / "regret.json").read_text())["runs"]
    assert told["runs"] == [found]
    assert (found["recipients"], found["sends"], found["opens"]) == (30, 29, 14)
    expected = rows.filter(pl.col("user_id") != 5)["p_open"].mean()
    assert found["expected_rate"] == pytest.approx(expected, abs=1e-5)
    assert 0 <= found["expected_regret"] < found["expected_best_rate"]
    with pytest.raises(InputMissing, match="found none"):
        update(store, tmp_path / "state", None, None, configured(), 2, Silent(), past=(tmp_path / "nowhere",))
