"""`attention` on several channels: one attention of the user, and of each channel what sets it apart.

    usual_c = rate * shape_c * cohort_c
    own_c   = (n_c + k) / (sum E_c usual_c + k)
    rate_c  = usual_c * own_c * (smooth(O_c) + OWN / 24) / (smooth(E_c usual_c own_c) + OWN / 24)

rate is the attention of recipe 3 by the opens and exposures of all channels together, E_c the exposure on a channel,
its level and its own age decay in it, O_c its opens, n_c their number; shape_c, cohort_c and k say what is usual on it
(models.fit_channels). The last step of recipe 3 is taken once more for
each channel: one with little data has the user's own shape, one never used for him that at its usual level. P(open) is
that within the label window on the channel; utilities of all channels compare. U users, S slots, C channels, 48 cells.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.config import Model
from sto_engine.history.bucket import Bucket
from sto_engine.history.parts import campaign_tensors, read_history, sample_tensors
from sto_engine.history.rates import look_up
from sto_engine.models.attention import blend, reasons_of
from sto_engine.models.bundle import Bundle
from sto_engine.models.counts import bucket_counts
from sto_engine.models.features import chances_of
from sto_engine.models.fit import fit_priors
from sto_engine.models.fit_channels import ChannelTables, fit_channels, no_tables, of_channel, rates_by_channel
from sto_engine.models.policy import Tensors, Utilities
from sto_engine.models.priors import Priors, from_tensors
from sto_engine.slots import SlotGrid
from sto_kernels.attention import OWN_COUNTS, OWN_SHARE_DAYS, OWN_WIDTH_H, attention_rates
from sto_kernels.curves import smooth_counts
from sto_kernels.journal import Counts
from sto_kernels.lanes import Floats

_KEYS, _CODES = "channels.key_C", "channels.code_C"
_TABLE = "channels."
_WEEK, _WEEKEND = slice(0, 24), slice(24, 48)


@dataclass(frozen=True)
class ChannelAttention:
    """The policy over pairs: utilities [U, C * S], channels in the order of `channels`."""

    grid: SlotGrid
    model: Model
    channels: tuple[str, ...]
    bundle: Bundle | None = None
    name: str = "attention"
    needs_sums: bool = True
    has_chances: bool = True
    kind: int | None = None  # type of the campaign; None: the one that attention is fitted for

    @property
    def bundle_id(self) -> str | None:
        return self.bundle.bundle_id if self.bundle is not None else None

    @property
    def _classes(self) -> int:
        return len(self.channels) + 1

    def sums(self, bucket: Bucket, buckets: int) -> dict[str, NDArray[Any]]:
        assert bucket.channel_C is not None
        window_ms = np.array([bucket.start_ms, bucket.end_ms])
        history = {**campaign_tensors(bucket), **sample_tensors(bucket, buckets), "window_ms": window_ms}
        return {**history, _KEYS: bucket.campaign_key_C, _CODES: bucket.channel_C}

    def reduce(self, parts: Iterable[Tensors]) -> dict[str, NDArray[Any]]:
        seen = _Channels()
        found = read_history(seen.passing(parts), with_sample=True)
        sample, window_ms = found.sample, found.window_ms
        assert sample is not None
        if self.bundle is None:
            priors = fit_priors(sample, found.campaigns, window_ms, self.model.half_life_days, self.kind or 0)
        else:
            priors = self.bundle.priors
        rates = rates_by_channel(found.campaigns, seen.key_G, seen.code_G, self._classes)
        priors = priors.with_campaigns(*rates)
        tables = no_tables(self._classes, priors)
        if len(sample.campaign_key_C):
            channel_G = seen.code_G[np.searchsorted(seen.key_G, sample.campaign_key_C)]
            tables = fit_channels(sample, channel_G, priors, self._classes, window_ms)
        own = {_TABLE + f.name: np.atleast_1d(np.asarray(getattr(tables, f.name))) for f in fields(ChannelTables)}
        return {**priors.tensors(), **own}

    def weighed_by(self, priors: Tensors) -> Priors:
        return from_tensors(priors, "the priors of this run")

    def utilities(self, bucket: Bucket, priors: Tensors, day: date) -> Utilities:
        known, tables = self.weighed_by(priors), _tables(priors)
        counts = self._counts(bucket, known, tables)
        cohort_U = known.cohorts_of(bucket.users["cohort"])
        opens, exposure = (
            np.asarray(sum(getattr(x, name) for x in counts), np.float32) for name in ("opens_U48", "exposure_U48")
        )
        shapes = known.shape_K48, known.log_prior_CK, known.residual_C48
        rate_48U = attention_rates(opens, exposure, cohort_U, *shapes)
        pairs: list[tuple[Floats, Floats]] = []
        for channel in range(len(self.channels)):
            own_48U = rate_48U * tables.shape_C48[channel][:, None] * tables.cohort_CK[channel][cohort_U]
            if known.has_sends:
                own_48U = own_rates(counts[channel], own_48U, tables.own)
            as_channel = replace(known, decay_T24=tables.decay_CT24[channel], follow_T=tables.follow_CT[channel])
            pairs.append(chances_of(own_48U, as_channel, bucket.days, day, self.grid.slots, self.kind))
        p2_US, p24_US = (np.concatenate(x, axis=0).T for x in zip(*pairs, strict=True))
        p_US, w24 = (p24_US if self.model.label == "open_24h" else p2_US), self.model.w24
        sent_U, acts_U = np.sum([x.sent_U for x in counts], axis=0), counts[0].acts_U
        return Utilities(
            np.ascontiguousarray(p_US if w24 == 0 else blend(p_US, p24_US, w24), np.float32),
            np.ascontiguousarray(p_US, np.float32) if known.has_sends else None,
            reasons_of(sent_U + acts_U > 0, cohort_U, known),
            acts_U.astype(np.float32),
            "chance" if w24 == 0 else "share",
        )

    def _counts(self, bucket: Bucket, priors: Priors, tables: ChannelTables) -> list[Counts]:
        """Of each channel and of all others, acts by each alike; of a history without a send once."""
        assert bucket.channel_C is not None
        rates = tuple(
            look_up(bucket.campaign_key_C, priors.campaign_key_G, r) for r in (priors.rate2_G, priors.rate24_G)
        )
        window_ms, half_life = (bucket.start_ms, bucket.end_ms), self.model.half_life_days
        found, counted = [], bucket.counted
        for channel in range(self._classes if priors.has_sends else 1):
            mails = of_channel(counted, bucket.channel_C, channel)
            weights = tables.weights(channel, (rates[0], rates[1]))
            found.append(bucket_counts(mails, len(bucket.users), weights, window_ms, priors.has_sends, half_life))
        return found


def own_rates(counts: Counts, usual_48U: Floats, own: float) -> Floats:
    """The user's rates on a channel, from those that he and his cohort have there by attention alone [48, U]."""
    expected_48U = counts.exposure_U48.T * usual_48U
    n_U, m_U = counts.opens_U48.sum(axis=1, dtype=np.float64), np.add.accumulate(expected_48U, axis=0)[-1]
    factor_U = (n_U + own) / (m_U + own)
    prior = OWN_COUNTS / 24
    opens_48U = _spread(counts.opens_U48)
    expected_48U = _spread(np.ascontiguousarray((expected_48U * factor_U).T, np.float32))
    return np.asarray(usual_48U * factor_U * (opens_48U + prior) / (expected_48U + prior))


