"""`train --prior-bundle`: what another brand knows, where the own history says little, and no more than that."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from executors import Travelling
from histories import DAY, Row, before, frame_of, mail, people, store_of
from sto_engine.config import load_config
from sto_engine.errors import BadData, ConfigError, InputMissing, UsageError
from sto_engine.ingest import ingest
from sto_engine.job import ScoreRequest, run_score
from sto_engine.models import inherit as inherit_module
from sto_engine.models.bundle import load_bundle, save_bundle
from sto_engine.models.inherit import NOTHING, USERS, Evidence, inherit
from sto_engine.models.priors import Priors, from_tensors
from sto_engine.progress import Silent
from sto_engine.train_job import TrainReport, train
from support import files_of, table

KEYS = ('cohort.by=["signup_source"]', "train.trees=10", "train.min_child_weight=20", "experiment.control_share=0")
HOURS = {"app": 20, "web": 8}
SOURCES = tuple(HOURS)


def fit(store: Path, bundle: Path, *keys: str, prior: Path | None = None, **more: Any) -> TrainReport:
    config, options = load_config(None, [*KEYS, *keys]), {"threads": 1, "executor": None, **more}
    asked = {"as_of": DAY, "if_older_than_days": None, "force": True, **options}
    return train(store, bundle, config=config, seed=0, progress=Silent(), prior_bundle=prior, **asked)


def night(store: Path, out: Path, bundle: Path | None, *keys: str) -> pl.DataFrame:
    run = run_score(ScoreRequest(store, out, bundle, DAY), load_config(None, [*KEYS, *keys]), Silent()).run_dir
    assert run is not None
    return table(run, "assignments")


def habits(users: Iterable[int], hours: dict[str, int], days: int = 60, rate: float = 0.6) -> Iterable[Row]:
    """Users of the source of their parity, who look at its hour and open most of what they find."""
    rng = np.random.default_rng(1)
    for user in users:
        hour = hours[SOURCES[user % 2]]
        for day in range(2, days, 2):
            sent, look = int(rng.integers(0, 24)), hour + rng.uniform(0.1, 0.9)
            yield from mail(user, before(day, sent), (look - sent) % 24 if rng.random() < rate else None)


def recipients(users: Iterable[int], **columns: object) -> pl.DataFrame:
    users = list(users)
    return people(users, timezone="UTC", signup_source=[SOURCES[user % 2] for user in users], **columns)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a brand whose app users read in the evening and whose web users in the morning."""
    folder = tmp_path_factory.mktemp("other")
    store = store_of(habits(range(100), HOURS), folder, recipients(range(100)), buckets=2)
    fit(store.path, folder / "bundle")
    return folder / "bundle"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of recipients alone; a few of them of a source that nobody knows."""
    folder = tmp_path_factory.mktemp("empty")
    frame = recipients(range(1000, 1040)).with_columns(
        signup_source=pl.when(pl.col("user_id") >= 1036).then(pl.lit("fair")).otherwise("signup_source")
    )
    frame.write_parquet(folder / "people.parquet")
    ingest(
        [],
        folder / "store",
        folder / "people.parquet",
        load_config(None, ["store.buckets=2", "ingest.id_type=uint64"]),
        Silent(),
    )
    return folder / "store"


def test_an_account_without_a_single_event_sends_as_the_other_brand_reads(
    other: Path, empty: Path, tmp_path: Path
) -> None:
    report = fit(empty, tmp_path / "new", prior=other, as_of=None)
    former = load_bundle(other)
    card, meta = (json.loads((tmp_path / "new" / name).read_text()) for name in ("card.json", "bundle.json"))
    assert meta["prior"] == former.bundle_id != report.bundle_id
    assert card["from_prior"]["bundle_id"] == former.bundle_id
    assert (card["rows"], card["from_prior"]["rows"], card["from_prior"]["forest"]) == (
        0,
        former.card["rows"],
        "carried",
    )
    assert report.from_prior == card["from_prior"]
    rows = night(empty, tmp_path / "out", tmp_path / "new").sort("user_id")
    for source, hour in HOURS.items():
        mine = rows.filter(pl.col("user_id") < 1036, pl.col("user_id") % 2 == SOURCES.index(source))
        # a mail is read in the hour in which people look, and that in which it arrives comes before
        assert mine["slot"].is_between(hour - 1, hour).all()
        assert mine["reason"].unique().to_list() == ["cohort"]
        assert mine["p_open"].min() > mine["p_control"].max()
    assert rows.filter(pl.col("user_id") >= 1036)["reason"].unique().to_list() == ["global"]
    assert night(empty, tmp_path / "out", None)["reason"].unique().to_list() == ["fallback"]


class Told(Silent):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, event: str, **fields: object) -> None:
        self.warnings.append(f"{event} {fields}")


def test_cohorts_of_another_kind_are_told(other: Path, tmp_path: Path) -> None:
    store = store_of(habits(range(20), HOURS, days=10), tmp_path, recipients(range(20))).path
    for by, is_odd in (("signup_source", False), ("region", True)):
        told = Told()
        config = load_config(None, [*KEYS, f'cohort.by=["{by}"]'])
        report = train(store, tmp_path / by, DAY, config, 1, 0, None, told, prior_bundle=other)
        assert any("knows none of the 1 cohorts" in warning for warning in told.warnings) == is_odd
        assert any("the forest is that of bundle" in warning for warning in told.warnings)
        assert (report.from_prior["cohorts_known"] == 0) == is_odd


def test_little_history_is_carried_and_own_habits_still_win(other: Path, tmp_path: Path) -> None:
    """Thirty users for ten days: too few rows; user 0 of the evening's cohort reads in the morning."""
    rows = [*habits(range(2, 32), HOURS, days=10), *habits([0], {"app": 8}, days=60, rate=1.0)]
    store = store_of(rows, tmp_path, recipients(range(40))).path
    with pytest.raises(BadData, match="1000 training rows"):
        fit(store, tmp_path / "without")
    fit(store, tmp_path / "new", prior=other)
    found = dict(night(store, tmp_path / "out", tmp_path / "new").select("user_id", "slot").iter_rows())
    assert found[0] in (7, 8)
    assert {found[user] for user in range(32, 40, 2)} <= {19, 20}
    assert {found[user] for user in range(33, 40, 2)} <= {7, 8}


