"""What Ray is asked for, from `[cluster]`; no Ray."""

import io
from contextlib import redirect_stdout

import numpy as np
import pytest

from executors import Noted
from forests import random_forest, random_inputs
from sto_engine.config import Cluster, Config
from sto_engine.errors import ConfigError, Unavailable, UsageError
from sto_engine.models import device
from sto_engine.ray_settings import Aside, check_fits, init_arguments


def test_a_ray_of_ones_own_has_the_threads_as_cpus_and_no_dashboard() -> None:
    found = init_arguments(Cluster(address="local"), 3)
    assert (found["num_cpus"], found["include_dashboard"], found["address"]) == (3, False, "local")
    assert found["runtime_env"]["env_vars"]["POLARS_MAX_THREADS"] == "1"


def test_a_cluster_is_joined_as_it_is() -> None:
    env = {"pip": ["x"], "env_vars": {"POLARS_MAX_THREADS": "4", "A": "b"}}
    found = init_arguments(Cluster(address="10.0.0.1:6379", cpus_per_task=2, runtime_env=env), 3)
    assert "num_cpus" not in found
    assert found["runtime_env"] == {
        "pip": ["x"],
        "env_vars": {"POLARS_MAX_THREADS": "4", "OMP_NUM_THREADS": "2", "A": "b"},
    }


@pytest.mark.parametrize("address", ["ray://10.0.0.1:10001", "remote", "http://x:1", ":6379", "a:b", "a:b:1"])
def test_an_address_of_another_kind_is_a_mistake_of_usage(address: str) -> None:
    with pytest.raises(UsageError, match="local, auto or HOST:PORT"):
        init_arguments(Cluster(address=address), 1)


def test_where_it_runs_decides_nothing() -> None:
    assert Config(cluster=Cluster(address="auto", train_workers=9)).decision() == Config().decision()


@pytest.mark.parametrize("settings", [{"cpus_per_task": 3}, {"train_workers": 3}])
def test_work_that_this_machine_has_no_room_for_is_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"cluster\.\w+ asks for 3 CPUs; found 2 on this machine"):
        check_fits(Cluster(address="local", **settings), 2, 2, Noted())


def test_work_that_no_machine_of_a_cluster_has_room_for_is_told() -> None:
    told = Noted()
    check_fits(Cluster(address="auto", cpus_per_task=8, train_workers=2, train_cpus=8), 16, 4, told)
    assert [line for line in told.lines if "cluster.cpus_per_task asks for 8 CPUs; found 4" in line]
    assert len(told.lines) == 1


def test_what_ray_prints_goes_to_the_log() -> None:
    told, stdout = Noted(), io.StringIO()
    with redirect_stdout(stdout), redirect_stdout(Aside(told)):
        print("\x1b[33m(raylet)\x1b[0m a worker died\n")
    assert stdout.getvalue() == ""
    assert "(raylet) a worker died" in told.lines[0]


def test_a_worker_without_its_gpu_says_so() -> None:
    with pytest.raises(Unavailable, match=r"cluster\.gpus = 0"):
        device.use_gpu()


def test_margins_by_a_device_of_torch_are_those_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    forest = random_forest(1, trees=5, depth=3, features=(3, 0, 2))
    user_FU, cross_CSU = random_inputs(forest, 70, seed=2)
    base_SU = np.random.default_rng(3).normal(size=(forest.slots, 70)).astype(np.float32)
    expected = device.slot_margins(forest, user_FU, cross_CSU, base_SU)
    monkeypatch.setattr(device, "_devices", ["cpu"])
    np.testing.assert_array_equal(device.slot_margins(forest, user_FU, cross_CSU, base_SU), expected)
