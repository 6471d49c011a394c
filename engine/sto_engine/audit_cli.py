"""`sto-engine audit`: what is wrong with a store and what it costs, as a quality gate before the nightly run."""

from datetime import date
from pathlib import Path

import click

from sto_engine.common import Setup, common
from sto_engine.errors import BadData, CannotCreate
from sto_engine.options import PATH, day


@click.command()
@click.option("--store", type=PATH, required=True, metavar="DIR", help="Event store, from ingest.")
@click.option("--json", "json_path", type=PATH, metavar="FILE", help="Keep the report as JSON.")
@click.option("--date", "on", type=day, metavar="DATE", help="Day of the run; default: after the newest sound event.")
@click.option(
    "--sample-users", type=click.IntRange(1, 1_000_000), default=20_000, metavar="N", help="Priced; default: 20000."
)
@common
def audit(setup: Setup, store: Path, json_path: Path | None, on: date | None, sample_users: int) -> None:
    """Tell what is wrong with a store and what each defect costs; ends with 65 where a limit of [audit] is broken.

    The verdict is pass, warn or fail. Every rule of cleaning is priced: slots are chosen without it, and the opens that
    a campaign loses by that are told. Leave rules out or move their limits in [clean].

    \b
    Keys of the report: verdict, reasons, checks, date, default_date, events, ingest, rules, machines,
      machine_opens_by_provider, history, addresses, zones, time, campaigns, coverage, cost, sample, warnings

    \b
    Example:  sto-engine audit --store store --json audit.json
    """
    from sto_engine.audit.run import run_audit
    from sto_engine.files import canonical_json, write_atomic

    if json_path is not None and not json_path.parent.is_dir():
        raise CannotCreate(f"--json {json_path} cannot be created: {json_path.parent} is not a folder")
    report = run_audit(store, on, setup.config, sample_users, setup.threads, setup.progress)
    if json_path is not None:
        write_atomic(json_path, canonical_json(report))
    setup.show(report)
    if report["verdict"] == "fail":
        click.get_current_context().exit(BadData.exit_code)
