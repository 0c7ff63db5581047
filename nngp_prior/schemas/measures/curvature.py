"""Measures of curvature, by matrices of second derivatives: one specification each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from nngp_prior.schemas.base import PLAIN, NotNegative, Specification, message_on_error

EACH = "each"  # of the option ``layer``: a figure for each layer
Matrix = Literal["hessian", "ggn", "empirical-fisher"]
Probes = Annotated[
    Annotated[int, Field(ge=2, le=1_000_000), PLAIN] | Literal["basis"],
    message_on_error("Pass a number from 2 to 1,000,000, or 'basis'"),
]


class _OfMatrix(Specification):
    r"""What measures of a symmetric P × P matrix take.

    Attributes:
        matrix: of the mean loss L over the data: its ``hessian``; the ``ggn``, generalised Gauss-Newton matrix
            E[ℓ''(f) ∇f ∇fᵀ], which is the model's Fisher information; or the ``empirical-fisher`` E[∇ℓ ∇ℓᵀ].
        layer: the block of one layer, weights and biases, by its name; ``each`` is a figure for each layer; the whole
            matrix when absent.
    """

    matrix: Matrix = "hessian"
    layer: str | None = None


class _WithProbes(_OfMatrix):
    """Attributes of those that average over random vectors.

    Attributes:
        probes: number of vectors with independent random signs, never fewer in the end; ``basis`` takes all unit
            vectors instead, which is exact and costs P products.
    """

    probes: Probes = 100


class Eigenvalues(_OfMatrix):
    """λ_max and λ_min, and those that follow them, by Lanczos' method with full reorthogonalisation.

    Attributes:
        largest: how many from the upper end: ``lambda_max``, ``lambda_max_2``, …
        smallest: how many from the lower end: ``lambda_min``, ``lambda_min_2``, …; negative ones as such.
        tolerance: the residual ‖H v - λ v‖ of each is below this part of its absolute value when the method ends, or
            below 1e-6 of the largest absolute one (the tolerance, if that is less). An eigenvalue is that near; one far
            from all others is about as near as the square of it.
        max_steps: products after which it ends in any case, with the status ``not-converged``. They are also vectors of
            P numbers that are kept.
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
    """Tr H: exactly where it can be, else by Hutchinson's method.

    Attributes:
        method: ``split`` is Tr G + Tr(H - G), G the generalised Gauss-Newton matrix: the first exactly, from the
            gradient of each example, and the second by Hutchinson's method, or 0 where the network is piecewise linear
            (relu, leaky relu, identity; no layer norm). ``hutchinson`` averages vᵀ H v over independent v; near a
            minimum, where H is nearly G, its standard error is many times larger. ``xtrace`` (Epperly, Tropp and Webber
            2024) is far closer where few eigenvalues are large, its standard error is a rule of thumb, and it keeps
            twice as many vectors of P numbers as probes.
    """

    kind: Literal["trace"] = "trace"
    method: Literal["split", "hutchinson", "xtrace"] = "split"


class Frobenius(_WithProbes):
    """‖H‖_F, the square root of the mean of ‖H v‖²."""

    kind: Literal["frobenius"] = "frobenius"


class _WithQuadrature(_WithProbes):
    """Attributes of those by stochastic Lanczos quadrature.

    Attributes:
        probes: number of starting vectors with independent random signs, or ``basis``.
        steps: of Lanczos' method from each, hence nodes of the quadrature.
    """

    probes: Probes = 10
    steps: Annotated[int, Field(ge=1, le=10_000), PLAIN] = 80


class LogDeterminant(_WithQuadrature):
    """log det(H + δI), natural logarithm, by stochastic Lanczos quadrature.

    Attributes:
        damping: δ, in the units of H. With 1, zero eigenvalues add nothing.
    """

    kind: Literal["logdet"] = "logdet"
    damping: NotNegative = 1.0


class SpectralDensity(_WithQuadrature):
    """The density of eigenvalues by stochastic Lanczos quadrature (Ghorbani, Krishnan and Xiao 2019).

    Attributes:
        points: of the grid that the density is given on.
        width: standard deviation of the Gaussian that stands for each node, as a part of the spectrum's width.
        negligible: eigenvalues of an absolute value up to this part of the largest count as zero in the figures
            ``negative_mass`` and ``zero_mass``.
    """

    kind: Literal["spectral-density"] = "spectral-density"
    points: Annotated[int, Field(ge=2, le=100_000), PLAIN] = 1000
    width: Annotated[float, Field(gt=0, lt=1), PLAIN] = 0.01
    negligible: Annotated[float, Field(ge=0, lt=1), PLAIN] = 1e-3


class FisherTrace(Specification):
    """Tr F, exactly, from the gradient of each example.

    Attributes:
        fisher: ``model``, E[ℓ''(f) ‖∇f‖²], labels drawn from the model, or ``empirical``, E[‖∇ℓ‖²] with the labels
            given.
        layer: the part of one layer, by its name; ``each`` is a figure for each layer.
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
