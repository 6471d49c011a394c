"""`sto-engine plan`: what limits cost, before anyone is mailed."""

from pathlib import Path
from typing import Any

import click

from sto_engine.common import Setup, common
from sto_engine.options import PATH, day, timestamp_ms


@click.command()
@click.option("--store", type=PATH, required=True, metavar="DIR", help="Event store, from ingest.")
@click.option("--bundle", type=PATH, metavar="DIR", help="Trained model; default: attention, fitted in the run.")
@click.option("--date", type=day, metavar="DATE", help="Local day to send on; default: the day after the store's.")
@click.option("--audience", type=PATH, metavar="FILE", help="Recipients of this campaign; default: all in the store.")
@click.option("--campaign", metavar="ID", help="Name of the campaign.")
@click.option("--horizon-days", type=int, metavar="N", help="Local days that mail may wait; default: the grid's.")
@click.option("--not-before", "not_before_ms", type=timestamp_ms, metavar="TIME", help="Earliest send; ISO with zone.")
@click.option(
    "--previous", type=PATH, multiple=True, metavar="RUN", help="Earlier runs, or a folder of them; repeatable."
)
@click.option("--vary", multiple=True, metavar="KEY=VALUE[;...]", help="Limits to try too; repeatable.")
@click.option("--json", "json_path", type=PATH, metavar="FILE", help="Keep the result as JSON.")
@common
def plan(setup: Setup, vary: tuple[str, ...], json_path: Path | None, **options: Any) -> None:
    """Tell what a night would do under its limits of capacity, and under others: opens, who moves, peak rates.

    Everyone is scored once, nothing is written. Each --vary is one more scenario: keys of [capacity] and [spread] laid
    over the configuration. one_percent_more says what each limit costs, dearest_limits what the next message is worth
    where mail is short, both in expected opens of the configuration as it is.

    \b
    Example:  sto-engine plan --store store --set capacity.total=500000/h --vary capacity.total=250000/h
    """
    from sto_engine.errors import CannotCreate
    from sto_engine.files import canonical_json, write_atomic
    from sto_engine.memory import keep_freed_memory
    from sto_engine.prepare import ScoreRequest
    from sto_engine.what_if import scenarios, what_if

    if json_path is not None and not json_path.parent.is_dir():
        raise CannotCreate(f"--json {json_path} cannot be created: {json_path.parent} is not a folder")
    keep_freed_memory()
    request = ScoreRequest(out=Path(), threads=setup.threads, seed=setup.seed, **options)
    tried = scenarios(setup.config, vary)
    with setup.executor() as executor:
        found = what_if(request, tried, setup.progress, executor)
    if json_path is not None:
        write_atomic(json_path, canonical_json(found))
    setup.show(found)
