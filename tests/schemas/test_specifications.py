"""What all specifications share."""

import math
import subprocess
import sys
from typing import get_args

import pytest
from pydantic import ValidationError

from nngp_prior.data.datasets import DATASETS
from nngp_prior.data.labellings import LABELLINGS
from nngp_prior.errors import InvalidInput
from nngp_prior.probability import estimator_of
from nngp_prior.probability.registry import ESTIMATORS
from nngp_prior.registry import Registry
from nngp_prior.schemas.base import Specification
from nngp_prior.schemas.specs.architecture import (
    Convolutional,
    ConvolutionLayer,
    FullyConnected,
    PoolingLayer,
    Residual,
)
from nngp_prior.schemas.specs.data import (
    Constant,
    Dataset,
    Digits,
    FashionMnist,
    Flip,
    Labelling,
    Mnist,
    Parity,
    Randomise,
    RandomLabels,
    Threshold,
)
from nngp_prior.schemas.specs.estimator import (
    EP,
    EP2,
    SMC,
    WITH_CLASSES,
    BernsteinYue,
    ClosedForm,
    Estimator,
    Laplace,
    Sampling,
)
from nngp_prior.schemas.specs.kernel import MonteCarlo
from nngp_prior.schemas.specs.training import SAM, SGD, Adam, EntropySGD, FlatnessPenalty, Momentum, Training

# A specification, and for each of its fields but the kind a value that it does not have.
_OF_NETWORKS: dict[str, object] = {
    "activation": "erf",
    "negative_slope": 0.2,
    "layer_norm": True,
    "weight_std": 1.5,
    "bias_std": 0.0,
}
OTHER_VALUES: list[tuple[Specification, dict[str, object]]] = [
    (FullyConnected(), {"depth": 3, "width": 100, **_OF_NETWORKS}),
    (
        Convolutional(),
        {
            "layers": (PoolingLayer(),),
            "readout": "global-average-pool",
            "channels": 8,
            "input_channels": 3,
            **_OF_NETWORKS,
        },
    ),
    (
        Residual(),
        {"groups": 2, "blocks": 2, "size": 5, "readout": "flatten", "channels": 8, "input_channels": 3, **_OF_NETWORKS},
    ),
    (ConvolutionLayer(), {"size": 5, "stride": 2, "padding": "valid", "channels": 8}),
    (PoolingLayer(), {"operation": "sum", "size": 3, "stride": 1}),
    (Sampling(), {"classes": 3, "draws": 10, "noise_variance": 0.1, "jitter": 1e-6}),
    (BernsteinYue(), {"classes": 3, "draws": 10, "noise_variance": 0.1, "jitter": 1e-6}),
    (Laplace(noise_variance=1), {"link": "logistic", "max_iterations": 5, "noise_variance": 0.1, "jitter": 1e-6}),
    (
        EP2(),
        {
            "classes": 3,
            "highest_cumulant": 4,
            "noise_variance": 0.1,
            "jitter": 1e-6,
            "precision": "float64",
            "tolerance": 1e-4,
            "max_sweeps": 5,
            "backend": "jax",
        },
    ),
    (
        SMC(),
        {
            "classes": 3,
            "particles": 256,
            "replicates": 64,
            "target_stderr": 0.1,
            "max_replicates": 64,
            "shares": (0.5, 0.5, 0.0),
            "noise_variance": 0.1,
            "jitter": 1e-6,
            "precision": "float64",
            "tolerance": 1e-4,
            "max_sweeps": 5,
            "backend": "jax",
        },
    ),
    (
        Training(),
        {
            "optimizer": SAM(),
            "loss": "mse",
            "penalty": FlatnessPenalty(),
            "batch_size": 8,
            "goal": "all",
            "epochs": 5,
            "extra_epochs": 5,
            "keep_every": 5,
            "dtype": "float64",
        },
    ),
    (FlatnessPenalty(), {"strength": 0.5, "layer": "dense 1"}),
    (SGD(), {"learning_rate": 0.1}),
    (Momentum(), {"learning_rate": 0.1, "momentum": 0.5, "nesterov": True}),
    (Adam(), {"learning_rate": 0.1, "beta1": 0.5, "beta2": 0.5, "epsilon": 0.1}),
    (SAM(), {"learning_rate": 0.1, "momentum": 0.5, "rho": 0.1}),
    (
        EntropySGD(),
        {
            "learning_rate": 0.2,
            "momentum": 0.5,
            "langevin_steps": 5,
            "langevin_rate": 0.2,
            "langevin_momentum": 0.5,
            "averaging": 0.5,
            "noise": 0.1,
            "scope": 0.1,
            "scoping": 0.1,
        },
    ),
]


