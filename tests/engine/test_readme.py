"""Every command that the README prints runs, in order, in one folder; the lines that install are the CI's to run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.strip() and "-m venv" not in line]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with a `sto-engine` that is the package under test."""
    root = tmp_path_factory.mktemp("readme")
    script = root / "bin" / "sto-engine"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sto_engine.cli "$@"\n')
    script.chmod(0o755)
    (root / "work").mkdir()
    return root


def test_the_readme_has_commands() -> None:
    assert {line.split()[1] for line in COMMANDS} >= {"simulate", "ingest", "train", "score"}
    assert all(line.startswith("sto-engine ") for line in COMMANDS)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_runs(line: str, folder: Path) -> None:
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder / "work",
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
