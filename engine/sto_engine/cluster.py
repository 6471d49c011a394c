"""Buckets on a Ray cluster, and training across it: the only file with Ray.

driver    gives out buckets a few ahead of the workers, renames what the winning tries wrote, keeps the records
task      one bucket on one worker; work is unpickled once a process, results are counts and names
GPU       one long-lived actor a GPU, with its share of the CPUs as threads, for work that prefers one
group     one process a rank under Ray Train, which restarts all of them when one is lost
"""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from sto_engine.config import Cluster
from sto_engine.errors import TryLater, Unavailable
from sto_engine.executor import Executor, Group, Member, Place, Threads, Told
from sto_engine.gpu_workers import GpuWorkers
from sto_engine.models.device import use_gpu
from sto_engine.progress import Progress
from sto_engine.ray_settings import LOCAL, Aside, as_guest, check_fits, init_arguments, prepare_environment, reaching
from sto_engine.tries import Lost, Tries, Try, own_error, short
from sto_engine.worker import Done, Home, attempt

T = TypeVar("T")
LOOK_S = 5.0  # how old the size of the cluster may be: one that scales grows while work waits
END_S = 20.0  # for work under way to end once another has failed


@contextmanager
def open_executor(settings: Cluster, threads: int, progress: Progress) -> Iterator[Executor]:
    """Threads of this process, or the cluster of `settings.address`: "local" is a Ray of one's own on this machine,
    which ends with the command, "auto" the one that this machine belongs to, else HOST:PORT.

    Raises UsageError (2) for an address of another kind, Unavailable (69) where Ray or the cluster is not to be had.
    """
    if settings.address is None:
        yield Threads(threads)
        return
    began = time.monotonic()
    ray = _connected(settings, threads)
    with redirect_stdout(Aside(progress)):  # Ray prints there of workers that died; results are ours alone
        try:
            cluster = RayCluster(ray, settings, Tries(settings.max_retries, progress))
            nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
            check_fits(settings, cluster.cpus, max(nodes, default=0), progress)
            told = {"cpus": cluster.cpus, "nodes": len(nodes), "gpus": cluster.gpus}
            progress.info("cluster", address=settings.address, **told, start_s=round(time.monotonic() - began, 1))
            yield cluster
            cluster.end()
        finally:
            ray.shutdown()


