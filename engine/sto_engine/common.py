"""The options that all commands share, and what they come to."""

import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from sto_engine.options import PATH

if TYPE_CHECKING:
    from sto_engine.config import Config
    from sto_engine.executor import Executor
    from sto_engine.progress import Progress


@dataclass(frozen=True)
class Setup:
    """What the common options came to: settings, progress, and where the result goes."""

    config: "Config"
    progress: "Progress"
    threads: int
    seed: int
    log_json: bool

    @contextmanager
    def executor(self) -> "Iterator[Executor]":
        """Who runs the buckets: threads, or the cluster that --cluster or [cluster] names."""
        from sto_engine.cluster import open_executor

        with open_executor(self.config.cluster, self.threads, self.progress) as executor:
            yield executor

    def show(self, result: Mapping[str, Any]) -> None:
        """The result of the command on stdout: for people on a terminal, one JSON object elsewhere."""
        from sto_engine.console import show

        show(result, as_json=self.log_json or not sys.stdout.isatty())


_COMMON: tuple[Callable[[Callable[..., Any]], Callable[..., Any]], ...] = (
    click.option("--config", type=PATH, metavar="FILE", help="Settings (TOML); every key has a default."),
    click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="One setting; repeatable."),
    click.option(
        "--cluster", metavar="ADDRESS", help="Run on Ray: local, auto or HOST:PORT; default: threads of this process."
    ),
    click.option("--threads", type=click.IntRange(1, 4096), metavar="N", help="Threads; default: every core."),
    click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, metavar="N", help="Seed; default: 0."),
    click.option("--log-json", is_flag=True, help="JSON lines on stderr and a JSON result on stdout, always."),
    click.option("--quiet", is_flag=True, help="No progress; the result and errors only."),
)


def common(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that all commands share and hand them to the command as its first argument, a `Setup`."""

    @functools.wraps(command)
    def run(*, threads: int | None, seed: int, log_json: bool, **rest: Any) -> None:
        threads = threads or os.cpu_count() or 1
        os.environ.setdefault("POLARS_MAX_THREADS", str(threads))  # read once, when polars is first imported
        from sto_engine.config import load_config
        from sto_engine.console import choose, kernel_log

        config = load_config(rest.pop("config"), rest.pop("overrides"))
        address = rest.pop("cluster")
        if address is not None:
            config = config.model_copy(update={"cluster": config.cluster.model_copy(update={"address": address})})
        context = click.get_current_context()
        name = context.info_name or "sto-engine"
        progress = context.with_resource(choose(name, log_json, rest.pop("quiet"), sys.stderr.isatty()))
        context.with_resource(kernel_log(progress))
        command(Setup(config, progress, threads, seed, log_json), **rest)

    wrapped: Callable[..., None] = run
    for option in reversed(_COMMON):
        wrapped = option(wrapped)
    return wrapped
