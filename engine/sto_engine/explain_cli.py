"""`sto-engine explain`: why one recipient gets his slot tonight."""

import sys
from datetime import date
from pathlib import Path
from typing import Any

import click

from sto_engine.common import Setup, common
from sto_engine.errors import CannotCreate
from sto_engine.options import PATH, day, timestamp_ms


@click.command()
@click.option("--user-id", required=True, metavar="ID", help="Recipient, as the store's events name him.")
@click.option("--store", type=PATH, required=True, metavar="DIR", help="Event store, from ingest.")
@click.option("--bundle", type=PATH, metavar="DIR", help="Trained model, as for score.")
@click.option(
    "--date", "on", type=day, metavar="DATE", help="Local day to send on; default: the day after the store's."
)
@click.option("--campaign", metavar="ID", help="As for score: random slots are drawn anew for each.")
@click.option("--channel", metavar="NAME", help="Or several: email,push; default: channels.choose, else email.")
@click.option("--not-before", "not_before_ms", type=timestamp_ms, metavar="TIME", help="Earliest send; ISO with zone.")
@click.option("--previous", type=PATH, multiple=True, metavar="RUN", help="Earlier runs, as for score; repeatable.")
@click.option("--json", "json_path", type=PATH, metavar="FILE", help="Keep the explanation as JSON.")
@common
def explain(setup: Setup, user_id: str, on: date | None, json_path: Path | None, **options: Any) -> None:
    """Show why score gives a recipient his slot: what is known of him, what is usual, how the slots compare.

    For a trained model with XGBoost at hand it also says what each feature adds to the chosen slot.

    \b
    Example:  sto-engine explain --user-id 42 --store store --bundle bundle --date 2026-04-20
    """
    from sto_engine.explain.run import explain_user
    from sto_engine.explain_text import explain_text
    from sto_engine.files import canonical_json, write_atomic
    from sto_engine.prepare import ScoreRequest

    if json_path is not None and not json_path.parent.is_dir():
        raise CannotCreate(f"--json {json_path} cannot be created: {json_path.parent} is not a folder; make it first")
    request = ScoreRequest(out=Path(), date=on, threads=setup.threads, seed=setup.seed, **options)
    found = explain_user(request, user_id, setup.config, setup.progress)
    if json_path is not None:
        write_atomic(json_path, canonical_json(found))
    if setup.log_json or not sys.stdout.isatty():
        setup.show(found)
    else:
        click.echo(explain_text(found))
