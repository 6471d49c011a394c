"""P(label) of each slot on a day from what attention and the send hour say of a user, and what that leaves to learn.

    margin = w . [1, level of attention, level of the send hour, shape of attention, shape of the send hour]
    p      = sigmoid(margin)

as the base margin of `boosted` (recipe, section 6), the shapes whole: no forest adds to them. Everything is fitted
point in time on the sample: features of what was known some weeks ago, labels of the sends since then. On top,

    posterior of (user, slot) = Beta(k p + hits, k (1 - p) + misses)

where k and the discount of older outcomes are those under which outcomes before that moment foretell those after it
best (models.beta_binomial): large where the send hour adds nothing to what p knows, small where it does.

U users, S slots, N rows (sends).
"""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.history.rates import look_up
from sto_engine.history.sample import Sample, select_users
from sto_engine.models.beta_binomial import LEAST_MEAN, fit_strength
from sto_engine.models.counts import Weights, bucket_counts
from sto_engine.models.features import attention_to
from sto_engine.models.foretell import Cells, Later, Memory, fit_memory, later_sends, moment_of
from sto_engine.models.outcomes import Outcomes, Terms, mature_sends
from sto_engine.models.priors import Priors, codes_of
from sto_engine.models.ridge import dot, fit_logistic, log_posterior
from sto_kernels.attention import attention_rates
from sto_kernels.curves import centred_logs, open_chances, windows
from sto_kernels.journal import DAY_MS, Cleaned, Counts
from sto_kernels.lanes import Floats
from sto_kernels.send_effect import send_hour_curve

FIT_USERS = 8_000
# [1, two levels, two shapes]: attention as it is, unless the outcomes say otherwise
PRIOR_5 = np.array([0.0, 0.7, 0.3, 1.0, 0.0])
RIDGE_5 = np.array([0.01, 20.0, 20.0, 100.0, 10.0])
# nats by which the shape of the send hour must raise the likelihood
EVIDENCE = 5.0
LEAST_RATE = 1e-3
# a mail of Monday to Thursday is read on weekdays, whatever the window
WEEKDAYS = ((0, 1, 2, 3), (4,), (5,), (6,))


@dataclass(frozen=True)
class Learnt:
    """Weights of the margin [5], strength of what is said of a user's level, and how much own outcomes count."""

    weight_5: Floats
    level_strength: float
    memory: Memory


