"""The engine's own way, over buckets as the nightly run has them: two bytes a slot, prices, choice, repair."""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sto_assign import peers
from sto_assign.cases import Case
from sto_assign.problems import Problem, make_problem
from sto_engine.assign.in_memory import solve_in_memory
from sto_kernels.limits import limits_of
from sto_kernels.offers import Offers, offers_of

# about as many users a bucket as a store has
BUCKET_USERS = 80_000
BEFORE_FIT, FIT = "offers", ("count", "fit")
Solved = tuple[NDArray[np.uint8], dict[str, float], float, NDArray[np.float64], int]


def solve_problem(problem: Problem, threads: int) -> Solved:
    """Slots, seconds of stages, the bound that is claimed, its prices, users moved after the choice."""
    limits = limits_of(problem.resource_GSJ, problem.weight_GSJ, problem.capacity_R)
    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(lambda part: _offers(problem, part), _buckets(problem.users)))
    offered = time.perf_counter()
    found, slots = solve_in_memory(parts, limits, problem.provider_G, threads)
    stages = {BEFORE_FIT: offered - began, **found.seconds}
    return np.concatenate(slots), stages, found.bound, found.price_R, found.moved + found.chained


def _buckets(users: int) -> list[slice]:
    buckets = max(1, -(-users // BUCKET_USERS))
    cuts = np.linspace(0, users, buckets + 1).astype(np.int64).tolist()
    return [slice(first, end) for first, end in pairwise(cuts)]


def _offers(problem: Problem, part: slice) -> Offers:
    group_U = problem.group_U[part]
    return offers_of(problem.worth_US[part], problem.open_GS[group_U], group_U, problem.h_U[part])


def warm_up(threads: int) -> None:
    """Compile what is compiled at its first call, ours and that of the peers, on small problems."""
    for limits in ("tight", "zones"):
        problem = make_problem(Case("warm_up", 2_000, "test", limits=limits), 0)
        solve_problem(problem, threads)
        peers.greedy(problem)
