"""What the commands print: progress and errors on stderr, results on stdout; for people on a terminal, else as JSON."""

import json
import logging
import platform
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

import sto_engine
from sto_engine.engine_code import version_of
from sto_engine.histogram import load_histogram
from sto_engine.progress import Progress, Silent

_EVERY_S = 5.0
_BAR_WIDTH = 40
_SCENARIO_WIDTH = 24
_LIBRARIES = ("llvmlite", "numpy", "polars", "pyarrow", "torch", "xgboost", "xgboost-cpu", "tzdata")


class JsonLinesProgress:
    """One JSON object a line; a phase is told at its start, every few seconds, and at its end. Safe from any thread."""

    def __init__(self, stream: TextIO, **run: object) -> None:
        self._stream, self._run = stream, run
        self._lock = threading.Lock()
        self._phases: dict[str, list[float]] = {}  # phase -> total, done, began, last told

    def start(self, phase: str, total: int) -> None:
        now = time.monotonic()
        with self._lock:
            self._phases[phase] = [total, 0, now, now]
        self._write("info", "phase_started", {"phase": phase, "total": total})

    def advance(self, phase: str, steps: int = 1) -> None:
        now = time.monotonic()
        with self._lock:
            state = self._phases.setdefault(phase, [0, 0, now, now])
            before, state[1] = state[1], state[1] + steps
            ended = before < state[0] <= state[1]
            if not ended and now - state[3] < _EVERY_S:
                return
            state[3] = now
            fields = {
                "phase": phase,
                "done": int(state[1]),
                "total": int(state[0]),
                "seconds": round(now - state[2], 3),
            }
        self._write("info", "phase_ended" if ended else "phase_advanced", fields)

    def info(self, event: str, **fields: object) -> None:
        self._write("info", event, fields)

    def warn(self, event: str, **fields: object) -> None:
        self._write("warning", event, fields)

    def _write(self, level: str, event: str, fields: Mapping[str, object]) -> None:
        ts = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"ts": ts, "level": level, "event": event, **self._run, **fields}, default=str)
        with self._lock, suppress(OSError):  # a log that cannot be written is no reason to lose the night's run
            self._stream.write(line + "\n")
            self._stream.flush()


class TerminalProgress(AbstractContextManager["TerminalProgress"]):
    """A bar for each phase; events as dim lines and warnings as yellow ones above the bars. Safe from any thread."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bars = Bars(*columns, console=console)
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> "TerminalProgress":
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def start(self, phase: str, total: int) -> None:
        with self._lock:
            self._tasks[phase] = self._bars.add_task(printable(phase), total=total)

    def advance(self, phase: str, steps: int = 1) -> None:
        with self._lock:
            task = self._tasks.get(phase)
        if task is not None:
            self._bars.advance(task, steps)

    def info(self, event: str, **fields: object) -> None:
        self._bars.console.print(Text(_event_line(event, fields), style="dim"))

    def warn(self, event: str, **fields: object) -> None:
        self._bars.console.print(Text(f"warning: {_event_line(event, fields)}", style="yellow"))


class _KernelLog(logging.Handler):
    """What the kernels log (which code path runs, that it is being compiled) as progress, never silent."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.INFO)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        tell = self._progress.warn if record.levelno >= logging.WARNING else self._progress.info
        tell("kernel", message=record.getMessage())


@contextmanager
def kernel_log(progress: Progress) -> Iterator[None]:
    """Forward the kernels' log to `progress` while a command runs."""
    log, handler = logging.getLogger("sto_kernels"), _KernelLog(progress)
    level, propagate = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False  # a library that sets up logging would print everything a second time
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate


def choose(command: str, log_json: bool, quiet: bool, is_tty: bool) -> AbstractContextManager[Progress]:
    """The progress that fits: none when quiet, bars on a terminal, JSON lines elsewhere or when asked for."""
    if quiet:
        return nullcontext(Silent())
    if is_tty and not log_json:
        return TerminalProgress(Console(stderr=True))
    return nullcontext(JsonLinesProgress(sys.stderr, command=command))


