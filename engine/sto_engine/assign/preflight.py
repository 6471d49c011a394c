"""Whether the mail fits at all, found before anyone is scored: the most recipients that the limits take.

It is a small linear program over groups of recipients: as many sends as possible, at most `count_G` of each group and
at most `capacity_R` of each resource. What is short is named by the prices of the program: by duality, with y_R >= 0,

    short = sum_g count_g * min(1, cheapest option of g) - sum_r capacity_r * y_r

so the recipients in the first sum need what is in the second, and no plan of any kind can do better.

G groups, O options, R resources, K uses; N nodes, which are groups and then resources.
"""

import difflib
import math
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from sto_engine.assign.demand import Demand, Program, reduce_demand
from sto_engine.assign.resources import describe, settings
from sto_engine.assign.shortage import Feasibility, Shortage
from sto_engine.config import Config
from sto_engine.errors import ConfigError

Floats = NDArray[np.float64]
_SLACK = 1e-9  # of the recipients: how far the solver's prices may be off


def check_feasibility(demand: Demand) -> Feasibility:
    """The least number of recipients that fit nowhere, exact but for 1e-9 of all, and what they are short of."""
    blocking = _overloads(demand)
    short = int(demand.count_G[~demand.allowed_GS.any(axis=1)].sum())
    if short:
        blocking.append(Shortage("an allowed slot", short, 0, ()))
    program = reduce_demand(demand)
    if len(program.group_O):
        more, bottlenecks = _bottlenecks(program, _prices(program))
        short += more
        blocking += bottlenecks
    return Feasibility(int(demand.count_G.sum()), short, tuple(blocking))


def check_provider_names(config: Config, known: Collection[str]) -> None:
    """Raise ConfigError (78) for a limit of a mailbox provider that is not among `known`."""
    limits = {f"providers.{name}": name for name in config.capacity.providers}
    limits |= {f"warmup.{name}": name for name in config.capacity.warmup if name != "total"}
    names = sorted(known)
    for key, name in limits.items():
        if name in known:
            continue
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
        nearest = f'; nearest known: "{near[0]}"; all: {", ".join(names)}' if near else "; there is none"
        raise ConfigError(
            f'capacity.{key} limits a mailbox provider that is not known: "{name}"{nearest}; mend the name or list its '
            "domains in recipients.providers"
        )


def _overloads(demand: Demand) -> list[Shortage]:
    """Where the pinned sends alone are too many: one shortage a provider and kind of limit."""
    over: dict[tuple[str, str], list[int]] = {}
    for r in np.flatnonzero(demand.capacity_R < 0).tolist():
        resource = demand.resources_R[r]
        over.setdefault((resource.provider or "", resource.kind), []).append(r)
    sent_R = demand.pinned_R / demand.unit_R
    room_R = (demand.capacity_R + demand.pinned_R) / demand.unit_R
    shortages = [
        Shortage(
            name=describe(demand.resources_R[r] for r in rows),
            need=math.ceil(float(sent_R[rows].sum())),
            have=math.floor(float(room_R[rows].sum())),
            keys=settings(demand.resources_R[r] for r in rows),
            is_pinned=True,
        )
        for rows in over.values()
    ]
    return sorted(shortages, key=lambda s: (s.have - s.need, s.name))


def _prices(program: Program) -> Floats:
    """Prices of the resources, in messages a unit: of the linear program that sends as much as possible."""
    from scipy.optimize import linprog
    from scipy.sparse import coo_array

    n_groups, n_options = len(program.count_G), len(program.group_O)
    rows = np.concatenate([program.group_O, n_groups + program.uses.resource_K])
    columns = np.concatenate([np.arange(n_options), program.uses.option_K])
    values = np.concatenate([np.ones(n_options), program.uses.weight_K])
    bounds = np.concatenate([program.count_G, program.capacity_R]).astype(np.float64)
    matrix = coo_array((values, (rows, columns)), shape=(len(bounds), n_options)).tocsr()
    # interior point: two to three seconds where dual simplex takes a minute; its crossover ends on a vertex as well
    for method in ("highs-ipm", "highs-ds"):
        solved = linprog(-np.ones(n_options), A_ub=matrix, b_ub=bounds, method=method)
        if solved.status == 0:
            return np.asarray(np.maximum(-solved.ineqlin.marginals[n_groups:], 0))
    raise RuntimeError(f"the pre-flight found no solution of its linear program: {solved.message}")


def _bottlenecks(program: Program, price_R: Floats) -> tuple[int, list[Shortage]]:
    """How many fit nowhere by the prices, and the shortages: resources that the same recipients need, together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    uses, n_groups = program.uses, len(program.count_G)
    price_R = np.where(price_R < _SLACK, 0, price_R)
    cost_O = np.bincount(uses.option_K, uses.weight_K * price_R[uses.resource_K], len(program.group_O))
    cost_G = np.minimum(np.minimum.reduceat(cost_O, np.flatnonzero(np.diff(program.group_O, prepend=-1))), 1)
    need_G, have_R = program.count_G * cost_G, program.capacity_R * price_R
    slack = 1e-6 + _SLACK * float(program.count_G.sum())
    short = max(0, math.ceil(need_G.sum() - have_R.sum() - slack))
    group_K = program.group_O[uses.option_K]
    tied_K = (price_R[uses.resource_K] > 0) & (cost_G[group_K] > 0)
    nodes = (group_K[tied_K], n_groups + uses.resource_K[tied_K])
    size = n_groups + len(price_R)
    links = coo_array((np.ones(len(nodes[0]), np.int8), nodes), shape=(size, size))
    n_parts, part_N = connected_components(links, directed=False)
    need = np.bincount(part_N[:n_groups], need_G, n_parts)
    have = np.bincount(part_N[n_groups:], have_R, n_parts)
    found = []
    for part in np.flatnonzero(need - have > slack) if short else ():
        rows = np.flatnonzero((part_N[n_groups:] == part) & (price_R > 0)).tolist()
        resources = [resource for r in rows for resource in program.resources_R[r]]
        need_n, have_n = math.ceil(need[part] - slack), math.floor(have[part] + slack)
        found.append(Shortage(describe(resources), need_n, have_n, settings(resources)))
    return short, sorted(found, key=lambda s: (s.have - s.need, s.name))
