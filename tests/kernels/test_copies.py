"""Equal inputs have equal rows, to the last bit, whatever the network amplifies."""

from pathlib import Path

import numpy as np
import pytest

from nngp_prior import Convolutional, FullyConnected, MonteCarlo, kernel, log_probability
from nngp_prior.architectures import FromNetwork
from nngp_prior.errors import InvalidInput
from nngp_prior.kernels import KernelCache, monte_carlo_kernel

_PLACE = np.array([0, 1, 2, 0, 3, 1, 4, 1])  # which of five inputs each is
_CHAOTIC = FullyConnected(depth=6, activation="erf", weight_std=3.0)


def _inputs(*shape: int, count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, *shape))


@pytest.mark.parametrize(
    ("architecture", "shape", "get", "dtype"),
    [
        (_CHAOTIC, (7,), "ntk", "float32"),
        (Convolutional(), (5, 5, 2), "nngp", "float64"),
    ],
)
def test_rows_of_copies_are_equal(architecture, shape: tuple[int, ...], get: str, dtype: str) -> None:
    X = _inputs(*shape)
    once = kernel(architecture, X, get=get, dtype=dtype)
    K = kernel(architecture, X[_PLACE], get=get, dtype=dtype)
    np.testing.assert_array_equal(K, K.T)
    for i, j in np.argwhere(_PLACE[:, None] == _PLACE):
        np.testing.assert_array_equal(K[i], K[j])
        assert K[i, j] == K[i, i]
    # Copies and others: up to rounding what they are alone.
    np.testing.assert_allclose(K, once[np.ix_(_PLACE, _PLACE)], rtol=1e-4 if dtype == "float32" else 1e-9, atol=1e-6)


def test_copies_in_other_tiles_and_on_disk(tmp_path: Path) -> None:
    """More inputs than a tile has; the first comes again at the end."""
    architecture = FullyConnected(depth=4, activation="erf", weight_std=3.0)
    X = _inputs(3, count=1100)
    X[1099] = X[0]
    X[800] = -0.0 + X[300]
    cache = KernelCache(tmp_path / "kernels", limit=10**9)
    K = kernel(architecture, X)
    np.testing.assert_array_equal(K, cache.kernel(architecture, X))
    np.testing.assert_array_equal(K, cache.kernel(architecture, X))  # looked at byte by byte
    for i, j in ((0, 1099), (300, 800)):
        np.testing.assert_array_equal(K[i], K[j])
        np.testing.assert_array_equal(K[:, i], K[:, j])
        assert K[i, j] == K[i, i] == K[j, j]


def test_copies_between_rows_and_columns() -> None:
    X = _inputs(7)
    K, across = kernel(_CHAOTIC, X), kernel(_CHAOTIC, X, X[[3, 1, 3]])
    np.testing.assert_array_equal(across, K[:, [3, 1, 3]])
    np.testing.assert_array_equal(np.diag(kernel(_CHAOTIC, X, X.copy())), np.diag(K))


def test_contradictory_labels_of_copies_are_impossible() -> None:
    X = _inputs(7, count=3)[[0, 1, 2, 1]]
    K = kernel(FullyConnected(depth=40, activation="erf", weight_std=3.0), X)
    assert log_probability(K, [1, 1, 1, -1]).status == "impossible"
    assert log_probability(K, [1, 1, 1, 1]).diagnostics["distinct_inputs"] == 3


def test_an_input_that_overflows_is_named_beside_copies() -> None:
    X = _inputs(3)[_PLACE]
    X[6] = 1e200
    with pytest.raises(InvalidInput, match="kernel of input 6 overflows"):
        kernel(FullyConnected(depth=2), X)


def test_kernels_of_finite_networks_and_of_own_ones() -> None:
    X = _inputs(7)
    architecture = FullyConnected(depth=10, activation="erf", weight_std=3.0, width=16)
    K = monte_carlo_kernel(architecture, X[_PLACE], MonteCarlo(networks=20)).K
    own = FromNetwork(
        lambda key, shape: ((), ()),
        lambda parameters, inputs: inputs,
        name="linear",
        kernel_fn=lambda a, b, get: a @ (a if b is None else b).T + 1.0,
    )
    for matrix in (K, kernel(own, X[_PLACE])):
        for i, j in np.argwhere(_PLACE[:, None] == _PLACE):
            np.testing.assert_array_equal(matrix[i], matrix[j])
