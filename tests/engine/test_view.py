"""What phase 0 saw may be used again or looked at anew: the numbers are the same, for all users and for some."""

import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from histories import CONFIG, before, known, mail, people, store_of
from sto_engine import job
from sto_engine.bucket_work import Kept
from sto_engine.config import Config, load_config
from sto_engine.history.bucket import Bucket
from sto_engine.job import ScoreRequest, run_score
from sto_engine.models import features
from sto_engine.prepare import prepare
from sto_engine.progress import Silent
from sto_engine.view import look
from sto_kernels.journal import Cleaned
from support import digest


def same(found: Bucket, expected: Bucket) -> None:
    assert found.users.equals(expected.users)
    for field in fields(Cleaned):
        mine, theirs = getattr(found.cleaned, field.name), getattr(expected.cleaned, field.name)
        np.testing.assert_array_equal(mine, theirs, err_msg=field.name)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Bucket:
    rng = np.random.default_rng(0)
    rows = [
        row
        for user in range(1, 40)
        for day in range(int(rng.integers(0, 9)))
        for row in mail(user, before(80 - 7 * day, float(rng.integers(6, 20))), float(rng.random() * 30))
    ]
    return known(store_of(rows, tmp_path_factory.mktemp("view"), people(range(1, 45))), everyone=True)


def test_runs_of_users_put_together_are_all_of_them(bucket: Bucket) -> None:
    parts = [bucket.of(slice(first, first + 7)) for first in range(0, len(bucket.users), 7)]
    assert sum(len(part.users) for part in parts) == len(bucket.users)
    for letter in ("S", "A"):
        shift = np.cumsum([0, *(len(part.users) for part in parts)])
        users = [getattr(part.cleaned, f"user_{letter}") + at for part, at in zip(parts, shift, strict=False)]
        np.testing.assert_array_equal(np.concatenate(users), getattr(bucket.cleaned, f"user_{letter}"))
        times = [getattr(part.cleaned, f"local_{letter}") for part in parts]
        np.testing.assert_array_equal(np.concatenate(times), getattr(bucket.cleaned, f"local_{letter}"))


def test_some_users_taken_are_the_same_as_a_run_of_them(bucket: Bucket) -> None:
    same(bucket.take(np.arange(5, 20)), bucket.of(slice(5, 20)))
    same(bucket.take(np.arange(len(bucket.users))), bucket)
    odd = bucket.take(np.arange(1, len(bucket.users), 2))
    for number, user in enumerate(range(1, len(bucket.users), 2)):
        same(odd.of(slice(number, number + 1)), bucket.of(slice(user, user + 1)))


def test_blocks_of_users_get_the_features_of_the_whole_bucket(
    store: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(ScoreRequest(store, store, bundle=bundle), load_config(None, []), Silent())
    seen, policy = look(prepared.plan, 0), prepared.plan.policy
    priors = policy.reduce([policy.sums(seen.known, 1)])
    whole = policy.utilities(seen.known, priors, prepared.plan.date)
    monkeypatch.setattr(features, "BLOCK_USERS", 64)
    blocks = policy.utilities(seen.known, priors, prepared.plan.date)
    for field in fields(whole):
        np.testing.assert_array_equal(getattr(blocks, field.name), getattr(whole, field.name))


def test_everyone_feeds_the_sums_and_only_the_audience_is_mailed(tmp_path: Path) -> None:
    rows = [row for user in range(1, 9) for row in mail(user, before(9, 9.0), 1.0)]
    snapshot = people([2, 3, 3, 4, 99], consent=[True, False, True, True, True])
    store = store_of(rows, tmp_path, snapshot)
    plan = prepare(ScoreRequest(store.path, tmp_path), CONFIG, Silent()).plan
    seen = look(plan, 0)
    assert set(seen.known.users["user_id"]) == {1, 2, 3, 4, 5, 6, 7, 8, 99}
    assert set(seen.mailed().users["user_id"]) == {2, 4, 99}
    told = dict(pl.DataFrame([seen.user_id, seen.reason.alias("why")]).drop_nulls().iter_rows())
    assert told == {3: "duplicate"} or told == {3: "no_consent"}
    assert seen.reason.drop_nulls().to_list().count("duplicate") == 1


@pytest.mark.parametrize("policy", ["attention", "histogram"])
def test_a_run_without_room_to_keep_buckets_writes_the_same_bytes(
    policy: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> dict[str, str]:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        config: Config = load_config(None, [f"model.policy={policy}"])
        folder = run_score(ScoreRequest(store, tmp_path / "out"), config, Silent()).run_dir
        assert folder is not None
        return digest(folder)

    kept = run()
    monkeypatch.setattr(job, "KEEP_BYTES", 0)
    assert run() == kept


def test_buckets_are_kept_up_to_the_limit_and_handed_out_once(bucket: Bucket) -> None:
    class Weighs:
        nbytes = 40

    kept = Kept(100)
    for number in range(3):
        kept.put(number, Weighs())  # type: ignore[arg-type]
    assert [kept.pop(number)[0] is not None for number in (0, 1, 2, 0)] == [True, True, False, False]
    kept.put(5, Weighs())  # type: ignore[arg-type]
    assert kept.pop(5)[0] is not None
