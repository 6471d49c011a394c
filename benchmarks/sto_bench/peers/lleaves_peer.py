"""lleaves (LLVM code per LightGBM model) in a process of its own, which is asked over a pipe to time itself.

lleaves 1.3 needs llvmlite < 0.45 and our kernel's numba a newer one, so both cannot live in one environment. Set
STO_BENCH_LLEAVES_PYTHON to a Python that has `lleaves==1.3.0 llvmlite==0.44 numpy lightgbm`. It scores the LightGBM
peer's model. Its time leaves out the choice of the best slot, which the others' times hold: in its favour.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from sto_bench import cache
from sto_bench.contest import Choice, Clock, Missing, Scorer
from sto_bench.peers import lightgbm_peer, lleaves_child
from sto_bench.peers.base import choose, plus_base
from sto_bench.recipients import F32
from sto_bench.worlds import World

PYTHON = "STO_BENCH_LLEAVES_PYTHON"


class LleavesScorer(Scorer):
    in_process = False

    def __init__(self, world: World, threads: int) -> None:
        python = os.environ.get(PYTHON)
        if not python:
            raise Missing(f"{PYTHON} is not set; it names a Python with lleaves==1.3.0 and llvmlite==0.44")
        self._world = world
        self._base_P: F32 | None = None
        model = lightgbm_peer.model_path(world.case, threads)
        self._child = _start(python)
        self._folder = tempfile.TemporaryDirectory(prefix="sto-bench-")
        self._rows, self._margins = (Path(self._folder.name) / name for name in ("rows.npy", "margins.npy"))
        machine_code = cache.folder() / f"{model.stem}-lleaves.o"
        try:
            told = self._ask({"compile": str(model), "cache": str(machine_code), "threads": threads})
        except BaseException:
            self.close()
            raise
        self._peak_mib = 0.0
        self.note = f"LightGBM's model; compiled or loaded in {told['compile_s']:.1f} s; without the choice of the slot"

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Send one question and wait for its answer; RuntimeError when the child fails."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps(question) + "\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": f"it ended with {self._child.wait()}"}
        if "error" in answer:
            raise RuntimeError(f"lleaves process: {answer['error']}")
        return answer

    def load(self, users: int) -> None:
        self._base_P = self._world.base(slice(0, users))
        np.save(self._rows, self._world.rows(slice(0, users)))
        self._ask({"load": str(self._rows)})

    def score(self) -> Choice:
        return self._timed(1)[1]

    def time_calls(self, calls: int, clock: Clock) -> tuple[float, Choice]:
        return self._timed(calls)

    def _timed(self, calls: int) -> tuple[float, Choice]:
        told = self._ask({"time": calls, "to": str(self._margins)})
        self._peak_mib = float(told["peak_mib"])
        margin_P = plus_base(np.load(self._margins), self._base_P)
        return float(told["elapsed_s"]), choose(margin_P, self._world.case.slots)

    def peak_mib(self) -> float:
        """Peak of the child over its whole life, in MiB: the compiler's memory is in it unless the code was cached."""
        return self._peak_mib

    def close(self) -> None:
        """Closing its standard input ends the child."""
        with self._child:
            if self._child.stdin is not None:
                self._child.stdin.close()
        self._folder.cleanup()


def _start(python: str) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            [python, lleaves_child.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        )
    except OSError as error:
        raise Missing(f"{PYTHON}={python} cannot be run: {error}") from error


def build(world: World, threads: int, include_expansion: bool = False) -> Scorer:
    if include_expansion:
        raise Missing("lleaves is timed without the expansion of rows")
    return LleavesScorer(world, threads)
