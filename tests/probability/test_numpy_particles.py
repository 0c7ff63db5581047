"""The two ways to draw a block of coordinates, NumPy's and the compiled one, from the same random numbers."""

import numpy as np
import pytest

from nngp_prior.numerics.random import generator
from nngp_prior.probability.ep import expectation_propagation
from nngp_prior.probability.factored_kernel import prepare
from nngp_prior.probability.particles import make_mixture, run_replicates
from nngp_prior.probability.proposals import build_proposals
from nngp_prior.progress import ignore
from nngp_prior.schemas.specs.data import Threshold
from nngp_prior.schemas.specs.estimator import SMC
from tests.cases import digits


@pytest.mark.parametrize("resample", [True, False])
def test_compiled_equals_numpy(resample: bool) -> None:
    """More than one stretch of blocks, a last block that is not full, resampling on the way."""
    K, labels = digits(400, Threshold(at=5))
    kernel = prepare(K, SMC())
    y = labels.astype(float)
    ep = expectation_propagation(kernel, y, SMC(max_sweeps=1), ignore)
    mixture = make_mixture(kernel, y, build_proposals(kernel, ep), np.array([2, 20, 10]))
    numpy, compiled = (
        run_replicates(mixture, [generator(0, r) for r in range(4)], resample, compiled) for compiled in (False, True)
    )
    np.testing.assert_allclose(compiled.log_estimates, numpy.log_estimates, atol=1e-6)
    assert compiled.resamplings == numpy.resamplings
    assert (compiled.resamplings > 0) == resample
    np.testing.assert_allclose(compiled.log_proposal, numpy.log_proposal, rtol=1e-6, atol=1e-4)
