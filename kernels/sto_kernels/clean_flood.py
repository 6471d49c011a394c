"""A step of `clean_walk`: recipients with more acts on a day than a person has (journal.Rules). J = acts joined.

One such recipient may hold most of a sender's opens: a monitoring script, a list that forwards, a mailbox that renders
every mail over and over. Nothing that he does says when a person looks. As in `clean_join`, tables are taken apart
before a loop.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_kernels.clean_join import Joined, Rows
from sto_kernels.clean_judge import NOBODY, Judged
from sto_kernels.compiled import jit
from sto_kernels.journal import CLICK, DAY_MS, FLOOD, FLOODED_ACTS, HUMAN, MACHINE_ACTS, OPEN, Rules

Array = NDArray[Any]


@jit
def find_floods(
    rows: Rows,
    joined: Joined,
    start_ms: int,
    end_ms: int,
    rules: Rules,
    judged: Judged,
    machine_U: Array,
    dropped_D: Array,
) -> None:
    """Floods among the users, whose acts that other rules left become nobody's."""
    start_U, first_act_U, verdict_J = rows.start_U, joined.first_act_U, judged.verdict_J
    kind_N, ts_N, machine_N = rows.kind_N, rows.ts_N, rows.machine_N
    flood_acts, flood_days, flood_share = rules.flood_acts, rules.flood_days, rules.flood_share
    for u in range(len(machine_U)):
        if machine_U[u] != HUMAN or start_U[u + 1] - start_U[u] < flood_acts:
            continue
        acts = 0
        for i in range(start_U[u], start_U[u + 1]):
            acts += (kind_N[i] == OPEN or kind_N[i] == CLICK) and not machine_N[i]
        if acts < flood_acts:
            continue
        day_A, seen = np.empty(acts, np.int64), 0
        for i in range(start_U[u], start_U[u + 1]):
            act = (kind_N[i] == OPEN or kind_N[i] == CLICK) and not machine_N[i]
            if act and start_ms <= ts_N[i] < end_ms:
                day_A[seen] = ts_N[i] // DAY_MS
                seen += 1
        if _is_flood(day_A[:seen], flood_acts, flood_days, flood_share):
            machine_U[u] = FLOOD
            gone = _forget(verdict_J, first_act_U[u], first_act_U[u + 1])
            dropped_D[MACHINE_ACTS] += gone
            dropped_D[FLOODED_ACTS] += gone


@jit
def _is_flood(day_A: Array, flood_acts: int, flood_days: int, flood_share: float) -> bool:
    """Whether most acts fell on full days, and those are enough; `day_A` is sorted in place."""
    day_A.sort()
    on_full, days, begin = 0, 0, 0
    for a in range(1, len(day_A) + 1):
        if a == len(day_A) or day_A[a] != day_A[begin]:
            if a - begin >= flood_acts:
                on_full, days = on_full + a - begin, days + 1
            begin = a
    return len(day_A) > 0 and days >= flood_days and on_full / len(day_A) > flood_share


@jit
def _forget(verdict_J: Array, first: int, last: int) -> int:
    """Make every act nobody's. -> How many were somebody's."""
    gone = 0
    for j in range(first, last):
        gone += verdict_J[j] != NOBODY
        verdict_J[j] = NOBODY
    return gone
