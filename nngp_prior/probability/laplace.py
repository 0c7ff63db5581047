r"""Laplace's approximation of log P under a smooth likelihood.

With noise of variance v, f_i + noise has the sign y_i with probability Φ(y_i f_i/√v) if the noise is normal (probit),
and σ(y_i f_i/s), s² = 3v/π², if it is logistic with the same variance. Around the mode of

.. math:: Ψ(g) = \sum_i \log p(g_i) - ½ g^T K'^{-1} g

the integrand ∫ N(g; 0, K') Π p(g_i) dg is replaced by a Gaussian (Rasmussen & Williams 2006, eq. 3.32):

.. math:: \log P ≈ Ψ(ĝ) - ½ \log|B|, \qquad B = I + W^{½} K' W^{½}, \quad W = -∇∇ \sum_i \log p(ĝ_i) .

With the probit link the exact value is the orthant probability of K + vI. The approximation is exact to second order
around the mode and has no error estimate: it is poor for small v, because the integrand then ends at a wall and its
mode is far from its mean.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_solve, get_blas_funcs
from scipy.special import expit, log_expit, log_ndtr

from nngp_prior.errors import InvalidInput
from nngp_prior.numerics.gaussian import half_line_moments_array
from nngp_prior.numerics.linalg import cholesky
from nngp_prior.probability.factored_kernel import FactoredKernel
from nngp_prior.probability.registry import ESTIMATORS
from nngp_prior.progress import Progress, ProgressCallback
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.specs.estimator import Laplace

_LOGISTIC_SCALE = math.sqrt(3) / math.pi  # of a logistic distribution of unit variance
_DECREMENT_REACHED = 1e-12  # nats per input
_SUFFICIENT_INCREASE = 1e-4
_SHORTEST_STEP = 2.0**-40
# Per input, in units of the largest variance. B has a condition number of up to n/v, and the mode is computed from its
# inverse: at 1e-14 and n = 20 the value is wrong by tens of nats.
_SMALLEST_NOISE = 1e-13

_Vector = Float[np.ndarray, " m"]


@dataclass(frozen=True)
class Mode:
    """Final state of Newton's method.

    Attributes:
        log_likelihood: Σ log p(ĝ_i).
        quadratic: ĝᵀ K'⁻¹ ĝ.
        log_determinant: log |B|.
        iterations: number of Newton steps.
        decrement: twice the nats that a further step would gain.
        converged: True if the decrement is negligible.
    """

    log_likelihood: float
    quadratic: float
    log_determinant: float
    iterations: int
    decrement: float
    converged: bool

    @property
    def log_z(self) -> float:
        """Laplace's approximation of log P, nats."""
        return self.log_likelihood - 0.5 * self.quadratic - 0.5 * self.log_determinant


@ESTIMATORS.register(Laplace)
def estimate_laplace(
    kernel: FactoredKernel, labels: np.ndarray, parameters: Laplace, seed: int, progress: ProgressCallback
) -> Estimate:
    """Return Laplace's approximation as an estimate of log P, without an error statement.

    Returns:
        the estimate.

    Raises:
        InvalidInput: if the noise is too small compared with the variances.
    """
    del seed
    began = time.perf_counter()
    deviation = math.sqrt(parameters.noise_variance) * kernel.scale
    if deviation.min() ** 2 < _SMALLEST_NOISE * kernel.m:
        raise InvalidInput(
            "noise_variance",
            f"got {parameters.noise_variance:g}, too small for float64 with {kernel.m} inputs of variance up to "
            f"{1 / kernel.scale.min() ** 2:.3g}",
            f"Pass at least {_SMALLEST_NOISE * kernel.m / kernel.scale.min() ** 2:.1g}, or use method='smc', which "
            "needs none.",
        )
    K = kernel.signed_correlation(labels)
    # The factored kernel's diagonal includes the noise; jitter stays part of the prior.
    jitter = kernel.diagonal_shift - parameters.noise_variance
    K[np.diag_indices_from(K)] = (kernel.K.diagonal()[kernel.kept] + jitter) * kernel.scale**2
    if parameters.link == "probit":
        mode = find_mode(K, probit, deviation, parameters.max_iterations, progress)
    else:
        mode = find_mode(K, logistic, _LOGISTIC_SCALE * deviation, parameters.max_iterations, progress)
    messages = [kernel.note()]
    if parameters.link == "logistic":
        messages.append("logistic noise, of the variance asked for")
    if not mode.converged:
        messages.insert(
            0,
            f"Newton's method is {mode.decrement / 2:.1g} nats from the mode after {mode.iterations} steps; "
            "raise max_iterations or noise_variance",
        )
    return Estimate(
        value=mode.log_z,
        stderr=None,
        n=kernel.n,
        method="laplace",
        status="ok" if mode.converged else "not-converged",
        message="; ".join(messages),
        diagnostics={
            "link": parameters.link,
            "newton_steps": mode.iterations,
            "newton_decrement": mode.decrement,
            "log_likelihood_at_mode": mode.log_likelihood,
            "log_determinant": mode.log_determinant,
            "distinct_inputs": kernel.distinct_inputs,
        },
        seconds=time.perf_counter() - began,
    )


