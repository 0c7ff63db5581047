"""Lines and planes through a network's parameters."""

import json
from pathlib import Path

import numpy as np
import pytest

from nngp_prior import FullyConnected
from nngp_prior.errors import DataMissing, DataUnavailable, InvalidInput
from nngp_prior.numerics import checkpoint
from nngp_prior.schemas.specs.landscape import Landscape
from nngp_prior.sharpness import EmpiricalRisk, landscape, loss_landscape
from nngp_prior.sharpness.loss_landscape import Surface, principal_directions, random_directions
from nngp_prior.sharpness.rescaling import rescale, rescale_nodes
from nngp_prior.sharpness.risk.networks import finite_network
from tests.sharpness.cases import data, dense, images, small, trained

PERCEPTRON = FullyConnected(depth=0, bias_std=0.5)
EXAMPLES = data(9, 3)
WEIGHTS = finite_network(PERCEPTRON, (3,)).init(0)
PLANE = Landscape(dimensions=2, points=6)


def of(risk: EmpiricalRisk, specification: Landscape | None = None, **options) -> Surface:
    parameters = risk.network.unflatten(np.asarray(risk.theta))
    examples = (np.asarray(risk.X), np.asarray(risk.y))
    return landscape(risk.network.architecture, parameters, *examples, specification, loss=risk.loss_name, **options)


def test_a_quadratic_in_closed_form() -> None:
    """A perceptron's squared error: L + x g·d + x² dᵀHd / 2, and mixed terms on a plane."""
    risk = EmpiricalRisk.of(PERCEPTRON, WEIGHTS, *EXAMPLES, loss="mse")
    H, g = dense(risk), np.asarray(risk.gradient(risk.theta))
    L = float(risk.loss(risk.theta))
    d = random_directions(risk, 2, "filter", 7)
    line = of(risk, Landscape(points=21, radius=1.5), seed=7)
    (x,) = line.coordinates
    assert x[10] == 0
    assert x[[0, -1]].tolist() == [-1.5, 1.5]
    assert line.loss == pytest.approx(L + x * (g @ d[0]) + x**2 * (d[0] @ H @ d[0]) / 2, rel=1e-12)
    assert line.lengths == pytest.approx(np.linalg.norm(d[:1], axis=1))
    plane = of(risk, PLANE, seed=7)
    x, y = np.meshgrid(*plane.coordinates, indexing="ij")
    moved = x[..., None] * d[0] + y[..., None] * d[1]
    expected = L + moved @ g + np.einsum("xyi,ij,xyj->xy", moved, H, moved) / 2
    assert plane.loss == pytest.approx(expected, rel=1e-12)
    wrong = [[np.mean(EXAMPLES[1] * f <= 0) for f in row] for row in outputs_at(risk, moved)]
    assert plane.error == pytest.approx(np.array(wrong), abs=1e-12)
    assert line.complete
    assert plane.complete


def outputs_at(risk: EmpiricalRisk, moved: np.ndarray) -> np.ndarray:
    theta = np.asarray(risk.theta) + moved
    return theta[..., :3] @ EXAMPLES[0].T + theta[..., 3:]


@pytest.mark.parametrize("risk", [small, images], ids=["dense", "convolutional"])
def test_lengths_of_filters_are_those_of_the_weights(risk) -> None:
    risk = risk()
    theta = np.asarray(risk.theta)
    raw, layers, filters = (random_directions(risk, 2, how, 3) for how in ("none", "layer", "filter"))
    for block in risk.blocks:
        part = slice(block.start, block.stop)
        if block.role == "bias":
            assert not raw[:, part].any()
            assert not filters[:, part].any()
            continue
        w = theta[part].reshape(block.shape)
        assert np.linalg.norm(layers[:, part], axis=1) == pytest.approx(np.full(2, np.linalg.norm(w)))
        for d, before in zip(filters[:, part], raw[:, part], strict=True):
            d, before = d.reshape(block.shape), before.reshape(block.shape)
            for f in range(block.shape[-1]):
                assert np.linalg.norm(d[..., f]) == pytest.approx(np.linalg.norm(w[..., f]))
                ratio = d[..., f] / before[..., f]
                assert np.ptp(ratio) < 1e-12 * ratio.max()
    numbers = np.concatenate([raw[:, b.start : b.stop].ravel() for b in risk.blocks if b.role == "weight"])
    assert abs(numbers.mean()) < 4 / numbers.size**0.5
    assert abs(numbers.std() - 1) < 4 / (2 * numbers.size) ** 0.5
    assert not np.array_equal(raw[0], raw[1])


def test_rescaling_of_layers_leaves_it_and_that_of_nodes_does_not() -> None:
    risk = trained()
    architecture = risk.network.architecture
    parameters = risk.network.unflatten(np.asarray(risk.theta))
    asked = Landscape(points=5)
    before = of(risk, asked)
    scaled = of(risk.at(risk.network.flatten(rescale(architecture, parameters))), asked)
    assert scaled.loss == pytest.approx(before.loss, rel=1e-9)
    nodes = of(risk.at(risk.network.flatten(rescale_nodes(architecture, parameters))), asked)
    assert nodes.loss[2] == pytest.approx(before.loss[2], rel=1e-9)
    rises = (surface.loss[[0, -1]].mean() - surface.loss[2] for surface in (before, nodes))
    assert abs(np.log(np.divide(*rises))) > np.log(1.2)