def test_enough_history_is_trained_and_says_more_than_the_other_brand(other: Path, tmp_path: Path) -> None:
    """A brand whose cohorts read the other way round, and which never met the web's."""
    turned = {"app": 13, "web": 8}
    store = store_of(habits(range(0, 320, 2), turned), tmp_path, recipients(range(340))).path
    late = fit(store, tmp_path / "late", prior=other)
    assert late.rows == 0
    assert "0 users had three opens before the days of labels" in late.from_prior["why"]
    alone = fit(store, tmp_path / "alone", "train.label_days=30")
    report = fit(store, tmp_path / "new", "train.label_days=30", prior=other)
    assert report.rows == alone.rows > 1000
    assert "forest" not in report.from_prior
    assert (report.from_prior["cohorts"], report.from_prior["cohorts_known"]) == (1, 1)
    found = night(store, tmp_path / "out", tmp_path / "new").sort("user_id")
    slots = dict(found.select("user_id", "slot").iter_rows())
    assert {slots[user] for user in range(320, 340, 2)} <= {12, 13}
    assert {slots[user] for user in range(321, 340, 2)} <= {7, 8}
    before_it = dict(night(store, tmp_path / "out", tmp_path / "alone").select("user_id", "slot").iter_rows())
    assert {before_it[user] for user in range(321, 340, 2)} <= {12, 13}


