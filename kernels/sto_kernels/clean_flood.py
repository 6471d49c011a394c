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
from sto_kernels.journal import DAY_MS, FLOOD, FLOODED_ACTS, MACHINE_ACTS, Rules

Array = NDArray[Any]


@jit
def find_floods(rows: Rows, joined: Joined, rules: Rules, judged: Judged, machine_U: Array, dropped_D: Array) -> None:
    """Floods among the users, whose acts that other rules left become nobody's."""
    row_J, first_act_U, ts_N, verdict_J = joined.row_J, joined.first_act_U, rows.ts_N, judged.verdict_J
    flood_acts, flood_share = rules.flood_acts, rules.flood_share
    for u in range(len(machine_U)):
        first, last = first_act_U[u], first_act_U[u + 1]
        if last - first < flood_acts:
            continue
        day_A, acts = np.empty(last - first, np.int64), 0
        for j in range(first, last):
            if verdict_J[j] != NOBODY:
                day_A[acts] = ts_N[row_J[j]] // DAY_MS
                acts += 1
        if acts == 0 or _on_full_days(day_A[:acts], flood_acts) / acts <= flood_share:
            continue
        machine_U[u] = FLOOD
        dropped_D[MACHINE_ACTS] += acts
        dropped_D[FLOODED_ACTS] += acts
        for j in range(first, last):
            verdict_J[j] = NOBODY


@jit
def _on_full_days(day_A: Array, least: int) -> int:
    """How many of the acts fell on days of at least `least` of them; `day_A` is sorted in place."""
    day_A.sort()
    found, begin = 0, 0
    for a in range(1, len(day_A) + 1):
        if a == len(day_A) or day_A[a] != day_A[begin]:
            found += (a - begin) if a - begin >= least else 0
            begin = a
    return found
