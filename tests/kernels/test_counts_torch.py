"""The scatters in torch against the walk, on the CPU and, where there is one, on a CUDA device."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from journals import MONDAY_MS, in_zone, journal, random_journal
from sto_kernels import count_walk, counts_torch
from sto_kernels.clean_walk import clean
from sto_kernels.journal import DAY_MS, HOUR_MS, Cleaned, Counts

USERS, CAMPAIGNS = 15, 4
DECAY = np.stack([np.exp(-np.arange(24) / hours) for hours in (8.0, 3.0, 15.0)])
KERNEL = np.stack([count_walk.unopened_kernel(decay) for decay in DECAY])
TYPE, FOLLOW = np.array([0, 1, 2, 1], np.int8), np.array([1.0, 0.5, 2.0])
RHO2, RHO24 = np.array([1.0, 0.5, 2.0, 1.5]), np.array([0.7, 1.1, 1.3, 0.9])
INTEGERS = ("sent_U", "opened_U", "mobile_acts_U", "acts_U", "last_act_U")


def cleaned_world(seed: int, users: int = USERS) -> Cleaned:
    events, zones = random_journal(np.random.default_rng(seed), users)
    return clean(events, zones, MONDAY_MS, MONDAY_MS + 90 * DAY_MS)


def weights(device: str) -> counts_torch.Weights:
    floats = (torch.tensor(x, dtype=torch.float64, device=device) for x in (RHO2, RHO24, DECAY, KERNEL))
    types = torch.tensor(TYPE, device=device).long(), torch.tensor(FOLLOW, dtype=torch.float64, device=device)
    return counts_torch.Weights(*floats, *types)


def scattered(cleaned: Cleaned, users: int, at: tuple[int, int], device: str = "cpu") -> dict[str, torch.Tensor]:
    return counts_torch.count(counts_torch.History.of(cleaned, device), users, weights(device), *at)


def assert_those_of_the_walk(found: dict[str, torch.Tensor], cleaned: Cleaned, users: int, at: tuple[int, int]) -> None:
    expected = count_walk.count(cleaned, users, RHO2, RHO24, DECAY, KERNEL, *at, TYPE, FOLLOW)
    assert set(found) == {field.name for field in fields(Counts)}
    for name, tensor in found.items():
        ours, theirs = tensor.cpu().numpy(), getattr(expected, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6, err_msg=name)
        if name in INTEGERS:
            np.testing.assert_array_equal(ours, theirs)


@given(seed=st.integers(0, 10_000), half_life_days=st.sampled_from([0, 20]), origin_h=st.integers(0, 91 * 24))
@settings(max_examples=30, deadline=None)
def test_scattered_counts_are_those_of_the_walk(seed: int, half_life_days: int, origin_h: int) -> None:
    cleaned, at = cleaned_world(seed), (MONDAY_MS + origin_h * HOUR_MS, half_life_days * DAY_MS)
    assert_those_of_the_walk(scattered(cleaned, USERS, at), cleaned, USERS, at)


@pytest.mark.parametrize(("block_sends", "block_users"), [(7, 2), (100, 1), (1 << 20, 4096)])
def test_the_size_of_a_block_decides_nothing(
    block_sends: int, block_users: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts_torch, "BLOCK_SENDS", block_sends)
    monkeypatch.setattr(counts_torch, "BLOCK_USERS", block_users)
    cleaned, at = cleaned_world(1), (MONDAY_MS + 60 * DAY_MS, 0)
    assert_those_of_the_walk(scattered(cleaned, USERS, at), cleaned, USERS, at)


def test_the_cpu_gives_the_same_bits_every_time() -> None:
    cleaned, at = cleaned_world(2, 60), (MONDAY_MS + 60 * DAY_MS, 9 * DAY_MS)
    first, second = scattered(cleaned, 60, at), scattered(cleaned, 60, at)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("users", [0, 3])
def test_a_bucket_without_a_row_counts_nothing(users: int) -> None:
    cleaned, at = clean(journal(*[[] for _ in range(users)]), in_zone(users), 0, MONDAY_MS), (MONDAY_MS, 0)
    found = scattered(cleaned, users, at)
    assert found["exposure_U48"].shape == (users, 48)
    assert_those_of_the_walk(found, cleaned, users, at)


def test_codes_that_the_tables_do_not_hold_are_refused() -> None:
    cleaned, at = cleaned_world(0), (MONDAY_MS + 60 * DAY_MS, 0)
    with pytest.raises(ValueError, match="user_S must be in"):
        scattered(cleaned, 3, at)
    history = counts_torch.History.of(cleaned, "cpu")
    history.campaign_S.fill_(9)
    with pytest.raises(ValueError, match="campaign_S must be in"):
        counts_torch.count(history, USERS, weights("cpu"), *at)


@pytest.mark.gpu
def test_a_cuda_device_counts_as_the_walk_does() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    cleaned, at = cleaned_world(3, 500), (MONDAY_MS + 60 * DAY_MS, 20 * DAY_MS)
    found = scattered(cleaned, 500, at, "cuda")
    assert all(tensor.is_cuda for tensor in found.values())
    assert_those_of_the_walk(found, cleaned, 500, at)
