"""`python -m sto_decisions`: measure how well the policies decide, and keep a line of each in a results file.

Cells that the file already holds, measured with the sources as they are, are skipped; a stopped run goes on from there.
Simulated senders show what an engine does in the world that was put in, and real activity when people are there: no
figure of these is evidence of lift.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

from sto_decisions import activity, best_day, cdp, replies, worlds
from sto_decisions.living_suites import LIVING, PLAYERS
from sto_decisions.outcome import series
from sto_decisions.records import RESULTS, ROOT, Cell, Record, is_done, keep, read
from sto_engine.simulate import HISTORIES, WORLDS

SHARED = ROOT.parent / "shared"
SUITES = ("world", *LIVING, best_day.SUITE, "activity", "replies")
QUICK_USERS, QUICK_CAMPAIGNS, QUICK_SENDER, QUICK_BEST_DAY = 1_000, 3, 300, 300
QUICK_SETTINGS = ("train.trees=20", "train.min_rows=200")


@dataclass(frozen=True)
class Task:
    """A piece of work: its name, whether its lines are there already, and what makes them."""

    name: str
    is_done: bool
    run: Callable[[], list[Record]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; 0 when every line has a figure or a reason for having none."""
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    for task in tasks(options):
        if task.is_done and not options.again:
            print(f"{task.name}: measured already", file=sys.stderr)
            continue
        print(f"{task.name} ...", file=sys.stderr, flush=True)
        records = task.run()
        keep(options.out, records)
        for record in records:
            print(_line(record), file=sys.stderr, flush=True)
    return 0


def tasks(options: argparse.Namespace) -> Iterator[Task]:
    """Cell by cell, worlds first; a set of real data that is not there is left out and said so."""
    shared = worlds.Options(options.policies, options.ref, options.threads, options.settings)
    if "world" in options.suites:
        for seed in options.seeds:
            for world in options.worlds:
                for history in options.histories:
                    cell = Cell("world", world, history, seed, options.users)
                    done = is_done(options.out, cell, options.policies)
                    yield Task(f"{world}, {history}, seed {seed}", done, partial(worlds.run_cell, cell, shared))
    yield from _living(options)
    if best_day.SUITE in options.suites:
        yield from _best_day(options)
    real: dict[str, tuple[str, Callable[[Path], list[Record]]]] = {
        "activity": (activity.NAME, partial(_activity, threads=options.threads)),
        "replies": (replies.NAME, partial(replies.run_replies, threads=options.threads)),
    }
    for suite, (name, run) in real.items():
        folder = options.real / name
        if suite in options.suites and folder.is_dir():
            yield Task(name, _has_suite(options.out, suite), partial(run, folder))
        elif suite in options.suites:
            print(f"{name}: not in {options.real}, left out (--real DIR)", file=sys.stderr)


def _living(options: argparse.Namespace) -> Iterator[Task]:
    """Player by player, so that a stopped run loses no more than one; what is not asked for is the suite's own."""
    for suite_name in (name for name in LIVING if name in options.suites):
        suite = LIVING[suite_name]
        asked, quick = options.asked, options.quick
        campaigns = options.campaigns or (QUICK_CAMPAIGNS if quick else suite.options.campaigns)
        shared = replace(suite.options, campaigns=campaigns, threads=options.threads, settings=options.settings)
        users = asked.users or (QUICK_SENDER if quick else suite.users)
        for seed, world, start in product(
            asked.seeds or suite.seeds, asked.worlds or (suite.worlds[:1] if quick else suite.worlds), suite.starts
        ):
            cell = Cell(suite_name, world, start, seed, users)
            for name in (name for name in suite.players if name in options.players):
                run = partial(suite.run, cell, shared, name, suite.players[name])
                title = f"{suite_name}, {world}, {start}, seed {seed}: {name}"
                yield Task(title, is_done(options.out, cell, (name,)), run)


