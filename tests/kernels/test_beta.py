"""Beta draws follow their distribution, and belong to a user whoever is drawn beside him."""

import math
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
import torch
from scipy import stats

from sto_kernels import beta_lanes, naive_beta, operators
from sto_kernels.beta import draw_betas
from sto_kernels.beta_torch import draw_betas_torch
from sto_kernels.beta_wins import win_shares
from sto_kernels.codegen import host_target
from sto_kernels.compiled import obstacle
from sto_kernels.hashing import derive

KEYS = derive(np.arange(20_000, dtype=np.uint64), "test")
# a value below this, or as near to 1, is what float32 has none of
EDGE = {"low": 1e-34, "high": 1 - 1e-6}


def drawn(a: float, b: float, slots: int = 2, round: int = 0) -> np.ndarray:
    shape = (len(KEYS), slots)
    return draw_betas(KEYS, np.full(shape, a, np.float32), np.full(shape, b, np.float32), round)


@pytest.mark.parametrize(
    ("a", "b"),
    [(1, 1), (1, 9), (2.5, 1), (40, 160), (1, 3000), (0.5, 0.5), (0.3, 4), (0.1, 1), (6, 0.7), (0.9, 1e4), (1e5, 1e5)],
)
def test_draws_follow_the_distribution(a: float, b: float) -> None:
    law = stats.beta(np.float32(a), np.float32(b))
    draws_US = drawn(a, b).astype(np.float64)
    for slot in range(2):
        assert stats.kstest(draws_US[:, slot], law.cdf).pvalue > 1e-4
    for at in (1e-3, 0.01, 0.99, 0.999):
        below = (draws_US <= law.ppf(at)).mean()
        assert abs(below - at) < 5 * math.sqrt(at * (1 - at) / draws_US.size)
    assert abs(np.corrcoef(draws_US.T)[0, 1]) < 0.05


def test_tiny_shapes_are_as_near_to_0_and_1_as_they_must_be() -> None:
    for a, b in ((0.01, 0.02), (0.02, 0.02), (0.05, 3.0), (1e-6, 3e-6), (1e-38, 1e-38)):
        draws_US = drawn(a, b).astype(np.float64)
        assert np.isfinite(draws_US).all()
        law = stats.beta(max(np.float32(a), 1e-12), max(np.float32(b), 1e-12))
        for share, known in (
            ((draws_US < EDGE["low"]).mean(), law.cdf(EDGE["low"]) if a > 1e-20 else 0.5),
            ((draws_US > EDGE["high"]).mean(), law.sf(EDGE["high"]) if a > 1e-20 else 0.5),
        ):
            assert abs(share - known) < 5 * math.sqrt(max(known * (1 - known), 1e-4) / draws_US.size)


def test_a_users_draws_depend_on_his_key_alone() -> None:
    a, b = (np.random.default_rng(seed).uniform(0.1, 20, (300, 24)).astype(np.float32) for seed in (0, 1))
    whole = draw_betas(KEYS[:300], a, b)
    np.testing.assert_array_equal(whole[100:107], draw_betas(KEYS[100:107], a[100:107], b[100:107]))
    assert (whole != draw_betas(KEYS[1:301], a, b)).mean() > 0.99
    assert (whole != draw_betas(KEYS[:300], a, b, 1)).mean() > 0.99
    assert draw_betas(KEYS[:0], a[:0], b[:0]).shape == (0, 24)
    assert draw_betas(KEYS[:3], a[:3, :0], b[:3, :0]).shape == (3, 0)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_shapes_that_are_no_shapes_are_refused(bad: float) -> None:
    good, wrong = np.ones((1, 24), np.float32), np.full((1, 24), bad, np.float32)
    for shapes in ((good, wrong), (wrong, good)):
        with pytest.raises(ValueError, match="finite and above 0; found"):
            draw_betas(KEYS[:1], *shapes)
    with pytest.raises(ValueError, match="one shape"):
        draw_betas(KEYS[:1], good, np.ones((1, 48), np.float32))


def test_slots_users_rounds_and_neighbouring_keys_are_independent() -> None:
    plain = np.arange(20_000, dtype=np.uint64)
    columns = [draw_betas(plain, *[np.full((20_000, 3), 0.8, np.float32)] * 2, number) for number in (0, 1, 2)]
    columns += [draw_betas(plain + np.uint64(1 << 32), *[np.full((20_000, 3), 0.8, np.float32)] * 2)]
    table = stats.rankdata(np.concatenate(columns, axis=1), axis=0)
    table = np.concatenate([table[:-1], table[1:]], axis=1)
    correlation = np.corrcoef(table.T) - np.eye(table.shape[1])
    assert np.abs(correlation).max() < 5 / math.sqrt(20_000)


