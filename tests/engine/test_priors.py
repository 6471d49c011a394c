"""Priors are the same bytes however the users are split, and however their events came in."""

import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from histories import before, known, mail, people, store_of
from sto_engine.config import load_config
from sto_engine.executor import Threads
from sto_engine.history import parts as parts_module
from sto_engine.history.bucket import Bucket
from sto_engine.history.parts import campaign_tensors, read_campaigns, read_history, read_sample, sample_tensors
from sto_engine.history.sample import Sample, bucket_sample, merge_samples
from sto_engine.ingest import ingest
from sto_engine.ingest.store import Store
from sto_engine.models.bundle import read_tensors, tensor_bytes
from sto_engine.models.fit import fit_priors
from sto_engine.models.fit_shapes import fit_shapes, mixture
from sto_engine.models.priors import codes_of, from_tensors
from sto_engine.progress import Silent
from sto_kernels import naive_attention as naive
from sto_kernels.hashing import derive

LIMIT = 150  # of about 550 users who may teach
CHILD = Path(__file__).with_name("blas_child.py")


def ingested(events: list[pl.DataFrame], recipients: Path, folder: Path, buckets: int) -> Store:
    """A store of one generation a frame."""
    folder.mkdir()
    config = load_config(None, [f"store.buckets={buckets}"])
    for number, frame in enumerate(events):
        frame.write_parquet(folder / f"{number}.parquet")
        ingest([str(folder / f"{number}.parquet")], folder / "store", recipients, config, Silent())
    return Store.open(folder / "store")


def priors_of(store: Store, threads: int = 1) -> bytes:
    """Tensors of the priors, from a sample of LIMIT users."""

    def part(bucket: int) -> tuple[dict[str, np.ndarray], Sample]:
        seen = known(store, bucket)
        return campaign_tensors(seen), bucket_sample(seen, store.buckets, LIMIT)

    found = dict(Threads(threads).run(part, range(store.buckets)))
    sample = merge_samples([found[b][1] for b in range(store.buckets)], LIMIT)
    assert sample.users == LIMIT
    seen = known(store)
    campaigns = read_campaigns([found[b][0] for b in range(store.buckets)])
    return tensor_bytes(fit_priors(sample, campaigns, (seen.start_ms, seen.end_ms)).tensors())


@pytest.fixture(scope="module")
def events(world: Path) -> pl.DataFrame:
    files = sorted((world / "events").glob("*.parquet"))
    return pl.concat([pl.read_parquet(file) for file in files], how="diagonal_relaxed")


@pytest.fixture(scope="module")
def whole(store: Path) -> bytes:
    """Of the session's store of four buckets."""
    return priors_of(Store.open(store))


@pytest.mark.parametrize("buckets", [1, 16])
def test_any_number_of_buckets_gives_the_same_priors(
    buckets: int, events: pl.DataFrame, world: Path, tmp_path: Path, whole: bytes
) -> None:
    store = ingested([events], world / "recipients.parquet", tmp_path / "s", buckets)
    assert priors_of(store) == whole


def test_any_number_of_threads_gives_the_same_priors(store: Path, whole: bytes) -> None:
    assert priors_of(Store.open(store), threads=3) == whole


def test_events_in_another_order_and_in_several_generations_give_the_same_priors(
    events: pl.DataFrame, world: Path, tmp_path: Path, whole: bytes
) -> None:
    shuffled = events.sample(fraction=1, shuffle=True, seed=1)
    third = len(shuffled) // 3
    pieces = [shuffled[:third], shuffled[third : 2 * third], shuffled[2 * third :]]
    assert priors_of(ingested(pieces, world / "recipients.parquet", tmp_path / "s", 4)) == whole


