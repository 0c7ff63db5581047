import functools
import math

import numpy as np
import pytest

from nngp_prior import FullyConnected
from nngp_prior.errors import InvalidInput
from nngp_prior.progress import ignore
from nngp_prior.schemas.measures.gradients import GradientContrast, NaturalGradientContrast
from nngp_prior.sharpness import measure
from nngp_prior.sharpness.measurement import measure_risk
from nngp_prior.sharpness.measures import natural_gradient_contrast as natural
from nngp_prior.sharpness.measures.natural_gradient_contrast import natural_gradient_contrast, parts
from nngp_prior.sharpness.measures.registry import Quantity
from nngp_prior.sharpness.rescaling import rescale, rescale_nodes
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.minibatches import pairs_of_minibatches
from nngp_prior.sharpness.risk.networks import finite_network
from tests.sharpness.cases import LINEAR, SMALL, data, dense, dense_gradients, linear, relative, small
from tests.sharpness.measures.test_gradient_contrast import regret

NAMES = ("natural_gradient_contrast", "natural_gradient_norm", "natural_gradient_disagreement")


def found(risk: EmpiricalRisk, seed: int = 0, **options) -> list[Quantity]:
    specification = NaturalGradientContrast(**{"batch": 8, "pairs": 6, **options})
    return natural_gradient_contrast(risk, specification, seed, ignore).quantities


@functools.cache
def many(activation: str = "relu", loss: str = "cross-entropy") -> EmpiricalRisk:
    """A network of 61 parameters, and ten times as many examples."""
    parameters = finite_network(SMALL.model_copy(update={"activation": activation}), (4,)).init(1)
    return EmpiricalRisk.of(SMALL.model_copy(update={"activation": activation}), parameters, *data(600, 4), loss=loss)


def by_definition(risk: EmpiricalRisk, inverse, seed: int = 0, **options) -> np.ndarray:
    """The three figures from the dense F, inverted as told."""
    specification = NaturalGradientContrast(**options)
    for_fisher, for_minibatches = parts(risk.n, specification, seed)
    inverted, G = inverse(dense(risk.subset(for_fisher), "ggn")), dense_gradients(risk)
    values = []
    for rows in pairs_of_minibatches(for_minibatches, 8, 6, seed):
        g = G[rows].mean(axis=1)
        inner = g @ inverted @ g.T
        n1, n2 = np.sqrt(np.diag(inner))
        values.append([(n1 + n2 - inner[0, 1] * (1 / n1 + 1 / n2)) / 2, (n1 + n2) / 2, 1 - inner[0, 1] / n1 / n2])
    return np.mean(values, axis=0)


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_it_is_the_definition_with_any_pseudo_inverse_where_f_has_the_rank(activation: str) -> None:
    risk = many(activation)
    expected = by_definition(risk, lambda F: np.linalg.pinv(F, rcond=1e-13, hermitian=True))
    for quantity, name, value in zip(found(risk), NAMES, expected, strict=True):
        assert (quantity.name, quantity.status) == (name, "ok")
        assert quantity.value == pytest.approx(value, rel=1e-6)
        assert quantity.diagnostics["outside"] < 1e-8
        assert quantity.diagnostics["damping"] == 0
        assert quantity.diagnostics["fisher_examples"] == 300
    # Each unit of a ReLU network can be rescaled: P less the number of hidden units.
    assert quantity.diagnostics["rank"] == (risk.size - 10 if activation == "relu" else risk.size)


@pytest.mark.parametrize("examples", [300, 20])
@pytest.mark.parametrize("damped_by", ["diagonal", "identity"])
def test_damped_it_is_the_definition(examples: int, damped_by: str) -> None:
    options = {"damping": 0.1, "damped_by": damped_by, "fisher_examples": examples}

    def inverse(F: np.ndarray) -> np.ndarray:
        return np.linalg.inv(F + 0.1 * (np.diag(np.diag(F)) if damped_by == "diagonal" else np.eye(len(F))))

    quantities = found(many("erf"), **options)
    assert [each.value for each in quantities] == pytest.approx(
        by_definition(many("erf"), inverse, **options), rel=1e-8
    )
    assert {each.status for each in quantities} == {"ok"}
    assert quantities[0].diagnostics["damping"] == 0.1
    assert quantities[0].diagnostics["damped_by"] == damped_by


