import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest

import sto_engine
from sto_engine import cli, options
from sto_engine.console import JsonLinesProgress, TerminalProgress, choose, show, slot_histogram
from sto_engine.errors import BadData, CannotCreate, InputMissing, OutputFailed, TryLater
from sto_engine.progress import Silent

HEAVY = ("torch", "polars", "numpy", "pyarrow", "xgboost", "ray", "pydantic", "rich", "importlib.metadata")
COMMON = ["--config", "--set", "--cluster", "--threads", "--seed", "--log-json", "--quiet"]
OPTIONS = {
    "demo": ["--out", "--users", *COMMON],
    "simulate": ["--out", "--world", "--users", "--days", "--history", "--campaigns-per-day", *COMMON],
    "ingest": ["--store", "--recipients", *COMMON],
    "compact": ["--store", "--buckets", *COMMON],
    "train": ["--store", "--bundle", "--as-of", "--if-older-than", "--force", "--prior-bundle", *COMMON],
    "score": [
        *("--store", "--out", "--bundle", "--date", "--audience", "--campaign", "--campaign-type", "--channel"),
        *("--horizon-days", "--not-before", "--previous", "--prices-from", "--bandit-state", "--dry-run"),
        *("--dump-scores", "--dump-features", "--exit-code-if-complete"),
        *COMMON,
    ],
    "plan": [
        *("--store", "--bundle", "--date", "--audience", "--campaign", "--horizon-days"),
        *("--not-before", "--previous"),
        *("--vary", "--json"),
        *COMMON,
    ],
    "version": ["--log-json"],
    "bandit": [],
    "bench": [],
    "evaluate": [],
    "erase": ["--store", "--user-id", "--from", "--block", "--dry-run", *COMMON],
    "export-user": ["--store", "--user-id", "--out", *COMMON],
    "pseudonyms": ["--out", *COMMON],
    "audit": ["--store", "--json", "--date", "--sample-users", *COMMON],
    "explain": [
        *("--user-id", "--store", "--bundle", "--date", "--campaign", "--channel", "--not-before", "--previous"),
        "--json",
        *COMMON,
    ],
}
SCORE = ["score", "--store", "s", "--out", "o"]


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sto_engine.cli", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_commands_and_options_are_the_ones_that_were_promised() -> None:
    found = {
        name: [option for param in command.params if isinstance(param, click.Option) for option in param.opts]
        for name, command in cli.cli.commands.items()
    }
    assert found == OPTIONS


@pytest.mark.parametrize("command", sorted(OPTIONS))
def test_help_of_a_command_has_an_example_that_parses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command([command, "--help"]) == 0
    example = re.search(r"Example:  sto-engine (.*)", capsys.readouterr().out)
    assert example is not None
    name, *arguments = example[1].split()
    assert name == command
    cli.cli.commands[command].make_context(command, arguments)


