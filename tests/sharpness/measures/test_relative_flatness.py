"""Relative flatness against its definition with the dense Hessian."""

import numpy as np
import pytest

from nngp_prior import FullyConnected
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.measures.layerwise import RelativeFlatness
from nngp_prior.sharpness import EmpiricalRisk, measure
from nngp_prior.sharpness.measurement import checked, measure_risk
from nngp_prior.sharpness.measures import relative_flatness
from nngp_prior.sharpness.rescaling import rescale, rescale_nodes
from nngp_prior.sharpness.risk.networks import finite_network
from tests.sharpness.cases import data, dense, images, of_matrix, small

PERCEPTRON = FullyConnected(depth=0)
NORMALISED = FullyConnected(depth=1, width=3, activation="sin", layer_norm=True, bias_std=0)


def defined(risk: EmpiricalRisk, layer: str) -> tuple[float, float]:
    """κ_Tr and κ of a layer as they are defined."""
    H = dense(risk)
    block = next(b for b in risk.blocks if b.layer == layer and b.role == "weight")
    places = np.arange(block.start, block.stop).reshape(block.shape)
    W = np.asarray(risk.theta)[places]
    units = range(block.shape[1])
    tracial = sum(W[:, s] @ W[:, t] * np.trace(H[np.ix_(places[:, s], places[:, t])]) for s in units for t in units)
    maximal = sum(W[:, s] @ W[:, s] * np.linalg.eigvalsh(H[np.ix_(places[:, s], places[:, s])])[-1] for s in units)
    return tracial, maximal


@pytest.mark.parametrize(
    ("risk", "layers"),
    [
        (small, ["dense 1", "dense 2", "dense 3"]),
        (images, ["dense 2"]),
        (
            lambda: EmpiricalRisk.of(NORMALISED, finite_network(NORMALISED, (3,)).init(0), *data(6, 3), loss="mse"),
            ["dense 1"],
        ),
    ],
    ids=["erf", "images", "layer norm, no biases"],
)
def test_it_is_the_definition_for_each_dense_layer(risk, layers: list[str]) -> None:
    risk = risk()
    report = measure_risk(risk, [RelativeFlatness(layer=layer) for layer in layers], 0)
    for layer in layers:
        tracial, maximal = defined(risk, layer)
        assert report[f"kappa_tr[{layer}]"].value == pytest.approx(tracial, rel=1e-10)
        assert report[f"kappa[{layer}]"].value == pytest.approx(maximal, rel=1e-10)
        assert report[f"kappa[{layer}]"].diagnostics["layer"] == layer


def test_the_output_layer_and_all_layers() -> None:
    each, last = RelativeFlatness(layer="each", eigenvalues=False), RelativeFlatness(eigenvalues=False)
    *found, output = measure_risk(small(), [each, last], 0).measurements
    assert [m.name for m in found] == ["kappa_tr[dense 1]", "kappa_tr[dense 2]", "kappa_tr[dense 3]"]
    assert (output.name, output.value) == ("kappa_tr", found[-1].value)
    assert len({m.value for m in found}) == 3


