"""Rounding of deep kernels, against the recursion at 50 digits on the very same inputs."""

from typing import NamedTuple

import mpmath
import numpy as np
import pytest

from nngp_prior.kernels import kernel
from nngp_prior.schemas.specs.architecture import FullyConnected
from tests.kernels.reference import of_neural_tangents

EPS = np.finfo(float).eps
APART = (1e-2, 1e-4, 1e-6, 1e-8, 1e-12)


class Pair(NamedTuple):
    """Covariance and variances of the outputs at two inputs."""

    k: mpmath.mpf
    v: mpmath.mpf
    v2: mpmath.mpf

    @property
    def scale(self) -> mpmath.mpf:
        return mpmath.sqrt(self.v * self.v2)

    @property
    def distance(self) -> mpmath.mpf:
        return 1 - self.k / self.scale


def relu(pair: Pair) -> Pair:
    cosine = min(pair.k / pair.scale, mpmath.mpf(1))
    angle = mpmath.acos(cosine)
    k = pair.scale * (mpmath.sin(angle) + (mpmath.pi - angle) * cosine) / (2 * mpmath.pi)
    return Pair(k, pair.v / 2, pair.v2 / 2)


def erf(pair: Pair) -> Pair:
    def expectation(k: mpmath.mpf, v: mpmath.mpf, v2: mpmath.mpf) -> mpmath.mpf:
        return 2 / mpmath.pi * mpmath.asin(2 * k / mpmath.sqrt((1 + 2 * v) * (1 + 2 * v2)))

    return Pair(expectation(*pair), *(expectation(v, v, v) for v in (pair.v, pair.v2)))


def layers(architecture: FullyConnected, x: np.ndarray, x2: np.ndarray) -> tuple[Pair, Pair]:
    """Before the first activation and behind the readout."""

    def product(a: np.ndarray, b: np.ndarray) -> mpmath.mpf:
        return mpmath.fsum(mpmath.mpf(float(p)) * mpmath.mpf(float(q)) for p, q in zip(a, b, strict=True)) / len(a)

    def dense(pair: Pair) -> Pair:
        variance, constant = (mpmath.mpf(s) ** 2 for s in (architecture.weight_std, architecture.bias_std))
        return Pair(*(constant + variance * entry for entry in pair))

    first = pair = dense(Pair(product(x, x2), product(x, x), product(x2, x2)))
    for _ in range(architecture.depth):
        pair = dense({"relu": relu, "erf": erf}[architecture.activation](pair))
    return first, pair


@pytest.mark.parametrize(
    "architecture",
    [
        FullyConnected(depth=20, activation="erf", weight_std=3, bias_std=0),
        FullyConnected(depth=50),
    ],
    ids=["chaotic", "ordered"],
)
def test_near_copies_through_many_layers(architecture: FullyConnected) -> None:
    """An error of 1 - ρ grows as 1 - ρ itself does, in whatever arithmetic: by 10⁷ in 20 chaotic layers.

    What is lost are digits of correlations of near-copies. Of other inputs, and copies, ours has all of them.
    """
    rng = np.random.default_rng(0)
    x, other = rng.standard_normal((2, 10))
    X = np.vstack([x, x, -x, other, *(x + apart * rng.standard_normal(10) for apart in APART)])
    with mpmath.workdps(50):
        first, exact = zip(*(layers(architecture, x, x2) for x2 in X), strict=True)
        growth = max(1.0, float(exact[-2].distance / first[-2].distance))
        found = {
            "ours": kernel(architecture, X)[0],
            "ours, rectangular": kernel(architecture, X[:1], X)[0],
        }
        if architecture.depth <= 20:  # fifty layers take it ten seconds to compile
            found["neural-tangents"] = of_neural_tangents(architecture, X)[0]
        errors = {
            name: np.array([float(abs(mpmath.mpf(float(k)) - p.k) / p.scale) for k, p in zip(row, exact, strict=True)])
            for name, row in found.items()
        }
    assert (growth > 1e6) == (architecture.activation == "erf")
    for name, error in errors.items():
        if name != "neural-tangents":  # whose correlations of copies are rounded or not, by how it is compiled
            # Copies and another input; the opposite only if both are rounded alike before the first layer.
            assert error[[0, 1, 3]].max() < 50 * EPS, name
        assert error.max() < 50 * EPS + 5 * EPS * growth, name