@dataclass(frozen=True)
class Curves:
    """Rates of attention [48, U] and opens by send hour [24, U], as known at a moment; `kind`: the campaign's type."""

    rate_48U: Floats
    send_hour_24U: Floats
    kind: int | None = None

    def margins(self, priors: Priors, weekday: int, terms: Terms, weight_5: Floats) -> NDArray[np.float32]:
        """Margin of every slot of a weekday, float32 [S, U]."""
        level_2U, shape_2SU = self.inputs(priors, weekday, terms)
        level_U = weight_5[0] + weight_5[1] * level_2U[0] + weight_5[2] * level_2U[1]
        return np.asarray(level_U + weight_5[3] * shape_2SU[0] + weight_5[4] * shape_2SU[1], np.float32)

    def inputs(self, priors: Priors, weekday: int, terms: Terms) -> tuple[Floats, NDArray[np.float32]]:
        """Levels [2, U] and shapes [2, S, U] of attention and send hour."""
        hours = 24 if terms.label_ms >= DAY_MS else 2
        rate_48U, decay_24 = attention_to(self.rate_48U, priors, self.kind)
        window = windows(decay_24, hours, weekday, terms.slots)
        shape_2SU = np.empty((2, terms.slots, self.rate_48U.shape[1]), np.float32)
        direct_SU = np.repeat(self.send_hour_24U, terms.slots // 24, axis=0)
        levels = [
            centred_logs(p_SU, shape_2SU[row]) for row, p_SU in enumerate((open_chances(rate_48U, window), direct_SU))
        ]
        return np.stack(levels), shape_2SU


def fit_context(
    sample: Sample,
    priors: Priors,
    window_ms: tuple[int, int],
    terms: Terms,
    half_life_days: float | None,
    discount: float | None,
) -> Learnt:
    """Weights, strengths and discount (where it is not given) by the outcomes of the last weeks of the sample."""
    sample = first_users(sample, FIT_USERS)
    cleaned = sample.cleaned
    moment_ms = moment_of(cleaned, window_ms)
    rows = mature_sends(cleaned, terms, window_ms[1], moment_ms)
    rows = rows[cleaned.type_S[rows] == priors.target_type]
    rate_C = campaign_weights(priors, sample.campaign_key_C, terms)
    later = later_sends(cleaned, rows, rate_C, terms)
    curves = _curves(sample, priors, (window_ms[0], moment_ms), half_life_days)
    inputs_N5 = _row_inputs(cleaned, later, curves, priors, terms)
    weight_5 = _weights(inputs_N5, later.hit_N, np.log(np.maximum(later.rho_N, LEAST_RATE)))
    p_N = 1 / (1 + np.exp(-dot(inputs_N5, weight_5)))
    levels = Cells.of(later.user_N, later, p_N)
    level_strength, _ = fit_strength(levels.mean_C, levels.hits_C, levels.misses_C)
    gain_C = level_gains(level_strength, levels.mean_C, levels.hits_C, levels.sends_C)
    p_N = np.minimum(p_N * gain_C[levels.place_N], 1.0)
    memory = fit_memory(cleaned, later, p_N, (rate_C, priors.follow_T), terms, moment_ms, discount)
    return Learnt(weight_5, level_strength, memory)


def level_gains(strength: float, mean_U: Floats, hits_U: Floats, sends_U: Floats) -> Floats:
    """How many times as often as said a user hits, drawn to 1, [U]."""
    return (strength * mean_U + hits_U) / ((strength + sends_U) * np.maximum(mean_U, LEAST_MEAN))


def leveled(p_US: Floats, outcomes: Outcomes, level_strength: float) -> Floats:
    """The chances times what each user hits more or less than they say over all slots, float64 [U, S]."""
    hits_U, sends_U = (x.sum(axis=1, dtype=np.float64) for x in (outcomes.hits_US, outcomes.sends_US))
    mean_U = (outcomes.sends_US * p_US).sum(axis=1) / np.maximum(sends_U, 1e-9)
    gain_U = np.where(sends_U > 0, level_gains(level_strength, mean_U, hits_U, sends_U), 1.0)
    return np.clip(p_US * gain_U[:, None], LEAST_MEAN, 1 - LEAST_MEAN)


def campaign_weights(priors: Priors, key_C: NDArray[np.uint64], terms: Terms) -> Floats:
    """rho of each campaign within the label window, float64 [C]."""
    rate_G = priors.rate24_G if terms.label_ms >= DAY_MS else priors.rate2_G
    return look_up(key_C, priors.campaign_key_G, rate_G)


def sample_counts(
    sample: Sample, priors: Priors, window_ms: tuple[int, int], half_life_days: float | None = None
) -> Counts:
    """What was to be counted of the users of a sample at the end of a window."""
    key_C, known_G = sample.campaign_key_C, priors.campaign_key_G
    rate2_C, rate24_C = look_up(key_C, known_G, priors.rate2_G), look_up(key_C, known_G, priors.rate24_G)
    weights = Weights(rate2_C, rate24_C, priors.decay_T24, priors.follow_T)
    return bucket_counts(sample.cleaned, sample.users, weights, window_ms, priors.has_sends, half_life_days)


def first_users(sample: Sample, users: int) -> Sample:
    """The same of the first users, by the order of their hashes."""
    some = np.arange(min(users, sample.users))
    cleaned = select_users(sample.cleaned, some)
    return replace(sample, key_U=sample.key_U[some], cohort_U=sample.cohort_U[some], cleaned=cleaned)


def sample_cohorts(sample: Sample, names: tuple[str, ...]) -> NDArray[np.int32]:
    """Row of each user's cohort in a table of `names`, int32 [U]."""
    return codes_of(pl.Series(sample.cohorts, dtype=pl.String), names)[sample.cohort_U]


def _curves(sample: Sample, priors: Priors, window_ms: tuple[int, int], half_life_days: float | None) -> Curves:
    """What was known of the users of a sample at the end of a window."""
    cohort_U = sample_cohorts(sample, priors.cohort_names)
    counts = sample_counts(sample, priors, window_ms, half_life_days)
    tables = priors.shape_K48, priors.log_prior_CK, priors.residual_C48
    effect = priors.effect_mean_C5[cohort_U], priors.effect_precision_55, priors.effect_p0
    return Curves(
        attention_rates(counts.opens_U48, counts.exposure_U48, cohort_U, *tables),
        send_hour_curve(counts.opens24_U24, counts.sends24_U24, *effect),
    )


def _row_inputs(cleaned: Cleaned, later: Later, curves: Curves, priors: Priors, terms: Terms) -> Floats:
    """[1, two levels, two shapes] of each send, float64 [N, 5]."""
    weekday_N = (cleaned.local_S[later.rows] // DAY_MS + 3) % 7  # the epoch was a Thursday
    user_N, slot_N = later.user_N, later.slot_N
    inputs_N5 = np.ones((len(user_N), 5))
    for days in WEEKDAYS:
        at = np.flatnonzero(np.isin(weekday_N, days))
        if len(at):
            level_2U, shape_2SU = curves.inputs(priors, days[0], terms)
            inputs_N5[at, 1:3] = level_2U[:, user_N[at]].T
            inputs_N5[at, 3:5] = shape_2SU[:, slot_N[at], user_N[at]].T
    return inputs_N5


def _weights(inputs_N5: Floats, hit_N: NDArray[np.float32], offset_N: Floats) -> Floats:
    """Ridge logistic weights; the shape of the send hour counts where there is evidence that it does."""
    found = []
    for free in (np.arange(4), np.arange(5)):
        inputs, prior, ridge = inputs_N5[:, free], PRIOR_5[free], RIDGE_5[free]
        weight = fit_logistic(inputs, hit_N, np.ones(len(hit_N)), offset_N, prior, ridge)
        found.append((weight, log_posterior(weight, inputs, hit_N, offset_N, prior, ridge)))
    (alone_4, value), (both_5, higher) = found
    is_evident = higher - value > EVIDENCE and (both_5[3:] >= 0).all()
    return np.asarray(both_5 if is_evident else np.append(alone_4, 0.0))