def _best_day(options: argparse.Namespace) -> Iterator[Task]:
    users = options.asked.users or (QUICK_USERS if options.quick else best_day.USERS)
    campaigns = QUICK_BEST_DAY if options.quick else cdp.CAMPAIGNS
    for seed in options.seeds:
        cell = Cell(best_day.SUITE, best_day.WORLD, best_day.HISTORY, seed, users)
        run = partial(best_day.run_cell, cell, options.threads, options.settings, campaigns)
        yield Task(f"{best_day.SUITE}, seed {seed}", is_done(options.out, cell, best_day.POLICIES), run)


def _activity(folder: Path, threads: int) -> list[Record]:
    return activity.run_activity(folder, activity.as_of_dates(), threads)


def _has_suite(path: Path, suite: str) -> bool:
    cells = {Cell(r.suite, r.world, r.history, r.seed, r.users) for r in read(path) if r.suite == suite}
    return any(is_done(path, cell, ("fixed_10" if suite == "activity" else "rate_of_hour",)) for cell in cells)


def _line(record: Record) -> str:
    if record.status != "ok":
        return f"  {record.policy:<22} {record.status}: {record.reason}"
    names = ("captured_percent_2h", "captured_percent_24h", "window_2h", "auc_2h", "auc_24h", *best_day.SHOWN)
    if "cumulative_regret@1" in record.values:
        captured, regret = (series(record.values, name) for name in ("captured_2h", "cumulative_regret"))
        text = f"captured {captured[0]} to {captured[-1]}, regret {regret[-1]}"
        return f"  {record.policy:<22} {text}  ({record.seconds:.1f} s)"
    found = [f"{name} {record.values[name]}" for name in names if name in record.values]
    return f"  {record.policy:<22} {'  '.join(found)}  ({record.seconds:.1f} s)"


def _words(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Parser of a comma-separated list of known names."""

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise argparse.ArgumentTypeError(f"expected names among {', '.join(known)}; found {unknown or text!r}")
        return names

    return parse


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sto_decisions", description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file (JSON lines)")
    parser.add_argument("--suites", type=_words(SUITES), default=SUITES, help=", ".join(SUITES))
    parser.add_argument("--worlds", type=_words(tuple(WORLDS)), help="default: all")
    parser.add_argument("--histories", type=_words(tuple(HISTORIES)), help="default: all")
    parser.add_argument("--seeds", type=_numbers, help="default: 0,1,2")
    parser.add_argument("--users", type=int, help="default: 10000")
    parser.add_argument("--policies", type=_words(worlds.POLICIES), default=worlds.POLICIES, help="default: all")
    parser.add_argument(
        "--players", type=_words(PLAYERS), default=PLAYERS, help="of suites loop and cold; default: all"
    )
    parser.add_argument("--campaigns", type=int, help="of suites loop and cold; default: the suite's")
    parser.add_argument("--ref", type=Path, default=SHARED / "prototypes" / "recipe" / "recipe_ref.py")
    parser.add_argument("--real", type=Path, default=SHARED / "data", help="folder of the real data sets")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quick", action="store_true", help="one small world: does it run?")
    parser.add_argument("--again", action="store_true", help="measure what the file already holds, too")
    options = parser.parse_args(arguments)
    options.asked = argparse.Namespace(worlds=options.worlds, seeds=options.seeds, users=options.users)
    options.settings = QUICK_SETTINGS if options.quick else ()
    options.worlds = options.worlds or (("attention",) if options.quick else tuple(WORLDS))
    options.histories = options.histories or (("few",) if options.quick else tuple(HISTORIES))
    options.seeds = options.seeds or ((0,) if options.quick else (0, 1, 2))
    options.users = options.users or (QUICK_USERS if options.quick else 10_000)
    if options.quick and options.suites == SUITES:
        options.suites = ("world",)
    return options


if __name__ == "__main__":
    sys.exit(main())
