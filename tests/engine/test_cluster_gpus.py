"""Work that prefers a GPU, on machines that say they have one."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chores import Chores
from clusters import Nodes, losing, start
from sto_engine.errors import Unavailable

pytestmark = [pytest.mark.ray, pytest.mark.long]
STUBS = {"STUBS": "sto_engine.models.device:use_gpu"}


@pytest.fixture(scope="module")
def gpus() -> Iterator[Nodes]:
    found = start({"num_gpus": 1}, {"num_gpus": 1})
    yield found
    found.cluster.shutdown()


def test_work_stays_with_the_worker_that_has_a_gpu(gpus: Nodes) -> None:
    with gpus.executor(gpus.config(**STUBS)) as ray:
        assert (ray.on_gpu, ray.gpus, ray.gpu_share) == (True, 2, 1)
        pids = dict(ray.run(lambda bucket: (time.sleep(0.1), os.getpid())[1], range(12), on="gpu"))
        again = dict(ray.run(lambda bucket: os.getpid(), range(12), on="gpu"))
        assert len(set(pids.values())) == 2
        assert set(again.values()) <= set(pids.values())
        assert ray.tries.retries == 0


@pytest.mark.parametrize("replaced", [True, False])
def test_work_on_a_gpu_that_is_lost_is_done_by_another(gpus: Nodes, tmp_path: Path, replaced: bool) -> None:
    config = gpus.config("cluster.max_retries=5", hold="chores:Chores.square", folder=tmp_path, **STUBS)
    with gpus.executor(config) as ray:
        with losing(gpus, tmp_path, num_gpus=int(replaced)):
            found = dict(ray.run(Chores(tmp_path).square, range(12), on="gpu"))
        assert found == {bucket: bucket**2 for bucket in range(12)}
        assert ray.tries.retries >= 1
        assert dict(ray.run(Chores(tmp_path).square, range(3), on="gpu")) == {0: 0, 1: 1, 2: 4}


def test_a_machine_whose_gpu_is_not_to_be_had_is_told(gpus: Nodes) -> None:
    with gpus.executor(gpus.config()) as ray, pytest.raises(Unavailable, match=r"bucket \d+ .*cluster\.gpus = 0"):
        list(ray.run(lambda bucket: bucket, range(2), on="gpu"))
