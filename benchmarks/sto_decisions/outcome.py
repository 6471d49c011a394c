"""What a campaign of a living world was worth by the truth of its day, and a line's figures as a series over campaigns.

U recipients whom the sender may mail and who can react; all figures are of them, in the order of the world.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from sto_decisions.records import Values
from sto_engine.evaluate.measures import captured
from sto_engine.evaluate.truth import DAY_H
from sto_engine.evaluate.world import FIXED_HOUR
from sto_engine.simulate.living import Happened, LivingWorld
from sto_kernels.hashing import derive, unit_interval

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
GROUPS = 100
PER = 1_000


@dataclass(frozen=True)
class Outcome:
    """Chances of an open within 2 and 24 h of each user: at our hour, at the fixed and at his best one of the day, [U];
    and whether he did open."""

    ours_2h: Floats
    fixed_2h: Floats
    best_2h: Floats
    ours_24h: Floats
    fixed_24h: Floats
    best_24h: Floats
    opened_2h: Floats
    opened_24h: Floats

    def of(self, mine_U: Bools) -> "Outcome":
        """The same of some users."""
        return Outcome(**{f.name: getattr(self, f.name)[mine_U] for f in fields(self)})


def outcome_of(living: LivingWorld, campaign: int, happened: Happened) -> Outcome:
    """Raises RuntimeError where somebody who is judged was not mailed: players must be judged on the same people."""
    users, truth = len(living.users), living.truth(campaign)
    hour_U, age_U = np.full(users, -1), np.full(users, np.inf)
    hour_U[happened.user_N] = happened.week_hour_N.astype(np.int64)
    age_U[happened.user_N] = happened.age_N
    judged_U = living.users["eligible"].to_numpy()
    if (hour_U[judged_U] < 0).any():
        raise RuntimeError(
            f"{(hour_U[judged_U] < 0).sum()} of {judged_U.sum()} recipients to be judged were not mailed"
        )
    columns: list[Floats] = []
    for p_UH in (truth.p2_UH[judged_U], truth.p24_UH[judged_U]):
        day_U24 = p_UH[:, truth.first_hour : truth.first_hour + DAY_H]
        columns += [p_UH[np.arange(len(p_UH)), hour_U[judged_U]], day_U24[:, FIXED_HOUR], day_U24.max(axis=1)]
    return Outcome(*columns, *((age_U[judged_U] < hours).astype(np.float64) for hours in (2, 24)))


def figures(outcomes: Sequence[Outcome]) -> Values:
    """Of each campaign c (from 1): `name@c`, all but `captured` per 1,000 recipients; `cumulative_regret` is the sum of
    the regrets within 2 h so far."""
    values: Values = {}
    total = 0.0
    for number, outcome in enumerate(outcomes, 1):
        mine = {f.name: PER * float(getattr(outcome, f.name).mean()) for f in fields(outcome)}
        mine["regret"] = mine["best_2h"] - mine["ours_2h"]
        total += mine["regret"]
        mine["cumulative_regret"] = total
        values |= {f"{name}@{number}": round(value, 4) for name, value in mine.items()}
        for horizon in ("2h", "24h"):
            columns = (getattr(outcome, f"{name}_{horizon}") for name in ("ours", "fixed", "best"))
            values[f"captured_{horizon}@{number}"] = captured(*columns)["captured_percent"]
    return values


def grouped(outcomes: Sequence[Outcome], group_U: NDArray[np.int64]) -> Values:
    """Sums over these campaigns and the users of each group g: `ours@g` and `gain@g` (of the best hour over the fixed),
    both in opens within 2 h; what differences of two players are drawn again from."""
    ours_U = sum((o.ours_2h for o in outcomes), np.zeros(len(group_U)))
    gain_U = sum((o.best_2h - o.fixed_2h for o in outcomes), np.zeros(len(group_U)))
    return {
        f"{name}_of_group@{group}": round(value, 6)
        for name, values_U in (("ours", ours_U), ("gain", gain_U))
        for group, value in enumerate(np.bincount(group_U, values_U, minlength=GROUPS).tolist())
    }


def groups_of(ids_U: NDArray[np.uint64]) -> NDArray[np.int64]:
    """One of GROUPS for each user, by his id alone."""
    return np.asarray(np.floor(unit_interval(derive(ids_U, "decision-group")) * GROUPS), np.int64)


def series(values: Values, name: str) -> list[float | None]:
    """The figures `name@1`, `name@2`, .. or those that begin at 0."""
    first = 0 if f"{name}@0" in values else 1
    last = sum(key.partition("@")[0] == name for key in values)
    return [values[f"{name}@{number}"] for number in range(first, first + last)]
