"""A case of each measure, small networks to take it of, and dense matrices for comparison."""

import functools
import math
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from nngp_prior import FromNetwork, FullyConnected
from nngp_prior.schemas.measures.curvature import (
    Eigenvalues,
    FisherRaoNorm,
    FisherTrace,
    Frobenius,
    LogDeterminant,
    SpectralDensity,
    Trace,
)
from nngp_prior.schemas.measures.gradients import (
    ContrastRegret,
    GradientContrast,
    GradientDiversity,
    GradientNoiseScale,
    GradientStiffness,
    NaturalContrastRegret,
    NaturalGradientContrast,
)
from nngp_prior.schemas.measures.layerwise import (
    MinimumSharpness,
    RelativeFlatness,
    ScaledEigenvalue,
    WeightCurvatureIndex,
)
from nngp_prior.schemas.measures.neighbourhoods import ASAMSharpness, FisherSAMSharpness, Keskar, PACBayes, SAMSharpness
from nngp_prior.schemas.measures.registry import ContrastiveFlatness, Measure
from nngp_prior.schemas.specs.architecture import Convolutional, ConvolutionLayer
from nngp_prior.sharpness.risk.chunked_inputs import Read
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.networks import FiniteNetwork, finite_network, high_precision


class Case(NamedTuple):
    """A measure, and whether its first figure stays under rescaling of a layer by α, and of single nodes.

    ``exact`` options make invariance hold to rounding: figures free of sampling, or of the same few random vectors.
    """

    exact: Measure
    alpha: bool
    node: bool


CASES = [
    Case(Eigenvalues(tolerance=1e-9), alpha=False, node=False),
    Case(Trace(), alpha=False, node=False),
    Case(Frobenius(probes=4), alpha=False, node=False),
    Case(LogDeterminant(matrix="ggn", probes=2, steps=40), alpha=False, node=False),
    Case(SpectralDensity(probes=2, steps=40, points=50), alpha=False, node=False),
    Case(FisherTrace(), alpha=False, node=False),
    Case(FisherTrace(fisher="empirical"), alpha=False, node=False),
    Case(FisherRaoNorm(), alpha=True, node=True),
    Case(FisherRaoNorm(fisher="empirical"), alpha=True, node=True),
    Case(Keskar(), alpha=False, node=False),
    Case(SAMSharpness(), alpha=False, node=False),
    Case(ASAMSharpness(), alpha=False, node=False),
    Case(ASAMSharpness(eta=0), alpha=False, node=False),
    Case(ASAMSharpness(eta=0, biases=True), alpha=True, node=True),
    Case(FisherSAMSharpness(), alpha=False, node=False),
    Case(FisherSAMSharpness(rho=1e-6, damping=0), alpha=True, node=True),
    Case(PACBayes(perturbations=100), alpha=False, node=False),
    Case(PACBayes(noise="magnitude", epsilon=0, perturbations=100), alpha=True, node=True),
    Case(GradientContrast(batch=8, pairs=50), alpha=False, node=False),
    Case(ContrastRegret(batch=8, pairs=2), alpha=False, node=False),
    Case(NaturalGradientContrast(batch=8, pairs=10, damping=0.1), alpha=True, node=True),
    Case(NaturalContrastRegret(batch=8, pairs=2, damping=0.1, radius=1e-3), alpha=True, node=True),
    Case(GradientStiffness(), alpha=False, node=False),
    Case(GradientDiversity(), alpha=False, node=False),
    Case(GradientNoiseScale(), alpha=False, node=False),
    Case(ContrastiveFlatness(batch=30), alpha=False, node=False),
    Case(ContrastiveFlatness(batch=20, of=FisherRaoNorm(fisher="empirical")), alpha=True, node=True),
    Case(RelativeFlatness(layer="dense 2"), alpha=True, node=False),
    Case(RelativeFlatness(layer="dense 2", normalise=True), alpha=True, node=True),
    Case(MinimumSharpness(), alpha=True, node=False),
    Case(WeightCurvatureIndex(), alpha=True, node=False),
    Case(ScaledEigenvalue(tolerance=1e-10), alpha=True, node=False),
]

SMALL = FullyConnected(depth=2, width=5)
IMAGES = Convolutional(layers=(ConvolutionLayer(),), channels=2)
RELU = FullyConnected(depth=2, width=14)  # on 30 inputs: 659 parameters


