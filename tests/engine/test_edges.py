"""Histories with nearly nothing in them: one row a person, a reason that fits, no number that is none."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from histories import ORIGIN, Row, before, mail, opens, people, store_of
from sto_engine.config import load_config
from sto_engine.errors import BadData
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Silent
from sto_engine.train_job import train
from support import table

POLICIES = ("histogram", "attention", "boosted")
OWN = {"histogram": "histogram", "attention": "model", "boosted": "model"}


@dataclass(frozen=True)
class Edge:
    """A history; `reasons` are those of recipients in the model arm, who are `ids`."""

    rows: list[Row]
    recipients: pl.DataFrame | None
    ids: set[int]
    reasons: set[str]
    has_sends: bool = True


def some(users: int, days: int, hour: int = 9) -> list[Row]:
    """Mail once a day, opened after half an hour by every second user."""
    ids = range(1, users + 1)
    return [
        row
        for u in ids
        for d in range(1, days + 1)
        for row in mail(u, before(d, hour), 0.5 if u % 2 and d % 4 else None)
    ]


EDGES: dict[str, Callable[[], Edge]] = {
    "activity only": lambda: Edge(opens(1, 20.5, 30) + opens(2, 7.5, 6), None, {1, 2}, {"own"}, has_sends=False),
    "few sends": lambda: Edge(mail(1, before(2, 9), 0.5) + mail(2, before(2, 9)), None, {1, 2}, {"own", "cohort"}),
    "three days": lambda: Edge(some(6, 3), None, set(range(1, 7)), {"own", "cohort"}),
    "one user": lambda: Edge(some(1, 40), None, {1}, {"own"}),
    "machines only": lambda: Edge(
        [row for u in (1, 2) for d in range(1, 30) for row in mail(u, before(d, 9), 0.005)], None, {1, 2}, {"fallback"}
    ),
    "no open anywhere": lambda: Edge(
        [row for u in (1, 2, 3) for d in range(1, 9) for row in mail(u, before(d, 9))], None, {1, 2, 3}, {"fallback"}
    ),
    "everyone new": lambda: Edge(some(4, 20), people(range(10, 30)), set(range(10, 30)), {"cohort", "global"}),
    "everything at one second": lambda: Edge(
        [Row(u, kind, before(3, 9), 1) for u in range(1, 40) for kind in ("send", "open", "click")],
        None,
        set(range(1, 40)),
        {"own", "cohort", "global", "fallback"},
    ),
    "all a year ago": lambda: Edge(
        [row for d in range(300, 340) for row in mail(1, before(d, 9), 0.5)] + [Row(1, "unsubscribe", before(1, 9), 1)],
        people([1, 2]),
        {2},
        {"fallback"},
        has_sends=False,
    ),
    "no consent at all": lambda: Edge(
        some(3, 20), people([1, 2, 3], consent_profiling=False), {1, 2, 3}, {"fallback"}, has_sends=False
    ),
    "cohorts of one": lambda: Edge(
        some(5, 20), people(range(1, 6), signup_source=list("abcde")), set(range(1, 6)), {"own", "cohort", "global"}
    ),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of some other, ordinary sender."""
    folder, rng = tmp_path_factory.mktemp("ordinary"), np.random.default_rng(1)
    rows = []
    for user in range(80):
        for day in range(1, 91, 2):
            sent = int(rng.integers(6, 22))
            rows += mail(user, before(day, sent), (19.5 - sent) % 24 if rng.random() < 0.4 else None)
    config = load_config(None, ["train.trees=10", "train.min_child_weight=5"])
    train(store_of(rows, folder).path, folder / "bundle", ORIGIN.date(), config, 1, 0, None, Silent())
    return folder / "bundle"


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", list(EDGES))
def test_every_recipient_has_a_row_with_a_reason_and_no_number_that_is_none(
    name: str, policy: str, bundle: Path, tmp_path: Path
) -> None:
    edge = EDGES[name]()
    store = store_of(edge.rows, tmp_path, edge.recipients, buckets=4)
    config = load_config(None, [f"model.policy={policy}", "experiment.control_share=0"])
    request = ScoreRequest(
        store.path, tmp_path / "out", date=ORIGIN.date(), bundle=bundle if policy == "boosted" else None
    )
    result = run_score(request, config, Silent())
    assert result.run_dir is not None
    rows = table(result.run_dir, "assignments")
    assert sorted(rows["user_id"]) == sorted(edge.ids)
    allowed = {OWN[policy] if reason == "own" else reason for reason in edge.reasons}
    if policy == "histogram":
        allowed |= {"cohort"}  # who acted less than five times, too
    if policy == "boosted":
        allowed = (allowed | {"model", "cohort", "global"}) - {"fallback"}  # the bundle knows people who act
    assert set(rows["reason"]) <= allowed
    assert rows.filter(pl.col("reason") == "fallback")["slot"].unique().to_list() in ([], [10])
    for column in ("p_open", "p_control", "propensity", "n_eff"):
        assert not rows[column].is_nan().any()
    knows = edge.has_sends or policy == "boosted"
    assert rows["p_open"].null_count() == (0 if knows else len(rows))
    if knows:
        assert rows["p_open"].is_between(0, 1).all()
    assert json.loads((result.run_dir / "summary.json").read_text())["counts"]["assigned"] == len(edge.ids)


