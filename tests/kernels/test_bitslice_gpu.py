"""The Triton kernel: interpreted by Triton on few users in a process of its own, compiled for sm_90 without a GPU, and
run on a CUDA device where there is one."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xgboost

from forests import random_forest, random_inputs, tolerance
from sto_kernels import bitslice_gpu, gather_torch, naive
from sto_kernels.bitslice_gpu_layout import BLOCK_DEPTH
from sto_kernels.forest import Forest
from sto_kernels.pack import pack_xgboost
from sto_kernels.sliced import SlicedForest, slice_forest


@dataclass(frozen=True)
class Case:
    """A random forest, or a booster trained on data with holes; two words of users a batch if not told otherwise."""

    depth: int
    users: int
    slots: int = 24
    trees: int = 4
    features: tuple[int, int, int] = (3, 2, 2)
    words: int = 2
    booster: bool = False
    leaves: tuple[int, int] | None = None

    @property
    def forest(self) -> Forest:
        if self.booster:
            return trained(self)[1]
        return random_forest(self.depth, self.trees, self.depth, self.slots, self.features)

    @property
    def sliced(self) -> SlicedForest:
        sliced = slice_forest(self.forest)
        if self.leaves is None:
            return sliced
        leaf_TN = np.random.default_rng(0).integers(*self.leaves, sliced.leaf_TN.shape, dtype=np.int32)
        return replace(sliced, leaf_TN=leaf_TN)

    @property
    def inputs(self) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
        """user_FU, cross_CSU, base_SU, allowed_US: some users may get nothing, or at one slot alone."""
        rng = np.random.default_rng(self.users)
        user, cross = random_inputs(self.forest, self.users, self.users)
        base = rng.choice([0.0, 0.25, -np.inf, np.nan], (self.slots, self.users), p=[0.6, 0.3, 0.05, 0.05])
        allowed = rng.random((self.users, self.slots)) < 0.3
        allowed[:1], allowed[1:2] = False, False
        allowed[1:2, -1] = True
        return user, cross if self.features[2] else None, base.astype(np.float32), allowed


CASES = {
    "nobody": Case(2, users=0),
    "one user": Case(1, users=1, slots=7),
    "two batches": Case(4, users=65, words=1),
    "every bit of a word": Case(6, users=64, trees=3),
    "deeper than a block": Case(7, users=3, trees=2, slots=7),
    "the deepest": Case(8, users=65, trees=2, slots=7),
    "a week of hours": Case(3, users=33, slots=168, features=(2, 1, 1)),
    "one slot": Case(3, users=65, slots=1),
    "no cross features": Case(3, users=33, features=(4, 1, 0)),
    "slot features alone": Case(3, users=2, features=(0, 2, 0)),
    "leaves of 28 bits": Case(2, users=2, trees=20, leaves=(2**28 - 2, 2**28)),
    "ties": Case(2, users=33, leaves=(5, 6)),
    "booster, depth 1": Case(1, users=33, slots=7, trees=8, booster=True),
    "booster, depth 6": Case(6, users=33, trees=6, booster=True),
}
Results = Callable[[str], dict[str, np.ndarray]]
BOOSTERS = [name for name in CASES if CASES[name].booster]


@cache
def trained(case: Case) -> tuple[xgboost.Booster, Forest]:
    """Values lie on a coarse grid, so that cuts are hit; missing ones go left in some nodes and right in others."""
    names = ["u0", "u1", "u2"], ["hour", "weekend"], ["x0", "x1"]
    rng = np.random.default_rng(case.depth)
    x = (rng.normal(size=(3000, 7)) * 8).round() / 8
    x[:, 3], x[:, 4] = rng.integers(0, case.slots, 3000), 0
    holes = rng.random(x.shape) < [0.25, 0.25, 0.25, 0, 0, 0.25, 0.25]
    logit = x[:, 0] * np.cos(x[:, 3] / 4) + x[:, 5] + holes[:, 0] - holes[:, 5]
    x[holes] = np.nan
    data = xgboost.DMatrix(x, rng.random(3000) < 1 / (1 + np.exp(-logit)), feature_names=[*chain(*names)])
    booster = xgboost.train({"objective": "binary:logistic", "max_depth": case.depth, "nthread": 1}, data, case.trees)
    slot_values = np.stack([np.arange(case.slots), np.zeros(case.slots)], axis=1).astype(np.float32)
    return booster, pack_xgboost(bytes(booster.save_raw("ubj")), *names, slot_values)


def run(case: Case, device: torch.device, from_host: bool = False) -> dict[str, np.ndarray]:
    """Everything the kernel gives for a case, asked at once; for boosters each question alone too."""
    gpu = bitslice_gpu.prepare(case.sliced, device, case.words)
    where = torch.device("cpu") if from_host else device
    user, cross, base, allowed = (None if x is None else torch.from_numpy(x).to(where) for x in case.inputs)
    room = torch.zeros((case.users, case.slots), dtype=torch.int64, device=where)
    slot, value, runner = room[:, 0].byte(), room[:, 0].float(), room[:, 0].byte()
    found = {"sums_US": room, "margins_US": room.float(), "slot_U": slot, "value_U": value, "runner_U": runner}
    bitslice_gpu.score(gpu, bitslice_gpu.Job(user, cross, base, allowed, **found))
    if case.booster:
        best = bitslice_gpu.best_slots(gpu, user, cross, base, allowed)
        alone = (bitslice_gpu.slot_sums(gpu, user, cross), bitslice_gpu.slot_margins(gpu, user, cross, base), *best)
        found |= {f"{name} alone": values for name, values in zip(found, alone, strict=True)}
        found["margins_US without base"] = bitslice_gpu.slot_margins(gpu, user, cross, None)
    return {name: values.cpu().numpy() for name, values in found.items()}


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of all cases from a process in which Triton interprets: it decides so when it is imported."""
    pytest.importorskip("triton")
    out = tmp_path_factory.mktemp("interpreted")
    paths = [str(Path(__file__).parents[1]), *sys.path]
    env = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, __file__, str(out)], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(params=["interpreter", *(pytest.param(name, marks=pytest.mark.gpu) for name in ("device", "host"))])