def data(n: int, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    return rng.standard_normal((n, *shape)), np.where(rng.random(n) < 0.5, -1, 1)


@functools.cache
def small(loss: str = "cross-entropy", activation: str = "erf", dtype: str = "float64") -> EmpiricalRisk:
    """A smooth network with 61 parameters, its examples in three chunks, the last one not full."""
    architecture = SMALL.model_copy(update={"activation": activation})
    parameters = finite_network(architecture, (4,)).init(1)
    return EmpiricalRisk.of(architecture, parameters, *data(20, 4), loss=loss, dtype=dtype, chunk=8)


CLASSES = 3


def classes_of(n: int) -> np.ndarray:
    """Labels 0 … C-1 of ``data(n, …)``."""
    return np.random.default_rng(n).permutation(np.arange(n) % CLASSES)


@functools.cache
def of_classes(loss: str = "cross-entropy", activation: str = "erf", chunk: int = 8) -> EmpiricalRisk:
    """A network with three outputs and 73 parameters, its examples in three chunks, the last one not full."""
    architecture = SMALL.model_copy(update={"activation": activation})
    parameters, X = finite_network(architecture, (4,), CLASSES).init(1), data(20, 4)[0]
    return EmpiricalRisk.of(architecture, parameters, X, classes_of(20), loss=loss, chunk=chunk, classes=CLASSES)


def _mean_loss(network: FiniteNetwork, loss: str, theta: jax.Array, X: jax.Array, one_hot: jax.Array) -> jax.Array:
    """Mean loss of C outputs by its textbook formula, without the losses under test."""
    f = _outputs(network, theta, X)
    each = (f - one_hot) ** 2 if loss == "mse" else -one_hot * jax.nn.log_softmax(f)
    return each.sum(axis=1).mean()


@functools.partial(jax.jit, static_argnums=(0, 1))
def _derivatives(network: FiniteNetwork, loss: str, *arguments: jax.Array) -> tuple[Any, jax.Array]:
    function = functools.partial(_mean_loss, network, loss)
    return jax.value_and_grad(function)(*arguments), jax.hessian(function)(*arguments)


class DenseOfClasses(NamedTuple):
    """Derivatives of the mean loss of C outputs, without the code under test."""

    value: float
    gradient: np.ndarray  # (P,)
    hessian: np.ndarray  # (P, P)
    jacobian: np.ndarray  # (n, C, P)
    slopes: np.ndarray  # (n, C)
    blocks: np.ndarray  # (n, C, C)

    def matrix(self, name: str) -> np.ndarray:
        """Matrix by its definition."""
        if name == "hessian":
            return self.hessian
        blocks = self.blocks if name == "ggn" else self.slopes[:, :, None] * self.slopes[:, None, :]
        return np.einsum("ncp,ncd,ndq->pq", self.jacobian, blocks, self.jacobian) / len(blocks)


@functools.cache
def dense_of_classes(risk: EmpiricalRisk) -> DenseOfClasses:
    """Dense derivatives by ``jax.hessian`` and closed forms of ℓ' and ℓ''."""
    one_hot = np.eye(CLASSES)[np.asarray(risk.y, int)]
    with high_precision():
        arguments = risk.theta, risk.X, jnp.asarray(one_hot)
        (value, gradient), hessian = _derivatives(risk.network, risk.loss_name, *arguments)
        f, J = (np.asarray(function(risk.network, risk.theta, risk.X)) for function in (_outputs, _jacobian))
    p = np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)
    blocks = p[:, :, None] * (np.eye(CLASSES) - p[:, None, :])
    slopes = p - one_hot
    if risk.loss_name == "mse":
        slopes, blocks = 2 * (f - one_hot), np.broadcast_to(2 * np.eye(CLASSES), blocks.shape)
    return DenseOfClasses(float(value), np.asarray(gradient), np.asarray(hessian), J, slopes, blocks)


@functools.cache
def images() -> EmpiricalRisk:
    parameters = finite_network(IMAGES, (4, 4, 1)).init(2)
    return EmpiricalRisk.of(IMAGES, parameters, *data(7, 4, 4, 1), chunk=4)


