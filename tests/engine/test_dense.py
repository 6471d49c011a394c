"""Counting without compiled code: the dense twin against the walk and the plain twin, and how it is chosen."""

import os
import subprocess
import sys
from dataclasses import fields
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histories import known
from journals import MONDAY_MS, in_zone, journal, random_journal
from sto_engine.history import dense
from sto_engine.ingest.store import Store
from sto_kernels import count_walk, naive_counts
from sto_kernels.clean_walk import clean
from sto_kernels.journal import DAY_MS, HOUR_MS, Counts

USERS, CAMPAIGNS = 15, 4
DECAY = np.stack([np.exp(-np.arange(24) / hours) for hours in (8.0, 3.0, 15.0)])
KERNEL = np.stack([count_walk.unopened_kernel(decay) for decay in DECAY])
TYPE, FOLLOW = np.array([0, 1, 2, 1], np.int8), np.array([1.0, 0.5, 2.0])
PROGRAM = """
import logging, sys
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
sys.path.insert(0, {tests!r})
import numpy as np
from journals import MONDAY_MS, random_journal
from sto_engine.history.walks import clean, count
from sto_kernels.count_walk import unopened_kernel
events, zones = random_journal(np.random.default_rng(0), 15)
end_ms, decay = MONDAY_MS + 90 * 86_400_000, np.exp(-np.arange(24) / 8.0)
for _ in range(2):
    cleaned = clean(events, zones, MONDAY_MS, end_ms)
    counts = count(cleaned, 15, np.ones(4), np.ones(4), decay, unopened_kernel(decay), end_ms)
print("sum", round(float(counts.exposure_U48.sum()), 2), int(counts.acts_U.sum()), "numba" in sys.modules)
"""


def assert_same(ours: Counts, theirs: Counts) -> None:
    """Integers to the bit where nothing but ones is added; sums of weights to float32."""
    for field in fields(Counts):
        found, expected = getattr(ours, field.name), getattr(theirs, field.name)
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7, err_msg=field.name)
    for name in ("sent_U", "opened_U", "mobile_acts_U", "acts_U", "last_act_U"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


@given(seed=st.integers(0, 10_000), half_life_days=st.sampled_from([0, 20]), origin_h=st.integers(0, 91 * 24))
@settings(max_examples=40, deadline=None)
def test_counts_are_those_of_the_walk_and_of_the_plain_twin(seed: int, half_life_days: int, origin_h: int) -> None:
    rng = np.random.default_rng(seed)
    cleaned = clean(*random_journal(rng, USERS), MONDAY_MS, MONDAY_MS + 90 * DAY_MS)
    rates = rng.uniform(0.5, 2, CAMPAIGNS), rng.uniform(0.5, 2, CAMPAIGNS)
    at = MONDAY_MS + origin_h * HOUR_MS, half_life_days * DAY_MS
    arguments = cleaned, USERS, *rates, DECAY, KERNEL, *at, TYPE, FOLLOW
    found = dense.count(*arguments)
    assert_same(found, count_walk.count(*arguments))
    assert_same(found, naive_counts.count(*arguments))


def test_a_simulated_bucket_counts_as_the_walk_counts_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = known(Store.open(store), at=datetime(2026, 4, 20, tzinfo=UTC))
    monkeypatch.setattr(dense, "BLOCK_SENDS", 100)  # a user's sends lie in several blocks
    one_C, users = np.ones(len(bucket.campaign_key_C)), len(bucket.users)
    arguments = bucket.cleaned, users, one_C, one_C, DECAY[:1], KERNEL[:1], bucket.end_ms
    assert len(bucket.cleaned.user_S) > 1000
    found, expected = dense.count(*arguments), count_walk.count(*arguments)
    assert_same(found, expected)
    for name in ("opens_U48", "sends2_U24", "opens2_U24", "sends24_U24", "opens24_U24", "seen_U24", "acts_U24"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("users", [0, 3])
def test_a_bucket_without_a_row_counts_nothing(users: int) -> None:
    cleaned = clean(journal(*[[] for _ in range(users)]), in_zone(users), 0, MONDAY_MS)
    counts = dense.count(cleaned, users, np.ones(0), np.ones(0), DECAY[0], KERNEL[0], MONDAY_MS)
    assert_same(counts, count_walk.count(cleaned, users, np.ones(0), np.ones(0), DECAY[0], KERNEL[0], MONDAY_MS))


def run(**switch: str) -> str:
    program = PROGRAM.format(tests=os.path.dirname(os.path.dirname(__file__)))
    environment = {**os.environ, **switch}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_without_compiled_code_the_numbers_are_the_same_and_it_is_said_once() -> None:
    told, compiled = run(STO_ENGINE_JIT="off"), run()
    assert told.count("WARNING history is cleaned and counted without compiled code") == 1
    assert "STO_ENGINE_JIT is off" in told
    assert "WARNING" not in compiled
    assert told.splitlines()[-1].split()[:3] == compiled.splitlines()[-1].split()[:3]
    assert told.endswith("False\n")
