"""A history in which channels are told apart: what is sent on each is cleaned and joined for itself.

A campaign that goes out on two channels is two campaigns, so that an open joins the send of its own channel and each
has an appeal of its own. An event without a channel is email's; channels that the run does not choose from are one
more, the last, and teach when people look. What makes a machine of a mailbox says nothing of an app: outside email
the rules of mail clients and links (prefetch, scanner, fast_clicks, agents) and of addresses (invalid, dead) are left
out, and who is a machine or a dead address is said by email alone. U users, C campaigns.
"""

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_engine.config import Config
from sto_engine.history.bucket import Bucket, build_journal
from sto_engine.tables import EMAIL
from sto_kernels.hashing import derive
from sto_kernels.journal import Cleaned

_MAIL_RULES = ("prefetch", "scanner", "fast_clicks", "agents", "invalid", "dead")


def bucket_by_channel(
    events: pl.DataFrame, users: pl.DataFrame, config: Config, channels: Sequence[str], window_ms: tuple[int, int]
) -> Bucket:
    """The bucket of `history.bucket` with `channel_C`: places in `channels`, len(channels) for all others."""
    others = len(channels)
    place = {name: code for code, name in enumerate(channels)}
    code_N = events["channel"].fill_null(EMAIL).replace_strict(place, default=others, return_dtype=pl.Int8)
    parts, keys, codes, days = [], [], [], None
    for code, name in enumerate((*channels, "")):
        own = config if name == EMAIL or (name == "" and EMAIL not in channels) else _without_mail_rules(config)
        part = build_journal(events.filter(code_N == code), users, own).at(*window_ms)
        key_C = part.campaign_key_C
        keys.append(key_C if name == EMAIL else derive(key_C, f"channel:{name}"))
        codes.append(np.full(len(key_C), code, np.int8))
        parts.append(part.cleaned)
        days = part.days  # the users', whatever was sent
    mail = channels.index(EMAIL) if EMAIL in channels else others
    return replace(_merged(users, parts, keys, codes, mail, window_ms), days=days)


def _without_mail_rules(config: Config) -> Config:
    skip = tuple(dict.fromkeys((*config.clean.skip, *_MAIL_RULES)))
    return config.model_copy(update={"clean": config.clean.model_copy(update={"skip": skip})})


def _merged(
    users: pl.DataFrame,
    parts: list[Cleaned],
    keys: list[NDArray[np.uint64]],
    codes: list[NDArray[np.int8]],
    mail: int,
    window_ms: tuple[int, int],
) -> Bucket:
    """One history of all parts; rows of a user in the order of time, campaigns in that of their keys."""
    key_C, channel_C = np.concatenate(keys), np.concatenate(codes)
    order_C = np.argsort(key_C, kind="stable")
    place_C = np.empty(len(order_C), np.int32)
    place_C[order_C] = np.arange(len(order_C), dtype=np.int32)
    first = np.cumsum([0, *map(len, keys)])
    parts = [replace(part, campaign_S=place_C[part.campaign_S + at]) for part, at in zip(parts, first, strict=False)]
    columns = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Cleaned)}
    for kind in "SA":
        order = np.lexsort((columns[f"utc_{kind}"], columns[f"user_{kind}"]))
        columns |= {name: column[order] for name, column in columns.items() if name.endswith(f"_{kind}")}
    columns |= {name: getattr(parts[mail], name) for name in ("machine_U", "invalid_U")}
    columns["shift_U"] = _shifts(parts, mail)
    columns["dropped_D"] = np.sum([part.dropped_D for part in parts], axis=0)
    return Bucket(users, Cleaned(**columns), key_C[order_C], *window_ms, channel_C=channel_C[order_C])


def _shifts(parts: list[Cleaned], mail: int) -> NDArray[np.int16]:
    """By whose clock users are mailed: as email shows, else as the first other channel does."""
    shift_U = parts[mail].shift_U
    for part in parts:
        shift_U = np.where(shift_U == 0, part.shift_U, shift_U)
    return shift_U