@pytest.mark.parametrize("arguments", [["--help"], ["score", "--help"], ["bench", "kernel", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from sto_engine.cli import run_command; assert run_command(sys.argv[2:]) == 0;"
        "loaded = [name for name in sys.argv[1].split(',') if name in sys.modules]; sys.exit(','.join(loaded) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, ",".join(HEAVY), *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_help_answers_within_a_second() -> None:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        assert process("--help").returncode == 0
        times.append(time.perf_counter() - began)
    assert min(times) < 1.0


def test_version_is_the_one_of_the_package() -> None:
    done = process("version")
    assert json.loads(done.stdout)["version"] == sto_engine.__version__


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["nonsense"], 2, "nonsense"),
        (["score"], 2, "--store"),
        ([*SCORE, "--date", "2026-02-30"], 2, "YYYY-MM-DD"),
        ([*SCORE, "--date", "20260420"], 2, "YYYY-MM-DD"),
        ([*SCORE, "--date", "0001-01-01"], 2, "1990..2100"),
        ([*SCORE, "--not-before", "2026-04-20T08:00:00"], 2, "zone"),
        ([*SCORE, "--not-before", "tomorrow"], 2, "ISO"),
        ([*SCORE, "--threads", "0"], 2, "--threads"),
        ([*SCORE, "--exit-code-if-complete", "256"], 2, "256"),
        (["train", "--store", "s", "--bundle", "b", "--if-older-than", "7"], 2, "7d"),
        (["ingest", "--store", "s"], 2, "EVENTS"),
        ([*SCORE, "--config", "absent.toml"], 66, "absent.toml"),
        ([*SCORE, "--set", "window.begin=8"], 78, "window."),
        ([*SCORE, "--set", "slots.grid=25"], 78, "slots.grid"),
    ],
)
def test_what_makes_no_sense_ends_with_its_code_and_says_why(
    arguments: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run_command([*arguments, "--quiet"] if len(arguments) > 1 else arguments) == code
    told = capsys.readouterr()
    assert text in told.err
    assert told.out == ""


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `version` fail with `error`, as a stage of a longer command would."""

    def fail() -> None:
        raise error

    monkeypatch.setattr("sto_engine.console.versions", fail)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadData("rows"), 65),
        (InputMissing("gone"), 66),
        (CannotCreate("no"), 73),
        (OutputFailed("no"), 74),
        (TryLater("lock"), 75),
        (OSError(errno.ENOSPC, "No space left on device"), 74),
        (OSError(errno.EIO, "Input/output error"), 74),
        (PermissionError(errno.EACCES, "Permission denied"), 73),
        (KeyError("x"), 70),
        (MemoryError(), 70),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_ends_with_the_code_of_its_family(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    raising(monkeypatch, error)
    assert cli.run_command(["version"]) == code
    told = capsys.readouterr().err
    assert ("Traceback" in told) == (code == 70)
    assert told == "" if code == 130 else told.splitlines()[-1].startswith("error: ")


def test_under_log_json_an_error_is_a_json_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, BadData('two\nlines and "quotes"'))
    assert cli.run_command(["version", "--log-json"]) == 65
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["exit_code"], line["message"]) == ("error", 65, 'two\nlines and "quotes"')


def test_control_characters_of_a_message_do_not_reach_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, BadData("bad file \x1b[31mred\nfile"))
    cli.run_command(["version"])
    assert capsys.readouterr().err == "error: bad file \\x1b[31mred\\nfile\n"


def test_a_reader_that_has_gone_is_no_noise() -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "sto_engine.cli", "version"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    with child.stderr:
        assert child.stderr.read() == b""
    assert child.wait() == 74


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_command_with_its_code(number: int, code: int) -> None:
    script = (
        "import time, sto_engine.console as console, sto_engine.cli as cli, sys\n"
        "def wait():\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "console.versions = wait\nsys.argv = ['sto-engine', 'version']\ncli.main()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        os.kill(child.pid, number)
        assert child.wait(30) == code


@pytest.mark.parametrize(
    ("parse", "text", "expected"),
    [
        (options.timestamp_ms, "2000-01-02T00:00:00.250Z", 946_684_800_000 + 86_400_250),
        (options.timestamp_ms, "2000-01-01T05:45:00+05:45", 946_684_800_000),
        (options.duration_days, "7d", 7.0),
        (options.duration_days, "12h", 0.5),
    ],
)
def test_times_parse_to_their_units(parse: Callable[[str], float], text: str, expected: float) -> None:
    assert parse(text) == expected


def test_json_lines_are_whole_lines_from_any_thread() -> None:
    stream = io.StringIO()
    progress = JsonLinesProgress(stream, command="score")
    progress.start("choose", 400)
    progress.warn("odd\nfile", name="a\x1b[31m")

    def advance() -> None:
        for _ in range(100):
            progress.advance("choose")
            progress.info("step")

    threads = [threading.Thread(target=advance) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert {line["command"] for line in lines} == {"score"}
    assert [line["done"] for line in lines if line["event"] == "phase_ended"] == [400]
    assert sum(line["event"] == "step" for line in lines) == 400
    assert next(line for line in lines if line["level"] == "warning")["name"] == "a\x1b[31m"
    assert "\x1b" not in stream.getvalue()


def test_a_log_that_cannot_be_written_does_not_stop_the_work() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    JsonLinesProgress(Full()).info("event")


@pytest.mark.parametrize(
    ("log_json", "quiet", "is_tty", "kind"),
    [
        (False, False, True, TerminalProgress),
        (False, False, False, JsonLinesProgress),
        (True, False, True, JsonLinesProgress),
        (False, True, True, Silent),
        (True, True, False, Silent),
    ],
)
def test_progress_fits_where_it_is_shown(log_json: bool, quiet: bool, is_tty: bool, kind: type) -> None:
    with choose("score", log_json, quiet, is_tty) as progress:
        assert isinstance(progress, kind)


def test_a_result_for_people_has_its_counts_and_a_bar_for_each_slot(capsys: pytest.CaptureFixture[str]) -> None:
    result = {"run_id": "ab", "counts": {"assigned": 1234}, "by_slot": {"0": 10, "1": 5}, "warnings": ["look [here]"]}
    show(result, as_json=False)
    told = capsys.readouterr().out
    assert "1,234" in told
    assert "warning: look [here]" in told
    assert slot_histogram(result["by_slot"]) in told  # type: ignore[arg-type]


def test_bars_are_as_long_as_their_share_of_the_fullest() -> None:
    lines = slot_histogram({"0": 10, "1": 5, "2": 0}).splitlines()[1:]
    assert [line.count("█") for line in lines] == [40, 20, 0]
    assert slot_histogram({"0": 0}).count("█") == 0


def test_score_says_complete_with_the_code_it_was_given(store: Path, tmp_path: Path) -> None:
    arguments = ["score", "--store", str(store), "--out", str(tmp_path), "--exit-code-if-complete", "99"]
    first, second = process(*arguments), process(*arguments)
    assert (first.returncode, second.returncode) == (0, 99), first.stderr
    one, two = json.loads(first.stdout), json.loads(second.stdout)
    assert (one["complete_before"], two["complete_before"]) == (False, True)
    assert one["run"] == two["run"]
    assert {json.loads(line)["command"] for line in first.stderr.splitlines()} == {"score"}


@pytest.mark.parametrize("option", [["--previous", "x"], ["--prices-from", "x"]])
def test_earlier_runs_that_are_not_there_are_missing_inputs(
    store: Path, tmp_path: Path, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run_command(["score", "--store", str(store), "--out", str(tmp_path), "--quiet", *option]) == 66
    assert "x" in capsys.readouterr().err


def test_a_store_that_is_not_there_is_a_missing_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command(["score", "--store", str(tmp_path / "s"), "--out", str(tmp_path), "--quiet"]) == 66
    assert capsys.readouterr().err.startswith("error: ")
