"""From rates and counts to slots: windows against hours counted minute by minute, the rest against the twins."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sto_kernels import naive_attention as naive
from sto_kernels.curves import Windows, act_shapes, centred_logs, open_chances, slot_rates, smooth_counts, windows
from sto_kernels.lanes import smooth_days

SIZES = (0, 1, 63, 64, 65, 130)
FLAT = np.ones(24)
FADE = np.exp(-np.arange(24) / 8.0)
STEPS = 2  # a minute: 48 slots send at half past seven minutes


def dense(window: Windows) -> np.ndarray:
    """Weights as a table [48, S]."""
    table = np.zeros((48, len(window.first_S) - 1))
    for slot in range(table.shape[1]):
        for row in range(window.first_S[slot], window.first_S[slot + 1]):
            table[window.cell_N[row], slot] += window.weight_N[row]
    return table


def counted(decay_24: np.ndarray, hours: int, weekday: int, slots: int) -> np.ndarray:
    """The same by walking the window in small steps; all of a clock hour fades by the age at its middle."""
    step, table = 1 / (60 * STEPS), np.zeros((48, slots))
    for slot in range(slots):
        sent = (slot + 0.25) * 24 / slots
        for at in sent + (np.arange(hours * 60 * STEPS) + 0.5) * step:
            hour, day = math.floor(at), (weekday + math.floor(at / 24)) % 7
            middle = (max(sent, hour) + min(sent + hours, hour + 1)) / 2
            table[hour % 24 + 24 * (day >= 5), slot] += step * decay_24[math.floor(middle - sent)]
    return table


@pytest.mark.parametrize("slots", [24, 48])
@pytest.mark.parametrize(("weekday", "hours"), [(0, 2), (4, 2), (4, 24), (5, 24), (6, 2), (6, 24)])
def test_windows_hold_the_hours_a_walk_counts(weekday: int, hours: int, slots: int) -> None:
    for decay in (FLAT, FADE):
        found = dense(windows(decay, hours, weekday, slots))
        np.testing.assert_allclose(found, counted(decay, hours, weekday, slots), atol=1e-9)
    np.testing.assert_allclose(dense(windows(FLAT, hours, weekday, slots)).sum(axis=0), hours)


@pytest.mark.parametrize(
    ("weekday", "inside"),
    [(3, 0.0), (4, 1.25), (5, 2.0), (6, 0.75)],
    ids=["Thursday", "Friday", "Saturday", "Sunday"],
)
def test_a_mail_of_the_last_hour_is_read_on_the_next_day(weekday: int, inside: float) -> None:
    weekend = dense(windows(FLAT, 2, weekday, 24))[24:, 23].sum()
    assert weekend == pytest.approx(inside)


def test_weekdays_before_friday_are_alike() -> None:
    first = dense(windows(FADE, 24, 0, 48))
    for weekday in (1, 2, 3):
        np.testing.assert_array_equal(dense(windows(FADE, 24, weekday, 48)), first)


@pytest.mark.parametrize("users", SIZES)
@pytest.mark.parametrize("slots", [24, 48])
def test_chances_are_those_of_a_matrix_product(users: int, slots: int) -> None:
    rate_48U = np.random.default_rng(users).gamma(1.0, 0.2, (48, users))
    window = windows(FADE, 24, 4, slots)
    found = open_chances(rate_48U, window)
    np.testing.assert_allclose(found, -np.expm1(-(dense(window).T @ rate_48U)), atol=1e-12)
    assert ((found >= 0) & (found <= 1)).all()


def tables(seed: int, users: int, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Opens, sends, cohorts and a table by cohort; a third of the users without sends."""
    rng = np.random.default_rng(seed)
    sends = (rng.poisson(1.0, (users, 24)) * scale).astype(np.float32)
    sends[rng.random(users) < 0.3] = 0
    opens = (sends * rng.random((users, 24))).astype(np.float32)
    return opens, sends, rng.integers(0, 4, users).astype(np.int32), rng.uniform(1e-3, 0.5, (4, 24))


@pytest.mark.parametrize("users", SIZES)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.0, 1.0, 1e6]))
def test_slot_rates_and_act_shapes_are_those_of_the_twins(users: int, seed: int, scale: float) -> None:
    opens, sends, cohort, table = tables(seed, users, scale)
    rates, shapes = slot_rates(opens, sends, cohort, table), act_shapes(opens, cohort, table)
    np.testing.assert_allclose(rates, naive.slot_rates(opens, sends, cohort, table), rtol=1e-9)
    np.testing.assert_allclose(shapes, naive.act_shapes(opens, cohort, table), rtol=1e-9)
    np.testing.assert_allclose(smooth_counts(sends, 1.0), smooth_days(sends, 1.0).T, rtol=1e-9, atol=1e-9)
    assert ((rates > 0) & (rates < 1)).all()
    np.testing.assert_allclose(shapes.sum(axis=0), np.ones(users), rtol=1e-9)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cut=st.tuples(st.integers(0, 130), st.integers(0, 130)))
def test_a_users_slots_are_the_same_bits_in_any_company(seed: int, cut: tuple[int, int]) -> None:
    opens, sends, cohort, table = tables(seed, 130, 1.0)
    first, last = sorted(cut)
    own = slice(first, last)
    rate_48U = np.random.default_rng(seed).gamma(1.0, 0.2, (48, 130))
    window, logs = windows(FADE, 2, 4, 48), np.empty((48, 130), np.float32)
    p_SU = open_chances(rate_48U, window)
    mean_U, part_logs = centred_logs(p_SU, logs), np.empty((48, last - first), np.float32)
    part = open_chances(np.ascontiguousarray(rate_48U[:, own]), window)
    np.testing.assert_array_equal(part, p_SU[:, own])
    np.testing.assert_array_equal(centred_logs(part, part_logs), mean_U[own])
    np.testing.assert_array_equal(part_logs, logs[:, own])
    whole = slot_rates(opens, sends, cohort, table)[:, own]
    np.testing.assert_array_equal(slot_rates(opens[own], sends[own], cohort[own], table), whole)
    whole = act_shapes(opens, cohort, table)[:, own]
    np.testing.assert_array_equal(act_shapes(opens[own], cohort[own], table), whole)


@pytest.mark.parametrize("users", SIZES)
def test_centred_logs_sum_to_nothing_and_hold_to_the_floor(users: int) -> None:
    p_SU = np.random.default_rng(1).random((24, users))
    p_SU[:, ::5] = 0.0
    p_SU[3, 1::5] = 7.0
    out_SU = np.empty((24, users), np.float32)
    mean_U = centred_logs(p_SU, out_SU)
    logs = np.log(np.clip(p_SU, 1e-6, 1))
    np.testing.assert_allclose(mean_U, logs.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(out_SU, logs - logs.mean(axis=0), atol=1e-5)