def _connected(settings: Cluster, threads: int) -> Any:
    arguments = init_arguments(settings, threads)
    prepare_environment()
    try:
        import ray
    except ImportError as error:
        raise Unavailable(f"--cluster needs Ray ({error}); install it with: pip install 'ray[train]'") from error
    try:
        with reaching(settings), as_guest():
            ray.init(**arguments)
    except (OSError, OverflowError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise Unavailable(
            f'--cluster "{settings.address}": no Ray to work on ({short(error)}); check the address, that this machine '
            "belongs to the cluster, and RAY_AUTH_TOKEN"
        ) from error
    return ray


def _attempt(
    shared: list[Any], home: Home, arguments: tuple[Any, ...], first: Callable[[], object] = lambda: None
) -> Done:
    """In a worker: one try; `shared` holds the reference of the work, which is fetched once a process."""
    import ray

    host = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    node = f"{host} ({ray.get_runtime_context().get_node_id()[:8]})"
    return attempt(node, shared[0].hex(), lambda: first() or ray.get(shared[0]), home, arguments)


class _GpuWorker:
    """The actor that has a GPU."""

    def begun(self) -> None: ...

    def attempt(self, shared: list[Any], home: Home, arguments: tuple[Any, ...]) -> Done:
        return _attempt(shared, home, arguments, use_gpu)


@dataclass
class RayCluster:
    """The Executor of a cluster; see `executor.Executor`."""

    ray: Any
    settings: Cluster
    tries: Tries
    in_process: bool = False
    _seen: tuple[float, dict[str, float]] = (-LOOK_S, {})

    @property
    def cpus(self) -> int:
        at, found = self._seen
        if time.monotonic() - at >= LOOK_S:
            found = self.ray.cluster_resources()
            self._seen = time.monotonic(), found
        return int(found.get("CPU", 1))

    @cached_property
    def gpus(self) -> int:
        """GPUs that score; fixed for the run."""
        have = int(self.ray.cluster_resources().get("GPU", 0))
        return have if self.settings.gpus == "auto" else min(have, self.settings.gpus)

    @property
    def workers(self) -> int:
        return max(1, self.cpus // self.settings.cpus_per_task)

    @property
    def on_gpu(self) -> bool:
        return self.gpus > 0

    @property
    def group(self) -> Group:
        own = max(1, min(self.settings.train_cpus, self.cpus // self.settings.train_workers))
        return RayGroup(self.ray, self.settings, own if self.settings.address == LOCAL else self.settings.train_cpus)

    def run(
        self, work: Callable[..., T], buckets: Iterable[int], told: Told | None = None, on: Place = "cpu"
    ) -> Iterator[tuple[int, T]]:
        tries = (Try(bucket, (bucket,) if told is None else (bucket, told(bucket))) for bucket in buckets)
        for one, value in self.tries.run(self._pool(work, on), tries):
            assert one.bucket is not None
            yield one.bucket, value

    def call(self, work: Callable[[], T]) -> T:
        found: list[tuple[Try, T]] = list(self.tries.run(self._pool(work, "cpu"), iter([Try(None, ())])))
        return found[0][1]

    def _pool(self, work: Callable[..., Any], on: Place) -> "_Tasks":
        kind = _Actors if on == "gpu" and self.on_gpu else _Tasks
        return kind(self, [self.ray.put(work)], Home.of_this_process())

    @cached_property
    def gpu_workers(self) -> GpuWorkers:
        asked = {"num_gpus": 1, "num_cpus": self.gpu_share, "max_concurrency": self.gpu_share, "max_restarts": 0}
        return GpuWorkers(self.ray, self.gpus, self.ray.remote(_GpuWorker).options(**asked).remote)

    @cached_property
    def gpu_share(self) -> int:
        """CPUs that prepare features for each GPU: those of its machine."""
        machines = [node["Resources"] for node in self.ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]
        return max(1, min(int(have.get("CPU", 1) // have["GPU"]) for have in machines))

    def end(self) -> None:
        if self.on_gpu:
            self.gpu_workers.end()


@dataclass
class _Tasks:
    """A Pool: every try is a task of its own."""

    cluster: RayCluster
    shared: list[Any]
    home: Home

    @property
    def workers(self) -> int:
        return self.cluster.workers

    @cached_property
    def task(self) -> Any:
        """Made once: each one made is sent to the cluster anew."""
        settings = self.cluster.settings
        memory = {"memory": settings.memory_per_task_mib << 20} if settings.memory_per_task_mib else {}
        return self.cluster.ray.remote(num_cpus=settings.cpus_per_task, max_retries=0, **memory)(_attempt)

    def give(self, one: Try) -> Any:
        return self.task.options(name=one.name).remote(self.shared, self.home, one.arguments)

    def ended(self, waiting: dict[Any, Try]) -> list[tuple[Any, Done | Lost]]:
        ready, _ = self.cluster.ray.wait(list(waiting), num_returns=1, timeout=LOOK_S)
        return [(ref, self._outcome(ref, waiting[ref])) for ref in ready]

    def _outcome(self, ref: Any, one: Try) -> Done | Lost:
        errors = self.cluster.ray.exceptions
        try:
            done: Done = self.cluster.ray.get(ref)
            return done
        except errors.RayTaskError:
            raise  # what cannot even be sent home is a defect
        except errors.RuntimeEnvSetupError as error:
            raise Unavailable(f"cluster.runtime_env cannot be set up on a worker: {short(error)}") from error
        except errors.RayError as error:
            return Lost(f"{type(error).__name__}: {short(error)}")

    def drop(self, waiting: dict[Any, Try]) -> None:
        for ref in waiting:
            self.cluster.ray.cancel(ref)
        if waiting:
            self.cluster.ray.wait(list(waiting), num_returns=len(waiting), timeout=END_S)


class _Actors(_Tasks):
    """A Pool: tries go to the GPU that has the fewest."""

    @property
    def workers(self) -> int:
        return self.cluster.gpus * self.cluster.gpu_share

    def give(self, one: Try) -> Any:
        one.place = self.cluster.gpu_workers.least_busy()
        one.place.busy += 1
        return one.place.actor.attempt.remote(self.shared, self.home, one.arguments)

    def ended(self, waiting: dict[Any, Try]) -> list[tuple[Any, Done | Lost]]:
        found = super().ended(waiting)
        if not found:
            waiting.update({self.give(one): one for one in self.cluster.gpu_workers.stuck(waiting)})
        return found

    def _outcome(self, ref: Any, one: Try) -> Done | Lost:
        one.place.busy -= 1
        found = super()._outcome(ref, one)
        if isinstance(found, Lost):
            self.cluster.gpu_workers.lose(one.place)
        return found

    def drop(self, waiting: dict[Any, Try]) -> None:
        """An actor's tries are not cancelled but left to end with it."""
        self.cluster.end()


@dataclass(frozen=True)
class RayGroup:
    """Training under Ray Train (V2); see `executor.Group`."""

    ray: Any
    settings: Cluster
    cpus: int

    @property
    def world(self) -> int:
        return self.settings.train_workers

    @property
    def on_gpu(self) -> bool:
        asked = self.settings.train_gpu
        return int(self.ray.cluster_resources().get("GPU", 0)) >= self.world if asked == "auto" else asked

    def run(self, loop: Callable[[Member], None], folder: Path) -> None:
        try:
            from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
            from ray.train.xgboost import XGBoostTrainer
        except ImportError as error:
            raise Unavailable(f"training on a cluster needs Ray Train ({error}); pip install 'ray[train]'") from error
        settings, name, resumes = self.settings, "ray-train", self.settings.on_lost_worker == "checkpoint"
        trainer = XGBoostTrainer(
            _member_loop,
            train_loop_config={"loop": loop, "resumes": resumes, "home": Home.of_this_process()},
            scaling_config=ScalingConfig(
                num_workers=self.world, use_gpu=self.on_gpu, resources_per_worker={"CPU": self.cpus}
            ),
            run_config=RunConfig(
                name=name,
                storage_path=str(folder.absolute()),
                failure_config=FailureConfig(max_failures=settings.max_failures),
                checkpoint_config=CheckpointConfig(num_to_keep=1),
            ),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            told = f"training was given up after {settings.max_failures} lost workers (cluster.max_failures)"
            raise own_error(error) or TryLater(f"{told}: {short(error)}; run the command again") from error
        finally:
            shutil.rmtree(folder / name, ignore_errors=True)


def _member_loop(config: dict[str, Any]) -> None:
    """What every rank runs. The checkpoint of the stock callback costs two seconds a tree, so `loop` reports itself."""
    from ray import train

    config["home"].enter()
    context, resumes = train.get_context(), config["resumes"]

    def report(folder: Path | None) -> None:
        kept = train.Checkpoint.from_directory(str(folder)) if folder is not None and resumes else None
        train.report({}, checkpoint=kept)

    found = train.get_checkpoint() if resumes else None
    with found.as_directory() if found is not None else nullcontext() as path:
        last = None if path is None else Path(path)
        config["loop"](Member(context.get_world_rank(), context.get_world_size(), last, report))
