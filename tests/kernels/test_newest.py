"""The newest row of each run against a loop in plain words."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sto_kernels.newest import newest_rows

ROW = st.tuples(st.integers(0, 5), st.booleans())


@settings(deadline=None)
@given(st.lists(st.lists(ROW, max_size=6), max_size=8))
def test_the_newest_row_that_carries_a_value_is_found(runs: list[list[tuple[int, bool]]]) -> None:
    rows = [row for run in runs for row in run]
    start = np.cumsum([0, *(len(run) for run in runs)])
    time, carries = np.array([t for t, _ in rows], np.int64), np.array([c for _, c in rows], np.bool_)
    expected = []
    for first, last in pairwise(start.tolist()):
        known = [i for i in range(first, last) if rows[i][1]]
        newest = max((rows[i][0] for i in known), default=0)
        expected.append(next((i for i in known if rows[i][0] == newest), -1))
    np.testing.assert_array_equal(newest_rows(start.astype(np.int64), time, carries), expected)
