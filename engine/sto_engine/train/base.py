"""The margin that the forest starts from: what attention and the send hour say, weighed by a ridge logistic regression.

    offset = log appeal of the campaign in the label period (history.rates), apart from its hour; not known at scoring
    base   = w . [1, two levels, two shapes], w shrunk towards WEIGHT_PRIOR, the weights of the shapes then halved

The forest earns what was halved; with the whole shapes it learns too little (recipe, section 6). N rows.
"""

import numpy as np
from numpy.typing import NDArray

from sto_engine.history.rates import fit_appeal
from sto_engine.models.features import CROSS, FEATURES, LEVELS, SHAPES_OF_BASE
from sto_engine.train.rows import Rows
from sto_kernels.lanes import Floats

WEIGHT_PRIOR = np.array([0.0, 0.7, 0.3, 0.9, 0.3])
WEIGHT_RIDGE = np.array([0.01, 20.0, 20.0, 100.0, 100.0])
WEIGHT_KEPT = np.array([1.0, 1.0, 1.0, 0.5, 0.5])
STEPS, HALVINGS = 50, 30
COLUMNS = tuple(FEATURES.index(name) for name in (*LEVELS, *(CROSS[row] for row in SHAPES_OF_BASE)))


def campaign_offsets(rows: Rows) -> Floats:
    """Log appeal of each row's campaign apart from its hour, float64 [N]."""
    key_N, code_N = np.unique(rows.campaign_N, return_inverse=True)
    cell_C, row_N = np.unique(code_N * 24 + rows.hour_N, return_inverse=True)
    type_C = np.zeros(len(cell_C), np.int8)
    np.maximum.at(type_C, row_N, rows.type_N)
    sends_C, hits_C = np.bincount(row_N), np.bincount(row_N, rows.label_N)
    appeal = fit_appeal(key_N[cell_C // 24], (cell_C % 24).astype(np.int8), type_C, sends_C, hits_C)
    return np.log(appeal.rate_G)[code_N]


def base_inputs(features_NF: NDArray[np.float32]) -> Floats:
    """[1, two levels, two shapes] of each row, float64 [N, 5]."""
    return np.concatenate([np.ones((len(features_NF), 1)), features_NF[:, COLUMNS]], axis=1)


def fit_base(inputs_N5: Floats, label_N: NDArray[np.float32], offset_N: Floats) -> Floats:
    """Weights of the base margin, shapes halved, float64 [5]; sums in a fixed order, for any number of threads.

    A level or shape that would weigh against opens weighs nothing, as the forest may only raise by it; the constant is
    fitted anew to the halved shapes, since a forest of few rows has no leaf to mend it.
    """
    free, weight = np.arange(len(WEIGHT_PRIOR)), np.zeros(len(WEIGHT_PRIOR))
    while True:
        fitted = _fit(inputs_N5[:, free], label_N, offset_N, WEIGHT_PRIOR[free], WEIGHT_RIDGE[free])
        kept = (fitted >= 0) | (free == 0)
        if kept.all():
            break
        free = free[kept]
    weight[free] = fitted
    weight *= WEIGHT_KEPT
    rest_N = offset_N + _dot(inputs_N5[:, 1:], weight[1:])
    weight[:1] = _fit(inputs_N5[:, :1], label_N, rest_N, weight[:1], WEIGHT_RIDGE[:1])
    return weight


def _fit(inputs_NP: Floats, label_N: NDArray[np.float32], offset_N: Floats, prior_P: Floats, ridge_P: Floats) -> Floats:
    """Ridge logistic regression around a prior by Newton steps, halved until they lower the loss, float64 [P]."""

    def loss(weight_P: Floats) -> float:
        margin_N = _dot(inputs_NP, weight_P) + offset_N
        return float(np.sum(np.logaddexp(0, margin_N) - label_N * margin_N) + ridge_P @ (weight_P - prior_P) ** 2 / 2)

    weight, least = prior_P, loss(prior_P)
    for _ in range(STEPS):
        p_N = np.exp(-np.logaddexp(0, -_dot(inputs_NP, weight) - offset_N))
        curve = np.einsum("ni,n,nj->ij", inputs_NP, p_N * (1 - p_N), inputs_NP, optimize=False)
        slope = np.einsum("ni,n->i", inputs_NP, label_N - p_N) - ridge_P * (weight - prior_P)
        step = np.linalg.solve(curve + np.diag(ridge_P), slope)
        for _ in range(HALVINGS):
            if (found := loss(weight + step)) < least:
                break
            step = step / 2
        else:
            break
        weight, least = weight + step, found
    return np.asarray(weight)


def base_margins(inputs_N5: Floats, weight_5: Floats) -> Floats:
    """The base margin of each row, float64 [N]."""
    return _dot(inputs_N5, weight_5)


def _dot(inputs_N5: Floats, weight_5: Floats) -> Floats:
    return np.asarray(np.einsum("ni,i->n", inputs_N5, weight_5))
