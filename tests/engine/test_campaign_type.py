"""The type of the campaign decides: attention fitted for it, or the power with which its opens follow it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from histories import DAY, ORIGIN, before, known, mail, store_of
from sto_engine.config import load_config
from sto_engine.ingest.store import Store
from sto_engine.job import ScoreRequest, run_score
from sto_engine.models.attention import Attention
from sto_engine.models.bundle import Bundle, load_bundle
from sto_engine.models.features import DAYS_48, Known, attention_to, build_features, chances, know
from sto_engine.models.registry import for_type, make_policy
from sto_engine.progress import Silent
from sto_engine.tables import CAMPAIGN_TYPES
from sto_engine.train_job import train

PROMO, TRIGGER = 0, 2
HOUR_OF = {"promo": 20, "trigger": 9}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """80 users, mailed at any hour, who read promos at 20:00 and triggers at 9:00."""
    rng, rows = np.random.default_rng(0), []
    for user in range(80):
        for day in range(2, 60):
            kind = ("promo", "trigger")[day % 2]
            sent = int(rng.integers(0, 24))
            wait = (HOUR_OF[kind] + rng.uniform(0.05, 0.95) - sent) % 24
            both = mail(user, before(day, sent), wait if rng.random() < 0.7 else None)
            rows += [replace(row, type=kind) for row in both]
    return store_of(rows, tmp_path_factory.mktemp("types"))


@pytest.fixture(scope="module")
def bundle(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("types") / "bundle"
    train(store.path, path, ORIGIN.date(), load_config(None, ["train.trees=2"]), 1, 0, None, Silent(), force=True)
    return load_bundle(path)


@pytest.fixture(scope="module")
def seen(store: Store, bundle: Bundle) -> Known:
    return know(known(store), bundle.priors)


@pytest.mark.parametrize("kind", HOUR_OF)
def test_a_type_gets_the_hour_at_which_it_is_read(store: Store, kind: str) -> None:
    policy = for_type(make_policy(load_config(None, ["model.policy=attention"]), None), kind)
    bucket = known(store)
    utility_US = policy.utilities(bucket, policy.reduce([policy.sums(bucket, 1)]), DAY).utility_US
    assert set(utility_US.argmax(axis=1)) <= {HOUR_OF[kind] - 1, HOUR_OF[kind]}


def test_promos_are_scored_as_where_no_type_is_told(store: Store) -> None:
    plain, bucket = make_policy(load_config(None, ["model.policy=attention"]), None), known(store)
    promo = for_type(plain, "promo")
    found = [p.utilities(bucket, p.reduce([p.sums(bucket, 1)]), DAY).utility_US.tobytes() for p in (plain, promo)]
    assert isinstance(promo, Attention)
    assert promo.kind == PROMO
    assert found[0] == found[1]


def test_a_bundle_for_another_type_lends_a_power_of_its_attention(seen: Known) -> None:
    follow, rate_48U = seen.priors.follow_T[TRIGGER], seen.rate_48U
    assert 0 <= follow < 1
    powered_48U, decay_24 = attention_to(rate_48U, seen.priors, TRIGGER)
    np.testing.assert_array_equal(decay_24, seen.priors.decay_T24[TRIGGER])
    np.testing.assert_allclose((DAYS_48 * powered_48U).sum(axis=0), (DAYS_48 * rate_48U).sum(axis=0))
    slope = np.diff(np.log(powered_48U), axis=0), follow * np.diff(np.log(rate_48U), axis=0)
    np.testing.assert_allclose(*slope, atol=1e-9)
    same_48U, decay_24 = attention_to(rate_48U, seen.priors, PROMO)
    assert same_48U is rate_48U
    np.testing.assert_array_equal(decay_24, seen.priors.decay_T24[PROMO])


def test_a_type_that_does_not_follow_is_worth_the_same_at_any_hour(seen: Known) -> None:
    follow_T = seen.priors.follow_T.copy()
    follow_T[TRIGGER] = 0
    p2_SU, _ = chances(replace(seen, priors=replace(seen.priors, follow_T=follow_T)), 1, kind=TRIGGER)
    np.testing.assert_allclose(p2_SU, np.broadcast_to(p2_SU[0], p2_SU.shape))


def test_the_forest_sees_of_attention_what_rows_of_the_type_had(seen: Known) -> None:
    promo, trigger = (build_features(seen, 1, kind=kind) for kind in (None, TRIGGER))
    np.testing.assert_array_equal(
        trigger.cross_XSU[:2], promo.cross_XSU[:2] * np.float32(seen.priors.follow_T[TRIGGER])
    )
    np.testing.assert_array_equal(trigger.cross_XSU[2:], promo.cross_XSU[2:])
    np.testing.assert_array_equal(trigger.user_FU, promo.user_FU)


def test_training_for_a_type_learns_its_hours_and_scoring_another_says_so(
    store: Store, bundle: Bundle, tmp_path: Path
) -> None:
    config = load_config(None, ["train.trees=2", "train.campaign_type=trigger", "experiment.control_share=0"])
    train(store.path, tmp_path / "bundle", ORIGIN.date(), config, 1, 0, None, Silent(), force=True)
    own = load_bundle(tmp_path / "bundle")
    assert [CAMPAIGN_TYPES[b.priors.target_type] for b in (bundle, own)] == ["promo", "trigger"]
    runs = [
        run_score(
            ScoreRequest(store.path, tmp_path / "runs", b.path, DAY, campaign_type="trigger", threads=1),
            config,
            Silent(),
        )
        for b in (own, bundle)
    ]
    told = [[w for w in run.summary["warnings"] if "train.campaign_type" in w] for run in runs]
    assert [len(w) for w in told] == [0, 1]
