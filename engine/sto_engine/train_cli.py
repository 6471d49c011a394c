"""`sto-engine train`: its options, and the one call behind them."""

from datetime import date
from pathlib import Path

import click

from sto_engine.common import Setup, common
from sto_engine.options import PATH, day, duration_days


@click.command()
@click.option("--store", type=PATH, required=True, metavar="DIR", help="Event store, from ingest.")
@click.option("--bundle", type=PATH, required=True, metavar="DIR", help="Folder for the trained model.")
@click.option("--as-of", type=day, metavar="DATE", help="Learn from before DATE 00:00 UTC; default: all of the store.")
@click.option(
    "--if-older-than", type=duration_days, metavar="7d", help="Only when the bundle is older than this, as of DATE."
)
@click.option("--force", is_flag=True, help="Save it even if it ranks later sends worse than before.")
@click.option(
    "--prior-bundle", type=PATH, metavar="DIR", help="Another brand's model, which a new account begins with."
)
@common
def train(
    setup: Setup,
    store: Path,
    bundle: Path,
    as_of: date | None,
    if_older_than: float | None,
    force: bool,
    prior_bundle: Path | None,
) -> None:
    """Fit a model on the store's sends and opens, judge it on the last days, keep it if it is no worse than before.

    card.json in the bundle says how good it is. --set model.label=open_24h, click or conversion asks another question.
    With --prior-bundle what is usual for cohorts is drawn to what it is for another brand, and that brand's trees serve
    until there is enough to train.

    \b
    Example:  sto-engine train --store store --bundle bundle --if-older-than 7d
    """
    from sto_engine.train_job import train as run

    with setup.executor() as executor:
        report = run(
            *(store, bundle, as_of, setup.config, setup.threads, setup.seed, if_older_than, setup.progress, force),
            executor=executor,
            prior_bundle=prior_bundle,
        )
    setup.show(report.as_dict())
