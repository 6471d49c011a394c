"""The hash of many texts at once against the xxhash library, one text at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sto_kernels.hash_text import hash_rows
from sto_kernels.hashing import hash_strings


def hashed(texts: list[str]) -> np.ndarray:
    data = [text.encode() for text in texts]
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in data])]).astype(np.int64)
    return hash_rows(offsets, np.frombuffer(b"".join(data), np.uint8))


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=90), min_size=1, max_size=40))
def test_any_texts_hash_as_the_library_says(texts: list[str]) -> None:
    np.testing.assert_array_equal(hashed(texts), hash_strings(texts))


def test_every_length_around_a_stripe_hashes_as_the_library_says() -> None:
    texts = ["".join(chr(97 + i % 26) for i in range(length)) for length in range(140)]
    np.testing.assert_array_equal(hashed(texts), hash_strings(texts))


def test_a_slice_of_a_column_hashes_as_its_texts_do() -> None:
    data = np.frombuffer(b"skip-me-user-1user-2", np.uint8)
    np.testing.assert_array_equal(hash_rows(np.array([8, 14, 20]), data), hash_strings(["user-1", "user-2"]))


@pytest.mark.parametrize("offsets", [[0, 5, 3], [0, 99], [-1, 2]])
def test_offsets_that_leave_the_text_are_refused(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="offsets"):
        hash_rows(np.array(offsets), np.frombuffer(b"hello", np.uint8))