@pytest.mark.parametrize(("specification", "other"), OTHER_VALUES, ids=lambda x: type(x).__name__)
def test_every_field_is_in_the_content_hash(specification: Specification, other: dict[str, object]) -> None:
    assert set(other) == set(type(specification).model_fields) - {"kind"}
    fields = dict(specification)
    changed = {name: type(specification)(**fields | {name: value}) for name, value in other.items()}
    hashes = {specification.content_hash, *(one.content_hash for one in changed.values())}
    assert len(hashes) == 1 + len(changed)
    assert type(specification)(**fields).content_hash == specification.content_hash


def test_kinds_with_the_same_fields_have_different_hashes() -> None:
    alike = [
        Digits(n=5),
        Mnist(n=5),
        FashionMnist(n=5),
        EP(),
        EP2(),
        BernsteinYue(),
        Sampling(),
        SMC(),
        ClosedForm(),
        Parity(),
        Constant(),
        RandomLabels(),
    ]
    assert len({specification.content_hash for specification in alike}) == len(alike)


def test_content_hash_is_the_same_everywhere_and_always() -> None:
    assert FullyConnected().content_hash == "21d61567f66c7197f2a9cabaf15424e00833be893ac3c73ae0cc6927b06e5aaa"


def test_content_hash_survives_a_round_trip_and_does_not_depend_on_how_a_number_is_written() -> None:
    labelling = Threshold(at=5, corruption=Randomise(probability=0.1))
    assert Threshold.model_validate_json(labelling.model_dump_json()).content_hash == labelling.content_hash
    assert FullyConnected(weight_std=2).content_hash == FullyConnected(weight_std=2.0).content_hash


def test_there_is_one_zero() -> None:
    for kind, fields in ((SMC, {"noise_variance": -0.0}), (FullyConnected, {"bias_std": -0.0, "weight_std": 1.0})):
        minus = kind(**fields)
        plus = kind(**{name: abs(value) for name, value in fields.items()})
        assert minus.content_hash == plus.content_hash
        assert "-0.0" not in repr(minus)


@pytest.mark.parametrize("field", ["networks", "outputs", "batches", "seed", "ridge"])
@pytest.mark.parametrize("value", ["12", True])
def test_monte_carlo_takes_numbers_alone(field: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=f"{field}: got"):
        MonteCarlo(**{field: value})


def test_specifications_are_frozen_and_serve_as_keys() -> None:
    architecture = FullyConnected()
    with pytest.raises(ValidationError, match="frozen"):
        architecture.depth = 3  # pyright: ignore[reportAttributeAccessIssue]
    assert {architecture: 1}[FullyConnected()] == 1


