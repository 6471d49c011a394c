"""The torch operators keep torch's contract: schema, fake tensors, no hidden mutation; and the facades call them."""

import numpy as np
import pytest
import torch

from forests import random_forest, random_inputs
from sto_kernels import operators
from sto_kernels.margins import best_slots, slot_margins, slot_probabilities
from sto_kernels.sliced import slice_forest

FOREST = random_forest(4, trees=10, depth=4)
TENSORS = operators.forest_tensors(slice_forest(FOREST))
USER, CROSS = (torch.from_numpy(x) for x in random_inputs(FOREST, 70, 4))
BASE = torch.randn(24, 70, generator=torch.Generator().manual_seed(1))
ALLOWED = torch.rand(70, 24, generator=torch.Generator().manual_seed(2)) < 0.5


@pytest.mark.parametrize("base", [None, BASE])
@pytest.mark.parametrize("name", ["slot_margins", "slot_probabilities"])
@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:DeprecationWarning", "ignore:.*:FutureWarning")
def test_margins_pass_the_operator_check(name: str, base: torch.Tensor | None) -> None:
    torch.library.opcheck(getattr(operators, name), (TENSORS, USER, CROSS, base, "", 2))


@pytest.mark.parametrize("allowed", [None, ALLOWED])
@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:DeprecationWarning", "ignore:.*:FutureWarning")
def test_best_slots_pass_the_operator_check(allowed: torch.Tensor | None) -> None:
    torch.library.opcheck(operators.best_slots, (TENSORS, USER, CROSS, BASE, allowed, "generic", 1))


def test_shapes_are_known_without_computing() -> None:
    def meta(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to("meta")

    arguments = ([meta(t) for t in TENSORS], meta(USER), meta(CROSS), None)
    margins = torch.ops.sto.slot_margins(*arguments, "", 1)
    assert (margins.shape, margins.dtype, margins.device.type) == ((70, 24), torch.float32, "meta")
    assert torch.ops.sto.slot_probabilities(*arguments, "", 1).dtype == torch.float16
    slot, margin, runner_up = torch.ops.sto.best_slots(*arguments, None, "", 1)
    assert [t.dtype for t in (slot, margin, runner_up)] == [torch.uint8, torch.float32, torch.uint8]


def test_facades_and_operators_agree() -> None:
    assert torch.equal(
        slot_margins(FOREST, USER, CROSS, BASE), operators.slot_margins(TENSORS, USER, CROSS, BASE, "", 1)
    )
    assert torch.equal(
        slot_probabilities(FOREST, USER, CROSS), operators.slot_probabilities(TENSORS, USER, CROSS, None, "", 1)
    )
    found = operators.best_slots(TENSORS, USER, CROSS, BASE, ALLOWED, "", 1)
    assert all(torch.equal(a, b) for a, b in zip(best_slots(FOREST, USER, CROSS, BASE, ALLOWED), found, strict=True))


def test_a_forest_survives_the_way_through_tensors() -> None:
    sliced = slice_forest(FOREST)
    again = operators._sliced(TENSORS)
    for name in ("scale", "bias", "digit_bits", "digits", "n_user", "n_cross", "depth", "trees", "slots"):
        assert getattr(again, name) == getattr(sliced, name)
    for name in ("slot_RS", "row_TN", "leaf_TN"):
        np.testing.assert_array_equal(getattr(again, name), getattr(sliced, name))
    for kind in ("user", "cross"):
        for name in operators._LISTS:
            np.testing.assert_array_equal(getattr(getattr(again, kind), name), getattr(getattr(sliced, kind), name))


WRONG = {
    "too few features": (USER[:1], CROSS, BASE),
    "no cross features": (USER, None, BASE),
    "fewer slots": (USER, CROSS[:, :5], BASE),
    "fewer users": (USER, CROSS[:, :, :9], BASE),
    "another type": (USER, CROSS, BASE.double()),
    "a base of another shape": (USER, CROSS, BASE[:3]),
}


@pytest.mark.parametrize("what", WRONG)
def test_inputs_that_would_be_read_past_their_end_are_refused(what: str) -> None:
    with pytest.raises(ValueError, match="users contiguous; found"):
        operators.slot_margins(TENSORS, *WRONG[what], "", 1)


def test_inputs_of_a_training_graph_are_only_read() -> None:
    user = USER.clone().requires_grad_()
    assert torch.equal(slot_margins(FOREST, user, CROSS), slot_margins(FOREST, USER, CROSS))


@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:DeprecationWarning", "ignore:.*:FutureWarning")
def test_beta_draws_pass_the_operator_check() -> None:
    key, shape = torch.arange(7), torch.full((7, 24), 0.7)
    torch.library.opcheck(operators.draw_betas, (key, shape, shape + 1, 2))
    meta = torch.ops.sto.draw_betas(*(t.to("meta") for t in (key, shape, shape)), 0)
    assert (meta.shape, meta.dtype) == ((7, 24), torch.float32)
