"""`sto-engine bench`: thin commands over sto_bench, and the place where its errors become the engine's."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sto_engine.common import Setup, common
from sto_engine.errors import BadData, CannotCreate, Unavailable, UsageError
from sto_engine.options import PATH

if TYPE_CHECKING:
    from sto_bench.records import Record


@click.group()
def bench() -> None:
    """Measure the engine on this machine, beside its peers.

    \b
    Example:  sto-engine bench kernel --quick
    """


@bench.command()
@click.option("--quick", is_flag=True, help="Two small cases, about a minute; figures for a first look only.")
@click.option("--full", is_flag=True, help="Every case; trains for minutes the first time.")
@click.option("--json", "json_path", type=PATH, metavar="FILE", help="Keep the measurements, one JSON line each.")
@click.option("--case", "cases", multiple=True, metavar="NAME", help="This case only; repeatable.")
@click.option("--impl", "impls", multiple=True, metavar="NAME", help="This code path of ours only; repeatable.")
@click.option("--peer", "peers", multiple=True, metavar="NAME", help='This peer only, or "none"; repeatable.')
@common
def kernel(
    setup: Setup,
    quick: bool,
    full: bool,
    json_path: Path | None,
    cases: tuple[str, ...],
    impls: tuple[str, ...],
    peers: tuple[str, ...],
) -> None:
    """Time the scoring kernel against other libraries, interleaved, after checking it against XGBoost.

    A kernel that is wrong gets no time and the command ends with 65. Lines in FILE of the cases measured are replaced.

    \b
    Example:  sto-engine bench kernel --quick --json kernel.jsonl
    """
    if quick and full:
        raise UsageError("bench kernel expects --quick or --full; found both")
    with _needs_xgboost():
        from sto_bench import suite
    tier = "quick" if quick else "full" if full else "default"
    try:
        plan = suite.make_plan(tier, cases, impls, peers, setup.threads, setup.seed)
    except ValueError as error:
        raise UsageError(str(error)) from error
    records = suite.run(plan, setup.progress, _keeper(json_path))
    red = suite.red_gates(records)
    head = {"file": str(json_path) if json_path else None, "measurements": len(records), "red_gates": len(red)}
    setup.show({**head, **suite.summary(records), "warnings": suite.warnings(records)})
    if red:
        raise BadData("; ".join(red))


@contextmanager
def _needs_xgboost() -> Iterator[None]:
    """Importing the suite, which trains with XGBoost: Unavailable (69) where that is not installed."""
    try:
        yield
    except ImportError as error:
        raise Unavailable(
            f"bench kernel needs XGBoost ({error}); install it with: pip install 'sto-engine[cpu]' (or [gpu])"
        ) from error


def _keeper(path: Path | None) -> "Callable[[list[Record]], None]":
    """What writes the records of each case as it is done. A file that cannot take them is refused before the work."""
    if path is None:
        return lambda records: None
    from sto_bench.machine import cpu_name
    from sto_bench.records import read, replace_cases

    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise CannotCreate(f"--json {path} cannot be created: {path.parent} is not a folder that can be written to")
    try:
        others = {record.cpu for record in read(path)} - {cpu_name()}
    except ValueError as error:
        raise BadData(f"--json {path} must be a results file of bench; {error}") from error
    if others:
        raise BadData(f"--json {path} must hold results of this CPU; found {', '.join(sorted(others))}; name another")
    return partial(replace_cases, path)
