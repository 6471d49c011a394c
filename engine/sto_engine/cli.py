"""The `sto-engine` command: options, one call a command, and the one place where errors end (`exits` says how).

Nothing heavy is imported here: a command imports what it runs, so that `--help` answers at once.
"""

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

import sto_engine
from sto_engine.audit_cli import audit
from sto_engine.bandit_cli import bandit
from sto_engine.bench_cli import bench
from sto_engine.common import Setup, common
from sto_engine.errors import OutputFailed, StoError, UsageError
from sto_engine.evaluate_cli import evaluate
from sto_engine.exits import exit_code, sentence
from sto_engine.explain_cli import explain
from sto_engine.options import PATH, day, timestamp_ms
from sto_engine.plan_cli import plan
from sto_engine.privacy_cli import erase, export_user, pseudonyms
from sto_engine.train_cli import train


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(sto_engine.__version__, prog_name="sto-engine")
def cli() -> None:
    """Send-time optimisation: one slot and one second for every recipient, every night.

    \b
    First look:   sto-engine demo
    Every night:  sto-engine ingest  ->  sto-engine train (weekly)  ->  sto-engine score

    Exit codes: 0 done, 2 usage, 65 bad data, 66 input missing, 69 unavailable, 70 defect, 73/74 output, 75 try again
    later, 78 configuration, 130/143 stopped.
    """


cli.add_command(audit)
cli.add_command(bandit)
cli.add_command(bench)
cli.add_command(evaluate)
cli.add_command(explain)
cli.add_command(erase)
cli.add_command(export_user)
cli.add_command(pseudonyms)
cli.add_command(plan)
cli.add_command(train)


@cli.command()
@click.option("--out", type=PATH, default=Path("sto-demo"), metavar="DIR", help="Default: ./sto-demo.")
@click.option("--users", type=click.IntRange(200, 10_000_000), default=5_000, metavar="N", help="Default: 5000.")
@common
def demo(setup: Setup, out: Path, users: int) -> None:
    """Simulate a sender, ingest, train, score, and show what came out.

    \b
    Example:  sto-engine demo --users 2000 --out /tmp/sto-demo
    """
    from sto_engine.demo import run_demo

    setup.show(run_demo(out, users, setup.seed, setup.threads, setup.config, setup.progress))


@cli.command()
@click.option("--out", type=PATH, required=True, metavar="DIR", help="Folder for events, recipients and the truth.")
@click.option("--world", default="attention", metavar="NAME", help="Kind of sender; default: attention.")
@click.option("--users", type=click.IntRange(1), default=10_000, metavar="N", help="Default: 10000.")
@click.option("--days", type=click.IntRange(1, 3650), default=90, metavar="N", help="Days of history; default: 90.")
@click.option("--history", default="few", metavar="NAME", help="When mail was sent; default: few.")
@click.option("--campaigns-per-day", type=float, default=0.5, metavar="X", help="Campaigns a day; default: 0.5.")
@common
def simulate(setup: Setup, out: Path, world: str, users: int, days: int, **mailing: Any) -> None:
    """Write the mailings of an invented sender, with the truth beside them.

    Worlds are for tests and planning; what is gained in one is no evidence of lift.

    \b
    Worlds:
      attention  people look at their inbox at hours of their own and open what is fresh
      send_hour  the hour of sending decides; open times carry no information
      sparse     little mail, few opens, checks by the clock, many newcomers
      drift      habits and homes change within the history
      dirty      dead addresses, machine opens, wrong zones, doubled and lost rows
      types      order mail is opened at once, promos at leisure
      blend      each user is of one of the other worlds

    \b
    Histories:
      few        each campaign at one of a few hours of the day
      fixed      everything at 10:00
      uniform    every hour of the day equally
      optimiser  an earlier optimiser: each user near the hour of his opens in a warm-up

    \b
    Example:  sto-engine simulate --out world --users 2000 --world dirty
    """
    from sto_engine.simulate import simulate as run

    report = run(out, world, users, days, setup.seed, setup.progress, threads=setup.threads, **mailing)
    setup.show(report.as_dict())


@cli.command()
@click.argument("events", nargs=-1)
@click.option("--store", type=PATH, required=True, metavar="DIR", help="Event store; made when it is not there.")
@click.option("--recipients", type=PATH, metavar="FILE", help="Recipients; they replace the last snapshot.")
@common
def ingest(setup: Setup, events: tuple[str, ...], store: Path, recipients: Path | None) -> None:
    """Add EVENTS (files, folders, globs or cloud addresses) to a store; a row an event, or a row a send with its times.

    Parquet, Arrow IPC, CSV or NDJSON, the last two also .gz or .zst. Well-known names of columns and events are
    understood and told; [ingest.columns] and [ingest.event_types] map others. Files that the store already holds are
    skipped; bad rows are quarantined and counted, and too many of them (ingest.max_bad_share) stop the ingest.

    \b
    Example:  sto-engine ingest world/events --store store --recipients world/recipients.parquet
    """
    from sto_engine.ingest import ingest as run

    if not events and recipients is None:
        raise UsageError("ingest expects EVENTS, --recipients or both; found neither")
    with setup.executor() as executor:
        report = run(events, store, recipients, setup.config, setup.progress, setup.threads, executor)
    setup.show(report.as_dict())