def _spread(x_U48: NDArray[np.float32]) -> Floats:
    """Counts by cell under the kernel of attention's last step, weekdays and weekends lending to each other [48, U]."""
    week, weekend = (smooth_counts(np.ascontiguousarray(x_U48[:, day]), OWN_WIDTH_H) for day in (_WEEK, _WEEKEND))
    return np.concatenate([week + OWN_SHARE_DAYS * weekend, weekend + OWN_SHARE_DAYS * week])


def _tables(tensors: Tensors) -> ChannelTables:
    found: Mapping[str, Any] = {f.name: tensors[_TABLE + f.name] for f in fields(ChannelTables)}
    return ChannelTables(**{**found, "own": float(found["own"][0])})


class _Channels:
    """The channel of each campaign that any bucket has: keys in ascending order, and their codes."""

    def __init__(self) -> None:
        self.key_G, self.code_G = np.zeros(0, np.uint64), np.zeros(0, np.int8)

    def passing(self, parts: Iterable[Tensors]) -> Iterator[Tensors]:
        """The same parts, noted as they pass."""
        for part in parts:
            keys, codes = np.concatenate([self.key_G, part[_KEYS]]), np.concatenate([self.code_G, part[_CODES]])
            self.key_G, first = np.unique(keys, return_index=True)
            self.code_G = codes[first]
            yield part
