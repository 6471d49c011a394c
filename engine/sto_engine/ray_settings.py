"""What Ray is started or joined with, from `[cluster]`, and what it prints; without Ray."""

import io
import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sto_engine.config import Cluster
from sto_engine.errors import ConfigError, UsageError
from sto_engine.progress import Progress

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ADDRESS = re.compile(r"([^\s:/]+|\[[0-9a-fA-F:.]+\]):\d{1,5}")
LOCAL, AUTO = "local", "auto"
REACH_S = 10.0  # for a machine to answer at all
LOCAL_STORE_BYTES = 256 << 20  # nothing but the work of a phase lies in it
# what a process of Ray does where nobody set it otherwise; without a token anybody who reaches a port runs code
DEFAULTS = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # how long a report, and the end, wait to be seen
}


def prepare_environment() -> None:
    """Before Ray is imported: it reads these once."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray").setLevel(logging.ERROR)


def init_arguments(settings: Cluster, threads: int) -> dict[str, Any]:
    """Arguments of `ray.init`. Raises UsageError (2) for an address that is none."""
    address = settings.address or LOCAL
    if address not in (LOCAL, AUTO) and not _ADDRESS.fullmatch(address):
        raise UsageError(
            f'--cluster expects local, auto or HOST:PORT; found "{address}"; run it on a machine of the cluster'
        )
    common = {
        "address": address,
        "runtime_env": {**settings.runtime_env, "env_vars": _env_vars(settings)},
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    if address != LOCAL:
        return common
    own = {"num_cpus": threads, "object_store_memory": LOCAL_STORE_BYTES, "include_dashboard": False}
    return {**common, **own}


def _env_vars(settings: Cluster) -> dict[str, str]:
    """A worker has no more threads than it was given CPUs."""
    threads = str(settings.cpus_per_task)
    return {"POLARS_MAX_THREADS": threads, "OMP_NUM_THREADS": threads, **settings.runtime_env.get("env_vars", {})}


@contextmanager
def as_guest() -> Iterator[None]:
    """Ray handles SIGTERM its own way once it has begun; here the command's way, exit code 143, stays."""
    handler, is_main = signal.getsignal(signal.SIGTERM), threading.current_thread() is threading.main_thread()
    try:
        yield
    finally:
        if is_main and handler is not None:
            signal.signal(signal.SIGTERM, handler)


@contextmanager
def reaching(settings: Cluster) -> Iterator[None]:
    """Ray asks twenty times, for 40 seconds each, whether there is a cluster; once is enough. Raises OSError where not
    even the port answers."""
    name, address = "RAY_gcs_server_port_wait_time_s", settings.address
    if address == LOCAL or name in os.environ:
        yield
        return
    if address is not None and address != AUTO:
        host, _, port = address.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]


def check_fits(settings: Cluster, cpus: int, largest: int, progress: Progress) -> None:
    """Work that no machine has room for would wait for ever: ConfigError (78) on this one, a warning on a cluster,
    where a machine may join. `cpus` of all machines, of which the largest has `largest`."""
    train = settings.train_workers if settings.address == LOCAL else settings.train_workers * settings.train_cpus
    wanted = {"cluster.cpus_per_task": (settings.cpus_per_task, largest), "cluster.train_workers": (train, cpus)}
    for key, (need, have) in wanted.items():
        if need <= have:
            continue
        text = f"{key} asks for {need} CPUs; found {have}"
        if settings.address == LOCAL:
            raise ConfigError(f"{text} on this machine; lower it, or raise --threads")
        progress.warn("cluster", detail=f"{text}: such work waits until machines join")


class Aside(io.TextIOBase):
    """Text that is no result, line by line to the log."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def write(self, text: str) -> int:
        for line in _COLOUR.sub("", text).splitlines():
            if line.strip():
                self._progress.info("ray", detail=line.strip()[:500])
        return len(text)
