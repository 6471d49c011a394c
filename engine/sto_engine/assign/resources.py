"""What sends use up: 15-minute bins of absolute time, UTC days and slots, of one mailbox provider or of all mail."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from sto_engine.rates import BIN_MINUTES
from sto_engine.slots import MINUTE_MS

Kind = Literal["bin", "day", "slot"]
BIN_MS = BIN_MINUTES * MINUTE_MS
ALL_MAIL = "all mail"
# the name of all mail in settings and reports
TOTAL = "total"
# what stands before the name of a channel where mailbox providers stand (assign.channels)
MARK = "channel:"
_MOST_PARTS, _MOST_SPANS = 3, 2


@dataclass(frozen=True)
class Resource:
    """One limit: of a provider, of a channel (its lane), or of all mail (None).

    `at_ms`: UTC start of the bin or day; of a slot its index.
    """

    kind: Kind
    provider: str | None
    at_ms: int

    def text(self) -> str:
        """For messages: "gmail 2026-04-20 08:00Z"; a UTC day has no time."""
        return _whose(self.kind, self.provider) + _moment(self.kind, self.at_ms)


def settings(resources: Iterable[Resource]) -> tuple[str, ...]:
    """The keys of the configuration that make these limits, that of all mail first."""
    keys: dict[str, None] = {}
    for resource in sorted(resources, key=_place):
        rates = _rates_key(resource.provider)
        keys["capacity.max_slot_share" if resource.kind == "slot" else rates] = None
        if resource.kind == "day" and not rates.startswith("capacity.channels."):
            keys[f"capacity.warmup.{resource.provider or 'total'}"] = None
    return tuple(keys)


def _rates_key(provider: str | None) -> str:
    if provider and provider.startswith(MARK):
        return f"capacity.channels.{provider.removeprefix(MARK)}"
    return f"capacity.providers.{provider}" if provider else "capacity.total"


def describe(resources: Iterable[Resource]) -> str:
    """Several limits in short: "gmail 2026-04-20 08:00Z-11:00Z", bins without a gap between them as one span."""
    times: dict[tuple[Kind, str | None], list[int]] = {}
    for resource in sorted(resources, key=_place):
        times.setdefault((resource.kind, resource.provider), []).append(resource.at_ms)
    parts = [_whose(kind, provider) + _times(kind, at) for (kind, provider), at in times.items()]
    more = len(parts) - _MOST_PARTS
    return " + ".join(parts[:_MOST_PARTS]) + (f" and {more} more limits" if more > 0 else "")


def _place(resource: Resource) -> tuple[str, str, int]:
    return resource.provider or "", resource.kind, resource.at_ms


def _whose(kind: Kind, provider: str | None) -> str:
    return "" if kind == "slot" else f"{provider or ALL_MAIL} "


def _times(kind: Kind, at: Sequence[int]) -> str:
    """When, in order of time; of many spans only how many bins there are between the first and the last."""
    if kind != "bin":
        texts = [_moment(kind, ms) for ms in at]
    else:
        begins = [i for i, ms in enumerate(at) if not i or ms != at[i - 1] + BIN_MS]
        texts = [_span(at[i], at[end - 1]) for i, end in zip(begins, [*begins[1:], len(at)], strict=True)]
    if len(texts) <= _MOST_SPANS:
        return ", ".join(texts)
    return f"{len(at)} bins of {_span(at[0], at[-1])}" if kind == "bin" else f"{texts[0]} and {len(texts) - 1} more"


def _span(first_ms: int, last_ms: int) -> str:
    if first_ms == last_ms:
        return _moment("bin", first_ms)
    begin, end = _moment("bin", first_ms), _moment("bin", last_ms + BIN_MS)
    day = begin[: len("2026-04-20 ")]
    return f"{begin}-{end.removeprefix(day)}"


def _moment(kind: Kind, at_ms: int) -> str:
    if kind == "slot":
        return f"slot {at_ms}"
    form = "%Y-%m-%d" if kind == "day" else "%Y-%m-%d %H:%MZ"
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime(form)
