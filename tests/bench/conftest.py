"""One tiny world for all tests of the benchmarks, with a cache folder of its own."""

import os
from collections.abc import Iterator

import pytest
import torch

from sto_bench import suite
from sto_bench.cases import CASES, TINY
from sto_bench.runner import Rules
from sto_bench.verify import Oracle, ask_xgboost
from sto_bench.worlds import World, make_world


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before, threads = os.environ.get("XDG_CACHE_HOME"), torch.get_num_threads()
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    torch.set_num_threads(threads)
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture
def short_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timings too short to mean anything, for tests that are about everything else."""
    monkeypatch.setitem(suite.RULES, "quick", Rules(rounds=2, target_s=0.01, settle_s=0.0))


@pytest.fixture(scope="session")
def tiny(own_cache: None) -> World:
    return make_world(CASES[TINY], seed=0, threads=1)


@pytest.fixture(scope="session")
def oracle(tiny: World) -> Oracle:
    return ask_xgboost(tiny, threads=1)
