"""A small simulated sender and its store, made once for the tests that need a whole pipeline."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from clusters import Nodes, start
from sto_engine.config import Config, load_config
from sto_engine.ingest import ingest
from sto_engine.progress import Silent
from sto_engine.simulate import simulate
from sto_engine.train_job import train

DAY = date(2026, 4, 20)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    simulate(out, "attention", users=600, days=90, seed=3, progress=Silent())
    return out


@pytest.fixture(scope="session")
def small_config() -> Config:
    return load_config(None, ["store.buckets=4", "train.trees=20", "train.depth=3", "train.min_rows=200"])


@pytest.fixture(scope="session")
def store(world: Path, small_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "store"
    ingest([str(world / "events")], path, world / "recipients.parquet", small_config, Silent())
    return path


@pytest.fixture(scope="session")
def bundle(store: Path, small_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "bundle"
    train(store, path, None, small_config, threads=2, seed=0, if_older_than_days=None, progress=Silent())
    return path


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A Ray cluster of a head without CPUs, where the tests are, and two machines with one each."""
    found = start({}, {})
    yield found
    found.cluster.shutdown()