@cli.command()
@click.option("--store", type=PATH, required=True, metavar="DIR", help="Event store, from ingest.")
@click.option("--buckets", type=int, metavar="N", help="Split the store into N buckets (a power of two up to 8192).")
@common
def compact(setup: Setup, store: Path, buckets: int | None) -> None:
    """Merge and sort what was ingested, so that train and score read it faster. They choose the same either way.

    Later ingests append; compact again when they add up. A run stopped half-way leaves the store as it was. With
    store.retention_days set, events so much older than the newest are dropped, but for those that suppress people.

    \b
    Example:  sto-engine compact --store store
    """
    from sto_engine.ingest.compact import compact as run

    retention_days = setup.config.store.retention_days
    with setup.executor() as executor:
        report = run(store, setup.threads, setup.progress, retention_days, buckets, executor)
    setup.show(report.as_dict())


@cli.command()
@click.option("--store", type=PATH, required=True, metavar="DIR", help="Event store, from ingest.")
@click.option("--out", type=PATH, required=True, metavar="DIR", help="Each run gets its own folder in here.")
@click.option("--bundle", type=PATH, metavar="DIR", help="Trained model; default: attention, fitted in the run.")
@click.option("--date", type=day, metavar="DATE", help="Local day to send on; default: the day after the store's.")
@click.option("--audience", type=PATH, metavar="FILE", help="Recipients of this campaign; default: all in the store.")
@click.option("--campaign", metavar="ID", help="Written to every row.")
@click.option("--campaign-type", default="promo", metavar="TYPE", help="promo (default) or trigger.")
@click.option("--channel", metavar="NAME", help="Or several: email,push; default: channels.choose, else email.")
@click.option("--horizon-days", type=int, metavar="N", help="Local days that mail may wait; default: the grid's.")
@click.option("--not-before", "not_before_ms", type=timestamp_ms, metavar="TIME", help="Earliest send; ISO with zone.")
@click.option(
    "--previous", type=PATH, multiple=True, metavar="RUN", help="Earlier runs, or a folder of them; repeatable."
)
@click.option("--prices-from", type=PATH, metavar="RUN", help="Replay the capacity prices of a run.")
@click.option("--bandit-state", type=PATH, metavar="DIR", help="Outcomes that bandit update has counted.")
@click.option("--dry-run", is_flag=True, help="Choose and count, write nothing.")
@click.option("--dump-scores", is_flag=True, help="Also write p_open of every slot.")
@click.option("--dump-features", is_flag=True, help="Also write what the history counts of each recipient.")
@click.option("--exit-code-if-complete", type=click.IntRange(0, 255), default=0, metavar="N", help="Default: 0.")
@common
def score(setup: Setup, exit_code_if_complete: int, **options: Any) -> None:
    """Choose a slot and a second for every recipient. A stopped run goes on where it was; a whole one exits at once.

    Limits of [capacity] are held in every quarter-hour, and what that costs is proved (capacity.gap). --previous names
    earlier runs, or a folder of them: their sends count for [frequency] and [capacity], their slots for
    assign.keep_gain, their prices are where tonight's start.

    \b
    Example:  sto-engine score --store store --out runs --bundle bundle --date 2026-04-20
    """
    from sto_engine.job import ScoreRequest, run_score
    from sto_engine.memory import keep_freed_memory

    keep_freed_memory()
    request = ScoreRequest(threads=setup.threads, seed=setup.seed, **options)
    with setup.executor() as executor:
        result = run_score(request, setup.config, setup.progress, executor)
    head = {"run": str(result.run_dir) if result.run_dir else None, "complete_before": result.complete_before}
    setup.show({**head, **result.summary})
    if result.complete_before:
        click.get_current_context().exit(exit_code_if_complete)


@cli.command()
@click.option("--log-json", is_flag=True, help="JSON even on a terminal.")
def version(log_json: bool) -> None:
    """Versions of the engine and of what it computes with.

    \b
    Example:  sto-engine version
    """
    from sto_engine.console import show, versions

    show(versions(), as_json=log_json or not sys.stdout.isatty())


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; errors are told on stderr, as JSON under --log-json."""
    try:
        return _invoke(arguments)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        _silence_stdout()
        return OutputFailed.exit_code
    except Exception as error:
        from sto_engine.console import tell_error

        code = exit_code(error)
        if code == StoError.exit_code:
            traceback.print_exc()
        tell_error(sentence(error, code), code, "--log-json" in arguments)
        return code


def _invoke(arguments: Sequence[str]) -> int:
    """Parse and run, errors left as they are; the output is flushed here, where a full disk can still be told."""
    code = 0
    try:
        with cli.make_context("sto-engine", list(arguments)) as context:
            cli.invoke(context)
    except click.exceptions.Exit as end:
        code = end.exit_code
    sys.stdout.flush()
    return code


def _silence_stdout() -> None:
    """The reader of our output has gone (`| head`): let the interpreter flush into nothing at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def main() -> NoReturn:
    """Entry point of the `sto-engine` script."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run_command(sys.argv[1:]))


if __name__ == "__main__":
    main()