def test_a_slots_draw_does_not_depend_on_how_many_slots_there_are() -> None:
    shape = np.full((40, 700), 0.4, np.float32)
    whole = draw_betas(KEYS[:40], shape, shape)
    for slots in (1, 5, 511, 513):
        np.testing.assert_array_equal(whole[:, :slots], draw_betas(KEYS[:40], shape[:, :slots], shape[:, :slots]))


def test_threads_change_nothing() -> None:
    a_US, b_US = shapes(0.1, 30.0, 4000)
    whole = draw_betas(KEYS[:4000], a_US, b_US)
    parts = [slice(first, first + 333) for first in range(0, 4000, 333)]
    with ThreadPoolExecutor(3) as pool:
        drawn_parts = list(pool.map(lambda part: draw_betas(KEYS[:4000][part], a_US[part], b_US[part]), parts))
    np.testing.assert_array_equal(whole, np.concatenate(drawn_parts))


def shapes(low: float, high: float, users: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    found = (np.exp(rng.uniform(math.log(low), math.log(high), (users, 24))).astype(np.float32) for _ in range(2))
    return next(found), next(found)


RANGES = [(1e-3, 1.5), (0.01, 1e5), (1.0, 6.0), (1e3, 1e6), (1e30, 3e38)]


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_draws_are_those_of_the_naive_twin_to_the_rounding_of_float32(low: float, high: float) -> None:
    a_US, b_US = shapes(low, high, 60)
    known = naive_beta.draw_betas(KEYS[:60], a_US, b_US, 3)
    off = np.abs(draw_betas(KEYS[:60], a_US, b_US, 3) - known) / np.maximum(known, 1e-30)
    # a power of a tiny shape multiplies the rounding of its logarithm, at most -80
    assert np.quantile(off, 0.99) < (2e-5 if low < 1 else 1e-6)
    assert (off > 1e-3).mean() < 0.002


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_torch_draws_the_same_bits(low: float, high: float) -> None:
    a_US, b_US = shapes(low, high, 1500)
    key, a, b = (torch.from_numpy(x.copy()) for x in (KEYS[:1500].view(np.int64), a_US, b_US))
    compiled = draw_betas(KEYS[:1500], a_US, b_US, 3)
    np.testing.assert_array_equal(draw_betas_torch(key, a, b, 3).numpy(), compiled)
    np.testing.assert_array_equal(operators.draw_betas(key.view(torch.uint64), a, b, 3).numpy(), compiled)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_a_gpu_draws_the_same_but_for_roundings(low: float, high: float) -> None:
    a_US, b_US = shapes(low, high, 1500)
    tensors = [torch.from_numpy(x.copy()).cuda() for x in (KEYS[:1500].view(np.int64), a_US, b_US)]
    compiled = draw_betas(KEYS[:1500], a_US, b_US, 3)
    for draws in (draw_betas_torch(*tensors, 3), operators.draw_betas(*tensors, 3)):
        assert draws.is_cuda
        assert (np.abs(draws.cpu().numpy() - compiled) > 1e-5).mean() < 1e-3


def test_without_compiled_code_the_same_draws_and_wins_come_out() -> None:
    code = (
        "import numpy as np; from sto_kernels.beta import draw_betas; from sto_kernels.beta_wins import win_shares\n"
        "k = np.arange(9, dtype=np.uint64); a = np.linspace(0.1, 9, 54, dtype=np.float32).reshape(9, 6)\n"
        "print(draw_betas(k, a, a[::-1]).tolist(), win_shares(k, a, a[::-1], 5, a > 1).tolist())"
    )
    env = {**os.environ, "STO_ENGINE_JIT": "off", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    key_U, a_US = np.arange(9, dtype=np.uint64), np.linspace(0.1, 9, 54, dtype=np.float32).reshape(9, 6)
    draws_US, shares_US = draw_betas(key_U, a_US, a_US[::-1]), win_shares(key_U, a_US, a_US[::-1], 5, a_US > 1)
    assert done.stdout == f"{draws_US.tolist()} {shares_US.tolist()}\n"


def test_the_code_is_vectors_without_fused_operations() -> None:
    if obstacle() is not None or "+avx2" not in host_target().features:
        pytest.skip("no compiled code with vectors here")
    source = beta_lanes.draw.py_func
    fresh = numba.njit(nogil=True, error_model="numpy")(source)
    cells = beta_lanes.scratch()
    fresh(cells, 1, 0)
    code = "\n".join(fresh.inspect_asm().values())
    assert "vsqrtps" in code
    assert re.search(r"vmulps\s.*%[yz]mm", code)
    assert not re.search(r"vfn?m(add|sub)", code)
