import numpy as np
import pytest

from sto_kernels.products import gram, times


@pytest.mark.parametrize("rows", [0, 1, 7, 64, 1000])
@pytest.mark.parametrize(("inner", "columns"), [(1, 1), (48, 16), (16, 48), (5, 5)])
def test_products_are_those_of_numpy(rows: int, inner: int, columns: int) -> None:
    rng = np.random.default_rng(rows)
    a_NI, b_IJ, c_NJ = (rng.normal(0, 1, shape) for shape in ((rows, inner), (inner, columns), (rows, columns)))
    np.testing.assert_allclose(times(a_NI, b_IJ), a_NI @ b_IJ, atol=1e-10)
    np.testing.assert_allclose(gram(a_NI, c_NJ), a_NI.T @ c_NJ, atol=1e-9)
    np.testing.assert_allclose(times(np.asfortranarray(a_NI), b_IJ.astype(np.float32)), a_NI @ b_IJ, atol=1e-4)


def test_a_row_of_a_product_does_not_depend_on_the_others() -> None:
    rng = np.random.default_rng(1)
    a_NI, b_IJ = rng.normal(0, 1, (130, 48)), rng.normal(0, 1, (48, 16))
    np.testing.assert_array_equal(times(a_NI, b_IJ)[13:77], times(a_NI[13:77], b_IJ))
