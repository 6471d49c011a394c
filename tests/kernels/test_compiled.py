"""`jit` keeps machine code between processes, and no state of its folder stops a run."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sto_kernels.compiled import read_only
from sto_kernels.numba_cache import is_ours

PROGRAM = """
import logging, sys
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
logging.getLogger("numba").setLevel(logging.WARNING)
from sto_kernels.stays import cell_of
print("cell", cell_of(5 * 3_600_000))
"""


def run(cache: Path) -> str:
    environment = {**os.environ, "STO_ENGINE_CACHE": str(cache)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert "cell 5" in done.stdout
    return done.stdout


def test_the_second_process_finds_what_the_first_compiled(tmp_path: Path) -> None:
    assert "INFO compiling the history kernels" in run(tmp_path)
    assert "compiling" not in run(tmp_path)


def test_a_damaged_file_is_compiled_again(tmp_path: Path) -> None:
    run(tmp_path)
    for file in tmp_path.rglob("*.nbi"):
        file.write_bytes(b"nothing")
    assert "is damaged" in run(tmp_path)
    assert "compiling" not in run(tmp_path)


def test_code_that_others_can_write_is_not_run(tmp_path: Path) -> None:
    run(tmp_path)
    (folder,) = tmp_path.iterdir()
    folder.chmod(0o777)
    assert not is_ours(folder)
    assert "compiling" in run(tmp_path)


def test_a_folder_that_cannot_be_made_costs_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be written" in run(tmp_path / "file")


def test_inputs_become_contiguous_read_only_and_exact() -> None:
    values = np.arange(6, dtype=np.int16)[::2]
    view = read_only(values, np.int64)
    assert view.tolist() == [0, 2, 4]
    assert view.dtype == np.int64
    assert view.flags.c_contiguous
    assert not view.flags.writeable
    with pytest.raises(TypeError):
        read_only(np.arange(3), np.int32)