def test_any_number_of_blas_threads_gives_the_same_tables() -> None:
    told = set()
    for threads in ("1", "2"):
        names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
        done = subprocess.run(
            [sys.executable, "-W", "error", str(CHILD)],
            env={"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), **dict.fromkeys(names, threads)},
            capture_output=True,
            text=True,
            check=True,
        )
        told.add(done.stdout)
    assert len(told) == 1


def test_the_sample_is_exactly_the_users_of_the_lowest_hashes(store: Path) -> None:
    source = Store.open(store)
    seen = [known(source, b) for b in range(source.buckets)]
    may = np.concatenate([keys_of_teachers(bucket) for bucket in seen])
    for limit in (1, 7, LIMIT, len(may), 10_000):
        sample = merge_samples([bucket_sample(bucket, source.buckets, limit) for bucket in seen], limit)
        np.testing.assert_array_equal(sample.key_U, np.sort(may)[:limit])


def keys_of_teachers(bucket: Bucket) -> np.ndarray:
    """Hashes of users with an event who are no machines."""
    seen = np.union1d(bucket.cleaned.user_S, bucket.cleaned.user_A)
    return derive(bucket.users["h"].to_numpy(), "history-sample")[seen[~bucket.bad_U[seen]]]


def test_a_bucket_that_held_users_back_closes_the_sample_at_its_edge(store: Path) -> None:
    """One bucket of many users offers its share only: beyond its last offer nobody may be drawn, whoever offers him."""
    source = Store.open(store)
    seen = [known(source, b) for b in range(source.buckets)]
    pieces = [bucket_sample(bucket, 1000, 100) for bucket in seen[:1]]
    pieces += [bucket_sample(bucket, 1, 10_000) for bucket in seen[1:]]
    edge = pieces[0].below
    assert edge < 2**64 - 1
    sample = merge_samples(pieces, 10_000)
    assert 0 < sample.users < sum(piece.users for piece in pieces)
    everyone = np.sort(np.concatenate([keys_of_teachers(bucket) for bucket in seen]))
    np.testing.assert_array_equal(sample.key_U, everyone[everyone < edge])


@pytest.mark.parametrize(("limit", "group"), [(60, 1), (60, 2), (60, 3), (60, 7), (10_000, 2)])
def test_samples_merged_a_few_at_a_time_are_those_of_all_at_once(
    events: pl.DataFrame, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, group: int
) -> None:
    """Buckets offer more than their share, and one has held so many back that it closes the sample."""
    source = ingested([events], world / "recipients.parquet", tmp_path / "s", 8)
    monkeypatch.setattr(parts_module, "merge_samples", lambda p: merge_samples(p, limit))
    seen = [known(source, b) for b in range(8)]
    offered = [
        bucket_sample(bucket, 8, limit) if b != 5 else bucket_sample(bucket, 8, 10) for b, bucket in enumerate(seen)
    ]
    assert any(sample.below < 2**64 - 1 for sample in offered)
    monkeypatch.setattr(parts_module, "bucket_sample", lambda bucket, n: offered[n])
    parts = [{**campaign_tensors(seen[b]), **sample_tensors(seen[b], b)} for b in range(8)]
    whole = read_history(iter(parts), with_sample=True)
    monkeypatch.setattr(parts_module, "GROUP", group)
    monkeypatch.setattr(parts_module, "GROUP_USERS", 60 * group)
    merged = read_history(iter(parts), with_sample=True)
    assert whole.sample is not None
    assert 0 < whole.sample.users <= limit
    assert_same(whole, merged)
    assert_same(whole.sample, read_sample(parts))
    assert_same(whole.campaigns, read_campaigns(parts))


def assert_same(here: object, there: object) -> None:
    """All fields, however deep, arrays with their types."""
    if is_dataclass(here):
        for field in fields(here):
            assert_same(getattr(here, field.name), getattr(there, field.name))
    elif isinstance(here, np.ndarray):
        np.testing.assert_array_equal(here, np.asarray(there), strict=True)
    else:
        assert here == there


def test_a_sampled_user_keeps_his_whole_history(store: Path) -> None:
    source = Store.open(store)
    seen = [known(source, b) for b in range(source.buckets)]
    sample = merge_samples([bucket_sample(bucket, source.buckets, 40) for bucket in seen], 40)
    for number, key in enumerate(sample.key_U[:10]):
        (bucket,) = [b for b in seen if key in derive(b.users["h"].to_numpy(), "history-sample")]
        user = int(np.flatnonzero(derive(bucket.users["h"].to_numpy(), "history-sample") == key)[0])
        own, theirs = sample.cleaned, bucket.cleaned
        for name in ("utc_S", "local_S", "latency_S", "type_S"):
            mine = getattr(own, name)[own.user_S == number]
            np.testing.assert_array_equal(mine, getattr(theirs, name)[theirs.user_S == user])
        campaigns = sample.campaign_key_C[own.campaign_S[own.user_S == number]]
        np.testing.assert_array_equal(campaigns, bucket.campaign_key_C[theirs.campaign_S[theirs.user_S == user]])
        assert sample.cohorts[sample.cohort_U[number]] == bucket.users["cohort"][user]


def test_machines_and_the_dead_feed_no_prior(tmp_path: Path) -> None:
    people_ = [row for user in range(1, 5) for day in range(1, 30) for row in mail(user, before(day, 9), 0.5)]
    machine = [row for day in range(1, 30) for row in mail(50, before(day, 3), 0.01)]
    dead = [row for day in range(1, 30) for row in mail(51, before(day, 3))]
    found = []
    for number, rows in enumerate((people_, people_ + machine + dead)):
        bucket = known(store_of(rows, tmp_path / str(number), people([*range(1, 5), 50, 51])))
        sample, campaigns = bucket_sample(bucket, 1), read_campaigns([campaign_tensors(bucket)])
        found.append((sample, campaigns.sums_C4.sum(axis=0).tolist()))
    assert found[0][0].users == found[1][0].users == 4
    assert found[0][1] == found[1][1]


def test_parts_come_back_from_disk_as_they_went(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_module, "bucket_sample", lambda b, n: bucket_sample(b, n, LIMIT))
    monkeypatch.setattr(parts_module, "merge_samples", lambda p: merge_samples(p, LIMIT))
    source = Store.open(store)
    parts = [{**campaign_tensors(b), **sample_tensors(b, 4)} for b in (known(source, n) for n in range(4))]
    read = [read_tensors(tensor_bytes(part), "here") for part in parts]
    window_ms = (0, 90 * 86_400_000)
    here, there = (fit_priors(read_sample(p), read_campaigns(p), window_ms).tensors() for p in (parts, read))
    assert tensor_bytes(here) == tensor_bytes(there)
    assert tensor_bytes(from_tensors(read_tensors(tensor_bytes(here), "x"), "x").tensors()) == tensor_bytes(here)


def test_the_fit_of_personas_finds_two_that_were_put_in() -> None:
    """Half of the users look at 8, half at 20; all are at risk at all hours."""
    rng = np.random.default_rng(0)
    rate = np.full((2, 48), 0.02)
    rate[0, [8, 32]], rate[1, [20, 44]] = 0.6, 0.6
    who = rng.integers(0, 2, 1200)
    exposure = np.full((1200, 48), 5.0)
    opens = rng.poisson(rate[who] * exposure).astype(float)
    shapes = fit_shapes(opens, exposure, (who + 0).astype(np.int32), 2)
    weight = mixture(opens, exposure, shapes.shape_K48, shapes.log_prior_CK[[2]])[0]
    curve = weight @ shapes.shape_K48
    assert (curve[who == 0].mean(axis=0).argmax(), curve[who == 1].mean(axis=0).argmax()) == (8, 20)
    # a cohort of early risers expects early shapes
    early = np.exp(shapes.log_prior_CK[0]) @ shapes.shape_K48
    assert early[8] > 3 * early[20]
    np.testing.assert_allclose(np.exp(shapes.log_prior_CK).sum(axis=1), 1)


def test_the_mixture_is_that_of_the_twin() -> None:
    rng = np.random.default_rng(2)
    opens, exposure = rng.poisson(0.5, (40, 48)).astype(float), rng.gamma(1, 2, (40, 48))
    shape, prior = rng.gamma(2, 0.1, (5, 48)), np.log(rng.dirichlet(np.ones(5), 40))
    for found, expected in zip(
        mixture(opens, exposure, shape, prior), naive.mixture(opens, exposure, shape, prior), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_names_that_were_not_seen_have_the_last_code() -> None:
    names = pl.Series(["b", "x", None, "a"])
    assert codes_of(names, ("a", "b")).tolist() == [1, 2, 2, 0]
    assert codes_of(names, ()).tolist() == [0, 0, 0, 0]
    assert codes_of(pl.Series([None, None], dtype=pl.String), ("a",)).tolist() == [1, 1]
