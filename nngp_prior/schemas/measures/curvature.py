"""Specifications of curvature measures, based on matrices of second derivatives."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from nngp_prior.schemas.base import PLAIN, NotNegative, Specification, message_on_error

EACH = "each"  # value of the option ``layer``: one quantity per layer
Matrix = Literal["hessian", "ggn", "empirical-fisher"]
Probes = Annotated[
    Annotated[int, Field(ge=2, le=1_000_000), PLAIN] | Literal["basis"],
    message_on_error("Pass a number from 2 to 1,000,000, or 'basis'"),
]


class _OfMatrix(Specification):
    r"""Options of measures of a symmetric P × P matrix.

    Attributes:
        matrix: matrix of the mean loss L over the data: ``hessian``; ``ggn``, the generalised Gauss-Newton matrix
            E[ℓ''(f) ∇f ∇fᵀ], which is the model's Fisher information; or ``empirical-fisher``, E[∇ℓ ∇ℓᵀ].
        layer: name of a layer, for the block of its weights and biases; ``each`` for one quantity per layer. Default:
            the whole matrix.
    """

    matrix: Matrix = "hessian"
    layer: str | None = None


class _WithProbes(_OfMatrix):
    """Options of measures that average over random vectors.

    Attributes:
        probes: number of vectors with independent random signs, all of which are used; ``basis`` uses all unit vectors
            instead, which is exact and costs P products.
    """

    probes: Probes = 100


class Eigenvalues(_OfMatrix):
    """λ_max and λ_min, and the eigenvalues next to them, by Lanczos' method with full reorthogonalisation.

    Attributes:
        largest: number of eigenvalues from the upper end: ``lambda_max``, ``lambda_max_2``, …
        smallest: number of eigenvalues from the lower end, with their signs: ``lambda_min``, ``lambda_min_2``, …
        tolerance: the method ends when the residual ‖H v - λ v‖ of each eigenvalue is below this fraction of its
            absolute value, or below 1e-6 (or the tolerance, if smaller) of the largest absolute eigenvalue. The error
            of an eigenvalue is at most its residual, and about its square for an eigenvalue far from all others.
        max_steps: maximal number of products, after which the status is ``not-converged``; also the number of vectors
            of P numbers in memory.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "not": {
                "properties": {"largest": {"const": 0}, "smallest": {"const": 0}},
                "required": ["largest", "smallest"],
            }
        }
    )

    kind: Literal["eigenvalues"] = "eigenvalues"
    largest: Annotated[int, Field(ge=0, le=1000), PLAIN] = 1
    smallest: Annotated[int, Field(ge=0, le=1000), PLAIN] = 1
    tolerance: Annotated[float, Field(gt=0, lt=1), PLAIN] = 1e-6
    max_steps: Annotated[int, Field(ge=2, le=100_000), PLAIN] = 300

    @model_validator(mode="after")
    def _some_are_asked_for(self) -> Eigenvalues:
        if self.largest == self.smallest == 0:
            raise ValueError("largest and smallest are both 0: ask for at least one eigenvalue")
        return self


class Trace(_WithProbes):
    """Tr H, exactly if possible, else by Hutchinson's method.

    Attributes:
        method: ``split`` is Tr G + Tr(H - G), G the generalised Gauss-Newton matrix: the first exactly, from the
            gradient of each example, and the second by Hutchinson's method, or 0 if the network is piecewise linear
            (relu, leaky relu, identity; no layer norm). ``hutchinson`` averages vᵀ H v over independent v; near a
            minimum, where H is nearly G, its standard error is many times larger. ``xtrace`` (Epperly, Tropp and Webber
            2024) is far more accurate if few eigenvalues are large; its standard error is a heuristic, and it keeps
            twice as many vectors of P numbers in memory as there are probes.
    """

    kind: Literal["trace"] = "trace"
    method: Literal["split", "hutchinson", "xtrace"] = "split"


class Frobenius(_WithProbes):
    """‖H‖_F, the square root of the mean of ‖H v‖²."""

    kind: Literal["frobenius"] = "frobenius"


class _WithQuadrature(_WithProbes):
    """Options of measures by stochastic Lanczos quadrature.

    Attributes:
        probes: number of starting vectors with independent random signs, or ``basis``.
        steps: number of Lanczos steps from each vector, equal to the number of nodes of the quadrature.
    """

    probes: Probes = 10
    steps: Annotated[int, Field(ge=1, le=10_000), PLAIN] = 80


class LogDeterminant(_WithQuadrature):
    """log det(H + δI), natural logarithm, by stochastic Lanczos quadrature.

    Attributes:
        damping: δ, in the units of H. With δ = 1, zero eigenvalues do not contribute.
    """

    kind: Literal["logdet"] = "logdet"
    damping: NotNegative = 1.0


class SpectralDensity(_WithQuadrature):
    """Density of eigenvalues by stochastic Lanczos quadrature (Ghorbani, Krishnan and Xiao 2019).

    Attributes:
        points: number of grid points of the density.
        width: standard deviation of the Gaussian at each node, as a fraction of the spectrum's width.
        negligible: eigenvalues with an absolute value up to this fraction of the largest count as zero in
            ``negative_mass`` and ``zero_mass``.
    """

    kind: Literal["spectral-density"] = "spectral-density"
    points: Annotated[int, Field(ge=2, le=100_000), PLAIN] = 1000
    width: Annotated[float, Field(gt=0, lt=1), PLAIN] = 0.01
    negligible: Annotated[float, Field(ge=0, lt=1), PLAIN] = 1e-3


class FisherTrace(Specification):
    """Tr F, exactly, from the gradient of each example.

    Attributes:
        fisher: ``model``, E[ℓ''(f) ‖∇f‖²], with labels drawn from the model, or ``empirical``, E[‖∇ℓ‖²], with given
            labels.
            given.
        layer: name of a layer, for its contribution; ``each`` for one quantity per layer. Default: the whole trace.
    """

    kind: Literal["fisher-trace"] = "fisher-trace"
    fisher: Literal["model", "empirical"] = "model"
    layer: str | None = None


class FisherRaoNorm(Specification):
    """θᵀ F θ (Liang et al. 2019), exactly; not its square root.

    Attributes:
        fisher: ``model`` or ``empirical``.
    """

    kind: Literal["fisher-rao-norm"] = "fisher-rao-norm"
    fisher: Literal["model", "empirical"] = "model"
