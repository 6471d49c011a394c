"""A Ray cluster of several machines on this one, and how to lose a machine in the middle of a chosen piece of work.

nodes (fixture)   a head without CPUs, where the driver is, and two machines with a CPU each
losing(...)       meanwhile, the machine that holds a piece of work dies, and a new one joins
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sto_engine.cluster import RayCluster, open_executor
from sto_engine.config import Config, load_config
from sto_engine.executor import Executor
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Progress, Silent
from sto_engine.ray_settings import prepare_environment

# Ray keeps the first token that it finds, or does not find, for as long as the process lives
os.environ.setdefault("RAY_AUTH_TOKEN", "5e3d" * 16)
TESTS = Path(__file__).resolve().parent
STORE_BYTES = 80 << 20
# a machine that is gone is missed after two seconds, not fifteen
QUICK = {"health_check_period_ms": 500, "health_check_failure_threshold": 4, "health_check_initial_delay_ms": 500}
HOLD_S = 120.0


def start(*machines: dict[str, int]) -> "Nodes":
    """A cluster with token authentication and without dashboard, of a head and `machines`."""
    prepare_environment()
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES, "_system_config": QUICK}
    nodes = Nodes(Cluster(initialize_head=True, head_node_args=head))
    for machine in machines:
        nodes.add(**machine)
    return nodes


@dataclass
class Nodes:
    """`hands` is a thread that lives as long as the machines: their processes end with the thread that started them."""

    cluster: Any
    removed: list[str] = field(default_factory=list)
    hands: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def add(self, **resources: int) -> None:
        # Ray would handle the signals of this process, which only its main thread may ask for
        with patch("ray._private.utils.set_sigterm_handler"):
            self.cluster.add_node(**{"num_cpus": 1, "object_store_memory": STORE_BYTES, **resources})

    def remove(self, node_id: str) -> None:
        """As when the power is cut."""
        (node,) = [node for node in self.cluster.worker_nodes if node.node_id == node_id]
        self.cluster.remove_node(node, allow_graceful=False)
        self.removed.append(node_id)

    def config(self, *keys: str, hold: str = "", folder: Path | None = None, **env: str) -> Config:
        """Settings to work here; `hold` and `folder` as held.py reads them."""
        path = os.pathsep.join([str(TESTS), *(part for part in sys.path if part)])
        told = {"PYTHONPATH": path, **env} | ({"HOLD": hold, "HOLD_FOLDER": str(folder)} if hold else {})
        config = load_config(None, keys)
        runtime = {"worker_process_setup_hook": "held.hook", "env_vars": told}
        own = config.cluster.model_copy(update={"address": self.address, "runtime_env": runtime})
        return config.model_copy(update={"cluster": own})

    @contextmanager
    def executor(self, config: Config, progress: Progress | None = None) -> Iterator[RayCluster]:
        with open_executor(config.cluster, 2, progress or Silent()) as found:
            assert isinstance(found, RayCluster)
            yield found


@contextmanager
def losing(nodes: Nodes, folder: Path, **replacement: int) -> Iterator[None]:
    """Meanwhile, the machine that holds a piece of work dies and another joins; fails where nothing was held."""
    found, over = list[str](), threading.Event()

    def lose() -> None:
        node_id = wait_held(folder, over)
        if node_id is not None:
            found.append(node_id)
            nodes.remove(node_id)
            nodes.add(**replacement)

    lost = nodes.hands.submit(lose)
    try:
        yield
    finally:
        over.set()
        lost.result()
    assert found, "no work was held, so no machine was lost"


def night(store: Path, out: Path, config: Config, executor: Executor | None = None) -> Path:
    """The folder of a run, by threads or by `executor`."""
    run = run_score(ScoreRequest(store, out, threads=2), config, Silent(), executor).run_dir
    assert run is not None
    return run


def calls(folder: Path) -> int:
    """How often the function was called that something was to be held of."""
    return len((folder / "calls").read_text().splitlines())


def wait_held(folder: Path, over: threading.Event | None = None) -> str | None:
    """The machine that holds a piece of work, once there is one."""
    until = time.monotonic() + HOLD_S
    while time.monotonic() < until and not (over is not None and over.is_set()):
        if (folder / "held").exists():
            return (folder / "held").read_text()
        time.sleep(0.05)
    return None
