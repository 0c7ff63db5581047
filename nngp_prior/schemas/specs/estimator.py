"""Estimators of log P and their options."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypedDict, get_args

from pydantic import ConfigDict, Field, field_validator, model_validator

from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.base import PLAIN, NotNegative, Specification

_MOST = 1_000_000  # maximal numbers of particles and of replicates: far above useful values, but still in memory
_MOST_STEPS = 100_000  # maximal number of iterations
Share = Annotated[float, Field(ge=0, le=1), PLAIN]


class _Estimator(Specification):
    """Options of all estimators.

    Attributes:
        noise_variance: v; the estimate is for K + vI.
        jitter: c; the estimate is for K + c m I, m the mean of K's diagonal.
    """

    noise_variance: NotNegative = 0.0
    jitter: NotNegative = 0.0


class _OfClasses(_Estimator):
    """Options of estimators that support more than two classes.

    Attributes:
        classes: number of classes C, for labels 0 … C-1: the class of an input is the index of the largest of C
            independent functions with the same kernel. Default: labels -1 and +1, the sign of one function.
    """

    classes: Annotated[int, Field(ge=2, le=10_000), PLAIN] | None = None


class _WithEP(_OfClasses):
    """Options of estimators that run expectation propagation.

    Attributes:
        precision: precision of the sweeps; the value is always computed in float64 from the sites.
        max_sweeps: maximal number of sweeps, after which EP has not converged.
        backend: ``numpy`` for large matrices on the processor, ``jax`` for JAX's default device; ``auto`` is ``jax`` if
            JAX has a GPU, else ``numpy``. The estimates agree within their error, but not bit for bit.
    """

    precision: Literal["float32", "float64"] = "float32"
    max_sweeps: Annotated[int, Field(ge=1, le=_MOST_STEPS), PLAIN] = 50
    backend: Literal["auto", "numpy", "jax"] = "auto"


class SMC(_WithEP):
    """EP-twisted sequential Monte Carlo: unbiased for P, with standard error, interval and rigorous lower bound.

    Attributes:
        particles: number of particles per replicate; preferably a power of two, since the points are Sobol's. Default:
            ``fewest_particles``, or 256 if a pilot run finds uneven weights, or as many as ``target_stderr`` requires.
        replicates: number of independent replicates; the standard error is computed from their spread.
        target_stderr: unless ``particles`` is given, it is doubled according to a pilot run; then replicates are added
            until the standard error is at most this.
        max_replicates: maximal number of replicates, at least ``replicates``; if they do not suffice, the status is
            ``target-not-met``.
        shares: fractions of the particles for each proposal of the mixture (untwisted, EP, EP widened). Default: chosen
            by a pilot run.
        tolerance: EP sweeps end when the root mean square of √(Δμ²/v + ½ (Δ log v)²), the change of a marginal N(μ, v),
            is below this and is expected to be below 0.1 in the next sweep; a proposal need not have converged.
            Default: 0.25 up to 2,000 constraints and for three classes or more, else 0.5; sweeps then continue, down to
            1e-3, while the pilot's weights are too uneven.
        max_sweeps: maximal number of EP sweeps.
    """

    kind: Literal["smc"] = "smc"
    particles: Annotated[int, Field(ge=4, le=_MOST), PLAIN] | None = None
    replicates: Annotated[int, Field(ge=2, le=_MOST), PLAIN] = 32
    target_stderr: Annotated[float, Field(ge=1e-9, le=1e9), PLAIN] | None = None
    max_replicates: Annotated[int, Field(ge=2, le=_MOST), PLAIN] = 1024
    shares: tuple[Share, Share, Share] | None = None
    tolerance: Annotated[float, Field(gt=0, lt=1), PLAIN] | None = None
    max_sweeps: Annotated[int, Field(ge=1, le=_MOST_STEPS), PLAIN] = 20

    @property
    def fewest_particles(self) -> int:
        """Number of particles per replicate before a pilot adds any: ``particles`` or 32, 128 for three classes."""
        return self.particles or (128 if (self.classes or 2) > 2 else 32)

    @model_validator(mode="after")
    def _budget_has_room(self) -> SMC:
        if self.target_stderr is not None and self.max_replicates < self.replicates:
            raise ValueError(f"max_replicates must be at least replicates ({self.replicates})")
        return self

    @model_validator(mode="after")
    def _shares_are_a_distribution(self) -> SMC:
        if self.shares is not None and abs(sum(self.shares) - 1) > 1e-9:
            raise ValueError("shares must not be negative and must sum to 1")
        return self


class GHK(_OfClasses):
    """Separation of variables without EP: unbiased for P, with standard error; impractical for many inputs.

    Attributes:
        particles: number of particles per replicate.
        replicates: number of independent replicates.
    """

    kind: Literal["ghk"] = "ghk"
    particles: Annotated[int, Field(ge=4, le=_MOST), PLAIN] = 128
    replicates: Annotated[int, Field(ge=2, le=_MOST), PLAIN] = 32


class MinimaxTilting(_OfClasses):
    """Minimax tilting: unbiased for P, with standard error, and a certain upper bound on log P.

    Attributes:
        particles: number of particles per replicate.
        replicates: number of independent replicates.
    """

    kind: Literal["minimax-tilting"] = "minimax-tilting"
    particles: Annotated[int, Field(ge=4, le=_MOST), PLAIN] = 128
    replicates: Annotated[int, Field(ge=2, le=_MOST), PLAIN] = 32


class EP(_WithEP):
    """Expectation propagation: fast, biased, without an error statement, never a bound.

    Attributes:
        tolerance: sweeps end when no site changed its marginal mean by more than this fraction of its standard
            deviation, nor its variance by more than this fraction.
    """

    kind: Literal["ep"] = "ep"
    tolerance: Annotated[float, Field(gt=0, lt=1), PLAIN] = 1e-3


class EP2(EP):
    """EP with the second-order cumulant correction: removes most of EP's error, but also has no error statement.

    Attributes:
        highest_cumulant: highest order of cumulants in the correction. 3, the skewness only, was best for kernels of
            networks; higher orders help if correlations are weak and overshoot if they are strong.
    """

    kind: Literal["ep2"] = "ep2"  # pyright: ignore[reportIncompatibleVariableOverride]
    highest_cumulant: Annotated[int, Field(ge=3, le=8), PLAIN] = 3


def _noise_is_required(schema: dict[str, Any]) -> None:
    """Add the validator's condition to the schema; the validator's own message has a remedy."""
    noise = schema["properties"]["noise_variance"]
    del noise["default"], noise["minimum"]
    noise["exclusiveMinimum"] = 0
    schema["required"] = ["noise_variance", *schema.get("required", ())]


class Laplace(_Estimator):
    """Laplace's approximation with a smooth likelihood: fast, without an error statement, never a bound.

    Attributes:
        link: ``probit`` approximates the orthant probability of K + vI; ``logistic`` a likelihood with logistic noise
            of the same variance v.
            same variance v but the logistic distribution.
        max_iterations: maximal number of Newton steps.
    """

    model_config = ConfigDict(json_schema_extra=_noise_is_required)

    kind: Literal["laplace"] = "laplace"
    noise_variance: Annotated[NotNegative, Field(validate_default=True)] = 0.0
    link: Literal["probit", "logistic"] = "probit"
    max_iterations: Annotated[int, Field(ge=1, le=_MOST_STEPS), PLAIN] = 100

    @field_validator("noise_variance")
    @classmethod
    def _likelihood_is_smooth(cls, value: float) -> float:
        if value == 0:
            raise ValueError(
                "Laplace's approximation needs a smooth likelihood: pass noise_variance > 0, in the units of K (the "
                "estimate is then of K + vI), or use ep or smc"
            )
        return value


class BernsteinYue(_OfClasses):
    """Bernstein and Yue's Monte Carlo estimate C0 and their certain lower bound on log P, for K of full rank.

    Attributes:
        draws: number of half-normal vectors of the Monte Carlo estimate; the bound needs none.
    """

    kind: Literal["bernstein-yue"] = "bernstein-yue"
    draws: Annotated[int, Field(ge=2, le=10**9), PLAIN] = 10_000


class ClosedForm(_Estimator):
    """Exact: for n ≤ 3, and for product correlation (including equicorrelation) at any n."""

    kind: Literal["closed-form"] = "closed-form"


class Sampling(_OfClasses):
    """Draws of f from N(0, K), with an exact binomial interval; for P above about 1e-5.

    Attributes:
        draws: number of draws.
    """

    kind: Literal["sampling"] = "sampling"
    draws: Annotated[int, Field(ge=1, le=10**12), PLAIN] = 100_000


Estimator = Annotated[
    SMC | EP | EP2 | Laplace | GHK | MinimaxTilting | BernsteinYue | ClosedForm | Sampling, Field(discriminator="kind")
]
_METHODS = {parameters.model_fields["kind"].default: parameters for parameters in get_args(get_args(Estimator)[0])}

# Estimators with a field ``classes``. A link function's noise on each difference is not noise on each class.
WITH_CLASSES = ("smc", "ep", "ep2", "ghk", "minimax-tilting", "bernstein-yue", "sampling")


class EstimatorOptions(TypedDict, total=False):
    """Fields of all estimators, as keyword arguments; each estimator's specification has those that it accepts."""

    noise_variance: float
    jitter: float
    classes: int | None
    precision: Literal["float32", "float64"]
    max_sweeps: int
    backend: Literal["auto", "numpy", "jax"]
    tolerance: float | None
    particles: int | None
    replicates: int
    target_stderr: float | None
    max_replicates: int
    shares: tuple[float, float, float] | None
    highest_cumulant: int
    link: Literal["probit", "logistic"]
    max_iterations: int
    draws: int