@pytest.mark.parametrize(
    ("make", "field", "parts"),
    [
        (lambda: FullyConnected(depth=-1), "depth", ["-1", "greater than or equal to 0"]),
        (lambda: FullyConnected(depth=1.5), "depth", ["1.5", "integer"]),
        (lambda: FullyConnected(activation="tanh"), "activation", ["'tanh'", "'relu'", "'erf'"]),
        (lambda: FullyConnected(weight_std=0), "weight_std", ["0", "greater than 0"]),
        (lambda: FullyConnected(bias_std=math.nan), "bias_std", ["nan", "finite"]),
        (lambda: FullyConnected(bias_std=math.inf), "bias_std", ["inf", "finite"]),
        (lambda: FullyConnected(dept=3), "dept", ["3", "FullyConnected", "depth", "width", "activation", "bias_std"]),
        (lambda: Threshold(), "at", ["required"]),
        (lambda: Digits(split="validation"), "split", ["'validation'", "'train'", "'test'"]),
        (lambda: Constant(value=0), "value", ["0", "-1 or 1"]),
        (lambda: Randomise(probability=1.5), "probability", ["1.5", "less than or equal to 1"]),
        (lambda: SMC(replicates=1), "replicates", ["1", "greater than or equal to 2"]),
        (lambda: SMC(shares=(0.5, 0.5, 0.5)), "specification", ["(0.5, 0.5, 0.5)", "sum to 1"]),
        (lambda: Threshold(at=5, corruption={"kind": "flip", "count": -1}), "corruption.flip.count", ["-1"]),
        (lambda: Laplace(), "noise_variance", ["0.0", "pass noise_variance > 0"]),
        (lambda: SMC(classes=1), "classes", ["1", "greater than or equal to 2"]),
        (lambda: estimator_of("laplace", classes=3), "classes", ["got 3", "laplace", "Use smc, ep"]),
        (lambda: estimator_of("closed-form", classes=10), "classes", ["got 10", "closed-form", "Use smc, ep"]),
        (lambda: estimator_of("mcmc"), "method", ["'mcmc'", "smc", "ep", "ep2", "laplace", "closed-form", "sampling"]),
        (lambda: estimator_of("ep", particles=5), "particles", ["5", "EP", "tolerance"]),
    ],
)
def test_what_cannot_be_used_is_named_with_its_value_and_a_remedy(make, field: str, parts: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        make()
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")
    assert [part for part in parts if part not in str(caught.value)] == []


def test_an_unknown_field_of_a_part_is_not_answered_with_the_fields_of_the_whole() -> None:
    with pytest.raises(InvalidInput) as caught:
        Threshold(at=5, corruption={"kind": "flip", "count": 1, "many": 3})
    assert caught.value.field == "corruption.flip.many"
    assert "It has" not in caught.value.remedy or "count" in caught.value.remedy


def test_an_unknown_kind_is_named_with_those_there_are() -> None:
    with pytest.raises(InvalidInput) as caught:
        Threshold(at=5, corruption={"kind": "typo", "count": 1})
    assert caught.value.field == "corruption.kind"
    assert "'typo'" in caught.value.problem
    assert "'randomise', 'flip'" in caught.value.remedy


@pytest.mark.parametrize(
    ("union", "registry"),
    [(Estimator, ESTIMATORS), (Dataset, DATASETS), (Labelling, LABELLINGS)],
    ids=["estimators", "datasets", "labellings"],
)
def test_what_can_be_asked_for_is_what_is_implemented(union: object, registry: Registry) -> None:
    members = get_args(get_args(union)[0])
    assert set(members) == set(registry)
    assert len({member.model_fields["kind"].default for member in members}) == len(members)


def test_methods_with_classes_are_those_with_the_field() -> None:
    members = get_args(get_args(Estimator)[0])
    fields = {member.model_fields["kind"].default for member in members if "classes" in member.model_fields}
    assert fields == set(WITH_CLASSES)


@pytest.mark.parametrize(("classes", "expected"), [(None, 32), (2, 32), (3, 128)])
def test_defaults_of_three_classes_and_more(classes: int | None, expected: int) -> None:
    default = SMC(classes=classes)
    assert (default.particles, default.fewest_particles) == (None, expected)
    assert SMC.model_validate_json(default.model_dump_json()) == default
    assert SMC(classes=classes, particles=64, tolerance=0.1).fewest_particles == 64


def test_a_registry_takes_one_implementation_of_each() -> None:
    registry: Registry = Registry()
    registry.register(Flip)(len)
    with pytest.raises(KeyError, match="Flip"):
        registry.register(Flip)(len)
    assert registry[Flip(count=1)] is len


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FullyConnected(2), r"FullyConnected: got 2 without a name. Name the field: FullyConnected\(depth=2\)"),
        (lambda: SMC(64), r"SMC\(particles=64\)"),
    ],
)
def test_what_is_missing_is_said(call, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        call()


def test_a_forgotten_architecture_is_named() -> None:
    """In a process of its own, since the tests check types at run time."""
    program = """
import numpy
from nngp_prior import *
from nngp_prior.errors import InvalidInput
from nngp_prior.sharpness import EmpiricalRisk, landscape, measure, rescale, rescale_nodes, train
X, y = numpy.ones((3, 2)), numpy.ones(3)
client = LocalClient()
clients = client.estimate, client.bound, client.posterior, client.sample, client.sharpness
kernels = kernel, kernel_cost, monte_carlo_kernel, log_prior, function_posterior, sample_functions
for call in (*kernels, train, measure, landscape, rescale, rescale_nodes, EmpiricalRisk.of, *clients):
    try:
        call(X, y)
    except InvalidInput as error:
        print(error)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.stderr == ""
    calls = """kernel X; kernel_cost n, input_shape; monte_carlo_kernel X; log_prior X, y;
function_posterior X, y, X_test; sample_functions X, networks; train X, y; measure parameters, X, y;
landscape parameters, X, y; rescale parameters; rescale_nodes parameters; EmpiricalRisk.of parameters, X, y;
estimate X, Y; bound X, Y; posterior X, Y; sample X, networks; sharpness parameters, X, y"""
    named = [each.split(maxsplit=1) for each in calls.split(";")]
    assert ended.stdout.splitlines() == [
        "architecture: is missing; the first argument is an array of shape (3, 2). "
        f"Call {name}(FullyConnected(depth=2), {arguments}), or with another architecture."
        for name, arguments in named
    ]
