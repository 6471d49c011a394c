"""What people do without a model, and what they build first: a slot for every user, straight from counts.

Arrays in, slots out, so that simulated mailings and real activity are decided by the same lines. U users, N sends,
24 hours. Ties go to the earliest hour.
"""

import numpy as np
from numpy.typing import NDArray

from sto_decisions.known import HOURS, Ints, Known

Floats = NDArray[np.float64]
FIXED_HOUR = 10
KERNEL_H = 1.0
COHORT_PSEUDO = 5.0
MIN_OPENS = 5
BETA_PRIOR_SENDS = 10.0
GLOBAL_PRIOR_SENDS = 20.0


def fixed_10(known: Known) -> Ints:
    """Everybody at 10:00 of his profile's clock."""
    return np.full(len(known.users), FIXED_HOUR)


def best_global_hour(known: Known) -> Ints:
    """Everybody at the hour with the highest share of promos opened within two hours.

    Promos only: order mail is opened at once whatever the hour, and would name the hour at which people order.
    """
    promo_N = known.is_promo_N
    sends_24 = count(known.send_hour_N[promo_N])
    opens_24 = count(known.send_hour_N[promo_N & known.in_time_N])
    rate = opens_24.sum() / max(1.0, sends_24.sum())
    best = int(((opens_24 + GLOBAL_PRIOR_SENDS * rate) / (sends_24 + GLOBAL_PRIOR_SENDS)).argmax())
    return np.full(len(known.users), best)


def raw_histogram(known: Known) -> Ints:
    """The hour at which a user opened most."""
    return raw_slots(per_user(known.open_user_M, known.open_hour_M, len(known.users)))


def smoothed_histogram(known: Known) -> Ints:
    """The two hours in which a user opened most, smoothed and shrunk to his cohort."""
    return smoothed_slots(per_user(known.open_user_M, known.open_hour_M, len(known.users)), known.cohort_U)


def beta_per_slot(known: Known) -> Ints:
    """The send hour with the highest posterior mean of opens within two hours, every hour with the same prior."""
    users, in_time_N = len(known.users), known.in_time_N
    sends_U24 = per_user(known.send_user_N, known.send_hour_N, users)
    opens_U24 = per_user(known.send_user_N[in_time_N], known.send_hour_N[in_time_N], users)
    rate = opens_U24.sum() / max(1.0, sends_U24.sum())
    mean_U24 = (opens_U24 + BETA_PRIOR_SENDS * rate) / (sends_U24 + BETA_PRIOR_SENDS)
    return np.asarray(mean_U24.argmax(axis=1))


BASELINES = {f.__name__: f for f in (fixed_10, best_global_hour, raw_histogram, smoothed_histogram, beta_per_slot)}


def count(hour_N: Ints) -> Floats:
    """How often each hour occurs, [24]."""
    return np.bincount(hour_N, minlength=HOURS).astype(np.float64)


def per_user(user_N: Ints, hour_N: Ints, users: int) -> Floats:
    """How often each hour occurs for each user, [U, 24]."""
    return np.bincount(user_N * HOURS + hour_N, minlength=users * HOURS).reshape(users, HOURS).astype(np.float64)


def raw_slots(acts_U24: Floats) -> Ints:
    """The fullest hour of each user; everyone's for users who never acted."""
    everyone = int(acts_U24.sum(axis=0).argmax())
    return np.asarray(np.where(acts_U24.any(axis=1), acts_U24.argmax(axis=1), everyone))


def smoothed_slots(acts_U24: Floats, cohort_U: Ints) -> Ints:
    """Argmax of the two-hour sum of (acts + 5 acts of the cohort's shape) under a 1 h kernel.

    Users of fewer than 5 acts get their cohort's slot; a cohort that never acted, everyone's (recipe 5).
    """
    cohort_C24 = np.zeros((int(cohort_U.max(initial=0)) + 1, HOURS))
    np.add.at(cohort_C24, cohort_U, acts_U24)
    cohort_C24 += 1e-9 * acts_U24.sum(axis=0) + 1e-12
    shape_U24 = (cohort_C24 / cohort_C24.sum(axis=1, keepdims=True))[cohort_U]
    own_U24 = np.where(acts_U24.sum(axis=1, keepdims=True) >= MIN_OPENS, acts_U24, 0.0)
    return np.asarray(two_hours(smooth(own_U24 + COHORT_PSEUDO * shape_U24)).argmax(axis=1))


def smooth(values_U24: Floats) -> Floats:
    """A circular Gaussian of one hour over the day."""
    apart_24 = (np.arange(HOURS) + 12) % HOURS - 12
    weight_24 = np.exp(-0.5 * (apart_24 / KERNEL_H) ** 2)
    circulant = np.stack([np.roll(weight_24 / weight_24.sum(), hour) for hour in range(HOURS)])
    return np.asarray(values_U24 @ circulant)


def two_hours(values_U24: Floats) -> Floats:
    """Sum over the two hours from each hour on, circular."""
    return np.asarray(values_U24 + np.roll(values_U24, -1, axis=1))
