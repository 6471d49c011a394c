"""The bandit on histories whose answer is known by construction, and in whole runs."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from histories import DAY, ORIGIN, Row, before, column, decide, known, mail, opens, store_of
from sto_engine.config import Config, load_config
from sto_engine.errors import BadData, ConfigError
from sto_engine.ingest.store import Store
from sto_engine.job import ScoreRequest, run_score
from sto_engine.models.bandit import Bandit
from sto_engine.models.bandit_fit import Learnt, learnt_of
from sto_engine.models.policy import Utilities
from sto_engine.models.registry import make_policy
from sto_engine.progress import Silent
from support import digest, table

PRIORS = ("contextual", "cohort", "flat")


def configured(*keys: str) -> Config:
    return load_config(None, ["model.policy=bandit", *keys])


def judged(store: Store, *keys: str) -> tuple[Utilities, Learnt]:
    policy, bucket = make_policy(configured(*keys), None), known(store)
    priors = policy.reduce([policy.sums(bucket, 1)])
    return policy.utilities(bucket, priors, DAY), learnt_of(priors, "here")


def own_hours(users: int, seed: int = 0) -> Iterator[Row]:
    """User u opens half of what comes at the hour (7 u) % 24, and little of the rest, at once; no hour is near another
    in what it tells. One campaign a user and send, so that none appeals more than others."""
    rng = np.random.default_rng(seed)
    for user in range(users):
        for day in range(2, 90):
            hour = 7 * user % 24 if rng.random() < 0.3 else int(rng.integers(0, 24))
            chance = 0.5 if hour == 7 * user % 24 else 0.06
            yield from mail(user, before(day, hour + 0.2), 0.05 if rng.random() < chance else None)


@pytest.fixture(scope="module")
def loners(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return store_of(own_hours(168), tmp_path_factory.mktemp("loners"))


@pytest.mark.parametrize("prior", PRIORS)
def test_own_outcomes_win_where_the_send_hour_itself_matters(loners: Store, prior: str) -> None:
    found, learnt = judged(loners, f"bandit.prior={prior}")
    assert learnt.memory.strength < 60
    assert found.p_open_US is not None
    order = known(loners).users["user_id"].to_numpy().astype(np.int64)
    right_U = found.p_open_US.argmax(axis=1) == 7 * order % 24
    # with 3 sends at other hours, one hit of chance beats half of many where no prior holds it back
    assert right_U.mean() > {"contextual": 0.8, "cohort": 0.65, "flat": 0.3}[prior]


def lookers(users: int, moved: float, seed: int = 0) -> Iterator[Row]:
    """Mail at all hours, opened at the next look at 8:00; a share `moved` looks at 20:00 since 21 days ago."""
    rng = np.random.default_rng(seed)
    for user in range(users):
        for day in range(1, 90):
            sent = int(rng.integers(0, 24))
            look = 20 if user < moved * users and day <= 21 else 8
            wait = (look + rng.uniform(0.05, 0.95) - sent) % 24
            yield from mail(user, before(day, sent), wait if rng.random() < 0.6 else None)


@pytest.fixture(scope="module")
def regulars(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return store_of(lookers(120, 0.0), tmp_path_factory.mktemp("regulars"))


def test_who_looks_at_one_hour_gets_the_slot_of_attention(regulars: Store) -> None:
    found, learnt = judged(regulars)
    policy, bucket = make_policy(load_config(None, ["model.policy=attention"]), None), known(regulars)
    attention = policy.utilities(bucket, policy.reduce([policy.sums(bucket, 1)]), DAY)
    assert learnt.change_share <= 0.021  # one habit for all tells nothing of changes
    assert found.p_open_US is not None
    assert attention.p_open_US is not None
    for best_U in (found.p_open_US.argmax(axis=1), attention.p_open_US.argmax(axis=1)):
        assert np.isin(best_U, (7, 8)).all()


def test_who_changed_his_habit_is_told_from_who_did_not(tmp_path: Path) -> None:
    store = store_of(lookers(200, 0.3), tmp_path)
    found, learnt = judged(store)
    assert 0.25 < learnt.change_share < 0.6  # a habit drawn anew may be the old one
    moved_U = known(store).users["user_id"].to_numpy() < 60
    assert found.p_open_US is not None
    best_U = found.p_open_US.argmax(axis=1)
    assert np.isin(best_U[moved_U], (19, 20)).mean() > 0.95
    assert np.isin(best_U[~moved_U], (7, 8)).mean() > 0.95


def test_the_posterior_is_prior_and_outcomes(loners: Store) -> None:
    flat, learnt = judged(loners, "bandit.prior=flat", "bandit.sharpen=1")
    policy, bucket = make_policy(configured("bandit.prior=flat"), None), known(loners)
    assert isinstance(policy, Bandit)
    outcomes = policy.outcomes(bucket, learnt)
    assert flat.belief is not None
    np.testing.assert_allclose(flat.belief.a_US, 1 + outcomes.hits_US, rtol=1e-6)
    np.testing.assert_allclose(flat.belief.b_US, 1 + outcomes.misses_US, rtol=1e-6)
    sharp, _ = judged(loners, "bandit.prior=flat", "bandit.sharpen=10")
    assert sharp.belief is not None
    np.testing.assert_allclose(sharp.belief.a_US, 10 * flat.belief.a_US, rtol=1e-6)
    assert flat.p_open_US is not None
    assert sharp.p_open_US is not None
    np.testing.assert_array_equal(flat.p_open_US, sharp.p_open_US)


def test_half_hours_have_outcomes_of_their_own(loners: Store) -> None:
    found, _ = judged(loners, "bandit.prior=cohort", "slots.grid=48")
    assert found.p_open_US is not None
    order = known(loners).users["user_id"].to_numpy().astype(np.int64)
    assert (found.p_open_US.argmax(axis=1) == 2 * (7 * order % 24)).mean() > 0.65


def test_opens_without_sends_are_refused_and_no_history_at_all_is_not(tmp_path: Path) -> None:
    store = store_of(opens(1, 9.0, 20), tmp_path / "acts")
    nothing = store_of(mail(1, before(400, 9)), tmp_path / "old")
    for prior in PRIORS:
        with pytest.raises(BadData, match="needs sends"):
            decide(store, configured(f"bandit.prior={prior}"))
        config = configured(f"bandit.prior={prior}")
        policy = make_policy(config, None)
        bucket = known(nothing, at=ORIGIN)
        found = policy.utilities(bucket, policy.reduce([policy.sums(bucket, 1)]), DAY)
        assert found.p_open_US is None


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (("model.label=click",), "knows opens"),
        (("model.label=conversion", "bandit.prior=flat"), "knows opens"),
        (("model.w24=0.5",), "w24"),
        (("bandit.sharpen=0.5",), "sharpen"),
        (("bandit.discount=1.5",), "discount"),
    ],
)
def test_settings_that_make_no_bandit_are_refused(keys: tuple[str, ...], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make_policy(configured(*keys), None)


def assignments(
    store: Path, out: Path, *keys: str, campaign: str | None = None, seed: int = 0, threads: int = 2
) -> Path:
    request = ScoreRequest(store, out, campaign=campaign, seed=seed, threads=threads)
    run = run_score(request, configured(*keys), Silent()).run_dir
    assert run is not None
    return run


def slots(run: Path) -> dict[int, int]:
    return dict(table(run, "assignments").select("user_id", "slot").iter_rows())


def test_draws_are_the_same_in_any_bucket_and_thread_and_others_for_another_campaign(tmp_path: Path) -> None:
    rows = list(own_hours(30, 3))
    one, four = (store_of(rows, tmp_path / str(n), buckets=n).path for n in (1, 4))
    keys = ("bandit.prior=cohort", "bandit.sharpen=1", "experiment.control_share=0")
    first = assignments(one, tmp_path / "a", *keys)
    assert slots(first) == slots(assignments(four, tmp_path / "b", *keys))
    assert digest(assignments(four, tmp_path / "c", *keys, threads=1)) == digest(
        assignments(four, tmp_path / "d", *keys, threads=3)
    )
    for other in (
        assignments(one, tmp_path / "e", *keys, campaign="autumn"),
        assignments(one, tmp_path / "f", *keys, seed=1),
    ):
        assert slots(other) != slots(first)


@pytest.mark.parametrize("limits", [(), ("capacity.total=12/h", "capacity.on_infeasible=defer")])
def test_a_run_tells_chances_of_all_arms_and_what_exploring_costs(
    loners: Store, tmp_path: Path, limits: tuple[str, ...]
) -> None:
    arms = ("experiment.random_share=0.1", "experiment.explore_share=0.1")
    keys = ("bandit.prior=cohort", "bandit.sharpen=4", *arms, *limits)
    request = ScoreRequest(loners.path, tmp_path / "out")
    done = run_score(request, configured(*keys), Silent())
    assert done.run_dir is not None
    rows = table(done.run_dir, "assignments")
    assert ((rows["propensity"] > 0) & (rows["propensity"] <= 1)).all()
    model = rows.filter(pl.col("arm") == "model")["propensity"]
    assert model.n_unique() > 20
    told = done.summary["bandit"]
    assert told["prior"] == "cohort"
    assert told["users"] > 100
    assert 0 < told["regret"] < told["expected_best"] < 1
    assert 0 < told["explored_share"] < 1
    assert f"sto_bandit_regret_opens {told['regret']}" in (done.run_dir / "metrics.prom").read_text()


def test_a_day_later_draws_anew(loners: Store) -> None:
    config = configured("bandit.prior=cohort", "bandit.sharpen=1")
    first = column(decide(loners, config), "slot")
    policy = make_policy(config, None, "2026-04-02:", 0)
    bucket = known(loners)
    found = policy.utilities(bucket, policy.reduce([policy.sums(bucket, 1)]), date(2026, 4, 2))
    again = dict(zip(bucket.users["user_id"].to_list(), found.utility_US.argmax(axis=1).tolist(), strict=True))
    assert first != again
