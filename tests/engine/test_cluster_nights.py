"""Nights on a Ray cluster whose machines die in the middle of the work: the same bytes as by threads, once."""

from pathlib import Path

import pytest

from clusters import Nodes, calls, losing, night
from sto_engine.config import load_config
from sto_engine.ingest import ingest
from sto_engine.progress import Silent
from sto_engine.simulate import simulate
from support import assert_whole, digest

pytestmark = [pytest.mark.ray, pytest.mark.long]
SHORT = ('capacity.total="200/h"', 'capacity.providers={gmail="90/h"}', "capacity.on_infeasible=defer")
WORK = "sto_engine.bucket_work:BucketWork"
DEATHS = {
    "phase 0": ((), f"{WORK}.sums", {}),
    "phase 0, done but not told": ((), f"{WORK}.sums", {"HOLD_AFTER": "1"}),
    "the sums of all": ((), f"{WORK}.priors", {"HOLD_AFTER": "1"}),
    "phase A": ((), f"{WORK}.stage", {}),
    "phase A, the fifth bucket, done but not told": ((), f"{WORK}.stage", {"HOLD_CALL": "5", "HOLD_AFTER": "1"}),
    "phase B": ((), f"{WORK}.place", {}),
    "phase B, done but not told": ((), f"{WORK}.place", {"HOLD_AFTER": "1"}),
    "demand": (SHORT, f"{WORK}.demand", {}),
    "phase A where slots are short": (SHORT, f"{WORK}.stage", {"HOLD_AFTER": "1"}),
    "prices": (SHORT, "sto_engine.staged_book:StagedBook.offers", {}),
    "prices, later": (SHORT, "sto_engine.staged_book:StagedBook.offers", {"HOLD_CALL": "30"}),
    "slots": (SHORT, "sto_engine.staged_book:StagedBook.keep", {"HOLD_AFTER": "1"}),
    "counts of final slots": (SHORT, "sto_engine.final_slots:FinalSlots.count", {"HOLD_AFTER": "1"}),
    "phase B where slots are short": (SHORT, f"{WORK}.place", {"HOLD_AFTER": "1"}),
}


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 3,000 recipients in 8 buckets."""
    out = tmp_path_factory.mktemp("sender")
    simulate(out, "attention", users=3_000, days=60, seed=5, progress=Silent())
    config = load_config(None, ["store.buckets=8"])
    ingest([str(out / "events")], out / "store", out / "recipients.parquet", config, Silent())
    return out / "store"


@pytest.fixture(scope="module")
def expected(sender: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], dict[str, str]]:
    """What threads write, by settings."""
    out = tmp_path_factory.mktemp("threads")
    return {keys: digest(night(sender, out / str(len(keys)), load_config(None, keys))) for keys in ((), SHORT)}


@pytest.mark.parametrize("name", DEATHS)
def test_a_machine_that_dies_changes_no_byte(
    nodes: Nodes, sender: Path, expected: dict[tuple[str, ...], dict[str, str]], tmp_path: Path, name: str
) -> None:
    keys, hold, env = DEATHS[name]
    config = nodes.config(*keys, hold=hold, folder=tmp_path, **env)
    with nodes.executor(config) as ray:
        with losing(nodes, tmp_path):
            run = night(sender, tmp_path / "out", config, ray)
        assert ray.tries.retries >= 1
    assert calls(tmp_path) >= 2
    assert digest(run) == expected[keys]
    assert_whole(run)
