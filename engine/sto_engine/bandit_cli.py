"""`sto-engine bandit`: the state that Thompson sampling keeps between campaigns."""

from datetime import date
from pathlib import Path

import click

from sto_engine.common import Setup, common
from sto_engine.options import PATH, day


@click.group()
def bandit() -> None:
    """Keep what campaigns taught, for model.policy = "bandit".

    \b
    Example:  sto-engine bandit update --store store --state state
    """


@bandit.command()
@click.option("--store", type=PATH, required=True, metavar="DIR", help="Event store, from ingest.")
@click.option("--state", type=PATH, required=True, metavar="DIR", help="Folder of the state; made where it is missing.")
@click.option("--as-of", type=day, metavar="DATE", help="Outcomes before this UTC midnight; default: all there are.")
@click.option("--bundle", type=PATH, metavar="DIR", help="Trained model that posteriors start from.")
@click.option("--runs", type=PATH, multiple=True, metavar="RUN", help="Past runs, or a folder of them; repeatable.")
@common
def update(
    setup: Setup, store: Path, state: Path, as_of: date | None, bundle: Path | None, runs: tuple[Path, ...]
) -> None:
    """Count the outcomes of every recipient and slot, and fit what they say of everyone.

    A send counts once its label window and train.outcome_lag_hours are over, as a hit or a miss. The state depends on
    nothing but the events before the midnight: late events and opens that prove to be machines' are right after the
    next update, the same outcomes twice change nothing, people who were erased are gone, and the folder may be deleted
    and made again. A killed update goes on where it stopped. --runs tells what past runs came to: opens of their model
    arm against those expected (regret.json in the state).

    \b
    Example:  sto-engine bandit update --store store --state state
              sto-engine score --store store --out runs --bandit-state state --set model.policy=bandit
    """
    from sto_engine.bandit_job import update as run
    from sto_engine.memory import keep_freed_memory

    keep_freed_memory()
    with setup.executor() as executor:
        setup.show(run(store, state, as_of, bundle, setup.config, setup.threads, setup.progress, executor, runs))


@bandit.command()
@click.option("--state", type=PATH, required=True, metavar="DIR", help="Folder of the state, from bandit update.")
@common
def show(setup: Setup, state: Path) -> None:
    """Tell what a state holds: how far it goes, users, outcomes, and what was fitted.

    \b
    Example:  sto-engine bandit show --state state
    """
    from sto_engine.bandit_job import describe

    setup.show(describe(state))