def results(request: pytest.FixtureRequest) -> Results:
    if request.param == "interpreter":
        folder = request.getfixturevalue("interpreted")
        return lambda name: dict(np.load(folder / f"{name}.npz"))
    need_cuda()
    return lambda name: run(CASES[name], torch.device("cuda"), request.param == "host")


def need_cuda() -> None:
    if (reason := bitslice_gpu.unavailable_reason()) is not None:
        pytest.skip(reason)


@pytest.mark.parametrize("name", CASES)
def test_sums_are_exact(results: Results, name: str) -> None:
    user, cross, _, _ = CASES[name].inputs
    np.testing.assert_array_equal(results(name)["sums_US"], naive.sliced_sums(CASES[name].sliced, user, cross))


@pytest.mark.parametrize("name", CASES)
def test_margins_are_sums_rounded_once(results: Results, name: str) -> None:
    found, sliced, base_SU = results(name), CASES[name].sliced, CASES[name].inputs[2]
    margins = found["sums_US"] * sliced.scale + sliced.bias
    np.testing.assert_array_equal(found["margins_US"], (margins + base_SU.T).astype(np.float32))


@pytest.mark.parametrize("name", CASES)
def test_best_slots_are_the_first_two_maxima_of_allowed_margins(results: Results, name: str) -> None:
    found, allowed = results(name), CASES[name].inputs[3]
    expected = naive.best_slots(found["margins_US"], allowed & np.isfinite(found["margins_US"]))
    assert (found["slot_U"].tolist(), found["value_U"].tolist(), found["runner_U"].tolist()) == expected
    assert all(slot == 255 for slot in found["slot_U"][:1])


@pytest.mark.parametrize("name", BOOSTERS)
def test_margins_are_those_of_xgboost(results: Results, name: str) -> None:
    case = CASES[name]
    booster, forest = trained(case)
    user, cross, _, _ = case.inputs
    assert cross is not None
    rows = [
        [*user[:, u], *forest.slot_values_SG[s], *cross[:, s, u]] for u in range(case.users) for s in range(case.slots)
    ]
    finite = np.clip(np.array(rows, np.float32), -3e38, 3e38)  # DMatrix refuses infinities
    expected = booster.predict(xgboost.DMatrix(finite, feature_names=booster.feature_names), output_margin=True)
    inner = forest.left_N >= 0
    assert 0 < forest.default_left_N[inner].sum() < inner.sum()
    found = results(name)["margins_US without base"]
    np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=0, atol=tolerance(forest))


@pytest.mark.parametrize("name", BOOSTERS)
def test_each_question_alone_has_the_same_answer(results: Results, name: str) -> None:
    found = results(name)
    for key in ("sums_US", "margins_US", "slot_U", "value_U", "runner_U"):
        np.testing.assert_array_equal(found[f"{key} alone"], found[key])


def test_ties_go_to_the_earlier_slot(results: Results) -> None:
    _, _, base, allowed = CASES["ties"].inputs
    raised = allowed & (base.T == 0.25)
    two = raised.sum(axis=1) > 1
    assert two.any()
    np.testing.assert_array_equal(results("ties")["slot_U"][two], raised[two].argmax(axis=1))


