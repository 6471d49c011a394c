"""Who computes: by name, or picked and announced; what cannot run is refused with the reason."""

import logging
import sys

import numpy as np
import pytest
import torch

from forests import random_forest, random_inputs
from sto_kernels import choice
from sto_kernels.bitslice_cpu import find_isa
from sto_kernels.choice import Choice, ImplUnavailable, choose_impl
from sto_kernels.margins import best_slots, slot_margins

CPU = torch.device("cpu")
FLAT, DEEP = random_forest(1, trees=5, depth=4), random_forest(1, trees=3, depth=10, grow=1.0)


@pytest.fixture(autouse=True)
def _nothing_announced() -> None:
    choice._announce.cache_clear()


def test_the_best_code_path_is_picked_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "sto_kernels")
    for _ in range(2):
        assert choose_impl(FLAT, CPU).impl == f"bitslice-{find_isa().name}"
    (record,) = caplog.records
    assert record.getMessage().startswith(f"scoring with bitslice-{find_isa().name}: the fastest code path")


def test_deep_trees_fall_back_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    user, cross = random_inputs(DEEP, 3, 1)
    found = slot_margins(DEEP, user, cross)
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert (
        "slow fallback gather: the bit-sliced kernel scores trees of depth 1..8; found depth 10" in record.getMessage()
    )
    np.testing.assert_allclose(found.numpy(), slot_margins(DEEP, user, cross, impl="naive").numpy(), atol=1e-5)
    assert len(best_slots(DEEP, user, cross)[0]) == 3


def test_without_llvm_the_fallback_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sto_kernels.bitslice_cpu", None)
    picked = choose_impl(FLAT, CPU)
    assert picked.impl == "gather"
    assert "llvmlite" in picked.reason


@pytest.mark.parametrize("impl", ["bitslice", "bitslice-generic"])
def test_a_kernel_asked_for_by_name_refuses_what_it_cannot(impl: str) -> None:
    with pytest.raises(ImplUnavailable, match="depth 10; use impl auto or gather"):
        choose_impl(DEEP, CPU, impl)


def test_the_gpu_is_refused_where_there_is_none() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ImplUnavailable, match="bitslice-gpu cannot score this"):
        choose_impl(FLAT, CPU, "bitslice-gpu")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"impl must be one of auto, bitslice, .*; found 'fast'"):
        choose_impl(FLAT, CPU, "fast")


def test_paths_of_the_operators() -> None:
    assert Choice("bitslice", "").path == ""
    assert Choice("bitslice-avx2", "").path == "avx2"
    assert not Choice("gather", "").is_sliced


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_are_counted_from_one(threads: int) -> None:
    with pytest.raises(ValueError, match="threads must be 1 or more"):
        slot_margins(FLAT, *random_inputs(FLAT, 3, 1), threads=threads)
