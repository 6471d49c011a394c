"""One user's rows through the cleaning walk and its twin, for the tests of both."""

from dataclasses import fields

import numpy as np

from journals import MONDAY_MS, Row, in_zone, journal
from sto_kernels import naive_history
from sto_kernels.clean_walk import clean
from sto_kernels.journal import DAY_MS, OPEN, SEND, Cleaned, Rules

RULES = Rules()


def cleaned(
    rows: list[Row],
    label: str = "none",
    offset_min: int = 0,
    own: bool = False,
    shifts: bool = True,
    rules: Rules = RULES,
) -> Cleaned:
    """One user's rows of 90 days; the twin must agree."""
    world = journal(rows), in_zone(1, offset_min, own, shifts), MONDAY_MS, MONDAY_MS + 90 * DAY_MS, label, rules
    found = clean(*world)
    assert_same(found, naive_history.clean(*world))
    return found


def assert_same(ours: Cleaned, theirs: Cleaned) -> None:
    for field in fields(Cleaned):
        mine, other = getattr(ours, field.name), getattr(theirs, field.name)
        assert mine.dtype == other.dtype, field.name
        np.testing.assert_array_equal(mine, other, err_msg=field.name)


def mails(count: int, delay_ms: int | None = None, kind: int = OPEN, type: int = 0) -> list[Row]:
    """`count` daily sends, each with one act after `delay_ms`."""
    sends = [Row(SEND, day * DAY_MS, day, type=type) for day in range(count)]
    return sends + [Row(kind, r.ts + delay_ms, r.campaign, type=type) for r in sends if delay_ms is not None]
