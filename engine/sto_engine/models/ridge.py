"""Ridge logistic regression whose sums have one order, for any number of BLAS threads. N rows, P inputs."""

import numpy as np
from numpy.typing import NDArray

from sto_kernels.lanes import Floats

# weights of [1, level of attention, level of the send hour, shape of attention, shape of the send hour] (recipe, 6)
BASE_PRIOR = np.array([0.0, 0.7, 0.3, 0.9, 0.3])
BASE_RIDGE = np.array([0.01, 20.0, 20.0, 100.0, 100.0])
STEPS, HALVINGS = 50, 30


def fit_logistic(
    inputs_NP: Floats,
    label_N: NDArray[np.float32],
    heavy_N: Floats,
    offset_N: Floats,
    prior_P: Floats,
    ridge_P: Floats,
) -> Floats:
    """Weights around a prior by Newton steps, halved until they lower the loss, float64 [P]; rows count `heavy_N`."""

    def loss(weight_P: Floats) -> float:
        margin_N = dot(inputs_NP, weight_P) + offset_N
        losses_N = heavy_N * (np.logaddexp(0, margin_N) - label_N * margin_N)
        return float(np.sum(losses_N) + ridge_P @ (weight_P - prior_P) ** 2 / 2)

    weight, least = prior_P, loss(prior_P)
    for _ in range(STEPS):
        p_N = np.exp(-np.logaddexp(0, -dot(inputs_NP, weight) - offset_N))
        curve = np.einsum("ni,n,nj->ij", inputs_NP, heavy_N * p_N * (1 - p_N), inputs_NP, optimize=False)
        slope = np.einsum("ni,n->i", inputs_NP, heavy_N * (label_N - p_N)) - ridge_P * (weight - prior_P)
        step = np.linalg.solve(curve + np.diag(ridge_P), slope)
        for _ in range(HALVINGS):
            if (found := loss(weight + step)) < least:
                break
            step = step / 2
        else:
            break
        weight, least = weight + step, found
    return np.asarray(weight)


def log_posterior(
    weight_P: Floats,
    inputs_NP: Floats,
    label_N: NDArray[np.float32],
    offset_N: Floats,
    prior_P: Floats,
    ridge_P: Floats,
) -> float:
    """Log likelihood of the labels, less what the weights cost."""
    margin_N = dot(inputs_NP, weight_P) + offset_N
    return float(np.sum(label_N * margin_N - np.logaddexp(0, margin_N)) - ridge_P @ (weight_P - prior_P) ** 2 / 2)


def dot(inputs_NP: Floats, weight_P: Floats) -> Floats:
    """inputs . weights of each row, float64 [N]."""
    return np.asarray(np.einsum("ni,i->n", inputs_NP, weight_P))