def being_read(risk: EmpiricalRisk) -> EmpiricalRisk:
    """The same with inputs that stay where they are, whatever their number."""
    return replace(risk, inputs=Read.of(np.asarray(risk.X), risk.dtype.name, risk.chunk))


@functools.cache
def trained(iterations: int = 15) -> EmpiricalRisk:
    """A ReLU network without training error."""
    parameters = finite_network(RELU, (30,)).init(0)
    risk = EmpiricalRisk.of(RELU, parameters, *data(60, 30))

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = risk.value_and_gradient(theta)
        return float(value), np.asarray(gradient)

    found = minimize(loss, np.asarray(risk.theta), jac=True, method="L-BFGS-B", options={"maxiter": iterations})
    return risk.at(found.x)


def _of_first_input(theta: jax.Array, X: jax.Array) -> jax.Array:
    return jnp.einsum("i,nij,j->n", theta, X.reshape(len(X), len(theta), len(theta)), theta) / 4


# Equal sizes are the same network, which is compiled once; the matrix is its one input.
QUADRATIC = FromNetwork(
    lambda key, shape: ((1, 1), jnp.zeros(math.isqrt(shape[-1]))), _of_first_input, name="quadratic form"
)


def of_matrix(A: np.ndarray) -> EmpiricalRisk:
    """A risk whose Hessian is a given symmetric matrix: f = θᵀAθ/4 at θ = 0, squared error, label -1."""
    return EmpiricalRisk.of(QUADRATIC, np.zeros(len(A)), A.reshape(1, -1), [-1], loss="mse")


@functools.partial(jax.jit, static_argnums=0)
def _outputs(network: FiniteNetwork, theta: jax.Array, X: jax.Array) -> jax.Array:
    return network.forward(network.unflatten(theta), X)


@functools.partial(jax.jit, static_argnums=0)
def _jacobian(network: FiniteNetwork, theta: jax.Array, X: jax.Array) -> jax.Array:
    return jax.jacrev(functools.partial(_outputs, network))(theta, X)


@functools.partial(jax.jit, static_argnums=0)
def _second_derivatives(network: FiniteNetwork, theta: jax.Array, X: jax.Array, first: jax.Array) -> jax.Array:
    return jax.hessian(lambda theta: first @ _outputs(network, theta, X))(theta)


@functools.cache
def linearised(risk: EmpiricalRisk) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """∇f, (n, P), ℓ' and ℓ'' in closed form, without the code under test."""
    y = np.asarray(risk.y)
    with high_precision():
        f, J = (np.asarray(function(risk.network, risk.theta, risk.X)) for function in (_outputs, _jacobian))
    if risk.loss_name == "mse":
        return J, 2 * (f - y), np.full(len(y), 2.0)
    p = 1 / (1 + np.exp(y * f))
    return J, -y * p, p * (1 - p)


@functools.cache
def dense(risk: EmpiricalRisk, matrix: str = "hessian") -> np.ndarray:
    """A matrix by definition, without the code under test."""
    J, first, second = linearised(risk)
    G = J.T @ ((first**2 if matrix == "empirical-fisher" else second)[:, None] * J) / risk.n
    if matrix != "hessian":
        return G
    with high_precision():
        return G + np.asarray(_second_derivatives(risk.network, risk.theta, risk.X, jnp.asarray(first))) / risk.n


def dense_gradients(risk: EmpiricalRisk) -> np.ndarray:
    """The gradient of each example's loss, (n, P), without the code under test."""
    J, first, _ = linearised(risk)
    return first[:, None] * J


LINEAR = FromNetwork(lambda key, shape: ((1,), jnp.zeros(shape[-1])), lambda theta, X: X @ theta, name="linear")


def linear(X: np.ndarray, y: np.ndarray, theta: np.ndarray, loss: str = "mse", **options: Any) -> EmpiricalRisk:
    """f = θ·x, whose loss is quadratic for squared errors."""
    return EmpiricalRisk.of(LINEAR, theta, X, y, loss=loss, **options)


def random_symmetric(eigenvalues: np.ndarray, seed: int = 0) -> np.ndarray:
    """A matrix with a prescribed spectrum."""
    Q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(eigenvalues),) * 2))
    return (Q * eigenvalues) @ Q.T


def relative(found: float, expected: float) -> float:
    return abs(found - expected) / max(abs(expected), math.ulp(1.0))