def test_a_run_that_was_cut_off_goes_on_with_what_is_missing(tmp_path: Path, monkeypatch) -> None:
    risk, path = small(), tmp_path / "plane.npz"
    monkeypatch.setattr(checkpoint, "_INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "_SHARE", 1e9)
    seen = []

    def stop(event) -> None:
        seen.append(event.done)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        of(risk, PLANE, path=path, progress=stop)
    part = Surface.load(path)
    assert not part.complete
    assert np.isnan(part.loss).sum() == 36 - 32
    seen.clear()
    whole = of(risk, PLANE, path=path, progress=lambda event: seen.append(event.done))
    assert seen == [32, 36]
    alone = of(risk, PLANE)
    assert np.array_equal(whole.loss, alone.loss)
    assert np.array_equal(whole.error, alone.error)
    loaded = Surface.load(path)
    assert np.array_equal(loaded.loss, alone.loss)
    assert loaded.about == alone.about
    assert loaded.specification == PLANE

    def figures(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(loss_landscape, "_figures", figures)
    assert np.array_equal(of(risk, PLANE, path=path).loss, alone.loss)
    with pytest.raises(InvalidInput, match=r"another landscape \(another seed\)"):
        of(risk, PLANE, path=path, seed=1)
    with pytest.raises(InvalidInput, match="another landscape, parameters"):
        of(risk.at(np.asarray(risk.theta) + 1), Landscape(dimensions=2, points=7), path=path)


def test_a_trajectory_in_its_principal_directions(tmp_path: Path) -> None:
    risk = small()
    theta = np.asarray(risk.theta)
    rng = np.random.default_rng(5)
    axes = np.linalg.qr(rng.standard_normal((risk.size, 2)))[0].T
    places = np.array([[3.0, 0.2], [2.0, 0.5], [1.0, -0.4], [0.0, 0.0]])
    steps = theta + places @ axes
    path = [risk.network.unflatten(step) for step in steps]
    surface = of(risk, Landscape(dimensions=2, points=5), trajectory=path)
    assert surface.trajectory[:-1] @ surface.trajectory[:-1].T == pytest.approx(places[:-1] @ places[:-1].T)
    assert surface.trajectory[0, 0] > 0
    assert surface.explained.sum() == pytest.approx(1)
    assert surface.explained[0] > surface.explained[1]
    for axis, along in zip(surface.trajectory.T, surface.coordinates, strict=True):
        width = np.ptp(np.append(axis, 0))
        assert along[0] == pytest.approx(min(0, *axis) - 0.1 * width)
        assert along[-1] == pytest.approx(max(0, *axis) + 0.1 * width)
    directions, coordinates, _ = principal_directions(steps, theta, 2)
    assert directions @ directions.T == pytest.approx(np.eye(2), abs=1e-12)
    assert theta + coordinates @ directions == pytest.approx(steps)
    at = surface.coordinates[0][1] * directions[0] + surface.coordinates[1][3] * directions[1]
    assert surface.loss[1, 3] == pytest.approx(float(risk.loss(np.asarray(risk.theta) + at)))
    surface.save(tmp_path / "surface.npz")
    assert np.array_equal(Surface.load(tmp_path / "surface.npz").trajectory, surface.trajectory)
    line = of(risk, Landscape(points=3, radius=2.0), trajectory=path)
    assert line.coordinates[0].tolist() == [-2, 0, 2]
    with pytest.raises(InvalidInput, match="fewer than 2 directions"):
        of(risk, Landscape(dimensions=2), trajectory=path[-2:])


def test_without_normalisation_there_is_no_nan() -> None:
    deep = FullyConnected(depth=8, width=8)
    parameters = finite_network(deep, (3,)).init(0)
    surface = landscape(
        deep, parameters, *EXAMPLES, Landscape(points=5, radius=1e5, normalisation="none"), dtype="float32"
    )
    assert not np.isnan(surface.loss).any()
    assert np.isinf(surface.loss[[0, -1]]).all()
    assert np.isfinite(surface.loss[2])
    assert ((surface.error >= 0) & (surface.error <= 1)).all()
    silent = [tuple(np.zeros_like(array) for array in layer) for layer in parameters]
    flat = landscape(deep, silent, *EXAMPLES, Landscape(points=5), dtype="float32")
    assert flat.loss == pytest.approx(np.full(5, np.log(2)))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
        ({"path": "/nowhere/at/all.npz"}, "path"),
        ({"dtype": "float16"}, "dtype"),
        ({"trajectory": [WEIGHTS, ()]}, "parameters"),
    ],
)
def test_bad_input(options: dict, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        landscape(PERCEPTRON, WEIGHTS, *EXAMPLES, **options)
    assert refused.value.field == field


@pytest.mark.parametrize("field", [{"points": 1}, {"radius": 0}, {"dimensions": 3}, {"normalisation": "batch"}])
def test_bad_grids(field: dict) -> None:
    with pytest.raises(InvalidInput) as refused:
        Landscape(**field)
    assert refused.value.field in field


def test_files_that_are_something_else(tmp_path: Path) -> None:
    with pytest.raises(DataMissing):
        Surface.load(tmp_path / "missing.npz")
    path = tmp_path / "other.npz"
    np.savez(path, loss=np.zeros(3))
    with pytest.raises(DataUnavailable, match="holds no loss landscape"):
        Surface.load(path)
    of(EmpiricalRisk.of(PERCEPTRON, WEIGHTS, *EXAMPLES), Landscape(points=2)).save(path)
    arrays = dict(np.load(path))
    for name, value in (("loss", np.zeros(3)), ("manifest", np.array(json.dumps({"format": 1})))):
        np.savez(path, **{**arrays, name: value})
        with pytest.raises(DataUnavailable, match="holds no loss landscape"):
            Surface.load(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataUnavailable):
        Surface.load(path)
