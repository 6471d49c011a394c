"""The optimum by others' exact solvers: a flow of least cost (OR-Tools), a linear program (HiGHS, by scipy)."""

import numpy as np
from numpy.typing import NDArray

from sto_assign.problems import NO_SLOT, Problem
from sto_bench.contest import Missing

# costs of a flow are integers; a worth is rounded to this part of one
COST = 1e7
LP_USERS = 5_000


def flow(problem: Problem) -> NDArray[np.uint8]:
    """The best answer, as a flow from users through resources, each into the next wider one, to a sink.

    Raises Missing without OR-Tools, and for problems that are no flow: where a send takes shares of resources, or
    those of a resource go on to several.
    """
    try:
        from ortools.graph.python.min_cost_flow import SimpleMinCostFlow
    except ImportError as error:
        raise Missing(f"OR-Tools cannot be imported ({error}); pip install 'sto-engine[bench]'") from error
    users, resources = problem.users, len(problem.capacity_R)
    sink = users + resources
    first_GS, next_R = _chains(problem)
    user_A, slot_A = np.nonzero(problem.open_GS[problem.group_U])
    head_A = users + first_GS[problem.group_U[user_A], slot_A]
    cost_A = -np.round(problem.worth_US[user_A, slot_A].astype(np.float64) * COST).astype(np.int64)
    solver = SimpleMinCostFlow()
    arcs = solver.add_arcs_with_capacity_and_unit_cost(user_A, head_A, np.ones(len(user_A), np.int64), cost_A)
    all_R = users + np.arange(resources)
    solver.add_arcs_with_capacity_and_unit_cost(
        all_R, users + next_R, problem.capacity_R, np.zeros(resources, np.int64)
    )
    solver.set_nodes_supplies(np.arange(users), np.ones(users, np.int64))
    solver.set_node_supply(sink, -users)
    if (status := solver.solve()) != solver.OPTIMAL:
        raise RuntimeError(f"the flow has no optimum: {status}")
    sent = solver.flows(arcs) > 0
    slot_U = np.full(users, NO_SLOT, np.uint8)
    slot_U[user_A[sent]] = slot_A[sent]
    return slot_U


def _chains(problem: Problem) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First resource of each option [G, S] and the one after each resource [R] (their number: the sink)."""
    resource_GSJ, resources = problem.resource_GSJ, len(problem.capacity_R)
    if (resource_GSJ < 0).any() or (problem.weight_GSJ != 1).any():
        raise Missing("a send that takes nothing, or several units, is no flow")
    options_R = np.bincount(resource_GSJ.reshape(-1), minlength=resources)
    # from the narrowest to the widest
    order_GSJ = np.argsort(options_R[resource_GSJ], axis=2, kind="stable")
    chain_GSJ = np.take_along_axis(resource_GSJ, order_GSJ, axis=2).astype(np.int64)
    next_R = np.full(resources, resources, np.int64)
    for j in range(chain_GSJ.shape[2] - 1):
        next_R[chain_GSJ[:, :, j]] = chain_GSJ[:, :, j + 1]
    after_GSJ = np.concatenate([chain_GSJ[:, :, 1:], np.full((*chain_GSJ.shape[:2], 1), resources)], axis=2)
    if not np.array_equal(next_R[chain_GSJ], after_GSJ):
        raise Missing("resources whose sends go on to several others are no flow")
    return chain_GSJ[:, :, 0], next_R


def lp(problem: Problem) -> tuple[NDArray[np.uint8], float]:
    """The optimum where users may be divided, which no answer exceeds, and the largest part of each user as a slot.

    Raises Missing without scipy and for more than 5,000 users, which take minutes.
    """
    try:
        from scipy.optimize import linprog
        from scipy.sparse import coo_array
    except ImportError as error:
        raise Missing(f"scipy cannot be imported ({error})") from error
    if problem.users > LP_USERS:
        raise Missing(f"HiGHS takes minutes beyond {LP_USERS:,} users")
    user_X, slot_X = np.nonzero(problem.open_GS[problem.group_U])
    x = np.arange(len(user_X))
    resource_XJ = problem.resource_GSJ[problem.group_U[user_X], slot_X]
    weight_XJ = problem.weight_GSJ[problem.group_U[user_X], slot_X]
    used = resource_XJ >= 0
    column_XJ = np.broadcast_to(x[:, None], resource_XJ.shape)
    loads = coo_array(
        (weight_XJ[used].astype(np.float64), (resource_XJ[used], column_XJ[used])), (len(problem.capacity_R), len(x))
    )
    ones = coo_array((np.ones(len(x)), (user_X, x)), (problem.users, len(x)))
    worth_X = problem.worth_US[user_X, slot_X].astype(np.float64)
    found = linprog(
        -worth_X, loads.tocsr(), problem.capacity_R, ones.tocsr(), np.ones(problem.users), bounds=(0, 1), method="highs"
    )
    if found.status != 0:
        raise RuntimeError(f"the linear program has no optimum: {found.message}")
    part_US = np.zeros(problem.worth_US.shape)
    part_US[user_X, slot_X] = found.x
    return part_US.argmax(axis=1).astype(np.uint8), -float(found.fun)
