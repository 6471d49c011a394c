"""`sto-engine bench`: thin commands over the packages of benchmarks/, where their errors become the engine's."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from sto_engine.common import Setup, common
from sto_engine.errors import BadData, CannotCreate, Unavailable, UsageError
from sto_engine.options import PATH

if TYPE_CHECKING:
    from sto_pipeline.cases import Kind


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
    tier = _tier("kernel", quick, full)
    with _needs_xgboost():
        from sto_bench import suite
    from sto_bench.records import Record

    try:
        plan = suite.make_plan(tier, cases, impls, peers, setup.threads, setup.seed)
    except ValueError as error:
        raise UsageError(str(error)) from error
    _measure(suite, plan, Record, setup, json_path)


def _pipeline_options(command: Callable[..., None]) -> Callable[..., None]:
    """What the benchmarks of the data path share, beside the common options."""
    options = (
        click.option("--quick", is_flag=True, help="One small case; figures for a first look only."),
        click.option("--full", is_flag=True, help="Every case; makes its inputs for minutes the first time."),
        click.option(
            "--json", "json_path", type=PATH, metavar="FILE", help="Keep the measurements, one JSON line each."
        ),
        click.option("--case", "cases", multiple=True, metavar="NAME", help="This case only; repeatable."),
        click.option("--peer", "peers", multiple=True, metavar="NAME", help='This peer only, or "none"; repeatable.'),
        click.option("--work", type=PATH, metavar="DIR", help="Where inputs are kept; default: the user's cache."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@bench.command()
@_pipeline_options
@common
def features(setup: Setup, **options: Any) -> None:
    """Time the counting of histories, from store files to every tensor, beside engines that compute the same.

    Each turn is a process of its own. An answer that is not the plain twins' gets no time; ours then ends with 65.

    \b
    Example:  sto-engine bench features --quick --json features.jsonl
    """
    _pipeline("features", setup, **options)


@bench.command()
@_pipeline_options
@common
def ingest(setup: Setup, **options: Any) -> None:
    """Time `sto-engine ingest` from raw files to a store, beside engines that only write by bucket.

    \b
    Example:  sto-engine bench ingest --quick --json ingest.jsonl
    """
    _pipeline("ingest", setup, **options)


@bench.command()
@_pipeline_options
@common
def score(setup: Setup, **options: Any) -> None:
    """Time the nightly `sto-engine score`, from a compacted store and a bundle to committed assignments, by stage.

    \b
    Example:  sto-engine bench score --quick --json score.jsonl
    """
    _pipeline("score", setup, **options)


@bench.command()
@click.option("--quick", is_flag=True, help="Up to 20,000 recipients, beside the exact optimum; about a minute.")
@click.option("--full", is_flag=True, help="Every case, up to ten million recipients.")
@click.option("--json", "json_path", type=PATH, metavar="FILE", help="Keep the measurements, one JSON line each.")
@click.option("--case", "cases", multiple=True, metavar="NAME", help="This case only; repeatable.")
@click.option("--peer", "peers", multiple=True, metavar="NAME", help='This peer only, or "none"; repeatable.')
@common
def assign(
    setup: Setup, quick: bool, full: bool, json_path: Path | None, cases: tuple[str, ...], peers: tuple[str, ...]
) -> None:
    """Assignment under capacity and spread: what is lost against the optimum, what is exceeded, how long it takes.

    An answer of ours that breaks a limit gets no time and the command ends with 65. Exact peers: OR-Tools, HiGHS.

    \b
    Example:  sto-engine bench assign --quick --json assign.jsonl
    """
    tier = _tier("assign", quick, full)
    from sto_assign import suite
    from sto_assign.records import Line

    try:
        plan = suite.make_plan(tier, cases, peers, setup.threads, setup.seed)
    except ValueError as error:
        raise UsageError(str(error)) from error
    _measure(suite, plan, Line, setup, json_path)


@bench.command()
@click.option("--quick", is_flag=True, help="Up to 50,000 users; figures for a first look only.")
@click.option("--full", is_flag=True, help="Every case, up to four million users.")
@click.option("--json", "json_path", type=PATH, metavar="FILE", help="Keep the measurements, one JSON line each.")
@click.option("--case", "cases", multiple=True, metavar="NAME", help="This case only; repeatable.")
@click.option("--peer", "peers", multiple=True, metavar="NAME", help='This peer only, or "none"; repeatable.')
@common
def draws(
    setup: Setup, quick: bool, full: bool, json_path: Path | None, cases: tuple[str, ...], peers: tuple[str, ...]
) -> None:
    """Beta draws of Thompson sampling, and shares of wins by rounds of them, beside numpy and torch.

    Draws that do not follow their law get no time; ours then ends with 65.

    \b
    Example:  sto-engine bench draws --quick --json draws.jsonl
    """
    tier = _tier("draws", quick, full)
    from sto_draws import suite
    from sto_draws.records import Line

    try:
        plan = suite.make_plan(tier, cases, peers, setup.threads, setup.seed)
    except ValueError as error:
        raise UsageError(str(error)) from error
    _measure(suite, plan, Line, setup, json_path)


@bench.command()
@click.option("--quick", is_flag=True, help="Up to 200,000 recipients; figures for a first look only.")
@click.option("--full", is_flag=True, help="Every case, up to 20 million recipients: 20 minutes and 20 GB.")
@click.option("--json", "json_path", type=PATH, metavar="FILE", help="Keep the measurements, one JSON line each.")
@click.option("--case", "cases", multiple=True, metavar="NAME", help="This case only; repeatable.")
@click.option("--work", type=PATH, metavar="DIR", help="Where inputs are kept; default: the user's cache.")
@common
def scale(
    setup: Setup, quick: bool, full: bool, json_path: Path | None, cases: tuple[str, ...], work: Path | None
) -> None:
    """What a recipient and an event cost each command at several sizes, what the driver holds, what Ray adds.

    Each command is a process of its own. One that loses a row gets no time and the command ends with 65.

    \b
    Example:  sto-engine bench scale --quick --json scale.jsonl
    """
    tier = _tier("scale", quick, full)
    from sto_scale import suite
    from sto_scale.records import Line

    try:
        plan = suite.make_plan(tier, cases, setup.threads, work)
    except ValueError as error:
        raise UsageError(str(error)) from error
    _measure(suite, plan, Line, setup, json_path)


@bench.command()
@_pipeline_options
@common
def outcomes(setup: Setup, **options: Any) -> None:
    """Time `sto-engine bandit update`, from a compacted store to the committed outcomes of every recipient and slot.

    \b
    Example:  sto-engine bench outcomes --quick --json outcomes.jsonl
    """
    _pipeline("outcomes", setup, **options)


def _pipeline(
    kind: "Kind",
    setup: Setup,
    quick: bool,
    full: bool,
    json_path: Path | None,
    cases: tuple[str, ...],
    peers: tuple[str, ...],
    work: Path | None,
) -> None:
    from sto_pipeline import suite
    from sto_pipeline.records import Measure

    tier = _tier(kind, quick, full)
    try:
        plan = suite.make_plan(kind, tier, cases, peers, setup.threads, work)
    except ValueError as error:
        raise UsageError(str(error)) from error
    _measure(suite, plan, Measure, setup, json_path)


def _measure(suite: ModuleType, plan: Any, kind: type[Any], setup: Setup, json_path: Path | None) -> None:
    """Run the plan of a suite, keep its lines of `kind`, show what they come to; BadData (65) where ours was wrong."""
    found = suite.run(plan, setup.progress, _keeper(kind, json_path))
    red = suite.red_gates(found)
    head = {"file": str(json_path) if json_path else None, "measurements": len(found), "red_gates": len(red)}
    setup.show({**head, **suite.summary(found), "warnings": suite.warnings(found)})
    if red:
        raise BadData("; ".join(red))


def _tier(name: str, quick: bool, full: bool) -> str:
    if quick and full:
        raise UsageError(f"bench {name} expects --quick or --full; found both")
    return "quick" if quick else "full" if full else "default"


@contextmanager
def _needs_xgboost() -> Iterator[None]:
    """Importing the suite, which trains with XGBoost: Unavailable (69) where that is not installed."""
    try:
        yield
    except ImportError as error:
        raise Unavailable(
            f"bench kernel needs XGBoost ({error}); install it with: pip install 'sto-engine[cpu]' (or [gpu])"
        ) from error


def _keeper(kind: type[Any], path: Path | None) -> Callable[[list[Any]], None]:
    """What writes the records of each case as it is done. A file that cannot take them is refused before the work."""
    if path is None:
        return lambda records: None
    from sto_bench.machine import cpu_name
    from sto_bench.records import read_as, replace_cases

    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise CannotCreate(f"--json {path} cannot be created: {path.parent} is not a folder that can be written to")
    try:
        others = {record.cpu for record in read_as(kind, path)} - {cpu_name()}
    except ValueError as error:
        raise BadData(f"--json {path} must be a results file of bench; {error}") from error
    if others:
        raise BadData(f"--json {path} must hold results of this CPU; found {', '.join(sorted(others))}; name another")
    return partial(replace_cases, path)