@pytest.mark.parametrize("policy", POLICIES)
def test_an_empty_store_gives_everyone_the_control_time(policy: str, bundle: Path, tmp_path: Path) -> None:
    empty = pl.DataFrame(schema={**{c: pl.UInt64 for c in ("user_id", "campaign_id")}, "event_type": pl.String})
    empty = empty.with_columns(event_ts=pl.Series([], dtype=pl.Datetime("ms", "UTC")))
    store = store_of(empty, tmp_path, people(range(20)), buckets=4)
    config = load_config(None, [f"model.policy={policy}", "experiment.control_share=0"])
    used = bundle if policy == "boosted" else None
    run = run_score(
        ScoreRequest(store.path, tmp_path / "out", date=ORIGIN.date(), bundle=used), config, Silent()
    ).run_dir
    assert run is not None
    rows = table(run, "assignments")
    assert sorted(rows["user_id"]) == list(range(20))
    if policy != "boosted":
        assert set(zip(rows["slot"], rows["reason"], strict=True)) == {(10, "fallback")}
        assert rows["p_open"].null_count() == 20


TEACHES = ("few sends", "three days", "one user", "everyone new", "cohorts of one")


@pytest.mark.parametrize("name", list(EDGES))
def test_a_history_teaches_or_is_refused_as_bad_data(name: str, tmp_path: Path) -> None:
    edge = EDGES[name]()
    store = store_of(edge.rows, tmp_path, edge.recipients)
    config = load_config(None, ["train.min_label_days=1", "train.min_rows=1"])
    refused = nullcontext() if name in TEACHES else pytest.raises(BadData, match="store")
    with refused:
        train(store.path, tmp_path / "b", ORIGIN.date(), config, 1, 0, None, Silent(), force=True)


def test_activity_alone_leaves_the_hour_of_each_user(tmp_path: Path) -> None:
    rows = [row for user in range(30) for row in opens(user, 7.5 if user % 2 else 20.5, 40)]
    store = store_of(rows, tmp_path)
    for policy in ("histogram", "attention"):
        config = load_config(None, [f"model.policy={policy}", "experiment.control_share=0"])
        run = run_score(ScoreRequest(store.path, tmp_path / policy, date=ORIGIN.date()), config, Silent()).run_dir
        assert run is not None
        for user, slot in table(run, "assignments").select("user_id", "slot").iter_rows():
            assert slot in ((6, 7) if user % 2 else (19, 20))


def test_a_history_that_ends_before_the_window_is_no_history(tmp_path: Path) -> None:
    rows = [row for d in range(1, 40) for row in mail(1, ORIGIN - timedelta(days=200 + d), 0.5)]
    store = store_of(rows, tmp_path, people([1]))
    for policy in ("histogram", "attention"):
        config = load_config(None, [f"model.policy={policy}", "experiment.control_share=0"])
        run = run_score(ScoreRequest(store.path, tmp_path / policy, date=ORIGIN.date()), config, Silent()).run_dir
        assert run is not None
        assert table(run, "assignments")["reason"].to_list() == ["fallback"]
