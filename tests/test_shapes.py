import jaxtyping
import numpy as np
import pytest

from nngp_prior.numerics.linalg import subtract_weighted


def test_calls_with_wrong_shapes_fail() -> None:
    with pytest.raises(jaxtyping.TypeCheckError, match="subtract_weighted"):
        subtract_weighted(np.eye(3), np.ones((3, 2)), np.ones(3))
