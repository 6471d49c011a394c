"""The way to the kernel that does without torch gives what the one with torch gives."""

import subprocess
import sys

import numpy as np
import pytest

from forests import random_forest, random_inputs
from sto_kernels import choice, margins, margins_numpy


@pytest.mark.parametrize("users", [0, 1, 64, 65, 300])
@pytest.mark.parametrize("threads", [1, 3])
def test_margins_are_the_same_bits_with_and_without_torch(users: int, threads: int) -> None:
    forest = random_forest(users, trees=7, depth=4)
    user_FU, cross_CSU = random_inputs(forest, users, seed=1)
    base_SU = np.random.default_rng(users).normal(size=(24, users)).astype(np.float32)
    expected = margins.slot_margins(forest, user_FU, cross_CSU, base_SU).numpy()
    found = margins_numpy.slot_margins(forest, user_FU, cross_CSU, base_SU, threads)
    np.testing.assert_array_equal(found, expected)


def test_torch_is_not_loaded_for_it() -> None:
    code = "import sys, sto_kernels.margins_numpy, sto_kernels.bitslice_cpu; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_where_the_kernel_cannot_run_the_fallback_of_torch_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    forest = random_forest(5, trees=3, depth=3)
    user_FU, cross_CSU = random_inputs(forest, 70, seed=1)
    expected = margins_numpy.slot_margins(forest, user_FU, cross_CSU)
    monkeypatch.setattr(choice, "_cpu_obstacle", lambda path: "not today")
    found = margins_numpy.slot_margins(forest, user_FU, cross_CSU)
    np.testing.assert_allclose(found, expected, atol=2e-5 * max(1.0, forest.leaf_range))
