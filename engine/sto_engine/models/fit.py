"""Sums and sample of a moment -> the priors at that moment (recipe, section 7); pure."""

import numpy as np
from numpy.typing import NDArray

from sto_engine.history.rates import TYPES, campaign_rates
from sto_engine.history.sample import Campaigns, Sample
from sto_engine.models.counts import Weights, bucket_counts, voice
from sto_engine.models.fit_effect import fit_act_shapes, fit_effect, fit_slot_rates
from sto_engine.models.fit_shapes import fit_shapes
from sto_engine.models.fit_types import fit_types
from sto_engine.models.inherit import Evidence
from sto_engine.models.priors import Priors
from sto_kernels.journal import Counts
from sto_kernels.lanes import Floats


def fit_priors(
    sample: Sample, campaigns: Campaigns, window_ms: tuple[int, int], half_life_days: float | None = None, kind: int = 0
) -> Priors:
    """Every table of `Priors` from the events of a window, as the sample and the campaign sums hold them; attention is
    fitted for campaigns of the type `kind`."""
    return fit_with_evidence(sample, campaigns, window_ms, half_life_days, kind)[0]


def fit_with_evidence(
    sample: Sample, campaigns: Campaigns, window_ms: tuple[int, int], half_life_days: float | None = None, kind: int = 0
) -> tuple[Priors, Evidence]:
    """The priors, and what stands behind them."""
    key_G, rate2_G, rate24_G = campaign_rates(campaigns)
    place_C = np.searchsorted(key_G, sample.campaign_key_C)
    rates_C = (rate2_G[place_C], rate24_G[place_C])
    cohorts, cohort_U = len(sample.cohorts), sample.cohort_U
    types = fit_types(sample.cleaned, sample.users, rates_C, cohort_U, cohorts, window_ms[1], kind)
    weights = Weights(*rates_C, types.decay_T24, types.follow_T)
    has_sends = bool(len(campaigns.key_C))
    counts = bucket_counts(sample.cleaned, sample.users, weights, window_ms, has_sends, half_life_days)
    opens_U48, acts_U24 = _wide(counts.opens_U48), _wide(counts.acts_U24)
    voice_U1 = voice(opens_U48.sum(axis=1))[:, None]
    shapes = fit_shapes(opens_U48 * voice_U1, counts.exposure_U48 * voice_U1, cohort_U, cohorts)
    effect = fit_effect(counts.opens24_U24, counts.sends24_U24, cohort_U, cohorts)
    slot_rate_C24 = fit_slot_rates(_wide(counts.opens2_U24), _wide(counts.sends2_U24), cohort_U, cohorts)
    priors = Priors(
        cohort_names=sample.cohorts,
        source_names=sample.sources,
        has_sends=has_sends,
        has_acts=bool(counts.acts_U.sum() > 0),
        campaign_key_G=key_G,
        rate2_G=rate2_G,
        rate24_G=rate24_G,
        decay_T24=types.decay_T24,
        follow_T=types.follow_T,
        target_type=types.target,
        shape_K48=shapes.shape_K48,
        log_prior_CK=shapes.log_prior_CK,
        residual_C48=shapes.residual_C48,
        effect_mean_C5=effect.mean_C5,
        effect_precision_55=effect.precision_55,
        effect_p0=effect.p0,
        slot_rate_C24=slot_rate_C24,
        act_shape_C24=fit_act_shapes(acts_U24 * voice(acts_U24.sum(axis=1))[:, None], cohort_U, cohorts),
        open_rate2=_ratio(counts.opens2_U24, counts.sends2_U24),
        open_rate=float(counts.opened_U.sum() / max(counts.sent_U.sum(), 1.0)),
    )
    return priors, _evidence(sample, counts)


def _evidence(sample: Sample, counts: Counts) -> Evidence:
    cleaned, opens_U = sample.cleaned, counts.opens_U48.sum(axis=1, dtype=np.float64)
    return Evidence(
        users_C=np.bincount(sample.cohort_U, np.minimum(opens_U, 3) / 3, len(sample.cohorts)).astype(np.float64),
        opens_48=counts.opens_U48.sum(axis=0, dtype=np.float64),
        exposure_48=counts.exposure_U48.sum(axis=0, dtype=np.float64),
        sends2=float(counts.sends2_U24.sum(dtype=np.float64)),
        sends=float(counts.sent_U.sum()),
        opens_T=np.bincount(cleaned.type_S[cleaned.latency_S >= 0], minlength=TYPES).astype(np.float64),
    )


def _ratio(opens: NDArray[np.float32], sends: NDArray[np.float32]) -> float:
    return float(opens.sum(dtype=np.float64) / max(sends.sum(dtype=np.float64), 1.0))


def _wide(x: NDArray[np.float32]) -> Floats:
    return np.asarray(x, np.float64)
