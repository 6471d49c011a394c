"""Who computes: by name, or picked and announced; what cannot run is refused with the reason."""

import logging
import sys

import pytest
import torch

from forests import random_forest, random_inputs
from sto_kernels import choice
from sto_kernels.bitslice_cpu import find_isa
from sto_kernels.choice import Choice, ImplUnavailable, choose_impl
from sto_kernels.margins import slot_margins

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


def test_deep_trees_are_no_reason_to_be_slow() -> None:
    assert choose_impl(DEEP, CPU).impl == f"bitslice-{find_isa().name}"


def test_a_fallback_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """The GPU kernel takes no deep trees; the meta device stands for the GPU that a test machine lacks."""
    assert choose_impl(DEEP, torch.device("meta")).impl == "gather"
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "slow fallback gather: the GPU kernel scores trees of depth 1..8; found depth 10" in record.getMessage()


def test_without_llvm_the_fallback_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sto_kernels.bitslice_cpu", None)
    picked = choose_impl(FLAT, CPU)
    assert picked.impl == "gather"
    assert "llvmlite" in picked.reason


def test_a_kernel_asked_for_by_name_refuses_what_it_cannot() -> None:
    with pytest.raises(ImplUnavailable, match="depth 10; use impl auto or gather"):
        choose_impl(DEEP, CPU, "bitslice-gpu")
    with pytest.raises(ImplUnavailable, match="expected the CPU"):
        choose_impl(FLAT, torch.device("meta"), "bitslice")


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
