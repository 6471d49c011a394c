"""Which cases of a registry a benchmark runs: those named, or those of the tiers asked for."""

from collections.abc import Sequence
from typing import Protocol, TypeVar


class Tiered(Protocol):
    """A case of a registry."""

    @property
    def name(self) -> str: ...

    @property
    def tier(self) -> str: ...


C = TypeVar("C", bound=Tiered)


def pick(known: Sequence[C], names: Sequence[str], tiers: Sequence[str]) -> list[C]:
    """The named cases in that order, each once; without names those of `tiers`, in the order of the registry.

    Raises ValueError for a name that is not registered.
    """
    cases = {case.name: case for case in known}
    unknown = [name for name in names if name not in cases]
    if unknown:
        raise ValueError(f"case must be one of {', '.join(cases)}; found {', '.join(unknown)}")
    if names:
        return [cases[name] for name in dict.fromkeys(names)]
    return [case for case in known if case.tier in tiers]
