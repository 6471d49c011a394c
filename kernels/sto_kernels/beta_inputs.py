"""What Beta draws take: a key a user, shapes that are shapes, and the key of a round. U users, S slots."""

from functools import lru_cache
from typing import Any

import numpy as np

from sto_kernels.hashing import tag_key

TAG = "beta"
MAX_SLOTS = 1 << 16


def check_places(key_U: Any, a_US: Any, b_US: Any) -> None:
    """ValueError unless there is a key a user and a and b are of one shape [U, S]; arrays or tensors."""
    shapes = [tuple(x.shape) for x in (key_U, a_US, b_US)]
    if len(shapes[1]) != 2 or shapes[1] != shapes[2] or shapes[0] != shapes[1][:1]:
        raise ValueError(f"Beta draws need a key a user and a and b of one shape [U, S]; found {shapes}")
    if shapes[1][1] > MAX_SLOTS:
        raise ValueError(f"Beta draws take up to {MAX_SLOTS} slots; found {shapes[1][1]}")


def check_shapes(a_US: Any, b_US: Any) -> None:
    """ValueError unless a and b are finite and above 0; arrays or tensors."""
    for name, shape_US in (("a", a_US), ("b", b_US)):
        low, high = (float(end) for end in (shape_US.min(), shape_US.max())) if min(shape_US.shape) else (1.0, 1.0)
        if not (low > 0 and high < np.inf):
            found = high if low > 0 else low
            raise ValueError(f"Beta draws need a and b that are finite and above 0; found {name} = {found}")


@lru_cache(maxsize=4096)
def round_key(round: int) -> np.uint64:
    """What the keys of users are mixed with in a round."""
    return np.uint64(tag_key(TAG, round))