def rescaled(risk: EmpiricalRisk) -> list[EmpiricalRisk]:
    parameters = risk.unravel(risk.theta)
    moved = (rescale(SMALL, parameters, 5.9), rescale_nodes(SMALL, parameters, 5.9, seed=1))
    return [risk.at(risk.network.flatten(each)) for each in moved]


def test_rescaling_moves_the_contrast_but_not_its_natural_version() -> None:
    risk = many()
    measures = [GradientContrast(batch=8, pairs=6), NaturalGradientContrast(batch=8, pairs=6)]
    before = measure_risk(risk, measures, 0)
    for other in rescaled(risk):
        after = measure_risk(other, measures, 0)
        assert relative(after["gradient_contrast"].value, before["gradient_contrast"].value) > 0.1
        for name in NAMES:
            assert after[name].status == before[name].status == "ok"
            assert after[name].value == pytest.approx(before[name].value, rel=1e-9)


def test_damping_by_the_diagonal_keeps_it_where_it_is_and_by_the_identity_does_not() -> None:
    for options, stays in (
        ({"damping": 0.01}, True),
        ({"fisher_examples": 20}, True),
        ({"damping": 0.01, "damped_by": "identity"}, False),
    ):
        before = found(many(), **options)[0].value
        for other in rescaled(many()):
            after = found(other, **options)[0].value
            assert (relative(after, before) < 1e-8) is stays
            assert stays or relative(after, before) > 0.01


def test_it_is_the_limit_of_the_regret_in_a_ball_of_the_divergence() -> None:
    """Of a linear network with squared errors, whose divergence is δᵀFδ/2 and whose minima are known."""
    X, y = data(80, 5)
    risk = linear(X, y, np.ones(5))
    for_fisher, for_minibatches = parts(80, NaturalGradientContrast(), 3)
    root = np.linalg.cholesky(2 * X[for_fisher].T @ X[for_fisher] / len(for_fisher)).T
    pairs = list(pairs_of_minibatches(for_minibatches, 8, 6, 3))
    value = found(risk, seed=3)[0].value
    errors = [abs(np.mean([regret(risk, pair, radius, root) for pair in pairs]) / value - 1) for radius in (1e-3, 1e-4)]
    assert errors[0] < 0.01
    assert errors[1] == pytest.approx(errors[0] / 10, rel=0.3)


def test_the_same_inputs_leave_nothing_to_compare() -> None:
    risk = small("cross-entropy", "erf")
    for each in found(risk, batch=4, fisher_inputs="same"):
        assert each.status == "degenerate"
        assert "fisher_inputs='separate'" in each.message
        if each.name == "natural_gradient_disagreement":
            assert each.value == pytest.approx(1, abs=1e-8)
    assert found(risk, batch=4, fisher_inputs="same", damping=0.1)[2].status == "ok"
    # More examples than F has rank are another matter.
    assert {each.status for each in found(many(), fisher_inputs="same")} == {"ok"}
    assert found(many(), fisher_inputs="same")[2].value < 0.99


def test_too_few_inputs_for_f_are_told() -> None:
    (first, *_) = found(many(), fisher_examples=20)
    assert first.status == "degenerate"
    assert first.diagnostics["rank"] == 20
    assert 0.01 < first.diagnostics["outside"] <= 1
    assert "rank 20, of 20 inputs" in first.message
    assert {each.status for each in found(many(), fisher_examples=20, damping=0.1)} == {"ok"}


def test_outputs_without_curvature_leave_no_f() -> None:
    X, y = data(40, 5)
    quantities = found(linear(1e6 * X, y, np.ones(5), "cross-entropy"), batch=4)
    assert {each.status for each in quantities} == {"degenerate"}
    assert all(math.isnan(each.value) for each in quantities)
    assert "F is zero" in quantities[0].message


def test_zero_gradients_are_told() -> None:
    X, y = data(40, 5)
    risk = linear(X, X @ np.ones(5) > 0, np.zeros(5), "cross-entropy")
    risk = linear(np.where(np.arange(40)[:, None] < 20, X, 0), y, np.zeros(5))
    quantities = found(risk, batch=1, pairs=30)
    assert {each.status for each in quantities} == {"zero-gradient"}
    assert quantities[0].diagnostics["zero_gradients"] > 0


