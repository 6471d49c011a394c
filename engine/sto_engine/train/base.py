"""The margin that the forest starts from: what attention and the send hour say, weighed by a ridge logistic regression.

    offset = log appeal of the campaign in the label period (history.rates), apart from its hour; not known at scoring
    base   = w . [1, two levels, two shapes], w shrunk towards BASE_PRIOR, the weights of the shapes then halved

The forest earns what was halved; with the whole shapes it learns too little (recipe, section 6). Types of mail other
than the one to be scored have a level of their own, which their rows need and scoring does not. N rows, T types.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from sto_engine.history.rates import TYPES, fit_appeal
from sto_engine.models.features import CROSS, FEATURES, LEVELS, SHAPES_OF_BASE
from sto_engine.models.ridge import BASE_PRIOR, BASE_RIDGE, dot, fit_logistic
from sto_kernels.lanes import Floats

WEIGHT_KEPT = np.array([1.0, 1.0, 1.0, 0.5, 0.5])
COLUMNS = tuple(FEATURES.index(name) for name in (*LEVELS, *(CROSS[row] for row in SHAPES_OF_BASE)))


@dataclass(frozen=True)
class Base:
    """Weights of the base margin [5], and what rows of each type have on top of it, 0 for the type to be scored [T]."""

    weight_5: Floats
    level_T: Floats

    def margins(self, inputs_N5: Floats, type_N: NDArray[np.int8] | None = None) -> Floats:
        """The base margin of each row, float64 [N]; without `type_N` as it is scored."""
        margin_N = dot(inputs_N5, self.weight_5)
        return margin_N if type_N is None else margin_N + self.level_T[type_N]


@dataclass(frozen=True)
class Narrow:
    """What offsets and base weights need of rows, 42 bytes each; `shapes_N4` are COLUMNS of their features."""

    label_N: NDArray[np.float32]
    weight_N: NDArray[np.float32]
    type_N: NDArray[np.int8]
    hour_N: NDArray[np.int8]
    campaign_N: NDArray[np.uint64]
    time_N: NDArray[np.int64]
    shapes_N4: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.label_N)

    def take(self, keep_N: NDArray[np.bool_]) -> "Narrow":
        return Narrow(*(getattr(self, f.name)[keep_N] for f in fields(self)))


def campaign_offsets(rows: Narrow) -> Floats:
    """Log appeal of each row's campaign apart from its hour, float64 [N]."""
    key_N, code_N = np.unique(rows.campaign_N, return_inverse=True)
    cell_C, row_N = np.unique(code_N * 24 + rows.hour_N, return_inverse=True)
    type_C = np.zeros(len(cell_C), np.int8)
    np.maximum.at(type_C, row_N, rows.type_N)
    sends_C, hits_C = np.bincount(row_N), np.bincount(row_N, rows.label_N)
    appeal = fit_appeal(key_N[cell_C // 24], (cell_C % 24).astype(np.int8), type_C, sends_C, hits_C)
    return np.log(appeal.rate_G)[code_N]


def base_inputs(shapes_N4: NDArray[np.float32]) -> Floats:
    """[1, two levels, two shapes] of each row, from COLUMNS of its features, float64 [N, 5]."""
    return np.concatenate([np.ones((len(shapes_N4), 1)), shapes_N4], axis=1)


def fit_base(
    inputs_N5: Floats,
    label_N: NDArray[np.float32],
    offset_N: Floats,
    weight_N: NDArray[np.float32] | None = None,
    type_N: NDArray[np.int8] | None = None,
    target: int = 0,
) -> Base:
    """Fit to weighted rows of all types, shapes halved; sums in a fixed order, for any number of threads.

    A level or shape that would weigh against opens weighs nothing, as the forest may only raise by it; constant and
    types are fitted anew to the halved shapes, since a forest of few rows has no leaf to mend them.
    """
    n, five = len(label_N), len(BASE_PRIOR)
    heavy_N = np.ones(n) if weight_N is None else weight_N.astype(np.float64)
    other_NT = np.eye(TYPES)[np.zeros(n, np.int8) + target if type_N is None else type_N]
    other_NT[:, target] = 0.0
    inputs = np.concatenate([inputs_N5, other_NT], axis=1)
    prior, ridge = np.append(BASE_PRIOR, np.zeros(TYPES)), np.append(BASE_RIDGE, np.full(TYPES, BASE_RIDGE[0]))
    free, fitted = np.arange(five + TYPES), np.zeros(five + TYPES)
    while True:
        found = fit_logistic(inputs[:, free], label_N, heavy_N, offset_N, prior[free], ridge[free])
        kept = (found >= 0) | (free == 0) | (free >= five)
        if kept.all():
            break
        free = free[kept]
    fitted[free] = found
    fitted[:five] *= WEIGHT_KEPT
    rest_N = offset_N + dot(inputs[:, 1:five], fitted[1:five])
    plain = np.append(0, np.arange(five, five + TYPES))
    fitted[plain] = fit_logistic(inputs[:, plain], label_N, heavy_N, rest_N, fitted[plain], ridge[plain])
    fitted[five + target] = 0.0
    return Base(fitted[:five], fitted[five:])
