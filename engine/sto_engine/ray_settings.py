"""What Ray is started or joined with, from `[cluster]`, and what it prints; without Ray."""

import io
import logging
import os
from typing import Any

from sto_engine.config import Cluster
from sto_engine.errors import UsageError
from sto_engine.progress import Progress

LOCAL, AUTO = "local", "auto"
LOCAL_STORE_BYTES = 256 << 20  # nothing but the work of a phase lies in it
# what a process of Ray does where nobody set it otherwise; without a token anybody who reaches a port runs code
DEFAULTS = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def prepare_environment() -> None:
    """Before Ray is imported: it reads these once."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray").setLevel(logging.ERROR)


def init_arguments(settings: Cluster, threads: int) -> dict[str, Any]:
    """Arguments of `ray.init`. Raises UsageError (2) for an address that is none."""
    address = settings.address or LOCAL
    if address not in (LOCAL, AUTO) and ("://" in address or ":" not in address):
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
    return {**common, **own, "_node_ip_address": "127.0.0.1"}


def _env_vars(settings: Cluster) -> dict[str, str]:
    """A worker has no more threads than it was given CPUs."""
    threads = str(settings.cpus_per_task)
    return {"POLARS_MAX_THREADS": threads, "OMP_NUM_THREADS": threads, **settings.runtime_env.get("env_vars", {})}


class Aside(io.TextIOBase):
    """Text that is no result, line by line to the log."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def write(self, text: str) -> int:
        for line in text.splitlines():
            if line.strip():
                self._progress.info("ray", detail=line.strip()[:500])
        return len(text)