def test_importing_the_kernels_loads_no_triton() -> None:
    code = "import sys; from sto_kernels import margins, bitslice_gpu; print('triton' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def obstacle() -> str | None:
        bitslice_gpu._triton_obstacle.cache_clear()
        return bitslice_gpu.unavailable_reason()

    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.delenv("TRITON_INTERPRET", raising=False)
        assert "CUDA device" in (obstacle() or "")
        patch.setenv("TRITON_INTERPRET", "1")
        assert obstacle() is None
        patch.setattr(bitslice_gpu.metadata, "version", lambda name: "3.4.0+rocm")
        assert "triton 3.5 or later; found 3.4.0" in (obstacle() or "")
        patch.setattr(bitslice_gpu.importlib.util, "find_spec", lambda name: None)
        assert "sto-engine[gpu]" in (obstacle() or "")
    obstacle()


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Compile a kernel for sm_90, which needs no GPU -> (PTX, registers of a thread, bytes spilled)."""
    triton = pytest.importorskip("triton")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("under TRITON_INTERPRET=1 nothing is compiled")
    from triton.backends.compiler import GPUTarget

    from sto_kernels import bitslice_gpu_kernels as kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DUMP_PTXAS_LOG", "1")

    def compile_kernel(name: str, types: str, **constants: Any) -> tuple[str, int, int]:
        kernel, given = getattr(kernels, name), iter(types.split())
        known = {"LANES": kernels.LANES, "ROWS": kernels.ROWS, "BLOCK": BLOCK_DEPTH, **constants}
        known = {arg: value for arg, value in known.items() if arg in kernel.arg_names}
        signature = {arg: "constexpr" if arg in known else next(given) for arg in kernel.arg_names}
        aligned = {(i,): [["tt.divisibility", 16]] for i, t in enumerate(signature.values()) if t.startswith("*")}
        source = triton.compiler.ASTSource(kernel, signature, known, aligned)
        ptx = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=kernels.OPTIONS).asm["ptx"]
        log = capfd.readouterr().out
        spilled = sum(int(n) for n in re.findall(r"(\d+) bytes spill", log))
        return ptx, int(re.findall(r"Used (\d+) registers", log)[-1]), spilled

    return compile_kernel


@pytest.mark.parametrize(("depth", "slots", "width", "most"), [(6, 24, 32, 168), (8, 168, 256, 255)])
def test_the_forest_kernel_spills_no_register(
    compiled: Callable[..., Any], depth: int, slots: int, width: int, most: int, record_property: Callable[..., None]
) -> None:
    types = "*i64 *i64 *i32 *i64 i32 i32 i32"
    _, registers, spilled = compiled("forest_kernel", types, SLOTS=slots, WIDTH=width, DEPTH=depth)
    record_property("registers", registers)
    assert spilled == 0
    assert registers <= most


def test_the_mask_kernel_spills_nothing_and_flushes_no_small_number(compiled: Callable[..., Any]) -> None:
    ptx, registers, spilled = compiled("mask_kernel", "*fp32 *i32 *fp32 *i32 *i64 i32 i32 i32", SLOTS=24, WIDTH=32)
    assert (spilled, ".ftz" in ptx) == (0, False)
    assert registers <= 128


def test_the_last_kernel_rounds_the_product_before_the_sum(compiled: Callable[..., Any]) -> None:
    types = "*i64 *fp64 *fp32 *u8 *fp32 *u8 *fp32 *u8 i32 i32"
    ptx, _, spilled = compiled("finish_kernel", types, SLOTS=24, WIDTH=32, USERS=64)
    assert ("fma.rn.f64" in ptx, spilled) == (False, 0)


@pytest.mark.gpu
def test_a_million_users_score_alike_in_any_batches_and_from_anywhere() -> None:
    need_cuda()
    forest = random_forest(1, trees=100, depth=6, features=(6, 2, 1), cuts=200)
    user, cross = (torch.from_numpy(x) for x in random_inputs(forest, 1_000_003, 1))
    device, sliced = torch.device("cuda"), slice_forest(forest)
    gpu, small = bitslice_gpu.prepare(sliced, device), bitslice_gpu.prepare(sliced, device, words=100)
    found = bitslice_gpu.slot_margins(gpu, user.to(device), cross.to(device), None)
    assert torch.equal(found, bitslice_gpu.slot_margins(small, user.to(device), cross.to(device), None))
    assert torch.equal(found.cpu(), bitslice_gpu.slot_margins(gpu, user, cross, None))
    slot, value, _ = bitslice_gpu.best_slots(gpu, user, cross, None, None)
    assert torch.equal(found.cpu().gather(1, slot[:, None].long())[:, 0], value)
    assert torch.equal(value, found.cpu().amax(dim=1))
    tail = slice(990_000, None)
    expected = gather_torch.slot_margins(forest, user[:, tail].to(device), cross[:, :, tail].to(device), None)
    torch.testing.assert_close(found[tail], expected, rtol=0, atol=tolerance(forest))


if __name__ == "__main__":
    from sto_kernels import bitslice_gpu_kernels

    # The interpreter's time is the number of operations, however many rows each works on.
    bitslice_gpu_kernels.ROWS = 64
    for name, case in CASES.items():
        # What overflows in a subtraction keeps its sign, which is all that the kernel takes of it.
        with np.errstate(over="ignore"):
            np.savez(Path(sys.argv[1]) / f"{name}.npz", **run(case, torch.device("cpu")))