def printable(text: str) -> str:
    """`text` with control characters escaped, so that a file name or a value cannot drive the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def tell_error(message: str, exit_code: int, log_json: bool) -> None:
    """The one line on stderr that says why a command failed."""
    if log_json:
        ts = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"ts": ts, "level": "error", "event": "failed", "exit_code": exit_code, "message": message}
        print(json.dumps(line), file=sys.stderr)
    else:
        print(f"error: {printable(message)}", file=sys.stderr)


def show(result: Mapping[str, Any], as_json: bool) -> None:
    """Print what a command came to on stdout: one JSON object, or tables and a histogram of the slots for people."""
    if as_json:
        print(json.dumps(result, default=str), flush=True)
        return
    console = Console()
    plain = {key: value for key, value in result.items() if not isinstance(value, dict | list)}
    console.print(_table("", plain))
    for key, value in result.items():
        if key == "by_slot":
            console.print(Text(slot_histogram(value)))
        elif key == "load" and value:
            console.print(Text(_load(value, console)))
        elif key == "best_day" and value:
            console.print(_best_days(value))
        elif key == "scenarios":
            console.print(_scenarios(value))
            console.print(Text(_notes(value), style="dim"))
        elif isinstance(value, dict) and value:
            console.print(_table(key, value))
        elif key == "warnings":
            for warning in value:
                console.print(Text(f"warning: {printable(str(warning))}", style="yellow"))


def slot_histogram(by_slot: Mapping[str, int]) -> str:
    """One bar a slot, the fullest `_BAR_WIDTH` characters long."""
    most = max([1, *by_slot.values()])
    width = len(f"{most:,}")
    bars = [f"{int(slot):>4}  {n:>{width},}  " + "█" * round(_BAR_WIDTH * n / most) for slot, n in by_slot.items()]
    return "\n".join(["slot", *bars])


def _load(load: Mapping[str, Any], console: Console) -> str:
    """The load before and after the limits, by time."""
    bins = {int(datetime.fromisoformat(at).timestamp() * 1000): sides for at, sides in load["bins"].items()}
    before, after = ({at: sides[i] for at, sides in bins.items()} for i in (0, 1))
    return load_histogram(before, after, load["capacity"], console.width, _has_blocks(console.encoding))


def _has_blocks(encoding: str) -> bool:
    """Whether the terminal's encoding has block characters."""
    try:
        return bool("█".encode(encoding))
    except (LookupError, UnicodeEncodeError):
        return False


def _best_days(told: Mapping[str, Any]) -> Table:
    """One row a tier of engagement: its best day and how sure that is, and clicks in a hundred mails by day."""
    title = Text("best day by tier of engagement; clicks in a hundred mails, ± half of the 95 % interval")
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    names = [day["day"][:3] for day in told["tiers"][0]["days"]]
    for name in ("tier", "from", "best", "sure", "sends", *names):
        table.add_column(name, justify="left" if name in ("tier", "best") else "right", no_wrap=True)
    for row in told["tiers"]:
        low = "" if row["engagement_from"] is None else f"{row['engagement_from']:.0f}"
        sends, tier = sum(day["sends"] for day in row["days"]), "thin" if row["thin"] else ""
        head = (f"{row['tier']}\n{tier}", low, row["best_day"][:3], f"{row['confidence']:.0%}", _cell(sends))
        table.add_row(*head, *(_rate(day) for day in row["days"]))
    return table


def _rate(day: Mapping[str, Any]) -> str:
    return f"{100 * day['rate']:.1f}\n±{50 * (day['high'] - day['low']):.1f}"


def _scenarios(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One row a scenario, in the columns of the first."""
    table = Table(title=Text("scenarios"), title_justify="left")
    names = [name for name, value in rows[0].items() if not isinstance(value, dict | list)]
    for name in names:
        if name == "scenario":
            table.add_column(name, overflow="fold", min_width=_SCENARIO_WIDTH)
        else:
            table.add_column(Text(name.replace("_", " ")), justify="right")
    for row in rows:
        table.add_row(*(Text(_cell(row.get(name))) for name in names))
    return table


def _notes(rows: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(f"{printable(row['scenario'])}: {printable(note)}" for row in rows for note in row["notes"])


def versions() -> dict[str, str | None]:
    """Versions of the engine, of Python and of the libraries that decide a result; None for one that is not there."""
    found: dict[str, str | None] = {"version": sto_engine.__version__, "python": platform.python_version()}
    return {**found, **{name: version_of(name) for name in _LIBRARIES}}


def _event_line(event: str, fields: Mapping[str, object]) -> str:
    return printable(" ".join([event.replace("_", " "), *(f"{key}={value}" for key, value in fields.items())]))


def _table(title: str, rows: Mapping[str, Any]) -> Table:
    table = Table(title=Text(title.replace("_", " ")) if title else None, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for key, value in rows.items():
        table.add_row(Text(printable(str(key))), Text(_cell(value)))
    return table


def _cell(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_cell(item)}" for key, item in value.items())
    return printable(str(value))
