"""What mail wants of the limits, by groups of recipients who may use the same options, and what of it is in question.

A resource that not even everyone who can use it fills limits nobody, and a group with an option that uses no other
resource fits whatever the rest do: both go, again and again, and mostly nothing is left. Groups with the same options
are one, and so are resources that every option uses alike, as the four bins of an hour: the least of them counts.

G groups, S slots, O = G * S options (option g * S + s), R resources, K uses; P pairs of group and resource.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sto_engine.assign.resources import Resource

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Demand:
    """Who may use what. Uses of option o are K in [first_O[o], first_O[o + 1]).

    `weight_K`: units of the resource that one send of the option takes. `capacity_R` and `pinned_R`: units that are
    left, below zero where the pinned sends (the control arm) alone need more, and units that those sends take.
    `unit_R`: units of a whole message, for messages.
    """

    count_G: Ints
    allowed_GS: NDArray[np.bool_]
    first_O: Ints
    resource_K: NDArray[np.int32]
    weight_K: NDArray[np.int32]
    capacity_R: Ints
    pinned_R: Ints
    unit_R: Ints
    resources_R: Sequence[Resource]


@dataclass(frozen=True)
class Uses:
    """Who may use what, once each: option, resource and units, all [K], in the order of option and resource."""

    option_K: Ints
    resource_K: Ints
    weight_K: Ints


@dataclass(frozen=True)
class Program:
    """What is left for the solver: merged groups, their distinct options, the resources that may run short.

    `resources_R`: the limits that each row stands for.
    """

    count_G: Ints
    group_O: Ints
    uses: Uses
    capacity_R: Ints
    resources_R: Sequence[Sequence[Resource]]


def reduce_demand(demand: Demand) -> Program:
    """The demand without resources that cannot run short and groups that cannot be short; like groups are one."""
    uses = _uses(demand)
    n_groups, n_slots = demand.allowed_GS.shape
    n_resources = len(demand.capacity_R)
    pair_P, pair_K = np.unique(uses.option_K // n_slots * n_resources + uses.resource_K, return_inverse=True)
    group_P, resource_P = np.divmod(pair_P, n_resources)
    most_P = np.zeros(len(pair_P), np.int64)
    np.maximum.at(most_P, pair_K, uses.weight_K)
    alive_G = (demand.count_G > 0) & demand.allowed_GS.any(axis=1)
    while True:
        load_P = demand.count_G[group_P] * most_P * alive_G[group_P]
        binding_R = np.bincount(resource_P, load_P, n_resources) > demand.capacity_R
        tight_K = binding_R[uses.resource_K]
        tied_GS = np.bincount(uses.option_K[tight_K], minlength=n_groups * n_slots).reshape(n_groups, n_slots) > 0
        left_G = alive_G & ~(demand.allowed_GS & ~tied_GS).any(axis=1)
        if (left_G == alive_G).all():
            break
        alive_G = left_G
    keep_K = tight_K & alive_G[uses.option_K // n_slots]
    kept = Uses(uses.option_K[keep_K], uses.resource_K[keep_K], uses.weight_K[keep_K])
    return _merge_resources(*_merge_groups(demand, kept), demand)


def _uses(demand: Demand) -> Uses:
    """The uses of options that somebody may take; a resource that an option names twice is one use."""
    n_resources = len(demand.capacity_R)
    option_K = np.repeat(np.arange(len(demand.first_O) - 1), np.diff(demand.first_O))
    wanted_O = (demand.allowed_GS & (demand.count_G > 0)[:, None]).ravel()
    keep_K = wanted_O[option_K] & (demand.weight_K > 0)
    key_K = option_K[keep_K] * n_resources + demand.resource_K[keep_K]
    key_K, place_K = np.unique(key_K, return_inverse=True)
    weight_K = np.bincount(place_K, demand.weight_K[keep_K], len(key_K)).astype(np.int64)
    return Uses(*np.divmod(key_K, n_resources), weight_K)


def _merge_groups(demand: Demand, uses: Uses) -> tuple[Ints, Ints, Uses]:
    """Recipients of each merged group, the group of each option, and the uses of these options.

    Options are texts, and a group the set of its own: what is equal as text is one.
    """
    n_slots = demand.allowed_GS.shape[1]
    code_K = np.stack([uses.resource_K, uses.weight_K], axis=1)
    options: dict[int, set[bytes]] = {}
    for option, text in _texts(uses.option_K, code_K):
        options.setdefault(option // n_slots, set()).add(text)
    merged: dict[tuple[bytes, ...], int] = {}
    for group, texts in options.items():
        key = tuple(sorted(texts))
        merged[key] = merged.get(key, 0) + int(demand.count_G[group])
    blocks = [np.frombuffer(text, np.int64).reshape(-1, 2) for key in merged for text in key]
    flat_K = np.concatenate([np.zeros((0, 2), np.int64), *blocks])
    option_K = np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])
    group_O = np.repeat(np.arange(len(merged)), [len(key) for key in merged])
    return np.array(list(merged.values()), np.int64), group_O, Uses(option_K, flat_K[:, 0], flat_K[:, 1])


def _merge_resources(count_G: Ints, group_O: Ints, uses: Uses, demand: Demand) -> Program:
    order_K = np.lexsort((uses.option_K, uses.resource_K))
    code_K = np.stack([uses.option_K, uses.weight_K], axis=1)[order_K]
    twins: dict[bytes, list[int]] = {}
    for r, text in _texts(uses.resource_K[order_K], code_K):
        twins.setdefault(text, []).append(r)
    least_R = np.array([min(same, key=lambda r: (demand.capacity_R[r], r)) for same in twins.values()], np.int64)
    row_R = np.full(len(demand.capacity_R), -1)
    row_R[least_R] = np.arange(len(least_R))
    row_K = row_R[uses.resource_K]
    keep_K = row_K >= 0
    return Program(
        count_G=count_G,
        group_O=group_O,
        uses=Uses(uses.option_K[keep_K], row_K[keep_K], uses.weight_K[keep_K]),
        capacity_R=np.maximum(demand.capacity_R[least_R], 0),
        resources_R=[_alike(demand, r, same) for r, same in zip(least_R.tolist(), twins.values(), strict=True)],
    )


def _alike(demand: Demand, least: int, twins: Sequence[int]) -> list[Resource]:
    """Those of the twins that are limits of the same kind and provider as the least: the others have room."""
    own = demand.resources_R[least]
    found = [demand.resources_R[r] for r in twins]
    return [resource for resource in found if (resource.kind, resource.provider) == (own.kind, own.provider)]


def _texts(key_K: Ints, code_K: Ints) -> Iterator[tuple[int, bytes]]:
    """Each run of equal keys with the bytes of its codes [K, 2]."""
    begin_N = np.flatnonzero(np.diff(key_K, prepend=-1))
    end_N = np.append(begin_N, len(key_K))[1:]
    for key, begin, end in zip(key_K[begin_N].tolist(), begin_N.tolist(), end_N.tolist(), strict=True):
        yield key, code_K[begin:end].tobytes()
