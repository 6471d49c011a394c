"""Prints a digest of priors fitted to chance: run with other numbers of BLAS threads, it must not change."""

import hashlib

import numpy as np

from sto_engine.models.fit_effect import fit_effect, fit_slot_rates
from sto_engine.models.fit_shapes import fit_shapes
from sto_engine.train.base import fit_base

rng = np.random.default_rng(0)
USERS, COHORTS = 6_000, 7
sends = rng.gamma(0.5, 2.0, (USERS, 48))
opens = rng.poisson(0.3 * sends).astype(float)
cohort = rng.integers(0, COHORTS, USERS).astype(np.int32)
shapes = fit_shapes(opens, sends, cohort, COHORTS)
effect = fit_effect(opens[:, :24].astype(np.float32), sends[:, :24].astype(np.float32), cohort, COHORTS)
rates = fit_slot_rates(opens[:, :24], sends[:, :24], cohort, COHORTS)
inputs = np.concatenate([np.ones((50_000, 1)), rng.normal(-1, 1, (50_000, 4))], axis=1)
weights = fit_base(inputs, (rng.random(50_000) < 0.1).astype(np.float32), np.zeros(50_000)).weight_5
digest = hashlib.sha256()
for array in (*vars(shapes).values(), effect.mean_C5, effect.precision_55, rates, weights):
    digest.update(np.ascontiguousarray(array).tobytes())
print(digest.hexdigest())