def estimator_of(method: str | Estimator, **options: Any) -> Estimator:
    """Return the specification of an estimator.

    Args:
        method: a specification such as ``SMC(particles=256)``, or a name: ``smc``, ``ep``, ``ep2``, ``laplace``,
            ``ghk``, ``minimax-tilting``, ``bernstein-yue``, ``closed-form`` or ``sampling``.
        **options: fields of a named estimator; ``classes=None`` is accepted for all of them.

    Returns:
        the validated specification.

    Raises:
        InvalidInput: if the method or a field is unknown, a value is out of range, or a specification comes with
            options.
    """
    if not isinstance(method, str):
        if not isinstance(method, tuple(_METHODS.values())):
            names = ", ".join(sorted(_METHODS))
            raise InvalidInput("method", f"got {method!r}", f"Pass one of {names}, or SMC(…), EP(…), ….")
        if options:
            remedy = f"Put them into {type(method).__name__}(…)."
            raise InvalidInput(", ".join(options), "are given beside a specification", remedy)
        return method
    if method not in _METHODS:
        near = get_close_matches(method, _METHODS, n=1)
        meant = f"Did you mean {near[0]!r}? " if near else ""
        raise InvalidInput("method", f"got {method!r}", f"{meant}Choose one of {', '.join(sorted(_METHODS))}.")
    classes = options.get("classes")
    if classes is None:
        options.pop("classes", None)
    elif method not in WITH_CLASSES:
        problem = f"got {classes!r} where {method} takes labels -1 and +1"
        raise InvalidInput("classes", problem, f"Use {', '.join(WITH_CLASSES)}.")
    return _METHODS[method](**options)


def classes_of(estimator: Estimator) -> int | None:
    """Number of classes C for labels 0 … C-1; None for labels -1 and +1."""
    return getattr(estimator, "classes", None)


def more_than_two(estimator: Estimator) -> bool:
    """True for three classes or more; two classes are equivalent to the labels -1 and +1."""
    return (classes_of(estimator) or 0) > 2
