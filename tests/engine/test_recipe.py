"""The engine's features against the recipe's own script, where a copy of it lies beside the checkout.

The engine goes beyond the recipe in two places, which are put back here: the appeal of a campaign (the recipe leaves
its hour in it) and the types of mail (the recipe lets them age alike and weigh alike).
"""

import importlib.util
import sys
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest

from sto_engine.config import load_config
from sto_engine.history.bucket import Bucket
from sto_engine.history.parts import campaign_tensors, read_campaigns, read_sample, sample_tensors
from sto_engine.history.rates import TYPES
from sto_engine.history.sample import Campaigns, Sample
from sto_engine.ingest import ingest
from sto_engine.ingest.store import Store
from sto_engine.models import fit
from sto_engine.models.features import CROSS, USER_FEATURES, Features, build_features, know
from sto_engine.models.fit_shapes import MIN_OPENS, SHAPES
from sto_engine.models.fit_types import Types
from sto_engine.progress import Silent
from sto_engine.simulate import simulate
from sto_engine.train.moments import bucket_moments, span_of
from sto_kernels.count_walk import age_decay
from sto_kernels.journal import Cleaned
from support import REAL_DATA

SCRIPT = REAL_DATA.parent / "prototypes" / "recipe" / "recipe_ref.py"
DAY = date(2026, 4, 20)
# the recipe knows one weekend for all countries
CONFIG = load_config(None, ["store.buckets=1", "context.weekends=same"])
pytestmark = pytest.mark.filterwarnings("ignore:Sortedness of columns cannot be checked")


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    if not SCRIPT.exists():
        pytest.skip(f"the recipe's script is not on this machine ({SCRIPT})")
    spec = importlib.util.spec_from_file_location("recipe_ref", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["recipe_ref"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, recipe: ModuleType) -> Path:
    """A world in the script's columns; without machines, invalid addresses and newcomers, all of whom it lets teach."""
    world = tmp_path_factory.mktemp("recipe") / "world"
    simulate(world, "attention", users=1500, days=90, seed=5, progress=Silent())
    people = pl.read_parquet(world / "recipients.parquet")
    tenure = (pl.lit(DAY).cast(pl.Datetime("ms", "UTC")) - pl.col("signup_ts")).dt.total_milliseconds() / 86_400_000
    people = people.with_columns(tenure_days=tenure, consent_profiling=pl.lit(True), clv=pl.col("clv").fill_null(30.0))
    people = people.with_columns(pl.col("churn_risk").fill_null(0.5), address_status=pl.lit("valid"))
    people.write_parquet(world / "recipients.parquet")
    joined = recipe.load(world, DAY.isoformat())
    flags = [recipe.clean(joined, origin) for origin in (30, 90)]
    good_U = ~np.any([(found.machine_U > 0) | found.invalid_U for found in flags], axis=0)
    good = joined.users.filter(pl.Series(good_U))["user_id"]
    events = pl.concat([pl.read_parquet(path) for path in sorted((world / "events").glob("*.parquet"))])
    end = pl.lit(DAY).cast(pl.Datetime("ms", "UTC"))
    events = events.filter(pl.col("event_ts") >= end - pl.duration(days=90))  # the script knows no earlier ones
    early = events.filter(pl.col("event_ts") < end - pl.duration(days=60))
    good = good.filter(good.is_in(early["user_id"].unique().to_list()))
    people.filter(pl.col("user_id").is_in(good.to_list())).write_parquet(world / "recipients.parquet")
    for path in (world / "events").glob("*.parquet"):
        path.unlink()
    events.filter(pl.col("user_id").is_in(good.to_list())).write_parquet(world / "events" / "all.parquet")
    ingest([str(world / "events")], world.parent / "store", world / "recipients.parquet", CONFIG, Silent())
    return world


def plain_rates(campaigns: Campaigns) -> tuple[np.ndarray, ...]:
    """Section 2 of the recipe: shrunk by 50 sends to the mean of the type, over the promo mean."""
    key_G, group_C = np.unique(campaigns.key_C, return_inverse=True)
    sums_G4 = np.stack([np.bincount(group_C, column) for column in campaigns.sums_C4.T], axis=1)
    type_G = np.zeros(len(key_G), int)
    np.maximum.at(type_G, group_C, campaigns.type_C)
    rates = []
    for first in (0, 2):
        sends_G, opens_G = sums_G4[:, first], sums_G4[:, first + 1]
        mean_T = (np.bincount(type_G, opens_G, 3) + 1) / (np.bincount(type_G, sends_G, 3) + 10)
        rates.append((opens_G + 50 * mean_T[type_G]) / (sends_G + 50) / mean_T[0])
    return key_G, *rates


def alike(cleaned: Cleaned, users: int, rates_C: tuple[np.ndarray, np.ndarray], *rest: Any) -> Types:
    """All types of mail age and weigh alike."""
    return Types(np.repeat(age_decay(cleaned, users, rates_C[1], rest[2])[None], TYPES, axis=0), np.ones(TYPES), 0)


def our_features(bucket: Bucket) -> tuple[Features, Sample, np.ndarray]:
    campaigns, sample = read_campaigns([campaign_tensors(bucket)]), read_sample([sample_tensors(bucket, 1)])
    priors = fit.fit_priors(sample, campaigns, (bucket.start_ms, bucket.end_ms))
    known = know(bucket, priors)
    return build_features(known, 0), sample, known.counts.opens_U48


class Draws:
    """A generator whose draw of the first shapes is ours."""

    def __init__(self, start: np.ndarray) -> None:
        self.start = start

    def choice(self, among: Any, size: int, replace: bool) -> np.ndarray:
        assert size == len(self.start) <= len(among)
        return self.start


@pytest.mark.parametrize("origin", [30, 90])
def test_features_are_those_of_the_recipe(
    recipe: ModuleType, folder: Path, origin: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "campaign_rates", plain_rates)
    monkeypatch.setattr(fit, "fit_types", alike)
    store = Store.open(folder.parent / "store")
    moments = bucket_moments(store, 0, span_of(DAY, CONFIG), CONFIG)
    bucket = moments.origin if origin == 30 else moments.now
    ours, sample, opens_U48 = our_features(bucket)
    history = recipe.clean(recipe.load(folder, DAY.isoformat()), origin)
    row_of = {user: row for row, user in enumerate(history.users["user_id"].to_list())}
    row_U = np.array([row_of[user] for user in bucket.users["user_id"].to_list()])
    order_U = np.argsort(_sample_key(bucket))
    opened = order_U[opens_U48[order_U].sum(axis=1) >= MIN_OPENS]
    heavy = np.argsort(-opens_U48[opened].sum(axis=1), kind="stable")[: max(4 * SHAPES, len(opened) // 3)]
    start = row_U[opened[np.sort(heavy)[:SHAPES]]]
    attention = recipe.attention
    monkeypatch.setattr(recipe, "attention", lambda o, e, cohort, rng: attention(o, e, cohort, Draws(start)))
    theirs = recipe.features(history, origin)
    assert sample.users <= len(row_U)
    expected = {
        "attention_2h": theirs.hazard_U7S[:, 0],
        "attention_24h": theirs.hazard24_U7S[:, 0],
        "send_hour": theirs.direct_US,
        **dict(zip(CROSS[3:], theirs.other_CUS, strict=True)),
    }
    for name, values_US in expected.items():
        found = ours.cross_XSU[CROSS.index(name)].T
        np.testing.assert_allclose(found, values_US[row_U], atol=1e-4, err_msg=name)
    levels = {"level_attention": theirs.level_hazard_U7[:, 0], "level_send_hour": theirs.level_direct_U}
    for name, values_U in levels.items():
        np.testing.assert_allclose(ours.user_FU[USER_FEATURES.index(name)], values_U[row_U], atol=1e-4, err_msg=name)
    seen_U = opens_U48.sum(axis=1) > 0  # of who never opened, the script knows no last act
    for column, name in enumerate(USER_FEATURES[2:]):
        found, values_U = ours.user_FU[2 + column], theirs.user_UF[row_U, column]
        np.testing.assert_allclose(found[seen_U], values_U[seen_U], atol=1e-4, rtol=1e-4, err_msg=name)


def _sample_key(bucket: Bucket) -> np.ndarray:
    from sto_kernels.hashing import derive

    return derive(bucket.users["h"].to_numpy(), "history-sample")
