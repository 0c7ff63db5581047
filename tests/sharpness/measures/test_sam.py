import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nngp_prior import sharpness
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.measures.neighbourhoods import ASAMSharpness, FisherSAMSharpness, SAMSharpness
from nngp_prior.sharpness.measurement import measure_risk
from nngp_prior.sharpness.rescaling import rescale, rescale_nodes
from nngp_prior.sharpness.risk.networks import high_precision
from tests.sharpness.cases import RELU, of_matrix, trained
from tests.sharpness.quadratics import LINEAR, Quadratic, highest_in_ball, linear, quadratic

ETA, DAMPING = 0.3, 0.7
RHO = 0.4


def one(risk, measure, seed: int = 0):
    (found,) = measure_risk(risk, [measure], seed).measurements
    return found


def axes(risk, measure) -> np.ndarray:
    """T by definition."""
    theta = np.asarray(risk.theta)
    match measure:
        case ASAMSharpness():
            T = np.abs(theta) + measure.eta
            if not measure.biases:
                T[6] = 1
            return T
        case FisherSAMSharpness():
            inputs, y = np.column_stack([risk.X, np.ones(risk.n)]), np.asarray(risk.y)
            factor = (2 * (inputs @ theta - y)) ** 2 if measure.fisher == "empirical" else np.full(len(y), 2.0)
            return (np.mean(factor[:, None] * inputs**2, axis=0) + measure.damping) ** -0.5
        case _:
            return np.ones(7)


def step(function: Quadratic, T: np.ndarray, rho: float) -> np.ndarray:
    """ρ T² g / ‖T g‖"""
    return rho * T**2 * function.g / np.linalg.norm(T * function.g)


MEASURES = [
    SAMSharpness(rho=RHO),
    ASAMSharpness(rho=RHO, eta=ETA),
    ASAMSharpness(rho=RHO, eta=0, biases=True),
    FisherSAMSharpness(rho=RHO, damping=DAMPING),
    FisherSAMSharpness(rho=RHO, damping=0, fisher="model"),
]


@pytest.mark.parametrize("measure", MEASURES, ids=str)
def test_one_step_and_the_maximum_of_a_quadratic(measure) -> None:
    risk = linear()
    function, T = quadratic(risk), axes(linear(), measure)
    found = one(risk, measure)
    assert found.value == pytest.approx(function(step(function, T, RHO)) - function.L, rel=1e-10)
    highest = one(risk, measure.model_copy(update={"method": "ascent", "steps": 60}))
    assert highest.value == pytest.approx(highest_in_ball(function, T, RHO) - function.L, rel=1e-6)
    assert highest.value >= found.value
    assert found.name == measure.kind.replace("-", "_")
    own = isinstance(measure, FisherSAMSharpness)
    assert (found.gradients, highest.gradients) == (2 + own, 61 + own)
    assert found.stderr is None


def test_one_step_may_go_too_far_and_an_ascent_does_not() -> None:
    """L = (1 - θ²/4)² has a hill at 0, and a step of length 0.5 from 0.1 ends beyond it, and lower."""
    hill = of_matrix(np.array([[-1.0]])).at(np.array([0.1]))
    here = (1 - 0.1**2 / 4) ** 2
    assert one(hill, SAMSharpness(rho=0.5)).value == pytest.approx((1 - 0.4**2 / 4) ** 2 - here, rel=1e-10)
    assert one(hill, SAMSharpness(rho=0.5, method="ascent", steps=60)).value == pytest.approx(1 - here, rel=1e-6)


def test_m_sharpness_for_single_examples_is_the_mean_over_them() -> None:
    risk = linear()
    for measure in MEASURES:
        T, rises = axes(risk, measure), []
        for i in range(risk.n):
            function = quadratic(risk, np.array([i]))
            rises.append(function(step(function, T, RHO)) - function.L)
        found = one(risk, measure.model_copy(update={"minibatch": 1}))
        assert found.value == pytest.approx(np.mean(rises), rel=1e-10)
        assert found.stderr is None
        assert found.name == "m_" + measure.kind.replace("-", "_")


def test_m_sharpness_is_that_of_all_minibatches_within_its_error() -> None:
    risk = linear()
    ones, rises = np.ones(7), []
    for rows in itertools.combinations(range(8), 3):
        function = quadratic(risk, np.array(rows))
        rises.append(function(step(function, ones, RHO)) - function.L)
    found = one(risk, SAMSharpness(rho=RHO, minibatch=3, partitions=200))
    assert abs(found.value - np.mean(rises)) < 4 * found.stderr < 0.1 * found.value
    assert found.gradients == pytest.approx(200 * 2 * 6 / 8)  # in each partition two examples are left over
    assert one(risk, SAMSharpness(rho=RHO, minibatch=8)).value == pytest.approx(one(risk, SAMSharpness(rho=RHO)).value)
    standardised = []
    for seed in range(30):
        few = one(risk, SAMSharpness(rho=RHO, minibatch=3, partitions=10), seed)
        standardised.append((few.value - np.mean(rises)) / few.stderr)
    # Student's t with 9 degrees of freedom has a standard deviation of √(9/7).
    assert np.sqrt(np.mean(np.square(standardised))) == pytest.approx(np.sqrt(9 / 7), rel=0.4)


