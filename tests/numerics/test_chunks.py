import numpy as np
import pytest

from nngp_prior.numerics.chunks import even_chunks, filled_up


@pytest.mark.parametrize("n", range(1, 40))
def test_chunks_are_as_few_and_as_even_as_possible(n: int) -> None:
    for most in range(1, 45):
        chunks, rows = even_chunks(n, most)
        assert rows <= most
        assert chunks == min(k for k in range(1, n + 1) if k * most >= n)
        assert rows == min(r for r in range(1, n + 1) if chunks * r >= n)
    assert even_chunks(0, n) == (1, 0)


def test_padding_repeats_the_first_row() -> None:
    X = np.arange(6.0).reshape(3, 2)
    assert filled_up(X, 3) is X
    assert np.array_equal(filled_up(X, 5), X[[0, 1, 2, 0, 0]])
    assert np.array_equal(filled_up(X[2:], 2, X), X[[2, 0]])
    assert np.array_equal(filled_up(X[3:], 1, X), X[:1])
