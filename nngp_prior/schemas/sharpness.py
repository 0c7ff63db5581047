"""What flatness is measured by: one specification a measure, and the figures that come back."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field, StrictBool, model_validator

from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.base import PLAIN, NotNegative, OrNamed, Specification, told
from nngp_prior.schemas.gradients import (
    ContrastRegret,
    GradientContrast,
    GradientDiversity,
    GradientNoiseScale,
    GradientStiffness,
    MinibatchFlatness,
    NaturalContrastRegret,
    NaturalGradientContrast,
)
from nngp_prior.schemas.neighbourhoods import ASAMSharpness, FisherSAMSharpness, Keskar, PACBayes, SAMSharpness
from nngp_prior.schemas.result import finite
from nngp_prior.schemas.text import html_table, number_of, short

LossName = Literal["cross-entropy", "mse"]
EACH = "each"  # of the option ``layer``: a figure for each layer
Matrix = Literal["hessian", "ggn", "empirical-fisher"]
Probes = Annotated[
    Annotated[int, Field(ge=2, le=1_000_000), PLAIN] | Literal["basis"],
    told("Pass a number from 2 to 1,000,000, or 'basis'"),
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


class RelativeFlatness(Specification):
    r"""Relative flatness of dense layers (Petzka et al. 2021, 2001.00939), exactly.

    .. math::
        κ_{Tr} = \sum_{s,s'} ⟨w_s, w_{s'}⟩\, \mathrm{Tr} H_{s,s'}, \qquad κ = \sum_s ‖w_s‖^2 λ_{max}(H_{s,s})

    w_s are the weights into unit s of the layer, biases not among them, and H their Hessian of the mean loss. Layers
    whose weights are shared between places (convolutions) have none.

    Attributes:
        layer: name of a dense layer; ``each`` is figures for each dense layer; the output layer when absent.
        eigenvalues: whether κ is computed beside κ_Tr; it takes an eigenvalue of a matrix of fan-in rows for each unit.
        normalise: inputs of the layer are divided by their standard deviation over the data, and its weights
            multiplied by it, which leaves the function unchanged and makes both invariant under rescaling of nodes.
    """

    kind: Literal["relative-flatness"] = "relative-flatness"
    layer: str | None = None
    eigenvalues: StrictBool = True
    normalise: StrictBool = False


class _OfLayers(Specification):
    """Attributes of those made of Tr H_l, H_l the Hessian with respect to the weights of layer l, without biases.

    Attributes:
        traces: ``exact``, from closed forms, which dense layers have, and all layers of piecewise linear networks
            without layer norm; ``basis``, exact, by a product for each weight; or by so many random vectors for each
            layer.
    """

    traces: Annotated[
        Annotated[int, Field(ge=2, le=1_000_000), PLAIN] | Literal["exact", "basis"],
        told("Pass 'exact', 'basis', or a number from 2 to 1,000,000"),
    ] = "exact"


class MinimumSharpness(_OfLayers):
    r"""Minimum sharpness (Ibayashi, Hamaguchi and Imaizumi 2021, 2106.12612): D (Π_l Tr H_l)^{1/D} of D layers.

    It is the least Σ_l Tr H_l among the parameters that rescaling of layers makes of these.
    """

    kind: Literal["minimum-sharpness"] = "minimum-sharpness"


class WeightCurvatureIndex(_OfLayers):
    """A weight-curvature index after Xu and Zhang 2024 (2410.07719): Σ_l √(‖W_l‖_F² Tr H_l), of the loss of the data.

    The paper's is of the adversarial loss; the normalisation could not be checked against it.
    """

    kind: Literal["weight-curvature-index"] = "weight-curvature-index"


class ScaledEigenvalue(Specification):
    r"""The largest eigenvalue of the Hessian in units of the layers' norms (Rangamani et al. 2019, 1902.02434).

    .. math:: λ_{max}(S H S), \qquad S = \mathrm{diag}(‖W_1‖_F I, …, ‖W_D‖_F I)

    At a minimum it is that of the Hessian on the manifold of networks up to rescaling of layers, with the authors'
    metric; elsewhere that has further terms, in proportion to the gradient. Biases stay fixed.

    Attributes:
        tolerance: as of ``eigenvalues``.
        max_steps: as of ``eigenvalues``.
    """

    kind: Literal["scaled-eigenvalue"] = "scaled-eigenvalue"
    tolerance: Annotated[float, Field(gt=0, lt=1), PLAIN] = 1e-6
    max_steps: Annotated[int, Field(ge=2, le=100_000), PLAIN] = 300


_OfOneLoss = (
    Eigenvalues
    | Trace
    | Frobenius
    | LogDeterminant
    | SpectralDensity
    | FisherTrace
    | FisherRaoNorm
    | RelativeFlatness
    | MinimumSharpness
    | WeightCurvatureIndex
    | ScaledEigenvalue
    | Keskar
    | SAMSharpness
    | ASAMSharpness
    | FisherSAMSharpness
    | PACBayes
    | GradientContrast
    | ContrastRegret
    | NaturalGradientContrast
    | NaturalContrastRegret
    | GradientStiffness
    | GradientDiversity
    | GradientNoiseScale
)


class ContrastiveFlatness(MinibatchFlatness):
    """The mean over minibatches b of S(L_b), for another measure S: minus S of the mean loss L, and divided by that.

    Attributes:
        of: S, with its options, or its name; of several figures, each. Random vectors of S are the same for all
            minibatches.
    """

    kind: Literal["contrastive-flatness"] = "contrastive-flatness"
    of: Annotated[
        _OfOneLoss,
        Field(discriminator="kind"),
        BeforeValidator(lambda of: {"kind": of} if isinstance(of, str) else of),
        OrNamed(tuple(model.model_fields["kind"].default for model in get_args(_OfOneLoss))),
    ] = Eigenvalues(smallest=0)


Measure = Annotated[_OfOneLoss | ContrastiveFlatness, Field(discriminator="kind")]
MEASURES_BY_KIND: dict[str, type[Specification]] = {
    model.model_fields["kind"].default: model for model in get_args(get_args(Measure)[0])
}
DEFAULT = ("eigenvalues", "trace", "frobenius", "fisher-rao-norm")


def measure_of(kind: str, **options: Any) -> Measure:
    """The specification of a measure, from its name.

    Args:
        kind: ``eigenvalues``, ``trace``, …
        **options: its fields.

    Returns:
        validated.

    Raises:
        InvalidInput: unknown measure or field, or a value out of range.
    """
    if kind not in MEASURES_BY_KIND:
        near = get_close_matches(kind, MEASURES_BY_KIND, n=2)
        meant = f"Did you mean {' or '.join(near)}? There are {', '.join(MEASURES_BY_KIND)}."
        remedy = meant if near else f"Choose from {', '.join(MEASURES_BY_KIND)}."
        raise InvalidInput("measures", f"got {kind!r}", remedy)
    return MEASURES_BY_KIND[kind](**options)  # pyright: ignore[reportReturnType]


Status = Literal["ok", "not-finite", "not-converged", "indefinite", "zero-gradient", "degenerate"]


class _Figures(Specification):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True, ser_json_inf_nan="strings")


class Measurement(_Figures):
    """One figure of one network.

    Attributes:
        measure: kind of the measure.
        name: of the figure: ``lambda_max``, ``trace``, ``ggn_trace``, ``trace[dense 1]``, …
        value: the figure; NaN where there is none, and the status says why.
        stderr: its standard error; None where nothing is random, or the method has none.
        status: ``ok``; ``not-finite`` (loss, gradient or figure); ``not-converged``; ``indefinite`` (a matrix that
            had to be positive definite is not); ``zero-gradient``; ``degenerate`` (the figure says nothing here).
        message: what the status means here, and what to try; empty if there is nothing to say.
        options: of the measure.
        diagnostics: the method's own figures.
        gradients: cost of the measure, all its figures together, in gradients of the whole data set; a product with the
            Hessian counts as two, a loss without its gradient as a third.
        seconds: wall time of the measure, all its figures together, compilation included.
    """

    measure: str
    name: str
    value: float
    stderr: float | None = None
    status: Status = "ok"
    message: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    diagnostics: dict[str, Any] = Field(default_factory=dict)
    gradients: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        error = "" if self.stderr is None else f" ± {self.stderr:.2g}"
        note = "" if self.status == "ok" else f" [{self.status}]"
        return f"{self.name} = {self.value:.6g}{error}{note}"

    def __repr__(self) -> str:
        return str(self)


class Report(_Figures):
    """What was measured of one network on one data set.

    Attributes:
        measurements: in the order of the measures; a measure may have several figures.
        loss: name of the loss.
        training_loss: its mean over the data.
        training_error: part of the data with y f ≤ 0.
        gradient_norm: Euclidean norm of the mean loss's gradient.
        n: number of inputs.
        parameters: P.
        dtype: of all computations.
        seed: that random vectors come from.
        versions: of packages.
    """

    measurements: tuple[Measurement, ...]
    loss: LossName
    training_loss: float
    training_error: float
    gradient_norm: float
    n: int
    parameters: int
    dtype: Literal["float64", "float32"]
    seed: int
    versions: dict[str, str]

    def __getitem__(self, name: str) -> Measurement:
        found = [measurement for measurement in self.measurements if measurement.name == name]
        if len(found) != 1:
            names = ", ".join(dict.fromkeys(measurement.name for measurement in self.measurements))
            problem = f"{len(found)} figures are called {name!r}" if found else f"no figure is called {name!r}"
            raise KeyError(f"{problem}; there are: {names}")
        return found[0]

    def __contains__(self, name: str) -> bool:
        return any(measurement.name == name for measurement in self.measurements)

    def __iter__(self) -> Iterator[Measurement]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return iter(self.measurements)

    def document(self) -> dict[str, Any]:
        """All of it for JSON; infinities and NaN are strings."""
        return finite(self.model_dump(mode="json"))

    def __str__(self) -> str:
        return "\n".join(map(str, self.measurements))

    def __repr__(self) -> str:
        names = ", ".join(each.name for each in self.measurements)
        of = f"{number_of(self.parameters, 'parameter')}, {number_of(self.n, 'input')}"
        return f"<Report {of}, {self.loss} {self.training_loss:.4g}: {short(names)[1:-1]}>"

    def _repr_html_(self) -> str:
        rows = [
            (
                each.name,
                f"{each.value:.6g}",
                "" if each.stderr is None else f"{each.stderr:.2g}",
                each.status,
                each.message,
            )
            for each in self.measurements
        ]
        return html_table(("figure", "value", "s.e.", "status", "message"), rows)