def probit(z: _Vector) -> tuple[_Vector, _Vector, _Vector]:
    """Return log Φ(z), its first derivative h, and minus its second, r = h (z + h)."""
    h, r, _, _ = half_line_moments_array(z)
    return log_ndtr(z), h, r


def logistic(z: _Vector) -> tuple[_Vector, _Vector, _Vector]:
    """Return log σ(z), its first derivative σ(-z), and minus its second, σ(z) σ(-z)."""
    return log_expit(z), expit(-z), expit(z) * expit(-z)


def find_mode(
    K: Float[np.ndarray, "m m"],
    link: Callable[[_Vector], tuple[_Vector, _Vector, _Vector]],
    width: _Vector,
    max_iterations: int,
    progress: ProgressCallback,
) -> Mode:
    r"""Find the mode of Σ log p(g_i/width_i) - ½ gᵀ K⁻¹ g by Newton's method (Rasmussen & Williams 2006, alg. 3.1).

    With W and d the derivatives at g, B = I + W½ K W½ and b = W g + d, a full step leads to

    .. math:: a = K^{-1} g = b - W^{½} B^{-1} W^{½} K b .

    K may be singular; its inverse is not formed. Steps are halved until they increase the objective, which is concave,
    by a fraction of what its slope predicts.

    Args:
        K: prior covariance; symmetric, in Fortran order.
        link: log p, its derivative and minus its second one.
        width: the unit of each g_i in the link.
        max_iterations: maximum number of steps.
        progress: progress callback.

    Returns:
        the terms of the approximation, all at the same point.
    """
    (symv,) = get_blas_funcs(("symv",), dtype=K.dtype)
    m = len(K)
    a, g = np.zeros(m), np.zeros(m)
    iteration, converged = 0, False
    while True:
        log_p, slope, curvature = link(g / width)
        slope, root = slope / width, np.sqrt(curvature) / width
        B = K * root[:, None]
        B *= root
        B[np.diag_indices_from(B)] += 1.0
        factor = cholesky(B)
        assert factor is not None  # no eigenvalue of B is below 1
        log_likelihood, quadratic = float(log_p.sum()), float(a @ g)
        log_determinant = 2 * float(np.log(factor.diagonal()).sum())
        b = root**2 * g + slope
        step = b - root * cho_solve((factor, True), root * symv(1.0, K, b, lower=1), check_finite=False) - a
        del B, factor
        change = symv(1.0, K, step, lower=1)
        decrement = float((slope - a) @ change)
        # One more step than the objective needs: log |B| is not stationary at the mode.
        finished, converged = converged, abs(decrement) <= _DECREMENT_REACHED * m
        if (finished and converged) or decrement < 0 or iteration == max_iterations:  # negative only by rounding
            break
        objective, length = log_likelihood - 0.5 * quadratic, 1.0
        while length > _SHORTEST_STEP:
            moved_a, moved_g = a + length * step, g + length * change
            moved = float(link(moved_g / width)[0].sum()) - 0.5 * float(moved_a @ moved_g)
            if moved >= objective + _SUFFICIENT_INCREASE * length * decrement:
                break
            length /= 2
        else:
            break  # rounding hides the increase
        a, g = moved_a, moved_g
        iteration += 1
        progress(Progress("Newton steps", iteration, iteration + 1))
    progress(Progress("Newton steps", iteration + 1, iteration + 1))
    return Mode(log_likelihood, quadratic, log_determinant, iteration, decrement, converged)