def normalised(theta, X, y):
    """The loss of outputs over their root mean square, all at once."""
    f = X @ theta[:6] + theta[6]
    return jnp.mean(jnp.logaddexp(0, -y * f / jnp.sqrt(jnp.mean(f**2))))


@pytest.mark.parametrize("minibatch", [None, 4])
def test_normalised_outputs(minibatch) -> None:
    risk = linear(loss="cross-entropy")
    found = one(risk, SAMSharpness(rho=RHO, normalize_logits=True, minibatch=minibatch, partitions=60))
    subsets = [range(8)] if minibatch is None else list(itertools.combinations(range(8), minibatch))
    with high_precision():
        both, theta, rises = jax.jit(jax.value_and_grad(normalised)), risk.theta, []
        for rows in subsets:
            some = risk.X[np.array(rows)], risk.y[np.array(rows)]
            value, g = both(theta, *some)
            rises.append(float(both(theta + RHO * g / jnp.linalg.norm(g), *some)[0] - value))
    if minibatch is None:
        assert found.value == pytest.approx(rises[0], rel=1e-10)
        assert (found.name, found.gradients) == ("normalized_sam_sharpness", 4)
    else:
        assert abs(found.value - np.mean(rises)) < 4 * found.stderr
        assert found.name == "normalized_m_sam_sharpness"


def test_with_normalised_outputs_their_scale_does_not_matter() -> None:
    risk = linear(loss="cross-entropy")
    larger = risk.at(3 * np.asarray(risk.theta))
    measure = ASAMSharpness(eta=0, biases=True, normalize_logits=True)
    assert one(larger, measure).value == pytest.approx(one(risk, measure).value, rel=1e-10)
    plain = measure.model_copy(update={"normalize_logits": False})
    assert abs(one(larger, plain).value / one(risk, plain).value - 1) > 0.1


def test_outputs_that_are_all_zero_cannot_be_normalised() -> None:
    risk = linear(loss="cross-entropy").at(np.zeros(7))
    found = one(risk, SAMSharpness(normalize_logits=True))
    assert found.status == "degenerate"
    assert np.isnan(found.value)
    assert "zero" in found.message


def test_a_zero_gradient_is_a_status() -> None:
    found = one(of_matrix(np.diag([1.0, -2.0])), SAMSharpness())
    assert (found.value, found.status) == (0, "zero-gradient")
    unseen = one(of_matrix(np.diag([1.0, -2.0])), FisherSAMSharpness(damping=0))
    assert (unseen.value, unseen.status) == (0, "zero-gradient")
    nothing = one(linear().at(np.zeros(7)), ASAMSharpness(eta=0, biases=True))
    assert (nothing.value, nothing.status) == (0, "zero-gradient")
    some = linear().at(np.array([0, 0, 0, 0, 0, 0, 1.0]))  # outputs are 1, which is half of the labels
    found = one(some, SAMSharpness(minibatch=1))
    assert found.status == "ok"
    assert found.diagnostics["zero_gradients"] == np.mean(np.asarray(some.y) == 1)


def test_rescaling_moves_it_about_as_much_as_in_the_literature() -> None:
    """4.5 at α = 5.9 and 1.6 for the units of one layer, within a factor of 2."""
    risk = trained(4)
    parameters = risk.network.unflatten(np.asarray(risk.theta))
    before = one(risk, SAMSharpness()).value
    for moved, ratio in ((rescale(RELU, parameters), 4.5), (rescale_nodes(RELU, parameters, layer=0), 1.6)):
        after = one(risk.at(risk.network.flatten(moved)), SAMSharpness()).value
        assert ratio / 2 < after / before < 2 * ratio


def test_in_float32() -> None:
    for measure in (SAMSharpness(rho=RHO), FisherSAMSharpness(rho=RHO)):
        assert one(linear(dtype="float32"), measure).value == pytest.approx(one(linear(), measure).value, rel=1e-4)


def test_a_rise_beyond_all_numbers_is_a_status() -> None:
    found = one(linear(dtype="float32"), SAMSharpness(rho=1e6, method="ascent").model_copy(update={"rho": 1e25}))
    assert found.status == "not-finite"


@pytest.mark.parametrize(
    ("measures", "message"),
    [
        ([SAMSharpness(minibatch=9)], "minibatch: got 9 where there are 8 examples"),
        ([FisherSAMSharpness(minibatch=1, normalize_logits=True)], "normalize_logits: of a single output"),
    ],
)
def test_what_does_not_fit_is_refused(measures: list, message: str) -> None:
    risk = linear()
    parameters = risk.network.unflatten(np.asarray(risk.theta))
    with pytest.raises(InvalidInput, match=f"^{message}"):
        sharpness.measure(LINEAR, parameters, risk.X, risk.y, measures, loss="mse")