def test_a_network_of_zeros_has_one_direction_left() -> None:
    """That of the last bias: all cosines are ±1, and F has rank 1."""
    risk = many().at(np.zeros(61))
    report = measure_risk(risk, [NaturalGradientContrast(batch=9, pairs=20), GradientContrast(batch=9, pairs=20)], 0)
    assert {each.status for each in report.values()} == {"ok"}
    assert report["natural_gradient_norm"].diagnostics["rank"] == 1
    # F = σ(0) (1 - σ(0)) = 1/4 along the bias
    found = report["natural_gradient_norm"]
    assert found.value == pytest.approx(2 * report["minibatch_gradient_norm"].value, abs=4 * 2**1.5 * found.stderr)


def test_it_counts_the_gradients_for_f_too() -> None:
    outcome = natural_gradient_contrast(many(), NaturalGradientContrast(batch=8, pairs=6), 0, ignore)
    assert outcome.gradients == 300 / 600 + 2 * 8 * 6 / 600


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 6}, "batch: got 6 where two minibatches have to fit into 10 examples. Take at most 5"),
        ({"batch": 2, "fisher_examples": 20}, "fisher_examples: got 20 where there are 20 examples. Take at most 19"),
        ({"batch": 2, "fisher_examples": 21, "fisher_inputs": "same"}, "fisher_examples: got 21"),
        ({"batch": 2, "fisher_examples": 19}, "batch: got 2 where two minibatches have to fit into 1 examples"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{message}"):
        measure(LINEAR, np.ones(4), *data(20, 4), [NaturalGradientContrast(**options)])


def test_an_f_that_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(natural, "_BYTES", 100)
    with pytest.raises(InvalidInput, match=r"^fisher_examples: gradients of 10 outputs by 4 parameters .* at most 3"):
        measure(LINEAR, np.ones(4), *data(20, 4), [NaturalGradientContrast(batch=2)])


def with_a_unit_that_f_does_not_see() -> tuple[EmpiricalRisk, NaturalGradientContrast]:
    """A ReLU network of one hidden layer, whose first unit answers to minibatches' examples only."""
    specification = NaturalGradientContrast(batch=8, pairs=6, damping=0.1)
    _, for_minibatches = parts(60, specification, 0)
    X, y = data(60, 3)
    X[:, 0] = -1
    X[for_minibatches[:10], 0] = 5
    architecture = FullyConnected(depth=1, width=4)
    network = finite_network(architecture, (3,))
    theta = network.flatten(network.init(0))
    theta[[0, 4, 8, 12]] = 3, 0, 0, 0  # its weights and bias
    return EmpiricalRisk.of(architecture, network.unflatten(theta), X, y), specification


def test_parameters_that_no_input_for_f_reaches_are_left_out() -> None:
    """D is zero there as F is: in place of 1/λ in units of θ, the pseudo-inverse, which rescaling leaves alone."""
    risk, specification = with_a_unit_that_f_does_not_see()
    for_fisher, for_minibatches = parts(60, specification, 0)
    F, G = dense(risk.subset(for_fisher), "ggn"), dense_gradients(risk)
    d = np.divide(1, np.sqrt(np.diag(F)), out=np.zeros(len(F)), where=np.diag(F) > 0)
    inverse = d[:, None] * np.linalg.inv(d[:, None] * F * d + 0.1 * np.eye(len(F))) * d
    expected = []
    for rows in pairs_of_minibatches(for_minibatches, 8, 6, 0):
        inner = G[rows].mean(axis=1) @ inverse @ G[rows].mean(axis=1).T
        n1, n2 = np.sqrt(np.diag(inner))
        expected.append((n1 + n2 - inner[0, 1] * (1 / n1 + 1 / n2)) / 2)
    parameters = risk.unravel(risk.theta)
    architecture = FullyConnected(depth=1, width=4)
    moved = [risk.network.flatten(rescale(architecture, parameters, alpha)) for alpha in (1.0, 5.9)]
    moved.append(risk.network.flatten(rescale_nodes(architecture, parameters, 5.9, seed=1)))
    for theta in moved:
        (first, *_) = natural_gradient_contrast(risk.at(theta), specification, 0, ignore).quantities
        assert first.value == pytest.approx(np.mean(expected), rel=1e-8)
        assert first.status == "degenerate"
        assert "in parameters that no input for F reaches" in first.message
        assert 0.1 < first.diagnostics["unseen"] <= 1
    undamped = specification.model_copy(update={"damping": 0.0})
    (first, *_) = natural_gradient_contrast(risk, undamped, 0, ignore).quantities
    assert first.status == "degenerate"