def test_a_bundle_depends_on_neither_buckets_nor_threads_nor_machines(other: Path, tmp_path: Path) -> None:
    rows = frame_of(habits(range(30), HOURS, days=10))
    one, four = (store_of(rows, tmp_path / f"{n}", recipients(range(40)), buckets=n).path for n in (1, 4))
    fit(one, tmp_path / "one", prior=other)
    fit(four, tmp_path / "four", prior=other, threads=3)
    fit(four, tmp_path / "away", prior=other, executor=Travelling())
    assert files_of(tmp_path / "four") == files_of(tmp_path / "away")
    found, wanted = (load_bundle(tmp_path / name).tensors for name in ("one", "four"))
    assert {name for name in wanted if not np.array_equal(found[name], wanted[name])} == set()


def test_the_day_of_the_bundle_is_kept_only_with_the_same_prior(other: Path, empty: Path, tmp_path: Path) -> None:
    first = fit(empty, tmp_path / "new", prior=other)
    assert fit(empty, tmp_path / "new", prior=other, if_older_than_days=7).skipped
    fit(empty, tmp_path / "second", prior=tmp_path / "new")
    again = fit(empty, tmp_path / "new", prior=tmp_path / "second", if_older_than_days=7)
    assert not again.skipped
    assert again.bundle_id != first.bundle_id


def test_nothing_of_campaigns_or_people_crosses(other: Path, tmp_path: Path) -> None:
    """Ids in texts that would be found: in no file of a bundle, and the other's campaigns in no table."""
    rows = frame_of(habits(range(30), HOURS, days=10)).with_columns(
        user_id=pl.format("person-{}@mail.example", "user_id"), campaign_id=pl.format("campaign-{}", "campaign_id")
    )
    frame = recipients(range(40)).with_columns(user_id=pl.format("person-{}@mail.example", "user_id"))
    store = store_of(rows, tmp_path, frame).path
    fit(store, tmp_path / "new", prior=other)
    bodies = [path.read_bytes() for path in (tmp_path / "new").iterdir()]
    assert not any(word in body for body in bodies for word in (b"person-", b"mail.example", b"campaign-1"))
    mine, theirs = load_bundle(tmp_path / "new").priors, load_bundle(other).priors
    assert len(theirs.campaign_key_G)
    assert not set(mine.campaign_key_G.tolist()) & set(theirs.campaign_key_G.tolist())
    sizes = {name: array.size for name, array in load_bundle(tmp_path / "new").tensors.items()}
    assert max(sizes.values()) <= 48 * 32


def test_bundles_that_do_not_fit_are_refused(other: Path, empty: Path, tmp_path: Path) -> None:
    whole = load_bundle(other)

    def changed(name: str, forget: str = "", **meta: Any) -> Path:
        tensors = {key: value for key, value in whole.tensors.items() if key != forget}
        own = {k: v for k, v in whole.meta.items() if k not in ("files", "sha256", "bundle_version")}
        save_bundle(tmp_path / name, {**own, **meta}, whole.forest, tensors, whole.card)
        return tmp_path / name

    refused: list[tuple[Path, type[Exception], str]] = [
        (tmp_path / "nothing", InputMissing, "holds no bundle.json"),
        (changed("preset", preset="seed_boosted"), BadData, 'trained by preset "seed_boosted"'),
        (changed("label", label="click"), ConfigError, 'trained for model.label = "click"'),
        (changed("features", features=whole.features[1:]), BadData, "does not fit this engine's features"),
        (changed("tables", forget="shape_K48"), BadData, "must hold the table shape_K48"),
        (changed("weights", forget="base_weight_5"), BadData, "must hold a finite table base_weight_5"),
        (tmp_path / "new", UsageError, "found that of --bundle"),
    ]
    old = changed("version")
    (old / "bundle.json").write_text(
        (old / "bundle.json").read_text().replace('"bundle_version":2', '"bundle_version":1')
    )
    refused.append((old, BadData, "must be of version 2; found 1"))
    for path, error, told in refused:
        with pytest.raises(error, match=told):
            fit(empty, tmp_path / "new", prior=path)
    with pytest.raises(ConfigError, match="leave one out"):
        fit(empty, tmp_path / "new", "model.preset=seed_boosted", prior=other)
    with pytest.raises(BadData, match=r"has no events to train on; .* --prior-bundle"):
        fit(empty, tmp_path / "new", as_of=None)
    assert not (tmp_path / "new").exists()