def test_layers_of_many_inputs_by_lanczos(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [RelativeFlatness(layer="dense 2"), RelativeFlatness(layer="dense 2", normalise=True)]
    exact = [m.value for m in measure_risk(small(), asked, 0).measurements]
    monkeypatch.setattr(relative_flatness, "_DENSE", 3)
    report = measure_risk(small(), asked, 0)
    assert [m.value for m in report.values()] == pytest.approx(exact, rel=1e-6)
    assert [m.status for m in report.values()] == ["ok"] * 4


def values(risk: EmpiricalRisk) -> np.ndarray:
    """κ_Tr of each layer, and κ of the second."""
    asked = [RelativeFlatness(layer="each", eigenvalues=False), RelativeFlatness(layer="dense 2")]
    first, second, third, _, maximal = (m.value for m in measure_risk(risk, asked, 0).measurements)
    return np.array([first, second, third, maximal])


def test_rescaling_of_layers_leaves_it_and_that_of_nodes_moves_the_next_layer_only() -> None:
    risk = small("cross-entropy", "relu")
    architecture = risk.network.architecture
    parameters = risk.network.unflatten(np.asarray(risk.theta))
    asked = [RelativeFlatness(layer="dense 2", normalise=True)]
    before, normalised = values(risk), [m.value for m in measure_risk(risk, asked, 0).measurements]
    for layer, moving in ((0, [1, 3]), (1, [2])):
        scaled = risk.at(risk.network.flatten(rescale(architecture, parameters, layer=layer)))
        assert values(scaled) == pytest.approx(before, rel=1e-9)
        nodes = risk.at(risk.network.flatten(rescale_nodes(architecture, parameters, layer=layer)))
        moved = np.abs(values(nodes) / before - 1)
        assert moved[moving].min() > 0.1
        assert np.delete(moved, moving).max() < 1e-9
        assert [m.value for m in measure_risk(nodes, asked, 0).measurements] == pytest.approx(normalised, rel=1e-9)


def test_normalised_inputs_of_the_layer_have_deviation_1() -> None:
    """The measure of the network whose features are divided by their standard deviations, as it is defined."""
    risk = small("cross-entropy", "relu")
    (W1, b1), _, (W2, b2), _, last = ([np.asarray(array) for array in layer] for layer in risk.unravel(risk.theta))
    X = np.asarray(risk.X)
    hidden = np.maximum(np.maximum(X @ W1 + b1, 0) @ W2 + b2, 0)
    first = np.maximum(X @ W1 + b1, 0)
    deviations = first.std(axis=0)
    assert (deviations > 0).all()
    assert hidden.std(axis=0).max() > 0
    scaled = [(W1 / deviations, b1 / deviations), (), (W2 * deviations[:, None], b2), (), tuple(last)]
    other = risk.at(np.concatenate([np.ravel(array) for layer in scaled for array in layer]))
    asked = RelativeFlatness(layer="dense 2", normalise=True)
    plain = RelativeFlatness(layer="dense 2")
    found = [m.value for m in measure_risk(risk, [asked], 0).measurements]
    assert found == pytest.approx([m.value for m in measure_risk(other, [plain], 0).measurements], rel=1e-10)


def test_inputs_without_deviation() -> None:
    """Of a perceptron with squared error: κ_Tr = 2 E[Σ (a/σ)²] Σ (σ w)², over inputs that are not always 0."""
    X, y = data(8, 3)
    X[:, 1] = 0
    parameters = finite_network(PERCEPTRON, (3,)).init(0)
    w, deviations = parameters[0][0][:, 0], X.std(axis=0)
    asked = RelativeFlatness(normalise=True, eigenvalues=False)
    (found,) = measure(PERCEPTRON, parameters, X, y, [asked], loss="mse").measurements
    sizes = np.mean(np.sum((X[:, [0, 2]] / deviations[[0, 2]]) ** 2, axis=1))
    assert found.value == pytest.approx(2 * sizes * np.sum((deviations * w) ** 2), rel=1e-10)
    X[:, 1] = 0.1
    (found,) = measure(PERCEPTRON, parameters, X, y, [asked], loss="mse").measurements
    assert (found.status, np.isnan(found.value)) == ("degenerate", True)
    assert "input 1 of the layer" in found.message


def test_costs_and_options() -> None:
    report = measure_risk(small(), [RelativeFlatness(layer="dense 2")], 0)
    assert report["kappa[dense 2]"].gradients == 2 * 5 + 2 * 5
    report = measure_risk(small(), [RelativeFlatness(layer="dense 1", eigenvalues=False, normalise=True)], 0)
    assert [m.name for m in report.values()] == ["kappa_tr[dense 1]"]
    assert report["kappa_tr[dense 1]"].gradients == 2 * 5 + 1


@pytest.mark.parametrize(
    ("risk", "layer", "field", "message"),
    [
        (small, "dense 4", "layer", "dense 4"),
        (images, "convolution 1", "layer", "shares its weights"),
        (lambda: of_matrix(np.eye(2)), None, "architecture", "the layers of .* are unknown"),
    ],
)
def test_what_is_refused(risk, layer: str | None, field: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as refused:
        checked(risk(), [RelativeFlatness(layer=layer)])
    assert refused.value.field == field
