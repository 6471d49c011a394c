"""Training on a Ray cluster whose machines die in the middle of the work."""

from pathlib import Path

import pytest

from clusters import Nodes, calls, losing
from executors import Travelling
from groups import Processes
from sto_engine.config import Config
from sto_engine.executor import Executor
from sto_engine.models.bundle import load_bundle
from sto_engine.progress import Silent
from sto_engine.train_job import TrainReport, train
from support import files_of

# Ray Train imports Ray Data, whose own settings warn of themselves when they are read
OWN = pytest.mark.filterwarnings(r"ignore:::ray\.data\.context")
pytestmark = [pytest.mark.ray, pytest.mark.long, OWN]
KEYS = ("train.trees=20", "train.depth=3", "train.min_rows=200", "cluster.train_cpus=1")
TWO = ("cluster.train_workers=2",)
TASKS = {
    "pass 1": ("sto_engine.train.passes:sum_bucket", {"HOLD_AFTER": "1"}),
    "the priors": ("sto_engine.train.passes:moment_priors", {"HOLD_CALL": "2"}),
    "pass 2": ("sto_engine.train.passes:draw_bucket", {"HOLD_CALL": "2"}),
    "pass 2, done but not told": ("sto_engine.train.passes:draw_bucket", {"HOLD_AFTER": "1"}),
    "the fit": ("sto_engine.train.prepare:prepare", {"HOLD_AFTER": "1"}),
    "the judgement": ("sto_engine.train.fit:finish", {}),
}
GROUPS = {
    "one worker, before it begins": ((), "sto_engine.train.forests:grow_part", {}),
    "one worker, with its forests written": ((), "sto_engine.train.forests:grow_part", {"HOLD_AFTER": "1"}),
    "one worker, as it reads its rows": ((), "sto_engine.train.forests:_load", {"HOLD_CALL": "3"}),
    "two workers, before one begins": (TWO, "sto_engine.train.forests:grow_part", {"HOLD_CALL": "2"}),
    "two workers, as one reads its rows": (TWO, "sto_engine.train.forests:_load", {"HOLD_CALL": "5"}),
}


def trained(store: Path, bundle: Path, config: Config, executor: Executor) -> TrainReport:
    return train(store, bundle, None, config, 1, 0, None, Silent(), force=True, executor=executor)


def expected(store: Path, bundle: Path, config: Config) -> dict[str, str]:
    """The bundle by a group of processes that all live."""
    trained(store, bundle, config, Travelling(group=Processes(config.cluster.train_workers)))
    return files_of(bundle)


@pytest.mark.parametrize("name", TASKS)
def test_a_machine_that_dies_before_or_after_the_group_changes_no_byte(
    nodes: Nodes, store: Path, tmp_path: Path, name: str
) -> None:
    hold, env = TASKS[name]
    config = nodes.config(*KEYS, hold=hold, folder=tmp_path, **env)
    with nodes.executor(config) as ray:
        with losing(nodes, tmp_path):
            trained(store, tmp_path / "there" / "b", config, ray)
        assert ray.tries.retries >= 1
    assert files_of(tmp_path / "there" / "b") == expected(store, tmp_path / "here" / "b", config)
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["b"]


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_that_loses_a_machine_starts_again_and_changes_no_byte(
    nodes: Nodes, store: Path, tmp_path: Path, name: str
) -> None:
    keys, hold, env = GROUPS[name]
    config = nodes.config(*KEYS, *keys, hold=hold, folder=tmp_path, **env)
    with nodes.executor(config) as ray, losing(nodes, tmp_path):
        trained(store, tmp_path / "there" / "b", config, ray)
    assert calls(tmp_path) > config.cluster.train_workers
    assert files_of(tmp_path / "there" / "b") == expected(store, tmp_path / "here" / "b", config)
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["b"]


@pytest.mark.parametrize("keys", [(), TWO], ids=["one worker", "two workers"])
def test_a_group_goes_on_from_its_checkpoint(nodes: Nodes, store: Path, tmp_path: Path, keys: tuple[str, ...]) -> None:
    own = ("cluster.on_lost_worker=checkpoint", "cluster.checkpoint_trees=5", *keys)
    # late enough for a checkpoint to be safe: one report waits while the next is made
    hold = {"HOLD_CALL": "8" if keys else "4"}
    config = nodes.config(*KEYS, *own, hold="sto_engine.train.forests:_hand_over", folder=tmp_path, **hold)
    with nodes.executor(config) as ray, losing(nodes, tmp_path):
        report = trained(store, tmp_path / "there" / "b", config, ray)
    # each of two forests is handed over three times a rank, and once between them: more calls were a start from none
    assert calls(tmp_path) < int(hold["HOLD_CALL"]) + 7 * config.cluster.train_workers
    assert report.trees == 20
    assert report.trained_by["workers"] == config.cluster.train_workers
    assert load_bundle(tmp_path / "there" / "b").bundle_id == report.bundle_id
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["b"]