def small(seed: int, cohorts: tuple[str, ...], shapes: int = 3) -> Priors:
    """Priors of made-up numbers."""
    rng, rows = np.random.default_rng(seed), len(cohorts) + 1
    share = rng.dirichlet(np.ones(shapes), rows)
    acts = rng.dirichlet(np.ones(24), rows)
    return Priors(
        cohorts, ("app",), True, True, np.array([seed], np.uint64), np.ones(1), np.ones(1),
        rng.uniform(0.1, 1, (3, 24)), rng.uniform(0, 1, 3), 0, rng.uniform(0.5, 2, (shapes, 48)), np.log(share),
        rng.uniform(0.5, 2, (rows, 48)), rng.normal(size=(rows, 5)), np.diag(rng.uniform(1, 2, 5)), 0.2 + seed / 10,
        rng.uniform(0.1, 0.5, (rows, 24)), acts, 0.1 + seed / 10, 0.2 + seed / 10,
    )  # fmt: skip


def test_tables_are_drawn_by_what_stands_behind_them() -> None:
    own, other = small(1, ("a", "b")), small(2, ("b", "c"))
    much = Evidence(np.array([1e13, 0.0]), np.full(48, 1e9), np.full(48, 1e10), 1e9, 1e9, np.full(3, 1e9))
    first, none = inherit(own, much, other), inherit(own, replace(NOTHING, users_C=np.zeros(2)), other)
    assert first.cohort_names == none.cohort_names == ("a", "b", "c")
    # cohort c and the unseen have the own row of cohorts never seen where everything is known, else the other's
    own_C, other_C = [0, 1, 2, 2], [2, 0, 1, 2]
    for name in ("residual_C48", "effect_mean_C5", "slot_rate_C24", "act_shape_C24"):
        np.testing.assert_allclose(getattr(first, name), getattr(own, name)[own_C], rtol=1e-5)
        np.testing.assert_allclose(getattr(none, name), getattr(other, name)[other_C], rtol=1e-9)
    np.testing.assert_allclose(first.shape_K48, own.shape_K48)
    np.testing.assert_allclose(none.shape_K48, other.shape_K48, rtol=1e-9)
    np.testing.assert_allclose(np.exp(none.log_prior_CK), np.exp(other.log_prior_CK)[other_C], atol=1e-9)
    assert (none.open_rate, none.open_rate2, none.effect_p0) == (other.open_rate, other.open_rate2, other.effect_p0)
    assert first.open_rate == pytest.approx(own.open_rate, rel=1e-6)
    np.testing.assert_array_equal(first.campaign_key_G, own.campaign_key_G)
    half = inherit(own, replace(much, users_C=np.array([0.0, USERS / 1.1])), other)
    np.testing.assert_allclose(half.act_shape_C24[1], (own.act_shape_C24[1] + other.act_shape_C24[0]) / 2, rtol=1e-9)
    np.testing.assert_allclose(np.exp(half.log_prior_CK).sum(axis=1), 1)
    from_tensors(half.tensors(), "these")  # whole and finite


def test_shapes_stay_few_over_generations(monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = small(1, ("a",), 20), small(2, ("a",), 30)
    some = Evidence(np.array([100.0]), np.full(48, 10.0), np.full(48, 100.0), 1e3, 1e3, np.full(3, 100.0))
    found = inherit(own, some, other)
    assert len(found.shape_K48) <= inherit_module.MOST_SHAPES
    np.testing.assert_allclose(np.exp(found.log_prior_CK).sum(axis=1), 1)
    monkeypatch.setattr(inherit_module, "MOST_SHAPES", 50)
    assert len(inherit(own, some, other).shape_K48) > 32
